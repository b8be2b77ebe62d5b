#!/usr/bin/env python3
"""Counts test cases from what Bazel reports, and says which failed and why.

Bazel's closing lines count targets.  This reads its build events (JSON, one a
line) and the test.xml of each target that ran, and counts real cases:

  count_results.py follow EVENTS
      prints a line for each target as it finishes, until stdin closes
  count_results.py count NAME=EVENTS:EXIT_CODE ...
      prints what failed, what was skipped and why, and as its last line
      "N passed, N failed[, N skipped]".  NAME may be empty.

A target that crashed, ran out of time, did not build or ran no case at all
counts as one failure at least.  Exit: 0 when something ran and nothing failed.
"""

import dataclasses
import json
import re
import select
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# A shell test that cannot run says so in a line of its own, and exits with 0.
SKIP_LINE = re.compile(r"^SKIPPED: (.+)$", re.MULTILINE)
LOG_LINES = 40  # of a failed target, in the summary
BUILD_FAILED, NO_TESTS = 1, 4  # of Bazel's exit codes


@dataclasses.dataclass
class Counts:
    """Cases of one target, or of a sum of them."""
    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)   # "case: reason"
    skipped: list = dataclasses.field(default_factory=list)  # "case: reason"

    def ran(self):
        return self.passed + len(self.failed)

    def add(self, other, prefix=""):
        self.passed += other.passed
        self.failed += [prefix + line for line in other.failed]
        self.skipped += [prefix + line for line in other.skipped]

    def __str__(self):
        text = f"{self.passed} passed, {len(self.failed)} failed"
        return text + (f", {len(self.skipped)} skipped" if self.skipped else "")


def first_line(text):
    """Of a message as GoogleTest writes it: without the place before it."""
    lines = [line for line in (text or "").strip().splitlines() if line.strip()]
    place = ""
    if lines and re.fullmatch(r"\S+:\d+", lines[0].strip()):
        place = f" at {lines.pop(0).strip()}"
    return lines[0].strip() if lines else f"no reason given{place}"


def count_case(case, counts):
    """Adds one <testcase> element."""
    name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
    for kind in ("failure", "error"):
        element = case.find(kind)
        if element is not None:
            reason = first_line(element.get("message") or element.text)
            counts.failed.append(f"{name}: {reason}")
            return
    skipped = case.find("skipped")
    if skipped is not None:
        reason = first_line(skipped.get("message") or skipped.text)
        counts.skipped.append(f"{name}: {reason}")
    elif case.get("status") == "notrun":
        counts.skipped.append(f"{name}: disabled")
    else:
        counts.passed += 1


def count_xml(text):
    """Counts one test.xml, GoogleTest's own or the one Bazel makes up."""
    counts = Counts()
    root = ElementTree.fromstring(text)
    for case in root.iter("testcase"):
        count_case(case, counts)
    said = SKIP_LINE.search("\n".join(
        element.text or "" for element in root.iter("system-out")))
    if said and counts.passed == 1 and not counts.failed:
        counts = Counts(skipped=[said.group(1)])
    return counts


def path_of(result, name):
    for output in result.get("testActionOutput", ()):
        if output["name"] == name:
            return Path(urllib.parse.unquote(
                urllib.parse.urlparse(output["uri"]).path))
    return None


def count_target(result):
    """Counts one testResult event's payload."""
    counts, status = Counts(), result.get("status", "NO_STATUS")
    path, trouble = path_of(result, "test.xml"), "it left no test.xml"
    if path and path.exists():
        try:
            counts = count_xml(path.read_text(errors="replace"))
            trouble = "it ran no test case"
        except ElementTree.ParseError as error:
            trouble = f"its test.xml is broken: {error}"
    if status != "PASSED" and not counts.failed:
        counts.failed.append(f"the test program ended as {status}")
    elif not counts.ran() and not counts.skipped:
        counts.failed.append(trouble)
    return counts


def read_events(lines):
    for line in lines:
        if line.strip():
            yield json.loads(line)


def seconds_of(result):
    return int(result.get("testAttemptDurationMillis", 0)) / 1000


def tell(event, out):
    """Prints the line of a finished target, if the event is about one."""
    result = event.get("testResult")
    if not result:
        return
    cached = result.get("cachedLocally") or result.get(
        "executionInfo", {}).get("cachedRemotely")
    print(f"{result.get('status', 'NO_STATUS'):8} "
          f"{event['id']['testResult']['label']}: {count_target(result)}"
          f" ({'cached' if cached else f'{seconds_of(result):.1f} s'})",
          file=out, flush=True)


def follow(path, stop):
    """Prints targets as they finish, until `stop`() and the file is read."""
    rest = ""
    with open(path, encoding="utf-8") as events:
        while True:
            stopping = stop(0.2)
            rest += events.read()
            *lines, rest = rest.split("\n")
            for event in read_events(lines):
                tell(event, sys.stderr)
            if stopping:
                return


def stdin_closed(wait):
    """Waits for so many seconds at most."""
    readable = select.select([sys.stdin], [], [], wait)[0]
    return bool(readable) and not sys.stdin.buffer.read1(1)


def count_run(path, exit_code):
    """Counts one Bazel invocation -> {label: Counts}, {label: log path}."""
    targets, logs, results = {}, {}, {}
    with open(path, encoding="utf-8") as events:
        for event in read_events(events):
            kind = next(iter(event["id"]))
            label = event["id"][kind].get("label")
            if kind == "testResult":  # a later attempt takes the place
                shard = (event["id"][kind]["run"], event["id"][kind]["shard"])
                results.setdefault(label, {})[shard] = event["testResult"]
            elif kind in ("targetCompleted", "targetConfigured"):
                if "aborted" in event or not event.get("completed", {}).get(
                        "success", kind == "targetConfigured"):
                    targets[label] = Counts(failed=["it did not build"])
    for label, shards in results.items():
        targets[label] = Counts()
        for result in shards.values():
            targets[label].add(count_target(result))
            logs[label] = path_of(result, "test.log")
    if exit_code not in (0, NO_TESTS) and not any(
            counts.failed for counts in targets.values()):
        targets["bazel"] = Counts(failed=[f"it ended with {exit_code}"])
    return targets, logs


def print_log(label, path):
    if path and path.exists():
        lines = path.read_text(errors="replace").splitlines()
        print(f"--- {label}: the last lines of {path}")
        print("\n".join(lines[-LOG_LINES:]))


def count(runs):
    """Counts all the runs, prints the summary and returns the exit code."""
    total = Counts()
    for run in runs:
        name, _, rest = run.partition("=")
        path, _, exit_code = rest.rpartition(":")
        targets, logs = count_run(path, int(exit_code))
        suffix = f" [{name}]" if name else ""
        for label, counts in sorted(targets.items()):
            total.add(counts, f"{label}{suffix}: ")
            if counts.failed:
                print_log(label + suffix, logs.get(label))
    for word, lines in (("SKIPPED", total.skipped), ("FAILED", total.failed)):
        for line in lines:
            print(f"{word}  {line}")
    if not total.ran():
        print("nothing ran")
    print(total)
    return 0 if total.ran() and not total.failed else 1


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "follow":
        follow(arguments[1], stdin_closed)
        return 0
    if len(arguments) > 1 and arguments[0] == "count":
        return count(arguments[1:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
