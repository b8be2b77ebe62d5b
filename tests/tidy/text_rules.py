"""Rules about one file's text.  Each yields the Findings of one Source."""

import ast
import re

from source import Finding

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 80
MEASURED = (".h", ".cc", ".cu", ".cuh", ".py", ".sh", ".proto", ".bzl")

SLEEP = re.compile(r"\b(?:sleep_for|sleep_until|usleep|nanosleep"
                   r"|absl::SleepFor|Real\(\)\s*->\s*SleepFor|time\.sleep)\b"
                   r"|\bsleep\(|^\s*sleep \S", re.MULTILINE)
TODO = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))")
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:work\b|tmp/)[\w./-]*")
CLASS = re.compile(r"^(?:class|struct)\s+(?:[A-Z_]+(?:\([^)]*\))?\s+)*(\w+)"
                   r"[^;{]*\{", re.MULTILINE)
ACCESS = re.compile(r"\b(?:public|private|protected)\s*:(?!:)")
INTERNAL = re.compile(r"^namespace (?:\w+::)*\w*internal \{", re.MULTILINE)


def file_length(source):
    count = len(source.lines)
    if source.path.endswith(MEASURED) and count > FILE_LINES_MAX:
        yield Finding("file-length", source.path, count,
                      f"{count} lines, at most {FILE_LINES_MAX}: give a part "
                      "of it a file and a name of its own", count)


def is_function_head(head):
    """Whether what stands before a { opens a function's body."""
    head = head.strip()
    if not head or re.match(r"(?:inline\s+)?namespace\b|extern\s*$|enum\b",
                            head):
        return False
    if re.search(r"(?:^|[\s>])(?:class|struct|union)\s[^()]*$", head):
        return False
    return ")" in head and not re.search(r"=\s*$", head)


def is_initializer(head):
    """Whether the { belongs to a member, as in `Foo() : a_{1} {`."""
    return bool(re.search(r"\)[^:]*(?<!:):(?!:).*[\w>]\s*$", head, re.DOTALL)
                ) and not re.search(r"\b(?:const|noexcept|override)\s*$", head)


def functions(code):
    """The outermost functions -> (first line, last line), lambdas inside."""
    stack, start = [], 0  # what each open { is; where the statement began
    for match in re.finditer(r"[{};]|^#.*(?:\\\n.*)*", code, re.MULTILINE):
        token, at = match.group(), match.start()
        if token == "{":
            head = ACCESS.sub(lambda m: " " * len(m.group()), code[start:at])
            if stack and stack[-1][0] in ("function", "other"):
                stack.append(("other", 0))
            elif is_function_head(head) and is_initializer(head):
                stack.append(("initializer", 0))
                continue
            elif is_function_head(head):
                first = start + len(head) - len(head.lstrip())
                stack.append(("function", first))
            elif re.match(r"\s*(?:inline\s+)?namespace\b|\s*extern\b|"
                          r"(?s:.*)\b(?:class|struct|union)\b", head):
                stack.append(("scope", 0))
            else:
                stack.append(("other", 0))
        elif token == "}" and stack:
            kind, first = stack.pop()
            if kind == "function":
                yield (code.count("\n", 0, first) + 1,
                       code.count("\n", 0, at) + 1)
            if kind == "initializer":
                continue
        elif stack and stack[-1][0] == "initializer":
            continue
        start = match.end()


def function_length(source):
    if source.is_cc():
        spans = functions(source.code)
    elif source.path.endswith(".py"):
        spans = ((node.lineno, node.end_lineno)
                 for node in ast.walk(ast.parse(source.text))
                 if isinstance(node, ast.FunctionDef))
    else:
        return
    for first, last in spans:
        count = last - first + 1
        if count > FUNCTION_LINES_MAX:
            yield Finding("function-length", source.path, first,
                          f"a function of {count} lines, at most "
                          f"{FUNCTION_LINES_MAX}: name its steps", count)


def columns(source):
    if not source.is_cc():
        return
    for number, line in enumerate(source.lines, 1):
        if len(line) > COLUMNS_MAX and not line.startswith("#include"):
            yield Finding("columns", source.path, number,
                          f"{len(line)} columns, at most {COLUMNS_MAX}: "
                          "break the line")


def whitespace(source):
    for number, line in enumerate(source.lines, 1):
        if line != line.rstrip():
            yield Finding("whitespace", source.path, number,
                          "blanks at the end: delete them")
        if source.is_cc() and "\t" in line:
            yield Finding("whitespace", source.path, number,
                          "a tab: use spaces")
    if source.text and not source.text.endswith("\n"):
        yield Finding("whitespace", source.path, len(source.lines),
                      "no newline at the end: add one")


def header_guard(source):
    if not source.is_header():
        return
    name = re.sub(r"\W", "_", source.path).upper()
    guard = f"FORECACHE_{name}_"
    directives = [line for line in source.lines if line.startswith("#")]
    if source.path.endswith("-inl.h"):  # Highway's: once for each target
        is_right = bool(directives) and guard in directives[0]
    else:
        is_right = directives[:2] == [f"#ifndef {guard}", f"#define {guard}"]
    if not is_right:
        yield Finding("header-guard", source.path, 1,
                      f"the first directives must be the guard {guard}")


def issue_of_todo(source):
    if source.path.endswith(".md"):
        return
    for match in TODO.finditer(source.text):
        yield Finding("todo", source.path, source.line_at(match.start()),
                      "work left over has an issue: TODO(#7), or do it now")


def no_sleep(source):
    if not source.is_test() or not source.path.endswith(
            (".h", ".cc", ".py", ".sh")):
        return
    text = source.code if source.is_cc() else source.text
    for match in SLEEP.finditer(text):
        line = source.line_at(match.start() + len(match.group()) - 1)
        yield Finding("sleep", source.path, line,
                      "a test that sleeps is slow or flaky: wait for the "
                      "event, or use FakeClock")


def machine_path(source):
    for number, line in enumerate(source.lines, 1):
        for match in MACHINE_PATH.finditer(line):
            if "XXXXXX" in match.group():
                continue  # a template of mkdtemp
            yield Finding("machine-path", source.path, number,
                          f"{match.group()} is a place on one machine: use "
                          "$FORECACHE_CACHE, a flag or a temporary folder")


def comment_above(lines, index):
    """The // block that ends right above line `index`, template line aside."""
    comment = []
    for line in reversed(lines[:index]):
        if line.startswith("//"):
            comment.append(line)
        elif comment or not re.match(r"template|requires|    |\[\[", line):
            break
    return "\n".join(comment)


def threads(source):
    if not source.path.endswith(".h") or source.is_test():
        return
    internal = INTERNAL.search(source.code)
    for match in CLASS.finditer(source.code):
        if not match.group().startswith("class"):
            continue
        if internal and match.start() > internal.start():
            continue
        number = source.line_at(match.start())
        if "Threads:" not in comment_above(source.lines, number - 1):
            yield Finding("threads", source.path, number,
                          f"say in the comment above class {match.group(1)} "
                          "which threads may call it: \"// Threads: ...\"")


RULES = (file_length, function_length, columns, whitespace, header_guard,
         issue_of_todo, no_sleep, machine_path, threads)
