#!/usr/bin/env python3
"""The tree is tidy; and each rule catches what it is for."""

import tempfile
import unittest
from pathlib import Path

import tidy
from source import Source, read_sources


def findings(path, text, exceptions=""):
    """The (rule, line) pairs found in a tree of one file."""
    found = tidy.check([Source(path, text)], exceptions)
    return [(f.rule, f.line) for f in found]


def function(lines):
    """A function of so many lines."""
    return "int F(int x) {\n" + "  ++x;\n" * (lines - 2) + "}\n"


def header(path, text):
    guard = "FORECACHE_" + path.replace("/", "_").replace(
        ".", "_").upper() + "_"
    return f"#ifndef {guard}\n#define {guard}\n{text}#endif  // {guard}\n"


class TreeTest(unittest.TestCase):
    def test_tree_is_tidy(self):
        # A runfile of the root leads to the tree itself: the rules are about
        # every tracked file, not only about those that Bazel knows.
        found = tidy.check_tree(Path("forecache").resolve().parent)
        if found:
            self.fail(f"{len(found)} findings\n" + "\n".join(map(str, found)))


class LengthTest(unittest.TestCase):
    def test_file(self):
        self.assertEqual(findings("a.cc", "int a;\n" * 400), [])
        self.assertEqual(findings("a.cc", "int a;\n" * 401),
                         [("file-length", 401)])

    def test_function(self):
        self.assertEqual(findings("a.cc", function(70)), [])
        self.assertEqual(findings("a.cc", "\n" + function(71)),
                         [("function-length", 2)])

    def test_method_in_class_in_namespace(self):
        text = ("namespace a {\nclass B {\n public:\n" + function(71) +
                "};\n}  // namespace a\n")
        self.assertEqual(findings("a.cc", text), [("function-length", 4)])

    def test_test_case(self):
        text = function(71).replace("int F(int x)", "TEST(A, B)")
        self.assertEqual(findings("a.cc", text), [("function-length", 1)])

    def test_constructor_with_initializers(self):
        text = function(71).replace(
            "int F(int x) {", "A::A(int x) : a_{x}, b_{1}, c_(2) {")
        self.assertEqual(findings("a.cc", text), [("function-length", 1)])

    def test_lambda_counts_to_its_function(self):
        text = function(60).replace("  ++x;\n", "  auto f = [](int y) {\n" +
                                    "    ++y;\n" * 20 + "  };\n", 1)
        self.assertEqual(findings("a.cc", text), [("function-length", 1)])

    def test_braces_in_literals_and_comments(self):
        text = function(30).replace("  ++x;\n", """  // } it's {
  a('}', "}{", R"(}}")}");
""", 1)
        self.assertEqual(findings("a.cc", text + function(50)), [])

    def test_table_is_not_a_function(self):
        text = "const int kTable[] = {\n" + "    1,\n" * 90 + "};\n"
        self.assertEqual(findings("a.cc", text), [])

    def test_python(self):
        text = "def f():\n" + "    pass\n" * 70
        self.assertEqual(findings("a.py", text), [("function-length", 1)])


class TextTest(unittest.TestCase):
    def test_columns(self):
        self.assertEqual(findings("a.cc", "/" * 80 + "\n"), [])
        self.assertEqual(findings("a.cc", "\n" + "/" * 81 + "\n"),
                         [("columns", 2)])

    def test_whitespace(self):
        self.assertEqual(findings("a.md", "a \n"), [("whitespace", 1)])
        self.assertEqual(findings("a.cc", "\tint a;\n"), [("whitespace", 1)])
        self.assertEqual(findings("a.md", "a"), [("whitespace", 1)])

    def test_header_guard(self):
        self.assertEqual(findings("a/b.h", header("a/b.h", "")), [])
        self.assertEqual(findings("a/b.h", header("a/c.h", "")),
                         [("header-guard", 1)])
        self.assertEqual(findings("a/b.h", "#pragma once\n"),
                         [("header-guard", 1)])

    def test_todo(self):
        self.assertEqual(findings("a.cc", "// TODO(#12): more\n"), [])
        self.assertEqual(findings("a.cc", "// TODO: more\n"), [("todo", 1)])
        self.assertEqual(findings("a.sh", "# TODO(me): x\n"), [("todo", 1)])

    def test_sleep(self):
        for line in ("std::this_thread::sleep_for(x);", "usleep(5);",
                     "Clock::Real()->SleepFor(kSecond);"):
            self.assertEqual(findings("tests/a.cc", f"\n{line}\n"),
                             [("sleep", 2)], line)
        self.assertEqual(findings("tests/a.sh", "\nsleep 1\n"), [("sleep", 2)])
        self.assertEqual(findings("tests/a.cc", "clock.SleepFor(1);\n"), [])
        self.assertEqual(findings("tests/a.cc", "// usleep(1)\n"), [])
        self.assertEqual(findings("bench/a.cc", "usleep(5);\n"), [])

    def test_machine_path(self):
        self.assertEqual(findings("a.md", "see /work/x\n"),
                         [("machine-path", 1)])
        self.assertEqual(findings("a.cc", 'Open("/tmp/x");\n'),
                         [("machine-path", 1)])
        self.assertEqual(findings("a.cc", 'mkdtemp("/tmp/x.XXXXXX");\n'), [])
        self.assertEqual(findings("a.cc", '#include "a/work/x.h"\n'), [])

    def test_threads(self):
        for text, is_right in (
                ("class A {\n};\n", False),
                ("// It does.\nclass A : public B {\n};\n", False),
                ("// It does.\n//\n// Threads: one.\nclass A {\n};\n", True),
                ("// Threads: any.\ntemplate <typename T>\nclass A {\n};\n",
                 True),
                ("class A;\nenum class B { kC };\nstruct D {\n};\n", True),
                ("namespace a_internal {\nclass A {\n};\n}\n", True)):
            found = [rule for rule, _ in findings("a.h", header("a.h", text))]
            self.assertEqual(found, [] if is_right else ["threads"], text)


