"""How sure an accuracy is, and whether one system really beats another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
Z = 1.959964  # of a normal distribution, LEVEL lies within so many standard errors
CHUNK = 500  # resamples drawn at once, so that memory stays small with many problems

Problem = tuple[str, int]  # task and doc_id
Scores = Mapping[Problem, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval. A difference is shown only where the interval leaves 0 out."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval is above or below 0, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


class PairedBootstrap:
    """Percentile intervals (Efron 1979) over problems drawn with replacement.

    ``scores``: each system's score of each problem, the same problems for all. A problem that is
    drawn counts for every system at once, so that what makes it hard cancels out of differences.
    An accuracy of problems that are right or wrong has Wilson's interval, which holds near 0 and
    100 % too. Where two systems' grades never differ, their difference is known as well as a share
    of 0 in as many problems. Raises ValueError where systems answered different problems, or none.
    """

    def __init__(self, scores: Mapping[str, Scores], *, seed: int):
        self.columns = {name: column for column, name in enumerate(scores)}
        answered = {frozenset(of) for of in scores.values()}
        if len(answered) != 1 or not (problems := sorted(*answered)):
            raise ValueError("systems can only be compared on the same problems, one or more")
        table = np.array([[of[p] for of in scores.values()] for p in problems])
        self.table, self.means = table, table.mean(axis=0)
        self.resampled = _resampled_means(table, np.random.default_rng(seed))

    def accuracy(self, system: str) -> Estimate:
        column = self.columns[system]
        if np.isin(self.table[:, column], (0.0, 1.0)).all():
            return wilson(float(self.means[column]), len(self.table))
        return _estimate(self.means[column], self.resampled[:, column])

    def difference(self, system: str, other: str) -> Estimate:
        """How far ``system`` is above ``other``."""
        a, b = self.columns[system], self.columns[other]
        if (self.table[:, a] == self.table[:, b]).all():
            most = wilson(0.0, len(self.table)).high
            return Estimate(0.0, -most, most)
        return _estimate(self.means[a] - self.means[b], self.resampled[:, a] - self.resampled[:, b])


def wilson(share: float, count: int) -> Estimate:
    """The score interval of a share of ``count`` (Wilson 1927)."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + (Z / count / 2) ** 2)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Estimate(share, min(low, share), max(high, share))  # not off by rounding at 0 and 1


def ratio(shares: Sequence[tuple[float, float]], *, seed: int) -> Estimate:
    """Sum of the numerators over that of the denominators, of (numerator, denominator) for each
    problem; its percentile interval over problems drawn with replacement."""
    table = np.array(shares, dtype=float)
    means = _resampled_means(table, np.random.default_rng(seed))
    return _estimate(table[:, 0].sum() / table[:, 1].sum(), means[:, 0] / means[:, 1])


def _resampled_means(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means [resamples, systems] of ``table`` [problems, systems]."""
    count = len(table)
    parts = [
        rng.multinomial(count, np.full(count, 1 / count), size=CHUNK) @ table / count
        for _ in range(RESAMPLES // CHUNK)
    ]
    return np.concatenate(parts)


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


def verdict(system: str, other: str, difference: Estimate) -> str:
    """One line: what the interval lets one say of two systems' accuracies."""
    points = abs(100 * difference.value)
    span = f"95%: {100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    if difference.sign > 0:
        return f"{system} beats {other} by {points:.1f} points ({span})"
    if difference.sign < 0:
        return f"{system} is below {other} by {points:.1f} points ({span})"
    return f"{system} against {other}: no difference shown ({span})"
