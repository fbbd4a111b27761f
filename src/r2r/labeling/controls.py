"""Pairs of drafts whose verdict is known: a verifier is tried on them before it labels anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r2r.labeling.finished import LABELS
from r2r.labeling.verify import Comparison, Verifier

LEAST = 0.8  # the score of a verifier that labels; one verdict for every pair has 0.5
SAME, OTHER = ("identical", "paraphrase"), ("number", "operation")  # neutral; divergent
KINDS = (*SAME, *OTHER)


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, the beginning of its solution, and two drafts of what comes next that say the
    same, that differ in a number, and that differ in an operation."""

    question: str
    begun: str
    paraphrase: tuple[str, str]
    number: tuple[str, str]
    operation: tuple[str, str]

    def drafts(self, kind: str) -> tuple[str, str]:
        return (self.number[0], self.number[0]) if kind == "identical" else getattr(self, kind)


PROBLEMS = (
    Problem(
        "A baker makes 24 rolls and sells three quarters of them for $3 each. How much money does"
        " she get?",
        "We need the rolls that she sells, and then the money that she gets for them.\n",
        ("First, she sells 24 * 3/4 = 18 rolls.", "To begin with, 24 * 3/4 = 18 rolls are sold."),
        ("So she sells 18 rolls.", "So she sells 16 rolls."),
        ("Then multiply 18 by 3 to get the money.", "Then divide 18 by 3 to get the money."),
    ),
    Problem(
        "Tom drives 60 miles an hour for 2 hours, and then 45 miles more. How far does he drive?",
        "Tom drives in two parts.\nThe first part takes 2 hours at 60 miles an hour.\n",
        ("So the first part is 120 miles long.", "Hence the length of part one is 120 miles."),
        ("That part is 60 * 2 = 120 miles.", "That part is 60 * 2 = 140 miles."),
        ("Next, add the 45 miles: 120 + 45.", "Next, subtract the 45 miles: 120 - 45."),
    ),
    Problem(
        "A class of 30 children has 12 girls. What share of the class are boys?",
        "There are 12 girls among the 30 children.\n",
        ("The number of boys is 30 - 12 = 18.", "There are 30 - 12 = 18 boys in the class."),
        ("So 18 of the 30 children are boys.", "So 11 of the 30 children are boys."),
        ("The share is 18 divided by 30.", "The share is 18 times 30."),
    ),
)


@dataclass(frozen=True, slots=True)
class Proof:
    """How many control pairs of each kind a verifier judged right, of how many."""

    right: dict[str, int]
    of: dict[str, int]

    @property
    def score(self) -> float:
        """The mean of the shares that are right of those that say the same, and of the others."""
        shares = [
            sum(self.right[k] for k in kinds if k in self.of)
            / sum(self.of[k] for k in kinds if k in self.of)
            for kinds in (SAME, OTHER)
        ]
        return sum(shares) / len(shares)

    def __str__(self) -> str:
        told = ", ".join(f"{kind} {self.right[kind]}/{self.of[kind]}" for kind in self.of)
        return f"{sum(self.right.values())} of {sum(self.of.values())} control pairs ({told})"

    def to_json(self) -> dict[str, Any]:
        return {"score": self.score, "right": self.right, "of": self.of}

    @staticmethod
    def from_json(told: dict[str, Any]) -> Proof:
        return Proof(told["right"], told["of"])


def comparison(problem: Problem, kind: str) -> Comparison:
    """Two drafts as a verifier sees a mismatch: the first word that differs is marked, or where
    none does, the first."""
    one, other = (re.findall(r"\s*\S+", draft) for draft in problem.drafts(kind))
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    before, parts = "".join(one[:at]), (one[at], "".join(one[at + 1 :]))
    others = (other[at], "".join(other[at + 1 :]))
    return Comparison(problem.question, problem.begun, before, *parts, *others)


async def prove(verifier: Verifier, kinds: Sequence[str] = KINDS) -> Proof:
    """Have a verifier judge the control pairs of some kinds; a judge is asked in both orders.

    What is right is what the label would be: disputed is divergent, unverified is never right.
    """
    asked = [(kind, comparison(problem, kind)) for problem in PROBLEMS for kind in kinds]
    verdicts = await verifier.verify(each for _, each in asked)
    right = dict.fromkeys(kinds, 0)
    for (kind, _), verdict in zip(asked, verdicts, strict=True):
        right[kind] += LABELS[verdict] == int(kind in OTHER)
    return Proof(right, dict.fromkeys(kinds, len(PROBLEMS)))
