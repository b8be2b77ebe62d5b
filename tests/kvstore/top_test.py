"""`./forecache top`: what it reads and shows, and how it ends."""

import contextlib
import http.server
import io
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kvstore"))
import top  # noqa: E402

PAGE = """\
# HELP forecache_store_sessions open
# TYPE forecache_store_sessions gauge
forecache_store_sessions 3
forecache_store_segments 12
forecache_store_open_segments 2
forecache_store_dram_used_bytes 524288
forecache_store_dram_capacity_bytes 1048576
forecache_store_ssd_capacity_bytes 4194304
forecache_store_ssd_used_bytes 1048576
forecache_store_ssd_metadata_bytes 1048576
forecache_store_ssd_segments 9
forecache_store_ssd_writable {writable}
forecache_store_prefix_tokens_asked_total 1000
forecache_store_prefix_tokens_hit_total{{tier="dram"}} 500
forecache_store_prefix_tokens_hit_total{{tier="ssd"}} 256
forecache_store_segments_evicted_total 4
forecache_store_blocks_put_total 100
forecache_store_blocks_pushed_total {pushed}
forecache_store_blocks_refused_total{{where="read"}} 1
forecache_store_fetch_seconds_bucket{{le="0.001"}} {fast}
forecache_store_fetch_seconds_bucket{{le="0.01"}} 100
forecache_store_fetch_seconds_bucket{{le="+Inf"}} 100
forecache_store_tenant_held_bytes{{tenant="acme",tier="dram"}} 2048
forecache_store_tenant_held_bytes{{tenant="acme",tier="ssd"}} 4096
"""


def page(at=1.0, pushed=0, fast=50, writable=1):
    return top.Page(PAGE.format(pushed=pushed, fast=fast, writable=writable),
                    at)


def run(arguments, pause=None):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = top.main(arguments, pause)
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


class Server:
    """Serves one text as a metrics page."""

    def __init__(self, text):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def __enter__(self):
        return self.address

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class PageTest(unittest.TestCase):
    def test_sums_over_labels(self):
        self.assertEqual(page().sum("prefix_tokens_hit_total"), 756)
        self.assertEqual(page().sum("prefix_tokens_hit_total", tier="ssd"),
                         256)
        self.assertEqual(page().sum("no_such_thing"), 0)

    def test_refuses_what_is_no_metrics_page(self):
        with self.assertRaises(ValueError):
            top.Page("<html>hello</html>", 0)


class FrameTest(unittest.TestCase):
    def test_rates_are_between_two_frames(self):
        frame = top.Frame(page(at=12, pushed=300), page(at=10, pushed=100))
        self.assertAlmostEqual(frame.rate("blocks_pushed_total"), 100)

    def test_a_restarted_store_has_no_negative_rates(self):
        frame = top.Frame(page(at=12, pushed=5), page(at=10, pushed=100))
        self.assertEqual(frame.rate("blocks_pushed_total"), 0)

    def test_quantiles_lie_inside_their_bucket(self):
        frame = top.Frame(page(), None)
        self.assertAlmostEqual(frame.quantile("fetch_seconds", .5), 0.001)
        self.assertAlmostEqual(frame.quantile("fetch_seconds", .99),
                               0.001 + 0.009 * 0.98)
        self.assertIsNone(frame.quantile("probe_seconds", .5))

    def test_shows_tiers_tenants_hits_evictions_and_latency(self):
        text = top.render(top.Frame(page(), None), "a:1")
        for line in (r"dram +512.0 KiB +1.0 MiB +50.0 % +12 +500 +4",
                     r"ssd +2.0 MiB +4.0 MiB +50.0 % +9 +256 +0",
                     r"acme +2.0 KiB +4.0 KiB",
                     r"fetch +p50 +1.00 ms +p99 +9.82 ms",
                     r"75.6 % of 1000 tokens"):
            self.assertRegex(text, line)
        self.assertNotIn("NOT WRITABLE", text)
        self.assertIn("NOT WRITABLE", top.render(
            top.Frame(page(writable=0), None), "a:1"))


class MainTest(unittest.TestCase):
    def test_once_prints_one_frame(self):
        with Server(PAGE.format(pushed=1, fast=1, writable=1)) as address:
            code, out, err = run(["--metrics", address, "--once"])
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(out.count("sessions 3"), 1)
        self.assertNotIn("\033", out)

    def test_goes_on_until_interrupted(self):
        pauses = []

        def pause(seconds):
            pauses.append(seconds)
            if len(pauses) == 3:
                raise KeyboardInterrupt

        with Server(PAGE.format(pushed=1, fast=1, writable=1)) as address:
            code, out, _ = run(["--metrics", address, "--interval", "0.5"],
                               pause)
        self.assertEqual((code, pauses), (0, [0.5] * 3))
        self.assertEqual(out.count("sessions 3"), 3)

    def test_nobody_answers_is_3_with_the_fix(self):
        with Server("") as address:
            pass  # and closed again
        code, out, err = run(["--metrics", address, "--once"])
        self.assertEqual((code, out), (3, ""))
        self.assertIn("fix:", err)

    def test_another_page_is_3(self):
        with Server("up 1\n") as address:
            code, _, err = run(["--metrics", address, "--once"])
        self.assertEqual(code, 3)
        self.assertIn("not the metrics of a store", err)

    def test_wrong_use_is_2(self):
        for arguments in ([], ["--metrics", "here"], ["--no-such"],
                          ["--metrics", "a:1", "--interval", "0"]):
            self.assertEqual(run(arguments)[0], 2, arguments)


if __name__ == "__main__":
    unittest.main()
