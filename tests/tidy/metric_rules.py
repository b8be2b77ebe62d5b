"""Metrics in the code and rows in docs/METRICS.md are the same set."""

import re

from source import Finding

PAGE = "docs/METRICS.md"
CALL = re.compile(r"(?:\.|->)\s*Add(Counter|Gauge|Histogram)\(")
NAME = re.compile(r'\s*(?:"([^"]*)"|(\w+))')
ROW = re.compile(r"^\|\s*`([^`]+)`\s*\|\s*(\w+)\s*\|")
GOOD = re.compile(r"forecache_[a-z0-9]+(?:_[a-z0-9]+)+")
SMALL_UNIT = re.compile(r"_(?:ms|us|ns|millis\w*|micros\w*|nanos\w*|kb|mb|gb"
                        r"|kib|mib|gib|percent)(?:_|$)")


def name_at(source, offset):
    """The name that a call gives: a literal, or a constant of the same file;
    "" when it is neither."""
    match = NAME.match(source.uncommented, offset)
    if not match or match.group(1) is not None:
        return match.group(1) if match else ""
    constant = re.search(rf'\b{match.group(2)}(?:\[\])?\s*=\s*"([^"]*)"',
                         source.uncommented)
    return constant.group(1) if constant else ""


def metrics_in(sources):
    """-> (source, line, kind, name) of each metric; no name: not to be found."""
    for source in sources:
        if not source.is_cc() or source.is_test() or \
                source.path.startswith("common/metrics."):
            continue
        for call in CALL.finditer(source.code):
            yield (source, source.line_at(call.start()), call.group(1).lower(),
                   name_at(source, call.end()))


def wrong_name(kind, name):
    """What is wrong with a metric's name, or ""."""
    if not GOOD.fullmatch(name):
        return "a metric is called forecache_<part>_<what>[_<unit>]"
    if SMALL_UNIT.search(name):
        return "metrics are in base units: seconds, bytes, ratio"
    if (kind == "counter") != name.endswith("_total"):
        return "counters, and only they, end in _total"
    return ""


def metric_rows(sources):
    """-> {name: (line, kind)} of the page."""
    rows = {}
    for source in sources:
        if source.path == PAGE:
            for number, line in enumerate(source.lines, 1):
                match = ROW.match(line)
                if match:
                    rows[match.group(1)] = (number, match.group(2))
    return rows


def metrics_page(sources):
    rows, used = metric_rows(sources), set()
    for source, line, kind, name in metrics_in(sources):
        if not name:
            yield Finding("metrics", source.path, line, "write the metric's "
                          "name as a literal here, or as a constant of this "
                          "file")
            continue
        if name in used:
            continue
        used.add(name)
        if wrong_name(kind, name):
            yield Finding("metrics", source.path, line,
                          f"{name}: {wrong_name(kind, name)}")
        if name not in rows:
            yield Finding("metrics", source.path, line,
                          f"{name} has no row in {PAGE}: add | `{name}` | "
                          f"{kind} | labels | what it says |")
        elif rows[name][1] != kind:
            yield Finding("metrics", PAGE, rows[name][0],
                          f"{name} is a {kind} in {source.path}")
    for name in sorted(set(rows) - used):
        yield Finding("metrics", PAGE, rows[name][0],
                      f"no code adds {name}: delete the row")


RULES = (metrics_page,)