class IncludeTest(unittest.TestCase):
    def rules(self, path, what):
        return [rule for rule, _ in findings(path, f"#include {what}\n")]

    def test_matrix(self):
        wrong = ["include-matrix"]
        for path, what, expected in (
                ("worker/a.cc", '"kvstore/client/client.h"', []),
                ("worker/a.cc", '"kvstore/tier.h"', wrong),
                ("kvstore/a.cc", '"worker/session.h"', wrong),
                ("kvstore/a.cc", '"kernels/block_scores.h"', []),
                ("kvstore/a.cc", '"kernels/cuda/attention.h"', wrong),
                ("kvstore/client/a.cc", '"kvstore/tier.h"', wrong),
                ("kvstore/client/a.cc", '"transport/transport.h"', []),
                ("predictor/a.cc", '"transport/transport.h"', wrong),
                ("transport/a.cc", '"kernels/attention.h"', wrong),
                ("kernels/a.cc", '"common/check.h"', []),
                ("kernels/a.cc", '"common/log.h"', wrong),
                ("common/a.cc", '"proto/store.pb.h"', wrong),
                ("common/a.cc", '"common/testing/fake_clock.h"', wrong),
                ("tests/a.cc", '"common/testing/fake_clock.h"', []),
                ("tests/a.cc", '"worker/session.h"', [])):
            self.assertEqual(self.rules(path, what), expected, (path, what))

    def test_foreign_headers_have_one_owner(self):
        wrong = ["foreign-header"]
        for path, what, expected in (
                ("transport/ucx_endpoint.cc", "<ucp/api/ucp.h>", []),
                ("kvstore/server.cc", "<ucp/api/ucp.h>", wrong),
                ("kvstore/ssd/metadata.cc", "<rocksdb/db.h>", []),
                ("kvstore/index.cc", "<rocksdb/db.h>", wrong),
                ("worker/a.cc", "<cuda_runtime.h>", wrong),
                ("kernels/cuda/a.cu", "<cuda_runtime.h>", []),
                ("kvstore/tier.cc", "<grpcpp/grpcpp.h>", wrong),
                ("kvstore/control_service.cc", "<grpcpp/grpcpp.h>", []),
                ("worker/decode.cc", '"ggml.h"', wrong),
                ("worker/model/graph.cc", '"ggml-backend.h"', []),
                ("kvstore/a.cc", "<isa-l/crc.h>", wrong),
                ("kvstore/a.cc", "<prometheus/counter.h>", wrong),
                ("kvstore/a.cc", "<spdlog/spdlog.h>", wrong),
                ("worker/a.cc", "<openssl/evp.h>", wrong)):
            self.assertEqual(self.rules(path, what), expected, (path, what))


class MetricsTest(unittest.TestCase):
    def found(self, code, page):
        sources = [Source("a/b.cc", code), Source("docs/METRICS.md", page)]
        return [f.message for f in tidy.check(sources)]

    def test_code_and_page_agree(self):
        code = 'm->AddCounter(\n    "forecache_a_reads_total", "Reads.");\n'
        row = "| `forecache_a_reads_total` | counter | | Reads. |\n"
        self.assertEqual(self.found(code, row), [])
        self.assertIn("has no row", self.found(code, "")[0])
        self.assertIn("no code adds", self.found("", row)[0])
        self.assertIn("is a counter in a/b.cc",
                      self.found(code, row.replace("| counter", "| gauge"))[0])

    def test_constants_of_the_file(self):
        code = 'm->AddCounter(kReads, "Reads.");\n'
        self.assertIn("as a literal", self.found(code, "")[0])
        row = "| `forecache_a_reads_total` | counter | | Reads. |\n"
        constant = 'constexpr char kReads[] = "forecache_a_reads_total";\n'
        self.assertEqual(self.found(constant + code, row), [])

    def test_names(self):
        for kind, name, expected in (
                ("Counter", "forecache_a_reads", "_total"),
                ("Gauge", "forecache_a_reads_total", "_total"),
                ("Histogram", "forecache_a_wait_ms", "base units"),
                ("Gauge", "a_blocks", "forecache_")):
            row = f"| `{name}` | {kind.lower()} | | |\n"
            found = self.found(f'm->Add{kind}("{name}", help);\n', row)
            self.assertEqual(len(found), 1, name)
            self.assertIn(expected, found[0])


class ExceptionsTest(unittest.TestCase):
    LONG = "int a;\n" * 410

    def test_covers(self):
        self.assertEqual(findings("a.cc", self.LONG,
                                  "file-length a.cc 410 # tables\n"), [])

    def test_may_not_grow(self):
        self.assertEqual(
            findings("a.cc", self.LONG, "file-length a.cc 409 # tables\n"),
            [("file-length", 410), ("exceptions", 1)])

    def test_stale(self):
        self.assertEqual(findings("a.cc", "int a;\n", "\ntodo a.cc # old\n"),
                         [("exceptions", 2)])

    def test_needs_a_reason(self):
        self.assertEqual(findings("a.cc", "int a;\n", "todo a.cc\n"),
                         [("exceptions", 1)])

    def test_finds_sources_without_git(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a").mkdir()
            (Path(folder) / "a/b.cc").write_text("int a;\n")
            (Path(folder) / "a/c.bin").write_bytes(b"\xff\xfe")
            self.assertEqual([s.path for s in read_sources(folder)],
                             ["a/b.cc"])


if __name__ == "__main__":
    unittest.main()
