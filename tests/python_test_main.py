#!/usr/bin/env python3
"""Runs one file of unittest cases: python_test_main.py FILE.

Writes its cases to $XML_OUTPUT_FILE, as GoogleTest does, so that they are
counted one by one.
"""

import importlib.util
import os
import sys
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path


class RecordingResult(unittest.TextTestResult):
    """Keeps every case with what became of it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.cases = []  # (case, "failure" | "skipped" | None, message)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.cases.append((test, None, ""))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.cases.append((test, "failure", f"{err[0].__name__}: {err[1]}"))

    def addError(self, test, err):
        super().addError(test, err)
        self.cases.append((test, "failure", f"{err[0].__name__}: {err[1]}"))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.cases.append((subtest, "failure", str(err[1])))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.cases.append((test, "skipped", reason))


def write_xml(path, cases):
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name="unittest")
    for case, outcome, message in cases:
        parts = case.id().split(".")
        element = ElementTree.SubElement(
            suite, "testcase", name=".".join(parts[2:]) or case.id(),
            classname=".".join(parts[1:2]), status="run")
        if outcome:
            ElementTree.SubElement(element, outcome, message=message)
    ElementTree.ElementTree(root).write(path, encoding="utf-8")


def main(path):
    path = Path(path).resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(
        stream=sys.stdout, verbosity=2, resultclass=RecordingResult).run(suite)
    if "XML_OUTPUT_FILE" in os.environ:
        write_xml(Path(os.environ["XML_OUTPUT_FILE"]), result.cases)
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main(*sys.argv[1:]))
