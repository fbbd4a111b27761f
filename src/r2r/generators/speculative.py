"""Speculative decoding: the SLM drafts, the LLM checks; the output is the LLM's, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from r2r.engines.base import Engine, Request
from r2r.errors import must_be
from r2r.generators.base import Generator, Prompt, ended
from r2r.trace import FinishReason, Step

SPECULATIVE_VERSION = 1  # which drafts are kept
ANY = 0  # stands behind the last draft, so that the LLM's signals for what comes next are read


class Speculative(Generator):
    """Greedy speculative decoding (Leviathan et al. 2023, Algorithm 1 at temperature 0).

    In each round the SLM drafts at most ``draft_tokens`` tokens, one LLM forward reads them all,
    those that the LLM would have written itself are kept (source ``slm``), and the LLM's own token
    comes behind them (source ``llm``). The first step of a round counts its drafts.
    """

    def __init__(
        self,
        *,
        slm: Engine,
        llm: Engine,
        draft_tokens: int,
        tokenizer: Any,
        context: int,
        concurrency: int,
        eos_ids: frozenset[int],
    ):
        super().__init__(tokenizer=tokenizer, context=context, concurrency=concurrency)
        self.slm, self.llm, self.draft_tokens, self.eos_ids = slm, llm, draft_tokens, eos_ids

    async def write(self, prompt: Prompt, budget: int, add: Callable[[Step], None]) -> FinishReason:
        """Raises ConfigError for a temperature above 0: only greedy output is exact here."""
        if prompt.sampling.temperature > 0:
            raise must_be("temperature", "0 for speculative", prompt.sampling.temperature)
        small, large = self.slm.new_session(), self.llm.new_session()
        stop = self.stop_check(prompt)
        answer: list[int] = []
        try:
            while True:
                drafts = await self._draft(prompt, answer, small, budget - len(answer) - 1)
                text = [*prompt.tokens, *answer]
                read = await self.llm.prefill([*text, *drafts, ANY], len(text) - 1, large)
                for step in verified(drafts, read.signals.token.tolist()):
                    answer.append(step.token)
                    add(step)
                    if end := ended(answer, self.eos_ids, stop):
                        return end
                if len(answer) == budget:
                    return "length"
        finally:
            self.slm.release(small)
            self.llm.release(large)

    async def _draft(self, prompt: Prompt, answer: list[int], session: int, room: int) -> list[int]:
        count = min(self.draft_tokens, room)
        if count < 1:
            return []
        request = Request(prompt.tokens, answer, count, prompt.sampling, session)
        return (await self.slm.decode(request)).tokens


def verified(drafts: list[int], choices: list[int]) -> list[Step]:
    """The steps of one round. ``choices`` [drafts + 1]: the LLM's own token at each position."""
    kept = 0
    while kept < len(drafts) and drafts[kept] == choices[kept]:
        kept += 1
    steps = [*(Step(draft, "slm") for draft in drafts[:kept]), Step(choices[kept], "llm")]
    return [replace(steps[0], drafted=len(drafts)), *steps[1:]]
