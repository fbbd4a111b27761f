"""Graders: a model's answer and the gold in, right or wrong out."""

from __future__ import annotations

import re

from r2r.evaluation.boxes import boxes
from r2r.evaluation.equality import equal
from r2r.evaluation.values import clean, same, value

BOXED_VERSION = 2  # which boxed answers are right, math-verify's part included
LETTER_VERSION = 2  # which letters are right
THINK_END = "</think>"
LONGEST_ANSWER = 500  # characters in a box; a longer one is no answer to these benchmarks
STATED_NUMBER = re.compile(
    r"####[ \t]{0,9}([^\s#][^\n]*)"
    r"|\b(?i:answer)(?:[ \t*_]{1,9}is|[ \t*_]{0,9}:)[ \t:*_$\\(]{0,9}"
    r"(-?[0-9][0-9,]*(?:\.[0-9]+)?%?)"
)  # as GSM8K's solutions end, and as lm-eval's gsm8k and gsm8k_cot read answers
AROUND = (
    r"(?:[\s*_$`\"'(\[{:]|\\[(\[]|\\(?:boxed|fbox|text|textbf|mathrm|mathbf)(?![a-zA-Z])){0,40}"
)
NAMED = r"(?:(?i:the|correct|best|final|answer|option|choice|letter|is)\b" + AROUND + r"){0,5}"
ENDS = r"(?=[\s*_$`\"'}\\]{0,20}(?:[).\]:,;(–—-]|\n|$))"  # nothing that makes it a word of a text
LETTER_BOX = re.compile(AROUND + NAMED + "([A-Da-d])" + ENDS)
STATED_LETTER = re.compile(
    r"\b(?i:answer|option|choice)(?:[ \t]{1,9}(?i:option|choice|letter)\b)?"
    r"(?:[\s*_]{1,9}(?i:is)\b|[\s*_]{0,9}[:=])"
    rf"{AROUND}{NAMED}([A-D](?![^\W_])|[a-d]{ENDS})"
)
LETTER_LINE = re.compile(  # a last line that is nothing else
    r"(?:\*\*|[(\[$`]|\\[(\[])" + AROUND + NAMED + r"([A-D])[\s*_$`)\]}.\\]{1,20}"
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


def last_number(text: str) -> str | None:
    """``last_boxed``; where there is no box, the last ``#### 18`` or "the answer is 18"."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    stated = STATED_NUMBER.findall(text.rpartition(THINK_END)[2])
    return "".join(stated[-1]) if stated else None


def number_correct(text: str, gold: str) -> bool:
    """Whether ``last_number`` equals ``gold``, as boxed answers do."""
    answer = last_number(text)
    return answer is not None and same_answer(answer, gold)


def same_answer(answer: str, gold: str) -> bool:
    if len(answer) > LONGEST_ANSWER:
        return False
    if clean(answer) == clean(gold):
        return True
    one, other = value(answer), value(gold)
    return same(one, other) if one and other else equal(gold, clean(answer))


def letter_correct(text: str, gold: str) -> bool:
    """Whether ``last_letter`` is the letter ``gold``."""
    return last_letter(text) == gold.upper()


def last_letter(text: str) -> str | None:
    r"""The letter, A to D, that the answer after ``</think>`` comes to: the last that is boxed
    (\boxed{B}, \boxed{\text{Option B}}, \boxed{B) 3 eV}) or stated ("Answer: B"); where there is
    neither, a last line such as **B** or (B). A box without one of the letters counts for nothing.
    """
    final = text.rpartition(THINK_END)[2]
    found = [(match.start(), match[1]) for match in STATED_LETTER.finditer(final)]
    for start, inside in boxes(final):
        if boxed := LETTER_BOX.match(inside):
            found.append((start, boxed[1]))
    if not found:
        line = LETTER_LINE.fullmatch(final.rstrip().rpartition("\n")[2].strip())
        return line[1] if line else None
    return max(found)[1].upper()
