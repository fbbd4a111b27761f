"""The generator contract: prompts in, traces out."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from r2r.engines.base import Sampling
from r2r.trace import Trace


@dataclass(slots=True)
class Prompt:
    """One prompt as token ids, and how its answer is drawn and ended.

    ``stop``: strings that end the answer (and are cut off); ``after``: look for them only behind
    this text (``</think>``), so that the reasoning itself may contain them.
    """

    tokens: list[int]
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    after: str = ""


class Generator(ABC):
    """Answers prompts. Deterministic: same prompts in the same order, same traces."""

    name: str

    @abstractmethod
    async def answer(self, prompt: Prompt) -> Trace:
        """One prompt, from its own point of view; engines batch across prompts."""

    def generate(
        self, prompts: Sequence[Prompt], done: Callable[[int, Trace], None] | None = None
    ) -> list[Trace]:
        """Traces in the order of ``prompts``; ``done(index, trace)`` is called as each ends."""

        async def one(index: int, prompt: Prompt) -> Trace:
            trace = await self.answer(prompt)
            if done:
                done(index, trace)
            return trace

        async def every() -> list[Trace]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(i, p)) for i, p in enumerate(prompts)]
            return [task.result() for task in tasks]

        return asyncio.run(every())
