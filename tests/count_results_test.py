#!/usr/bin/env python3
"""Runs the counter on made-up results: it must not call anything a success
that is not one."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import count_results

GTEST = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="5" failures="1" disabled="1" errors="0" name="AllTests">
  <testsuite name="A">
    <testcase name="Good" status="run" result="completed" classname="A"/>
    <testcase name="AlsoGood" status="run" result="completed" classname="A"/>
    <testcase name="Bad" status="run" result="completed" classname="A">
      <failure message="a_test.cc:7&#x0A;Expected 1&#x0A;got 2" type=""/>
    </testcase>
    <testcase name="Skipped" status="run" result="skipped" classname="A">
      <skipped message="a_test.cc:9&#x0A;no model here&#x0A;"/>
    </testcase>
    <testcase name="DISABLED_X" status="notrun" result="suppressed"
      classname="A"/>
  </testsuite>
</testsuites>"""
GTEST_PASS = """<testsuites><testsuite name="A">
  <testcase name="Good" status="run" classname="A"/>
</testsuite></testsuites>"""
GTEST_NOTHING = """<testsuites tests="0" name="AllTests"></testsuites>"""
# What Bazel makes up for a program that wrote none.
BAZEL = """<testsuites><testsuite name="{0}" tests="1" failures="0" errors="0">
  <testcase name="{0}" status="run" duration="1" time="1">{1}</testcase>
  <system-out>Generated test.log (if the file is not UTF-8):
<![CDATA[{2}]]></system-out></testsuite></testsuites>"""
CRASH = BAZEL.format(
    "a", '<error message="exited with error code 139"></error>', "boom")


class CountResultsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.events = []

    def add_result(self, label, status, xml, run=1, attempt=1):
        name = f"{label.strip('/').replace(':', '_')}.{run}.{attempt}.xml"
        outputs = []
        if xml is not None:
            (self.folder / name).write_text(xml)
            outputs = [{"name": "test.xml",
                        "uri": (self.folder / name).as_uri()}]
        identity = {"label": label, "run": run, "shard": 1, "attempt": attempt}
        self.events.append({"id": {"testResult": identity}, "testResult": {
            "status": status, "testActionOutput": outputs}})

    def count(self, exit_code=0, name=""):
        """-> the exit code, the lines printed."""
        path = self.folder / "events.json"
        path.write_text("\n".join(map(json.dumps, self.events)) + "\n")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = count_results.count([f"{name}={path}:{exit_code}"])
        return code, out.getvalue().splitlines()

    def test_all_pass(self):
        self.add_result("//a:a", "PASSED", GTEST_PASS)
        self.add_result("//b:b", "PASSED", BAZEL.format("b", "", "fine"))
        self.assertEqual(self.count(), (0, ["2 passed, 0 failed"]))

    def test_fail_skip_and_disabled(self):
        self.add_result("//a:a", "FAILED", GTEST)
        code, lines = self.count(3, "asan")
        self.assertEqual(code, 1)
        self.assertEqual(lines[-1], "2 passed, 1 failed, 2 skipped")
        self.assertIn("FAILED  //a:a [asan]: A.Bad: Expected 1", lines)
        self.assertIn("SKIPPED  //a:a [asan]: A.Skipped: no model here", lines)
        self.assertIn("SKIPPED  //a:a [asan]: A.DISABLED_X: disabled", lines)

    def test_a_skip_without_a_reason_names_its_place(self):
        self.assertEqual(count_results.first_line("a_test.cc:9\n\n"),
                         "no reason given at a_test.cc:9")

    def test_shell_test_that_skips(self):
        self.add_result("//a:a", "PASSED",
                        BAZEL.format("a", "", "hm\nSKIPPED: needs root\nbye"))
        self.add_result("//b:b", "PASSED", GTEST_PASS)
        code, lines = self.count()
        self.assertEqual((code, lines[-1]),
                         (0, "1 passed, 0 failed, 1 skipped"))
        self.assertIn("SKIPPED  //a:a: needs root", lines)

    def test_only_skips_is_no_success(self):
        self.add_result("//a:a", "PASSED", BAZEL.format("a", "", "SKIPPED: x"))
        code, lines = self.count()
        self.assertEqual((code, lines[-1]),
                         (1, "0 passed, 0 failed, 1 skipped"))

    def test_crash(self):
        self.add_result("//a:a", "FAILED", CRASH)
        self.assertEqual(self.count(3)[1][-1], "0 passed, 1 failed")

    def test_failed_though_every_case_passed(self):
        self.add_result("//a:a", "FAILED", GTEST_PASS)  # as asan's at exit
        self.assertEqual(self.count(3)[1][-1], "1 passed, 1 failed")

    def test_timeout_without_xml(self):
        self.add_result("//a:a", "TIMEOUT", None)
        code, lines = self.count(3)
        self.assertEqual((code, lines[-1]), (1, "0 passed, 1 failed"))
        self.assertIn("TIMEOUT", lines[0])

    def test_broken_xml(self):
        self.add_result("//a:a", "PASSED", "<testsuites><tests")
        self.assertEqual(self.count()[1][-1], "0 passed, 1 failed")

    def test_no_case_ran(self):
        self.add_result("//a:a", "PASSED", GTEST_NOTHING)
        self.assertEqual(self.count()[1][-1], "0 passed, 1 failed")

    def test_the_last_attempt_counts(self):
        self.add_result("//a:a", "FAILED", CRASH, attempt=1)
        self.add_result("//a:a", "PASSED", GTEST_PASS, attempt=2)
        self.assertEqual(self.count()[1][-1], "1 passed, 0 failed")

    def test_every_run_counts(self):
        self.add_result("//a:a", "PASSED", GTEST_PASS, run=1)
        self.add_result("//a:a", "FAILED", CRASH, run=2)
        self.assertEqual(self.count(3)[1][-1], "1 passed, 1 failed")

    def test_did_not_build(self):
        self.add_result("//a:a", "PASSED", GTEST_PASS)
        completed = {"targetCompleted": {"label": "//b:b"}}
        self.events += [
            {"id": completed, "completed": {}},
            {"id": {"targetCompleted": {"label": "//c:c"}},
             "completed": {"success": True}},
            {"id": {"targetConfigured": {"label": "//d:d"}},
             "aborted": {"reason": "ANALYSIS_FAILURE"}},
            {"id": {"targetConfigured": {"label": "//e:e"}}, "configured": {}},
        ]
        code, lines = self.count(1)
        self.assertEqual((code, lines[-1]), (1, "1 passed, 2 failed"))
        self.assertIn("FAILED  //b:b: it did not build", lines)
        self.assertIn("FAILED  //d:d: it did not build", lines)

    def test_bazel_itself_failed(self):
        self.assertEqual(self.count(37)[1][-1], "0 passed, 1 failed")

    def test_nothing_ran(self):
        self.assertEqual(self.count(4),
                         (1, ["nothing ran", "0 passed, 0 failed"]))

    def test_follow_prints_each_target(self):
        self.add_result("//a:a", "PASSED", GTEST_PASS)
        path = self.folder / "events.json"
        path.write_text(json.dumps(self.events[0]) + "\n{\"unfinished")
        out = io.StringIO()
        with contextlib.redirect_stderr(out):
            count_results.follow(path, lambda _: True)
        self.assertEqual(out.getvalue(),
                         "PASSED   //a:a: 1 passed, 0 failed (0.0 s)\n")


if __name__ == "__main__":
    unittest.main()
