"""The generator of a query-level route, and the threshold at which it costs what another does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from r2r.costs import Params
from r2r.policies.base import Generator, Prompt
from r2r.policies.query.features import Features
from r2r.policies.query.scorers import Scorer
from r2r.policies.single import Single
from r2r.routers.base import routed
from r2r.trace import FinishReason, Spent, Step


@dataclass(frozen=True, slots=True)
class QueryRouter:
    """How likely only the LLM answers a prompt right; the counterpart of a token's router."""

    features: Features
    scorer: Scorer

    async def score(self, tokens: list[int]) -> float:
        return float(self.scorer.score((await self.features.of(tokens))[None])[0])

    def scores(self, prompts: list[list[int]]) -> np.ndarray:
        """Score of each prompt [prompts]."""

        async def every() -> list[float]:
            return await asyncio.gather(*map(self.score, prompts))

        return np.array(asyncio.run(every()))


class QueryLevel(Generator):
    """One model, the SLM or the LLM, writes the whole answer."""

    def __init__(
        self,
        *,
        router: QueryRouter,
        slm: Single,
        llm: Single,
        threshold: float,
        tokenizer: Any,
        context: int,
        concurrency: int,
    ):
        super().__init__(tokenizer=tokenizer, context=context, concurrency=concurrency)
        self.router, self.slm, self.llm, self.threshold = router, slm, llm, threshold

    async def write(
        self, prompt: Prompt, budget: int, add: Callable[[Step], None], spent: Spent
    ) -> FinishReason:
        score = await self.router.score(prompt.tokens)
        chosen = self.llm if by_llm(np.array([score]), self.threshold)[0] else self.slm
        return await chosen.write(prompt, budget, add, spent)


def by_llm(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Which prompts the LLM answers [prompts] bool."""
    return routed(torch.from_numpy(scores), threshold).numpy()


def matched_threshold(
    scores: np.ndarray,
    slm_tokens: np.ndarray,
    llm_tokens: np.ndarray,
    params: Params,
    target_b: float,
) -> float:
    """The threshold whose average activated params come nearest to ``target_b`` (billions).

    ``scores`` [prompts]; ``slm_tokens`` and ``llm_tokens`` [prompts]: how long each model's answer
    is. No grade is looked at. Prompts of the same score stay together.
    """
    order = np.argsort(-scores, kind="stable")
    by_slm, by_large = slm_tokens[order], llm_tokens[order]
    large = np.concatenate([[0], np.cumsum(by_large)])
    small = by_slm.sum() - np.concatenate([[0], np.cumsum(by_slm)])
    average = (params.llm_b * large + params.slm_b * small) / (large + small)
    highest = np.nextafter(scores.max(), np.inf)
    thresholds = np.concatenate([[highest], scores[order]])
    possible = np.append(thresholds[:-1] != thresholds[1:], True)
    distance = np.where(possible, np.abs(average - target_b), np.inf)
    return float(thresholds[distance.argmin()])
