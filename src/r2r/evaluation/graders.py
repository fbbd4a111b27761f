"""Graders: a model's answer and the gold in, right or wrong out."""

from __future__ import annotations

import re

from r2r.evaluation.boxes import boxes
from r2r.evaluation.equality import equal
from r2r.evaluation.values import clean, same, value

BOXED_VERSION = 1  # which boxed answers are right, math-verify's part included
LETTER_VERSION = 1  # which letters are right
THINK_END = "</think>"
LONGEST_ANSWER = 500  # characters in a box; a longer one is no answer to these benchmarks
STATED_NUMBER = re.compile(
    r"####[ \t]{0,9}([^\s#][^\n]*)"
    r"|\b(?i:answer)(?:[ \t*_]{1,9}is|[ \t*_]{0,9}:)[ \t:*_$\\(]{0,9}"
    r"(-?[0-9][0-9,]*(?:\.[0-9]+)?%?)"
)  # as GSM8K's solutions end, and as lm-eval's gsm8k and gsm8k_cot read answers
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
    r"""What is in the last ``\boxed{...}`` (or ``\fbox``) that is not empty, after ``</think>``."""
    found = boxes(text.rpartition(THINK_END)[2])
    return found[-1][1] if found else None


def boxed_correct(text: str, gold: str) -> bool:
    """Whether the last box after ``</think>`` equals ``gold``: as a number however it is written
    (073 == 73), else by math-verify."""
    answer = last_boxed(text)
    return answer is not None and same_answer(answer, gold)


def number_correct(text: str, gold: str) -> bool:
    """``boxed_correct``; where there is no box, the last ``#### 18`` or "the answer is 18"."""
    if last_boxed(text) is not None:
        return boxed_correct(text, gold)
    stated = STATED_NUMBER.findall(text.rpartition(THINK_END)[2])
    return bool(stated) and same_answer("".join(stated[-1]), gold)


def same_answer(answer: str, gold: str) -> bool:
    if len(answer) > LONGEST_ANSWER:
        return False
    if clean(answer) == clean(gold):
        return True
    one, other = value(answer), value(gold)
    return same(one, other) if one and other else equal(gold, clean(answer))


def letter_correct(text: str, gold: str) -> bool:
    r"""Whether the answer after ``</think>`` is the letter ``gold``: the last ``\boxed{B}`` (also
    as \text{B} or (B)), or the last "Answer: B" where nothing follows it in a box."""
    final = text.rpartition(THINK_END)[2]
    boxed = re.fullmatch(BOXED_LETTER, last_boxed(final) or "")
    stated = STATED_LETTER.findall(final)
    letter = boxed[1] if boxed else stated[-1] if stated else ""
    return letter.upper() == gold.upper()
