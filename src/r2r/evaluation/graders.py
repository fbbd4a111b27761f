"""Graders: a model's answer and the gold in, right or wrong out."""

from __future__ import annotations

import re

from r2r.evaluation.equality import equal

BOXED_VERSION = 1  # which boxed answers are right, math-verify's part included
LETTER_VERSION = 1  # which letters are right
THINK_END = "</think>"
LONGEST_ANSWER = 500  # characters in a box; a longer one is no answer to these benchmarks
BOXED_LETTER = re.compile(
    r"(?:\\(?:text|mathrm|mathbf|textbf)\s*\{)?\s*\(?([A-Za-z])(?:\s*|[).:}].*)", re.DOTALL
)
STATED_LETTER = re.compile(
    r"(?i:\banswer\b)[\s*_]*(?::|(?i:is\b))[\W_]*(?i:option\s+)?[\W_]*([A-D])(?![^\W_])"
)


def answer_text(text: str, think_end: str | None) -> str:
    """What follows the last ``think_end``: the part that is graded.

    Empty where the model never ended its reasoning, so that a box in unfinished reasoning does not
    count. ``think_end`` None (a model that does not think): the whole text.
    """
    if think_end is None:
        return text
    _, found, rest = text.rpartition(think_end)
    return rest if found else ""


def last_boxed(text: str) -> str | None:
    r"""The contents of the last complete ``\boxed{...}`` after ``</think>``, braces nested."""
    text = text.rpartition(THINK_END)[2]
    for opened in reversed([match.end() for match in re.finditer(r"\\boxed\s*\{", text)]):
        depth = 1
        for end in range(opened, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[opened:end].strip()
    return None


def boxed_correct(text: str, gold: str) -> bool:
    """Whether the last box after ``</think>`` equals ``gold``, by math-verify (073 == 73)."""
    answer = last_boxed(text)
    if not answer or len(answer) > LONGEST_ANSWER:
        return False
    if answer == gold:
        return True
    if is_plain(answer) and is_plain(gold):  # most answers; needs no parser
        return int(answer) == int(gold)
    return equal(gold, answer)


def is_plain(number: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", number) is not None


def letter_correct(text: str, gold: str) -> bool:
    r"""Whether the answer after ``</think>`` is the letter ``gold``: the last ``\boxed{B}`` (also
    as \text{B} or (B)), or the last "Answer: B" where nothing follows it in a box."""
    final = text.rpartition(THINK_END)[2]
    boxed = re.fullmatch(BOXED_LETTER, last_boxed(final) or "")
    stated = STATED_LETTER.findall(final)
    letter = boxed[1] if boxed else stated[-1] if stated else ""
    return letter.upper() == gold.upper()
