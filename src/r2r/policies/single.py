"""One model alone: the SLM, the LLM or a model between, as a baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from r2r.engines.base import Engine, Request
from r2r.policies.base import Generator, Prompt, finish
from r2r.trace import FinishReason, Source, Spent, Step

SINGLE_VERSION = 1  # one model's answer as a trace


class Single(Generator):
    """Writes every token with one engine, counted as ``source``."""

    def __init__(
        self, *, engine: Engine, tokenizer: Any, source: Source, context: int, concurrency: int
    ):
        super().__init__(tokenizer=tokenizer, context=context, concurrency=concurrency)
        self.engine = engine
        self.source: Source = source

    async def write(
        self, prompt: Prompt, budget: int, add: Callable[[Step], None], spent: Spent
    ) -> FinishReason:
        def told(tokens: list[int], _: list[float]) -> None:
            for token in tokens:
                add(Step(token, self.source))

        session = self.engine.new_session()
        request = Request(
            prompt.tokens, [], budget, prompt.sampling, session,
            stop=self.stop_check(prompt), ignore_eos=prompt.ignore_eos, on_tokens=told,
        )  # fmt: skip
        try:
            decoded = await self.engine.decode(request)
        finally:
            self.engine.release(session)
        usage, written = spent.of(self.source), len(decoded.tokens)
        usage.requests, usage.forwards = 1, written
        usage.positions = len(prompt.tokens) + written - 1
        return finish(decoded.reason)
