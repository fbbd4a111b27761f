"""A share of LLM forwards held over all answers, by moving the threshold as they are written."""

from __future__ import annotations

import math


class Pace:
    """Holds ``share`` LLM forwards a token over all answers together, finished or not.

    The threshold is a probability. Its logit is that of ``start``, and one more for each forward
    beyond the share of each of the ``answers`` that are under way at once: they hear of it at their
    next handoffs only. That debt stays bounded as tokens are written, so that the share over all of
    them tends to ``share``, whatever the router's scores are worth.

    What an answer is then depends on those before it and beside it: neither a batch of another size
    nor a run that was resumed gives the same.
    """

    def __init__(self, *, share: float, start: float, answers: int):
        self.share, self.debt = share, 0.0
        self.unit = answers
        edge = min(max(start, 1e-6), 1 - 1e-6)
        self.start = math.log(edge / (1 - edge))

    @property
    def threshold(self) -> float:
        logit = self.start + self.debt / self.unit
        return 1 / (1 + math.exp(-min(max(logit, -30.0), 30.0)))

    def count(self, forwards: int, tokens: int) -> None:
        """So many LLM forwards and tokens more."""
        self.debt += forwards - self.share * tokens
