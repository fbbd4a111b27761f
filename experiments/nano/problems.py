"""The nano reasoning benchmark: generated problems with worked steps in three families.

math  a short story with three or four arithmetic steps; the answer is a boxed integer
qa    the same stories with four ranges to choose from, or four results to compare; a boxed letter
code  compose a linear function step by step; the answer is a program, checked by running it

Every problem belongs to one split, decided by a hash of its numbers alone (not of its wording):
``test`` (held out), ``train`` (prompts for labelling and router training) or ``lm`` (what the
language models are trained on). A split can therefore never leak into another one.
"""

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

FAMILIES = ("math", "qa", "code")
LIMIT = 199  # no intermediate value is larger
CONNECTIVES = ("So", "Now", "Then", "Thus", "Next")
# How often each connective opens a step. The SLM's corpus has habits of its own, so it words many
# a step otherwise than the LLM would, without any difference in meaning.
STYLES = {"plain": (30, 26, 20, 14, 10), "slm": (26, 30, 20, 14, 10)}
WORDS = {"+": "plus", "-": "minus", "*": "times"}
NAMES = ("Ann", "Ben", "Eva", "Tom", "Mia", "Max", "Zoe", "Leo")
THINGS = ("pens", "cups", "coins", "books", "cards", "eggs")
STORY = {
    "+": ("{p} gets {n} more.", "{p} finds {n}.", "{p} buys {n}."),
    "-": ("{p} loses {n}.", "{p} gives away {n}.", "{p} sells {n}."),
    "*": ("Then {p} has {n} times as many.", "{p} makes it {n} times as many."),
}
RANGES = ("below 50", "50 to 99", "100 to 149", "150 or more")
COMPOSE = {"+": "add {n}", "-": "subtract {n}", "*": "multiply by {n}"}

Op = tuple[str, int]


@dataclass(frozen=True)
class Problem:
    """One problem: its question, its gold answer, and the numbers that decide its split."""

    family: str
    question: str
    answer: str
    key: tuple
    plan: tuple = ()  # what a worked solution walks through
    tests: tuple[tuple[int, int], ...] = field(default=())  # code: (input, expected output)

    @property
    def split(self) -> str:
        bucket = hashlib.sha256(repr(self.key).encode()).digest()[0]
        return "test" if bucket < 16 else "train" if bucket < 48 else "lm"


def apply(value: int, op: Op) -> int:
    sign, n = op
    return value + n if sign == "+" else value - n if sign == "-" else value * n


def chain_ops(rng: random.Random, value: int, steps: int) -> list[Op]:
    """Random steps whose values stay in 0..LIMIT."""
    ops: list[Op] = []
    while len(ops) < steps:
        sign = rng.choice("++--**")
        op = (sign, rng.randint(2, 9) if sign == "*" else rng.randint(3, 99))
        if 2 <= apply(value, op) <= LIMIT:
            ops.append(op)
            value = apply(value, op)
    return ops


def final_value(start: int, ops: list[Op]) -> int:
    for op in ops:
        start = apply(start, op)
    return start


def story(rng: random.Random, start: int, ops: list[Op]) -> str:
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    told = [f"{name} has {start} {things}."]
    told += [rng.choice(STORY[sign]).format(p=name, n=n) for sign, n in ops]
    return " ".join([*told, f"How many {things} are there?"])


def math_problem(rng: random.Random, steps: int) -> Problem:
    start = rng.randint(2, 99)
    ops = chain_ops(rng, start, steps)
    key = ("chain", start, *ops)
    return Problem("math", story(rng, start, ops), str(final_value(start, ops)), key, (start, ops))


def lettered(values: Iterable[str]) -> str:
    return ", ".join(f"{value} ({letter})" for letter, value in zip("ABCD", values, strict=True))


