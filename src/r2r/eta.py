"""When work on items of unknown length will end, from those finished and those under way.

The finished ones alone are no fair sample: the short ones end first. Those under way say as much,
since each has at least its tokens so far; the Kaplan-Meier estimate takes both.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

UNSEEN = 0.5  # items thought to be longer than all that were seen, and to end beyond
SHAPES = 2.0 ** np.arange(-1, 3, 0.5)  # from a power law's to answers that are all alike
MOST = (0.5, 0.9)  # of those begun are still under way: from none of that shape, to all of it
DRAWS = 4  # of the lengths to come, whose mean is told
DRAWN = 1024  # items of one draw; where more are left, the first of them take the mean length
# With so many items under way half of a step's time is its own and half theirs: as measured on a
# CPU (7 for the LLMs of nano and medium, 15 and 45 for their SLMs), and a GPU's order of magnitude.
# Known better where engines in this process are timed before.
EVEN = {"cpu": 8.0, "cuda": 128.0}
LIKE = 8  # items that all those of earlier runs together weigh as much as
# How little that weighs beside what was measured. With less, the noise of a few numbers that lie
# close together (63 of 64, as the first items end) makes any slope of them.
DOUBT = 0.01
# How many times what is foreseen of an item's parts it may come to, as far as nothing tells; and
# parts of it that are counted like tokens.
WRONG, FINE = 2.0 ** np.arange(-2, 2.25, 0.25), 1000.0
PARTS = 16  # of a law, whose mean is told
NONE = np.array([], dtype=np.int64)


class Lengths:
    """How long items get, in tokens.

    ``finished``, ``under_way`` [items]: tokens of each. Beyond the longest finished one items end
    as often, by the token, as they did in the upper half of what was seen. But while most of those
    begun are still under way, they will end ever more often if the few that ended did: as in
    Weibull's law, of the ``shape`` that those tell. ``like`` [items]: tokens of others that are
    thought to be alike, and tell of lengths that none has come to yet.
    """

    def __init__(self, finished: np.ndarray, under_way: np.ndarray, like: np.ndarray = NONE):
        each = min(1.0, LIKE / max(1, len(like)))
        ends, where = np.unique(np.concatenate([finished, like]), return_inverse=True)
        count = np.bincount(where, np.repeat([1.0, each], [len(finished), len(like)]), len(ends))
        here = np.sort(np.concatenate([finished, under_way]))
        unseen = UNSEEN * (1.0 if not len(like) or here.max(initial=0) > like.max() else each)
        at_risk = len(here) - np.searchsorted(here, ends) + unseen
        at_risk += each * (len(like) - np.searchsorted(np.sort(like), ends))
        self.ends = ends.astype(float)
        self.left = np.cumprod(1 - count / at_risk)  # share longer than each of ``ends``
        most = np.interp(self.left[-1] if len(ends) else 1.0, MOST, (0.0, 1.0))
        self.shape = _shape(finished, here) ** most
        everyone = np.concatenate([here, like])
        half = everyone.max(initial=0.0) / 2
        seen = np.maximum(everyone, half) ** self.shape - half**self.shape
        seen[len(here) :] *= each
        ended = count[ends > half].sum() + UNSEEN
        # Of one longer than all seen, to the shape.
        self.rest = max(1.0, (seen.sum() + UNSEEN) / ended)

    def draw(self, beyond: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Lengths [items] of items that are longer than ``beyond`` [items]: those that a share
        ``shares`` [items] of such items exceeds."""
        last = self.ends[-1] if len(self.ends) else 0.0
        lefts = np.concatenate([[1.0], self.left])
        rest = lefts[np.searchsorted(self.ends, beyond, side="right")] * shares
        place = np.searchsorted(-self.left, -rest)
        further = np.log(np.minimum(lefts[-1], rest / shares) / rest).clip(0)
        tail = np.maximum(last, beyond) ** self.shape + self.rest * further
        tail **= 1 / self.shape
        if not len(self.ends):
            return tail
        return np.where(place < len(self.ends), self.ends[place.clip(max=len(self.ends) - 1)], tail)


def _shape(finished: np.ndarray, everyone: np.ndarray) -> float:
    """Of Weibull's law, by which items end as often as their length to this less one: the mean over
    SHAPES (in logs), each weighed by how well it explains who ended, and who (of ``everyone``, the
    longest last) has not."""
    ended = finished[finished > 0]
    if not len(ended):
        return 1.0
    seen = (everyone[:, None] / everyone[-1]) ** SHAPES
    fits = (SHAPES - 1) * np.log(ended / everyone[-1]).sum() + len(ended) * np.log(SHAPES)
    fits -= (len(ended) + UNSEEN) * np.log(seen.sum(0) + UNSEEN)
    return float(np.exp(np.average(np.log(SHAPES), weights=np.exp(fits - fits.max()))))


