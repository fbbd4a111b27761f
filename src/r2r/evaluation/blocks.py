"""Programs in an answer: its fenced blocks, and which of them the answer means.

Fences are read as CommonMark has them (``` or ~~~, longer, indented, quoted, without an end), and
as models write them besides: behind a text, and in docstrings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r2r.evaluation.graders import THINK_END

FENCE = re.compile(r"`{3,}|~{3,}")
MARKERS = re.compile(
    r"(?:[ \t]|[-*+][ \t]|\d{1,9}[.)][ \t])*"
)  # of the list that a block stands in
QUOTED = re.compile(r"[ \t]*(?:>[ \t]?)+")
PYTHON = re.compile(r"(?:ipython|python|pypy|py)[\d.]*(?![\w+#-])")
STRING = re.compile(r"\"\"\"|'''|#.*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\\.")
LOOKAHEAD = 500  # lines in which the docstring that holds a fence has to end
READS_INPUT = re.compile(r"\binput\b|\bstdin\b|\bopen\s*\(|\bfileinput\b|\bos\.read\b")
FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import[ \t]+.+\n?", re.MULTILINE)
OUTER = re.compile(
    r"^(?:(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)|([A-Z][A-Z0-9_]*)[ \t]*=(?!=)"
    r"|(?:from[ \t]+\S+[ \t]+)?import[ \t]+([\w.,\t ]+))",
    re.MULTILINE,
)
BOUND = re.compile(r"\b(?:def|class|import|as|for)[ \t]+(\w+)|\b(\w+)[ \t]*=(?!=)")


@dataclass(frozen=True, slots=True)
class Block:
    """``language``: "python", another one's tag, or "" where the fence has none."""

    language: str
    code: str


def defines(name: str) -> re.Pattern[str]:
    """What a program that defines a function of this name matches."""
    name = re.escape(name)
    return re.compile(
        rf"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}[ \t]*(?::[^=\n]*)?=(?!=))",
        re.MULTILINE,
    )


def find_program(text: str, wanted: re.Pattern[str]) -> str | None:
    """The program after ``</think>``: the last block that holds what is ``wanted`` (``defines``,
    ``READS_INPUT``), else the last; Python before blocks without a language. The other blocks whose
    functions, classes and imports it needs stand before it. None where there is no such block."""
    text = text.rpartition(THINK_END)[2]
    blocks = [block for block in fenced(text) if block.code.strip()]
    python = [block for block in blocks if block.language == "python"]
    untold = [block for block in blocks if not block.language]
    others = [block for block in blocks if block.language not in ("", "python")]
    for tier in (python, untold, others):
        for block in reversed(tier):
            if wanted.search(block.code):
                return together(block, python + untold)
    for tier in (python, untold):
        if tier:
            return together(tier[-1], python + untold)
    return text if not blocks and wanted is not READS_INPUT and wanted.search(text) else None


def together(chosen: Block, blocks: Sequence[Block]) -> str:
    """A block's program, behind those of the others that define what it uses and does not."""
    homes: dict[str, int] = {}
    for place, block in enumerate(blocks):
        if block is not chosen:
            homes |= dict.fromkeys(outer_names(block.code), place)
    needed: set[int] = set()
    unread = [chosen.code]
    own = {name for match in BOUND.finditer(chosen.code) for name in match.groups() if name}
    while unread:
        for name in set(re.findall(r"\w+", unread.pop())) & homes.keys() - own:
            if homes[name] not in needed:
                needed.add(homes[name])
                unread.append(blocks[homes[name]].code)
    if not needed:
        return chosen.code
    program = "\n".join([*(blocks[place].code for place in sorted(needed)), chosen.code])
    return "".join(FUTURE.findall(program)) + FUTURE.sub("", program)


def outer_names(code: str) -> Iterator[str]:
    """The functions, classes, CONSTANTS and imports at the top of a program."""
    for function, constant, imports in OUTER.findall(code):
        for name in (function or constant or imports).split(","):
            yield name.split(" as ")[-1].strip().partition(".")[0]


def fenced(text: str) -> list[Block]:
    """All fenced blocks, in order; a block of Markdown is those in it."""
    lines = text.split("\n")
    blocks: list[Block] = []
    at = 0
    while at < len(lines):
        at += 1
        opened = _opened(lines[at - 1])
        if opened:
            fence, column, quoted, language = opened
            content, at = _content(lines, at, fence, quoted)
            code = "".join(_moved(line, column) + "\n" for line in content)
            blocks += fenced(code) if language == "markdown" else [Block(language, code)]
    return blocks


def _opened(line: str) -> tuple[str, int, bool, str] | None:
    """A line that opens a block: its fence, the columns before it, whether it is quoted, and the
    language. Behind a text, a fence opens a block where at most one word follows."""
    found = FENCE.search(line)
    if not found:
        return None
    quote = QUOTED.match(line)
    before = line[quote.end() if quote else 0 : found.start()]
    info = line[found.end() :].strip()
    in_text = not MARKERS.fullmatch(before)
    if "`" in info or (in_text and (len(info.split()) > 1 or found[0][0] == "~")):
        return None
    column = len(before) - len(before.lstrip()) if in_text else len(before)
    language = info.lower().lstrip("{. ")
    if PYTHON.match(language):
        language = "python"
    elif language in ("md", "markdown"):
        language = "markdown"
    return found[0], column, bool(quote), language


def _content(lines: list[str], start: int, fence: str, quoted: bool) -> tuple[list[str], int]:
    """The lines of a block, up to the first that closes it outside a docstring (where none does,
    the first of all, and where there is none, the end), and where the text goes on."""
    content: list[str] = []
    first: tuple[list[str], int] | None = None
    docstring = ""
    for at in range(start, len(lines)):
        line = QUOTED.sub("", lines[at], count=1) if quoted else lines[at]
        found = FENCE.search(line) if fence in line else None
        if found and found[0].startswith(fence):
            before, info = line[: found.start()], line[found.end() :]
            closes = not info.strip() and (fence[0] == "`" or not before.strip())
            if closes or (not docstring and not before.strip()):
                closed = [*content, before] if before.strip() else list(content)
                if not docstring:  # a block that opens ends the one before it
                    return closed, at + (closes or info[0].isspace())
                first = first or (closed, at + 1)
        if first and at - first[1] > LOOKAHEAD:
            break
        docstring = _docstring(line, docstring)
        content.append(line)
    return first or (content, len(lines))


def _docstring(line: str, inside: str) -> str:
    """The quotes of the docstring that is open behind a line, empty where none is."""
    at = 0
    while True:
        if inside:
            at = line.find(inside, at) + len(inside)
            if at < len(inside):
                return inside
        found = STRING.search(line, at)
        if not found:
            return ""
        inside = found[0] if found[0] in ('"""', "'''") else ""
        at = found.end()


def _moved(line: str, columns: int) -> str:
    return line[min(columns, len(line) - len(line.lstrip(" \t"))) :]
