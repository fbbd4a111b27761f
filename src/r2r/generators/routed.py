"""Routed generation, from one request's point of view (Algorithm 2 of the paper's section 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from r2r.engines.base import Engine, Request
from r2r.generators.base import Generator, Prompt, ended, finish
from r2r.trace import FinishReason, Step

ROUTED_VERSION = 1  # who writes which token


class Routed(Generator):
    """The SLM writes until the router finds its token divergent; the LLM writes that one token.

    Both engines keep the request's KV cache, so a handoff costs the LLM the tokens since its last
    call and the SLM nothing but the one token it did not write. A routed EOS is overridden by
    whatever the LLM writes instead.
    """

    def __init__(
        self,
        *,
        slm: Engine,
        llm: Engine,
        threshold: float,
        tokenizer: Any,
        context: int,
        concurrency: int,
        eos_ids: frozenset[int],
    ):
        super().__init__(tokenizer=tokenizer, context=context, concurrency=concurrency)
        self.slm, self.llm, self.threshold, self.eos_ids = slm, llm, threshold, eos_ids

    async def write(self, prompt: Prompt, budget: int, add: Callable[[Step], None]) -> FinishReason:
        threshold = self.threshold if prompt.threshold is None else prompt.threshold
        small, large = self.slm.new_session(), self.llm.new_session()
        stop = self.stop_check(prompt)
        answer: list[int] = []

        def kept(tokens: list[int], scores: list[float]) -> None:
            for token, score in zip(tokens, scores, strict=True):
                add(Step(token, "slm", score))

        try:
            while True:
                left = budget - len(answer)
                decoded = await self.slm.decode(
                    Request(prompt.tokens, answer, left, prompt.sampling, small,
                            threshold=threshold, stop=stop, on_tokens=kept)
                )  # fmt: skip
                answer += decoded.tokens
                if decoded.reason != "divergent":
                    return finish(decoded.reason)
                token = await self.llm.next_token(
                    Request(prompt.tokens, answer, 1, prompt.sampling, large)
                )
                answer.append(token)
                add(Step(token, "llm", decoded.draft_score, decoded.draft))
                if end := ended(answer, self.eos_ids, stop):
                    return end
                if len(answer) == budget:
                    return "length"
        finally:
            self.slm.release(small)
            self.llm.release(large)
