"""The generator contract: prompts in, traces out."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from r2r.engines.base import EndReason, Sampling
from r2r.errors import must_be
from r2r.policies.stopping import StopStrings, cut
from r2r.trace import FinishReason, Spent, Step, Trace

GENERATION_VERSION = 1  # budgets, ends and text of an answer, whoever writes it


@dataclass(slots=True)
class Prompt:
    """One prompt as token ids, and how its answer is drawn and ended.

    ``stop``: strings that end the answer (and are cut off); ``after``: look for them only behind
    this text (``</think>``), so that the reasoning itself may contain them. ``threshold``: this
    prompt's own, for generators that route; None is the generator's. ``ignore_eos``: go on behind
    end tokens, which the text does not show, to the budget or a stop string: for measurements.
    """

    tokens: list[int]
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    after: str = ""
    threshold: float | None = None
    ignore_eos: bool = False


class Generator(ABC):
    """Answers prompts. Deterministic: the same prompts in the same order give the same traces.

    ``context``: tokens of prompt and answer together, at most. ``concurrency``: prompts under
    way at once; more wait their turn.
    """

    def __init__(self, *, tokenizer: Any, context: int, concurrency: int):
        self.tokenizer, self.context, self.concurrency = tokenizer, context, concurrency

    @abstractmethod
    async def write(
        self, prompt: Prompt, budget: int, add: Callable[[Step], None], spent: Spent
    ) -> FinishReason:
        """Write at most ``budget`` tokens, each passed to ``add`` as it comes; how it ended.

        ``spent`` is added to as the models work.
        """

    async def answer(
        self,
        prompt: Prompt,
        on_step: Callable[[Step], None] | None = None,
        spent: Spent | None = None,
    ) -> Trace:
        """One prompt, from its own point of view; engines batch across prompts.

        ``on_step`` hears of each token of the trace, in order, as it is written. ``spent``: the
        trace's, which the models' work is added to meanwhile. Cancelling frees what the engines
        hold. Raises ConfigError where the prompt leaves no room for an answer.
        """
        budget = self.budget(prompt)
        if not prompt.tokens or budget < 1:
            wanted = f"1 to {self.context - 1} tokens (pair.context_length)"
            raise must_be("prompt", wanted, len(prompt.tokens))
        spent = Spent() if spent is None else spent
        trace = Trace(prompt.tokens, spent=spent)
        began = time.perf_counter()

        def add(step: Step) -> None:
            trace.steps.append(step)
            if on_step is not None:
                on_step(step)

        trace.finish_reason = await self.write(prompt, budget, add, spent)
        trace.seconds = time.perf_counter() - began
        tokens = [step.token for step in trace.steps]
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        trace.text = cut(text, prompt.stop, prompt.after)
        return trace

    def budget(self, prompt: Prompt) -> int:
        """Tokens that its answer may have."""
        return min(prompt.sampling.max_new_tokens, self.context - len(prompt.tokens))

    def stop_check(self, prompt: Prompt) -> StopStrings | None:
        return StopStrings(self.tokenizer, prompt.stop, prompt.after) if prompt.stop else None

    def generate(self, prompts: Sequence[Prompt]) -> list[Trace]:
        """Traces in the order of ``prompts``."""
        traces: dict[int, Trace] = {}

        async def one(number: int) -> None:
            traces[number] = await self.answer(prompts[number])

        asyncio.run(self.every(range(len(prompts)), one))
        return [traces[number] for number in range(len(traces))]

    async def every(self, numbers: Iterable[int], answer: Callable[[int], Awaitable[None]]) -> None:
        """``answer(number)`` for each number, ``concurrency`` of them under way at once."""
        todo = iter(numbers)

        async def worker() -> None:
            for number in todo:
                await answer(number)

        await asyncio.gather(*(worker() for _ in range(self.concurrency)))

    def each(self, prompts: Sequence[Prompt]) -> Iterator[Trace]:
        """What ``generate`` gives, one by one: who keeps none of them needs memory for none."""
        yield from self.generate(prompts)


def ended(
    answer: list[int], eos_ids: frozenset[int], stop: StopStrings | None
) -> FinishReason | None:
    """Why an answer ends with its last token, if it does; its budget is not looked at."""
    if answer[-1] in eos_ids:
        return "eos"
    return "stop" if stop is not None and stop(answer) else None


def finish(reason: EndReason) -> FinishReason:
    """How an answer ended, in a trace's words; of reasons that end one."""
    return "length" if reason == "budget" else "eos" if reason == "eos" else "stop"
