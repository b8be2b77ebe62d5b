"""The tracked sources, and what a rule says about them."""

import dataclasses
import functools
import os
import re
import subprocess
from pathlib import Path

CC = (".h", ".cc", ".cu", ".cuh")
TEXT = CC + (".py", ".sh", ".md", ".txt", ".proto", ".bzl", ".yaml", ".yml",
             ".json", ".toml")
TEXT_NAMES = ("BUILD", "WORKSPACE", "Dockerfile", "forecache", "run")

# Comments and literals.  A raw string comes first: it may hold the others.
TOKEN = re.compile(
    r'(?P<raw>R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)")'
    r'|(?P<text>"(?:\\.|[^"\\\n])*")'
    r"|(?P<char>'(?:\\.[^']*|[^'\\\n])')"
    r'|(?P<comment>//[^\n]*|/\*.*?\*/)', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong, where, and how to mend it."""
    rule: str
    path: str
    line: int
    message: str
    size: int = 0  # of what is too long; 0 for other rules

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


class Source:
    """One file.  `path` is relative to the root, with slashes."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.lines = text.split("\n")[:-1] if text.endswith("\n") \
            else text.split("\n")

    def is_cc(self):
        return self.path.endswith(CC)

    def is_header(self):
        return self.path.endswith((".h", ".cuh"))

    def is_test(self):
        return self.path.startswith("tests/") or "/testing/" in self.path

    def _blanked(self, kinds):
        def blank(match):
            if match.lastgroup == "mark":
                kind = "raw"
            else:
                kind = match.lastgroup
            if kind not in kinds:
                return match.group()
            return re.sub(r"[^\n]", " ", match.group())
        return TOKEN.sub(blank, self.text)

    @functools.cached_property
    def code(self):
        """The text with comments and literals blanked; offsets stay."""
        return self._blanked({"raw", "text", "char", "comment"})

    @functools.cached_property
    def uncommented(self):
        """The text with comments blanked, literals as they are."""
        return self._blanked({"comment"})

    def line_at(self, offset):
        return self.text.count("\n", 0, offset) + 1


def tracked_paths(root):
    """What git tracks; without git, all that is not hidden or built."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if listed.returncode == 0:
        return sorted(filter(None, listed.stdout.decode().split("\0")))
    paths = []
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if not n.startswith((".git", "bazel-"))]
        paths += [(Path(folder) / f).relative_to(root).as_posix()
                  for f in files]
    return sorted(paths)


def read_sources(root):
    sources = []
    for path in tracked_paths(root):
        file = Path(root) / path
        is_text = path.endswith(TEXT) or file.name in TEXT_NAMES
        if is_text and file.is_file():
            sources.append(Source(path, file.read_text(encoding="utf-8")))
    return sources
