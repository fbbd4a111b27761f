"""Which of the SLM's tokens the LLM goes along with, once it has read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from r2r.engines.base import Verified
from r2r.errors import must_be
from r2r.policies.answer import Drafted
from r2r.trace import Step


class Acceptance(ABC):
    """The test of a verified token. ``reads``: it wants the LLM's signals in the token's place."""

    version: ClassVar[int] = 1  # raised whenever it accepts something else than before
    reads: ClassVar[bool] = False

    @abstractmethod
    def accepts(self, tokens: list[int], read: Verified) -> list[bool]:
        """Of each of the SLM's ``tokens`` [given], whether the LLM would have gone along."""

    def settled(self, drafted: Drafted, read: Verified) -> list[Step]:
        """The tokens up to the first that is not accepted, and in its place the LLM's own."""
        tokens, scores = drafted.tokens, drafted.scores
        good = [*self.accepts(tokens, read), False].index(False)
        steps = [Step(tokens[at], "slm", scores[at]) for at in range(good)]
        if good == len(tokens):
            return steps
        own, lost = read.choices[good], tuple(tokens[good + 1 :])
        return [*steps, Step(own, "llm", scores[good], tokens[good], lost)]


class Exact(Acceptance):
    """The LLM would have written the very same token, drawn as all its tokens are."""

    def accepts(self, tokens: list[int], read: Verified) -> list[bool]:
        return [token == own for token, own in zip(tokens, read.choices, strict=False)]


class Ratio(Acceptance):
    """The token's probability is at least ``tau`` times that of the LLM's best.

    With ``tau`` 0 every token passes, above 1 none. The threshold is that of min-p sampling
    (arXiv 2407.01082), applied to another model's tokens.
    """

    def __init__(self, *, tau: float):
        if not tau >= 0:
            raise must_be("policy.accept.tau", "0 or more", tau)
        self.tau = tau

    def accepts(self, tokens: list[int], read: Verified) -> list[bool]:
        return [ratio >= self.tau for ratio in read.ratios]
