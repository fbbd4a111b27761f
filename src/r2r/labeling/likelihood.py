"""A rule that asks nobody: how likely does the LLM itself find the SLM's token?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from r2r.engines.base import Prefill
from r2r.labeling.continuations import Fork
from r2r.labeling.rules import Held
from r2r.labeling.verify import Verdict

LIKELIHOOD_VERSION = 1  # which tokens are too unlikely


class Likelihood:
    """Divergent where the LLM's probability of the SLM's token is less than ``bound`` times that of
    its own: what ``policy/accept=ratio`` goes by while it generates.

    The LLM reads its answer once more, from the first mismatch on. A token that is not among its
    100 likeliest counts as impossible.
    """

    def __init__(self, *, bound: float):
        self.bound = bound

    async def prove(self) -> None:
        return None

    async def verdicts(self, forks: Sequence[Fork], held: Held) -> list[Verdict]:
        held.release()  # read anew: what was written in company may differ in its last bits
        response, first = forks[0].response, min(fork.position for fork in forks)
        prompt = response.query.tokens
        async with held.turn():
            read = await held.llm.prefill([*prompt, *response.tokens], len(prompt) - 1 + first)
        for fork in forks:
            fork.tail = [fork.token]
        ratios = [relative(read, fork.position - first, fork.token) for fork in forks]
        return ["divergent" if ratio < self.bound else "neutral" for ratio in ratios]


def relative(read: Prefill, row: int, token: int) -> float:
    """The probability of ``token`` over that of the model's own, 0 to 1, in a row of a reading."""
    indices, logits = read.indices[row].tolist(), read.signals.logits[row].tolist()
    if token not in indices:
        return 0.0
    best = indices.index(int(read.signals.token[row]))
    return math.exp(min(0.0, logits[indices.index(token)] - logits[best]))
