"""What a certain number of answers takes: prompts are read, and at the end few are left.

``throughput`` tells the tokens per second of so many answers at once, thought endless. Here they
have lengths: each is begun as soon as another has ended, and a step gives all that are under way a
token.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from r2r.errors import must_be
from r2r.throughput import FEW, Forward, Timed, Turns


@dataclass(frozen=True, slots=True)
class Work:
    """Answers to be written. ``prompt``: tokens that each is asked with, on average; ``answers``
    [n]: tokens of each, in the order in which they are begun; ``parts``: they are written in so
    many, as large as each other, each to its end before the next begins."""

    prompt: float
    answers: Sequence[float]
    parts: int = 1

    def __post_init__(self) -> None:
        if not self.answers or min(self.answers) <= 0:
            raise must_be("tokens of the answers", "above 0, of one at least", self.answers)

    def texts(self, many: int) -> list[int]:
        """Tokens of as many texts, prompt and what is written of the answer, as they are under way
        at some moment: of a longer answer more often."""
        whole = list(accumulate(self.answers))
        at = [(place + 0.5) * whole[-1] / many for place in range(many)]
        return [round(self.prompt + p - ([0.0, *whole])[bisect_right(whole, p)]) for p in at]

    def steps(self, width: int) -> dict[int, float]:
        """Steps by how many answers are under way, ``width`` at most."""
        found: dict[int, float] = {}
        for part in range(self.parts):
            for many, steps in _steps(self.answers[part :: self.parts], width).items():
                found[many] = found.get(many, 0.0) + steps
        return found

    def alone(self, timed: Timed, width: int) -> float:
        """Tokens per second of the LLM without an SLM, ``width`` answers at once."""
        return self._rate(timed.llm, timed.prompt[1], width)

    def rate(self, timed: Timed, turns: Turns, width: int) -> float:
        """Tokens per second of both, batched as is best."""
        sizes = sorted({*(2**n for n in range(width.bit_length())), width})
        steps = {many: many / timed.rate(turns, many, calls=FEW) for many in sizes}
        small, large = timed.prompt
        reading = max(small, large) if timed.together else small + large
        return self._rate(Forward(steps), reading, width)

    def _rate(self, step: Callable[[int], float], reading: float, width: int) -> float:
        """``step``: seconds of one with so many under way; ``reading``: of a prompt's token."""
        seconds = sum(steps * step(many) for many, steps in self.steps(width).items())
        return sum(self.answers) / (seconds + len(self.answers) * self.prompt * reading)


def _steps(answers: Sequence[float], width: int) -> dict[int, float]:
    """Of one part: by how many are under way."""
    running: list[float] = []  # the steps at which they end
    changes: list[tuple[float, int]] = []
    for tokens in answers:
        begins = heapq.heappop(running) if len(running) == width else 0.0
        heapq.heappush(running, begins + tokens)
        changes += [(begins, 1), (begins + tokens, -1)]
    found: dict[int, float] = {}
    many, since = 0, 0.0
    for now, change in sorted(changes):
        if now > since:
            found[many] = found.get(many, 0.0) + now - since
        many, since = many + change, now
    return found
