"""Graders: a model's answer and the gold in, right or wrong out."""

from __future__ import annotations

import functools
import json
import re

from r2r.evaluation.equality import equal
from r2r.evaluation.sandbox import run_program

THINK_END = "</think>"
LONGEST_ANSWER = 500  # characters in a box; a longer one is no answer to these benchmarks
PROGRAM_S = 5.0
PROGRAM_MB = 256
FENCE = re.compile(r"```(?:python|py)[ \t]*\n(.*?)```", re.DOTALL)


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
    if is_plain(answer) and is_plain(gold):  # most answers; needs no parser
        return int(answer) == int(gold)
    return equal(gold, answer)


def is_plain(number: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", number) is not None


def letter_correct(text: str, gold: str) -> bool:
    r"""Whether the last box after ``</think>`` holds the letter ``gold``, bare or as \text{B}."""
    answer = last_boxed(text) or ""
    found = re.fullmatch(r"(?:\\text\s*\{)?\s*\(?([A-Za-z])[).]?\s*\}?", answer)
    return found is not None and found[1].upper() == gold.upper()


def code_correct(text: str, tests: list[list]) -> bool:
    """Whether the last ```python block after ``</think>`` defines ``f`` with f(x) == y for all
    of ``tests`` [[x, y], ...] (JSON values). Raises ConfigError where there is no sandbox."""
    programs = FENCE.findall(text.rpartition(THINK_END)[2])
    if not programs:
        return False
    inputs, expected = zip(*tests, strict=True)
    return outputs(programs[-1], json.dumps(inputs)) == list(expected)


@functools.lru_cache(maxsize=4096)  # models of one pair often write the same program
def outputs(program: str, inputs: str) -> list | None:
    """[f(x) for x in inputs], run in the sandbox; None where the program fails."""
    call = (
        f"import json as _json\nprint('\\n' + _json.dumps([f(x) for x in _json.loads({inputs!r})]))"
    )
    run = run_program(f"{program}\n{call}\n", timeout_s=PROGRAM_S, memory_mb=PROGRAM_MB)
    lines = run.stdout.splitlines()
    if not run.ok or not lines:
        return None
    try:
        return json.loads(lines[-1])
    except (ValueError, RecursionError):
        return None