def qa_problem(rng: random.Random, steps: int) -> Problem:
    if rng.random() < 0.5:
        start = rng.randint(2, 99)
        ops = chain_ops(rng, start, steps)
        right = final_value(start, ops)
        question = f"{story(rng, start, ops)} Options: {lettered(RANGES)}"
        letter = "ABCD"[min(right // 50, 3)]
        key = ("chain", start, *ops)
        return Problem("qa", question, letter, key, ("chain", start, ops, right, letter))
    terms: list[tuple[int, Op]] = []
    while len(terms) < 4:
        start = rng.randint(3, 99)
        op = chain_ops(rng, start, 1)[0]
        if apply(start, op) not in [apply(*t) for t in terms]:
            terms.append((start, op))
    values = [apply(*t) for t in terms]
    letter = "ABCD"[values.index(max(values))]
    shown = lettered(f"{start}{sign}{n}" for start, (sign, n) in terms)
    question = f"Which is the largest? Options: {shown}"
    return Problem("qa", question, letter, ("largest", *terms), ("largest", terms, letter))


def code_problem(rng: random.Random, steps: int) -> Problem:
    a, b = rng.randint(2, 9), 0
    ops: list[Op] = [("*", a)]
    lines = []
    while len(ops) < steps + 2:
        op = chain_ops(rng, b, 1)[0]
        if op[0] == "*" and (a * op[1] > 99 or ops[-1][0] == "*"):
            continue
        ops.append(op)
        before = linear(a, b)
        a = a * op[1] if op[0] == "*" else a
        b = apply(b, op)
        shown = f"({before})*{op[1]}" if op[0] == "*" else f"{before}{op[0]}{op[1]}"
        if len(ops) > 2:  # the first sum needs no working: it is the start
            lines.append((shown, linear(a, b)))
    told = ", then ".join(COMPOSE[sign].format(n=n) for sign, n in ops)
    question = f"Write a Python function f(x): {told}."
    tests = tuple((x, a * x + b) for x in (0, 1, 7, 10))
    key = ("code", *ops)
    return Problem("code", question, linear(a, b), key, (lines,), tests)


def linear(a: int, b: int) -> str:
    return f"{a}*x+{b}" if b else f"{a}*x"


MAKERS = {"math": math_problem, "qa": qa_problem, "code": code_problem}


def sample(rng: random.Random, split: str, steps: tuple[int, int], family: str = "") -> Problem:
    """A random problem of ``split`` with ``steps`` (low, high) worked steps."""
    while True:
        maker = MAKERS[family or rng.choice(FAMILIES)]
        problem = maker(rng, rng.randint(*steps))
        if problem.split == split:
            return problem


def said(rng: random.Random, style: str, left: str, right: str) -> str:
    """One worked step, in one of many wordings that mean the same."""
    connective = rng.choices(CONNECTIVES, STYLES[style])[0]
    verb = rng.choices(("=", " is ", " makes "), (70, 15, 15))[0]
    if rng.random() < 0.3 and "x" not in left:
        for sign, word in WORDS.items():
            left = left.replace(sign, f" {word} ")
    return f"{connective} {left}{verb}{right}.\n"


def solution(rng: random.Random, problem: Problem, style: str = "plain") -> str:
    """A worked answer as the models are taught to write it, after ``<think>``."""
    if problem.family == "code":
        steps = [said(rng, style, left, right) for left, right in problem.plan[0]]
        program = f"```python\ndef f(x):\n    return {problem.answer}\n```"
        return "".join(["\n", *steps, "</think>\n", program])
    if problem.family == "math":
        start, ops = problem.plan
        steps = walk(rng, style, start, ops)
    elif problem.plan[0] == "chain":
        _, start, ops, right, letter = problem.plan
        steps = [*walk(rng, style, start, ops), picked(rng, right, letter)]
    else:
        _, terms, letter = problem.plan
        values = [apply(*term) for term in terms]
        lines = zip("ABCD", terms, values, strict=True)
        steps = [
            said(rng, style, f"{v}{op[0]}{op[1]}", f"{value} ({at})")
            for at, (v, op), value in lines
        ]
        steps.append(picked(rng, max(values), letter))
    closing = rng.choice(("The answer is", "Answer:"))
    return "".join(["\n", *steps, "</think>\n", f"{closing} \\boxed{{{problem.answer}}}."])


def picked(rng: random.Random, value: int, letter: str) -> str:
    return f"{rng.choice(('Pick', 'Choose', 'Take'))} {value} ({letter}).\n"


def walk(rng: random.Random, style: str, value: int, ops: list[Op]) -> list[str]:
    steps = []
    for op in ops:
        after = apply(value, op)
        steps.append(said(rng, style, f"{value}{op[0]}{op[1]}", str(after)))
        value = after
    return steps
