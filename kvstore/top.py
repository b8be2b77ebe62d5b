#!/usr/bin/env python3
"""A store, live in a terminal: `./forecache top --metrics HOST:PORT`.

Everything is read from the store's metrics page (docs/METRICS.md), so it needs
no credentials of a tenant and works from any host that may scrape it.  Rates
are between two frames; the first frame's are since the store's start.
"""

import argparse
import collections
import re
import sys
import time
import urllib.error
import urllib.request

DONE, WRONG_USE, MISSING = 0, 2, 3
TIMEOUT_S = 5
CLEAR = "\033[H\033[2J"

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Page:
    """One reading of a metrics page."""

    def __init__(self, text, at):
        self.at = at
        self.samples = collections.defaultdict(list)  # name: (labels, value)
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = SAMPLE.match(line)
            if not match:
                raise ValueError(f"not a sample: {line[:80]!r}")
            labels = dict(LABEL.findall(match.group(2) or ""))
            self.samples[match.group(1)].append((labels,
                                                 float(match.group(3))))

    def has(self, name):
        return "forecache_store_" + name in self.samples

    def sum(self, name, **wanted):
        """The sum over all series that have these labels."""
        return sum(value
                   for labels, value in self.samples["forecache_store_" + name]
                   if all(labels.get(k) == v for k, v in wanted.items()))

    def values(self, name, label):
        """The label's values, in order."""
        return sorted({labels[label]
                       for labels, _ in self.samples["forecache_store_" + name]
                       if label in labels})

    def buckets(self, name):
        """Of a histogram: (upper bound, count up to it), ascending."""
        found = collections.defaultdict(float)
        for labels, value in self.samples[f"forecache_store_{name}_bucket"]:
            found[float(labels["le"])] += value
        return sorted(found.items())


class Frame:
    """What is shown: a page, and what changed since the one before."""

    def __init__(self, now, before):
        self.now, self.before = now, before
        self.seconds = max(now.at - before.at, 1e-9) if before else None

    def change(self, name, **labels):
        then = self.before.sum(name, **labels) if self.before else 0
        return max(self.now.sum(name, **labels) - then, 0)

    def rate(self, name, **labels):
        """Of a counter, per second; its total in the first frame."""
        change = self.change(name, **labels)
        return change / self.seconds if self.seconds else change

    def quantile(self, name, share):
        """Of a histogram's observations since the frame before, or None."""
        now = self.now.buckets(name)
        then = dict(self.before.buckets(name)) if self.before else {}
        counts = [(bound, count - then.get(bound, 0)) for bound, count in now]
        if not counts or counts[-1][1] <= 0:
            return None
        wanted = share * counts[-1][1]
        low_bound = low = 0.0
        for bound, count in counts:
            if count >= wanted:
                if bound == float("inf"):
                    return low_bound  # it is beyond the last bound
                return low_bound + (bound - low_bound) * (
                    wanted - low) / max(count - low, 1e-9)
            low_bound, low = bound, count
        return low_bound


def size(number):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else \
                f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def milliseconds(seconds):
    return "-" if seconds is None else f"{1000 * seconds:.2f} ms"


def percent(part, whole):
    return "-" if whole <= 0 else f"{100 * part / whole:.1f} %"


def tier_lines(frame):
    now = frame.now
    yield (f"{'tier':8}{'used':>12}{'capacity':>12}{'full':>9}"
           f"{'segments':>10}{'hit tokens':>12}{'evicted':>9}")
    hits = {tier: frame.change("prefix_tokens_hit_total", tier=tier)
            for tier in now.values("prefix_tokens_hit_total", "tier")}
    if not hits:
        hits = {"dram": frame.change("prefix_tokens_hit_total")}
    used, most = now.sum("dram_used_bytes"), now.sum("dram_capacity_bytes")
    yield (f"{'dram':8}{size(used):>12}{size(most):>12}"
           f"{percent(used, most):>9}{now.sum('segments'):>10.0f}"
           f"{hits.get('dram', 0):>12.0f}"
           f"{frame.change('segments_evicted_total'):>9.0f}")
    most = now.sum("ssd_capacity_bytes")
    if most > 0:
        used = now.sum("ssd_used_bytes") + now.sum("ssd_metadata_bytes")
        off = "" if now.sum("ssd_writable") else "  NOT WRITABLE"
        yield (f"{'ssd':8}{size(used):>12}{size(most):>12}"
               f"{percent(used, most):>9}{now.sum('ssd_segments'):>10.0f}"
               f"{hits.get('ssd', 0):>12.0f}"
               f"{frame.change('ssd_segments_evicted_total'):>9.0f}{off}")


