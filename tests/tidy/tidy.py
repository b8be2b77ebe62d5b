#!/usr/bin/env python3
"""Holds the tree to its style: what a machine can check, it checks.

tidy.py [ROOT] prints "file:line: rule: what is wrong and how to mend it" for
each finding; exit code 1 when there is one.  tidy_test.py runs the same rules
as tests.  Exceptions stand in exceptions.txt; one that is no longer needed is
a finding too, so that the list can only shrink.
"""

import dataclasses
import sys
from pathlib import Path

import include_rules
import metric_rules
import text_rules
from source import Finding, Source, read_sources

EXCEPTIONS = "tests/tidy/exceptions.txt"
FILE_RULES = text_rules.RULES + include_rules.RULES
TREE_RULES = metric_rules.RULES
# These sources show what the rules forbid.
OWN_SAMPLES = "tests/tidy/"
NOT_OURS = ("LICENSE",)


@dataclasses.dataclass(frozen=True)
class Exemption:
    """A line of exceptions.txt: RULE PATH [SIZE] # WHY."""
    rule: str
    path: str
    size: int  # up to which it holds, for what is too long
    line: int

    def covers(self, finding):
        return (finding.rule, finding.path) == (self.rule, self.path) and \
            finding.size <= self.size


def read_exemptions(text):
    """-> [Exemption], [Finding] of lines that say no reason."""
    exemptions, findings = [], []
    for number, line in enumerate(text.splitlines(), 1):
        fields, _, why = line.partition("#")
        words = fields.split()
        if not words:
            continue
        is_sized = len(words) == 3 and words[2].isdigit()
        if not why.strip() or not (len(words) == 2 or is_sized):
            findings.append(Finding("exceptions", EXCEPTIONS, number,
                                    "write RULE PATH [SIZE] # WHY"))
            continue
        size = int(words[2]) if is_sized else 0
        exemptions.append(Exemption(words[0], words[1], size, number))
    return exemptions, findings


def apply_exemptions(findings, exemptions):
    """The findings left, and one for each exemption that covers none."""
    left, used = [], set()
    for finding in findings:
        covering = {e for e in exemptions if e.covers(finding)}
        used |= covering
        if not covering:
            left.append(finding)
    stale = [Finding("exceptions", EXCEPTIONS, e.line,
                     f"{e.path} needs no exception from {e.rule} any more: "
                     "delete the line")
             for e in exemptions if e not in used]
    return left + stale


def check(sources, exemptions_text=""):
    """All findings in a list of Sources."""
    findings = []
    for rule in FILE_RULES:
        for source in sources:
            is_sample = rule is text_rules.machine_path or \
                rule is text_rules.issue_of_todo or rule is text_rules.no_sleep
            if is_sample and source.path.startswith(OWN_SAMPLES):
                continue
            if source.path not in NOT_OURS:
                findings += rule(source)
    for rule in TREE_RULES:
        findings += rule(sources)
    exemptions, wrong = read_exemptions(exemptions_text)
    findings = apply_exemptions(findings, exemptions) + wrong
    return sorted(findings, key=lambda f: (f.path, f.line, f.rule))


def check_tree(root):
    file = Path(root) / EXCEPTIONS
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return check(read_sources(root), text)


def main(root=None):
    found = check_tree(root or Path(__file__).resolve().parents[2])
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main(*sys.argv[1:]))
