"""One model alone: the SLM, the LLM or a model between, as a baseline."""

from __future__ import annotations

from typing import Any

from r2r.engines.base import Engine, Request
from r2r.generators.base import Generator, Prompt, finish
from r2r.trace import Source, Step, Trace


class Single(Generator):
    """Writes every token with one engine, counted as ``source``."""

    def __init__(
        self, *, engine: Engine, tokenizer: Any, source: Source, context: int, concurrency: int
    ):
        super().__init__(tokenizer=tokenizer, context=context, concurrency=concurrency)
        self.engine = engine
        self.source: Source = source

    async def write(self, prompt: Prompt, trace: Trace, budget: int) -> None:
        session = self.engine.new_session()
        request = Request(
            prompt.tokens, [], budget, prompt.sampling, session, stop=self.stop_check(prompt)
        )
        try:
            decoded = await self.engine.decode(request)
        finally:
            self.engine.release(session)
        trace.steps += [Step(token, self.source) for token in decoded.tokens]
        trace.finish_reason = finish(decoded.reason)
