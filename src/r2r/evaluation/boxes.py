r"""The boxes of an answer, \boxed{...} and \fbox{...}, found in one pass over its text."""

from __future__ import annotations

import re

PARTS = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s{0,8}(?P<open>\{)?|\\.|[{}]", re.DOTALL)
BARE = re.compile(r"[-+]?\$?[0-9][0-9,]*(?:\.[0-9]+)?\\?%?|[A-Za-z](?![A-Za-z])")  # \boxed 7
NOTHING = re.compile(r"(?:\s|~|\\[,;:! ]|\\(?:quad|text|mathrm|mathbf|textbf)(?![a-zA-Z])|[{}$])*")


def boxes(text: str) -> list[tuple[int, str]]:
    """Where each complete box that holds something begins, and what it holds, in the order of
    their ends (a box around another is the later). Escaped braces are content, not braces."""
    found: list[tuple[int, str]] = []
    begun: list[tuple[int, int, bool]] = []  # its start, its inside, whether a box
    for part in PARTS.finditer(text):
        if part[0] == "}":
            if begun:
                start, inside, box = begun.pop()
                if box:
                    found.append((start, text[inside : part.start()].strip()))
        elif part[0] == "{" or part["open"]:
            begun.append((part.start(), part.end(), part[0] != "{"))
        elif len(part[0]) > 2 and (bare := BARE.match(text, part.end())):
            found.append((part.start(), bare[0]))
    return [(start, content) for start, content in found if not NOTHING.fullmatch(content)]
