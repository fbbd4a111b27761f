"""A rule that asks nobody: how likely does the LLM itself find the SLM's token?"""

from __future__ import annotations

from collections.abc import Sequence

from r2r.labeling.continuations import Fork
from r2r.labeling.rules import Held
from r2r.labeling.verify import Verdict

LIKELIHOOD_VERSION = 1  # which tokens are too unlikely


class Likelihood:
    """Divergent where the LLM's probability of the SLM's token is less than ``bound`` times that of
    its own: what ``policy/accept=ratio`` goes by while it generates.

    It costs nothing: the LLM reads its answer for the dataset's columns anyway.
    """

    def __init__(self, *, bound: float):
        self.bound = bound

    async def prove(self) -> None:
        return None

    async def verdicts(self, forks: Sequence[Fork], held: Held) -> list[Verdict]:
        for fork in forks:
            fork.tail = [fork.token]
        return ["divergent" if fork.ratio < self.bound else "neutral" for fork in forks]