def traffic_lines(frame):
    unit = "/s" if frame.seconds else ""
    yield (f"blocks  put {frame.rate('blocks_put_total'):.0f}{unit}, pushed "
           f"{frame.rate('blocks_pushed_total'):.0f}{unit} "
           f"({size(frame.rate('pushed_bytes_total'))}{unit}), refused "
           f"{frame.now.sum('blocks_refused_total'):.0f}")
    for what, name in (("fetch", "fetch_seconds"), ("probe", "probe_seconds"),
                       ("correct", "correct_seconds")):
        yield (f"{what:8}p50 {milliseconds(frame.quantile(name, .5)):>10}  "
               f"p99 {milliseconds(frame.quantile(name, .99)):>10}")
    asked = frame.change("prefix_tokens_asked_total")
    hit = frame.change("prefix_tokens_hit_total")
    yield f"prefix  {percent(hit, asked)} of {asked:.0f} tokens were held"


def tenant_lines(frame):
    tenants = frame.now.values("tenant_held_bytes", "tenant")
    if not tenants:
        return
    unit = "/s" if frame.seconds else ""
    yield (f"{'tenant':20}{'dram':>12}{'ssd':>12}{'pushed' + unit:>14}"
           f"{'hits':>9}{'evicted':>9}")
    for name in tenants:
        held = {tier: frame.now.sum("tenant_held_bytes", tenant=name,
                                    tier=tier) for tier in ("dram", "ssd")}
        hit = frame.change("tenant_prefix_tokens_hit_total", tenant=name)
        asked = frame.change("tenant_prefix_tokens_asked_total", tenant=name)
        pushed = frame.rate("tenant_pushed_bytes_total", tenant=name)
        evicted = frame.change("tenant_segments_evicted_total", tenant=name)
        yield (f"{name[:19]:20}{size(held['dram']):>12}{size(held['ssd']):>12}"
               f"{size(pushed):>14}{percent(hit, asked):>9}{evicted:>9.0f}")


def render(frame, address):
    since = (f"the last {frame.seconds:.1f} s" if frame.seconds
             else "the store's start")
    lines = [f"store {address}  sessions {frame.now.sum('sessions'):.0f}  "
             f"open segments {frame.now.sum('open_segments'):.0f}  "
             f"(changes since {since})", ""]
    lines += tier_lines(frame)
    lines.append("")
    lines += traffic_lines(frame)
    tenants = list(tenant_lines(frame))
    if tenants:
        lines += [""] + tenants
    return "\n".join(lines) + "\n"


def read(address):
    """The page at `address`.  OSError and ValueError say what is wrong."""
    url = f"http://{address}/metrics"
    # A store on this host must not be asked for through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=TIMEOUT_S) as reply:
        page = Page(reply.read().decode("utf-8", "replace"), time.monotonic())
    if not page.has("sessions"):
        raise ValueError("these are not the metrics of a store")
    return page


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="./forecache top", description="A store, live in the terminal.")
    parser.add_argument("--metrics", required=True, metavar="HOST:PORT",
                        help="the store's metrics address: it logs it")
    parser.add_argument("--interval", type=float, default=2, metavar="S",
                        help="seconds between frames (2)")
    parser.add_argument("--once", action="store_true",
                        help="print one frame and end")
    options = parser.parse_args(arguments)  # wrong use ends with 2
    if not re.fullmatch(r"\S+:\d{1,5}", options.metrics):
        parser.error("--metrics must be HOST:PORT, such as 127.0.0.1:9464")
    if not 0.1 <= options.interval <= 3600:
        parser.error("--interval must be 0.1 to 3600 seconds")
    return options


def main(arguments, pause=time.sleep):
    options = parse(arguments)
    before = None
    while True:
        try:
            now = read(options.metrics)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            print(f"forecache top: {options.metrics}: {reason}\n"
                  "  fix: start a store, and give the metrics address that "
                  "its log names", file=sys.stderr)
            return MISSING
        text = render(Frame(now, before), options.metrics)
        if options.once:
            print(text, end="")
            return DONE
        print(CLEAR + text, end="", flush=True)
        before = now
        try:
            pause(options.interval)
        except KeyboardInterrupt:
            return DONE


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(DONE)