def exceeding(came: np.ndarray, foreseen: np.ndarray, so_far: np.ndarray) -> np.ndarray:
    """How many times what is ``foreseen`` of them items come to, of which ``came`` [seen] did, and
    others have ``so_far`` [items] times it.

    Those that come to little end first, as the short do, and say as little of the others alone.
    """
    times = Lengths(FINE * came / foreseen, FINE * so_far, FINE * WRONG)
    shares = (np.arange(PARTS) + 0.5) / PARTS
    drawn = times.draw(np.repeat(FINE * so_far, PARTS), np.tile(shares, len(so_far)))
    return drawn.reshape(-1, PARTS).mean(1) / FINE


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is left to do: tokens, and steps (each gives every item under way one token)."""

    tokens: float
    steps: float


def ahead(
    finished: np.ndarray,
    under_way: np.ndarray,
    limits: np.ndarray,
    *,
    waiting: int,
    width: int,
    like: np.ndarray = NONE,
    foreseen: np.ndarray | None = None,
    parts: np.ndarray | None = None,
    serial: float = 1.0,
) -> Ahead:
    """Of items of which ``width`` are worked on at once, and ``waiting`` are not begun yet.

    ``like``: tokens of others, as for ``Lengths``. ``limits`` [under way]: tokens that each may get
    at most. ``foreseen`` [under way]: tokens that each will have, where that is known, else NaN;
    ``parts`` [under way]: of an item whose end is known, how many parts are left, which are worked
    on side by side. ``serial``: what share of their tokens other items get one after the other, and
    not in such parts.
    """
    if foreseen is None or parts is None:
        foreseen, parts = np.full(len(under_way), np.nan), np.ones(len(under_way))
    known = ~np.isnan(foreseen)
    foreseen = np.maximum(foreseen, under_way)
    seen = np.concatenate([finished, np.round(foreseen[known]).astype(int)])
    lengths, rng = Lengths(seen, under_way[~known], like), np.random.default_rng(0)
    at_once = 1 / (serial + (1 - serial) / width)
    beside = np.where(known, np.clip(parts, 1, width), at_once)
    bound = limits.max() if len(limits) else np.inf
    drawn = min(waiting, DRAWN)
    tokens = steps = 0.0
    for _ in range(DRAWS):
        rest = lengths.draw(under_way, _shares(len(under_way), rng))
        rest = np.where(known, foreseen, np.minimum(rest, limits)) - under_way
        new = np.minimum(lengths.draw(np.zeros(drawn), _shares(drawn, rng)), bound)
        more = new.mean() * (waiting - drawn) if drawn else 0.0
        tokens += rest.sum() + new.sum() + more
        steps += more / at_once / width + _last_end(rest / beside, new / at_once, width)
    return Ahead(tokens / DRAWS, steps / DRAWS)


def _shares(count: int, rng: np.random.Generator) -> np.ndarray:
    """Evenly spread over 0..1, in random order."""
    return (rng.permutation(count) + rng.random(count)) / max(1, count)


def _last_end(rest: np.ndarray, new: np.ndarray, width: int) -> float:
    """Steps until all are finished, each new one begun as soon as there is room."""
    ends = [0.0] * max(0, width - len(rest)) + rest.tolist()
    heapq.heapify(ends)
    for length in new.tolist():
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends, default=0.0)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a step: ``step`` by itself, and ``item`` for each item that is under way."""

    step: float
    item: float

    @property
    def even(self) -> float:
        """Items under way with which half of a step's time is its own."""
        return self.step / max(self.item, 1e-3 * self.step, 1e-9)

    def seconds(self, left: Ahead) -> float:
        return self.step * left.steps + self.item * left.tokens


def pace(
    seconds: Mapping[int, float], tokens: Mapping[int, int], even: float = EVEN["cpu"]
) -> Pace | None:
    """As measured: by how many items were under way, for how long, and the tokens made then.

    As long as that number did not change, what a step takes with fewer is the guess ``even``. None
    where no token was made yet.
    """
    at = np.array([b for b in seconds if b and seconds[b] and tokens.get(b)], dtype=float)
    if not len(at):
        return None
    spent = np.array([seconds[int(b)] for b in at])
    each = at * spent / np.array([tokens[int(b)] for b in at])  # seconds of a step
    weight = np.sqrt(spent / spent.sum()) / each  # they are wrong by parts of themselves
    guess = np.sqrt(DOUBT) / np.average(each, weights=spent) * np.array([[1.0, -even]])
    rows = np.concatenate([weight[:, None] * np.stack([np.ones_like(at), at], 1), guess])
    step, item = np.linalg.lstsq(rows, np.append(weight * each, 0.0), rcond=None)[0]
    if step < 0:
        return Pace(0.0, float(spent.sum() / (at * spent / each).sum()))
    if item < 0:
        return Pace(float(np.average(each, weights=spent)), 0.0)
    return Pace(float(step), float(item))
