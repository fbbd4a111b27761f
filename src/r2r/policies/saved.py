"""Answers kept on disk as soon as each is finished, so that a killed run goes on where it was."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from r2r.journal import Journal
from r2r.policies.base import Generator, Prompt
from r2r.progress import Progress
from r2r.records import fingerprint
from r2r.trace import FinishReason, Spent, Step, Trace


class HalfWay(Exception):
    """The first half of the answers is kept; the rest is another's to ask for."""


class Saved(Generator):
    """Another generator whose finished answers are in ``journal``, and from there read back.

    The answers that an earlier run kept there are not made again, if they belong to the same
    prompts: ``cleared`` counts those that did not. Which answers are under way together is not the
    same then, so that scores may differ from an undisturbed run's in what rounding leaves.
    ``like``: tokens of other answers, thought to be as long as these will be.
    ``before`` hears of the prompts that are to be answered now, before any is. With ``half`` these
    are a random half of them, always the same, and ``each`` then raises HalfWay.
    """

    def __init__(
        self,
        *,
        inner: Generator,
        journal: Journal,
        progress: Progress,
        before: Callable[[Sequence[Prompt]], Coroutine[Any, Any, None]],
        like: Sequence[int] = (),
        half: bool = False,
    ):
        super().__init__(
            tokenizer=inner.tokenizer, context=inner.context, concurrency=inner.concurrency
        )
        self.inner, self.journal, self.progress, self.before = inner, journal, progress, before
        self.like, self.half = like, half
        self.asked = self.cleared = 0
        self.tokens = self.by_llm = 0

    async def write(
        self, prompt: Prompt, budget: int, add: Callable[[Step], None], spent: Spent
    ) -> FinishReason:
        return await self.inner.write(prompt, budget, add, spent)

    def each(self, prompts: Sequence[Prompt]) -> Iterator[Trace]:
        """The answers in the order of ``prompts``, once all are finished."""
        self.asked = len(prompts)
        self.progress.expect(len(prompts), width=self.concurrency, like=self.like)
        missing = self._missing(prompts)
        if missing:
            asyncio.run(self.before([prompts[number] for number in missing]))

        async def one(number: int) -> None:
            await self._answer(number, prompts[number])

        self.journal.begin()
        asyncio.run(self.every(missing, one))
        if self.half:
            raise HalfWay
        self.progress.doing = "grading"
        yield from self.kept()

    def kept(self) -> Iterator[Trace]:
        """All answers to what was asked, in order, read back one by one."""
        for number in range(self.asked):
            yield Trace.from_json(self._read(number)["trace"])

    def _missing(self, prompts: Sequence[Prompt]) -> list[int]:
        """What is to be answered now and no earlier run has kept; of what one has, forget what
        belongs to other prompts."""
        kept, others = self.journal.keys(), []
        for number in kept:
            row = self._read(number)
            if number < len(prompts) and row["asked"] == _asked(prompts[number]):
                self._count(row["trace"]["llm"])
                self.progress.keep(len(row["trace"]["tokens"]))
            else:
                others.append(number)
        self.journal.drop(others)
        self.cleared = len(others)
        there = set(kept).difference(others)
        # Tasks come one after the other and their answers differ in length: in random order those
        # that are finished tell of all, and the longest do not all begin last.
        order = random.Random(0).sample(range(len(prompts)), len(prompts))
        now = order[: len(order) // 2] if self.half else order
        return [number for number in now if number not in there]

    async def _answer(self, number: int, prompt: Prompt) -> None:
        self.progress.begin(number, max(1, self.inner.budget(prompt)))
        trace = await self.inner.answer(prompt, lambda _: self.progress.move(number))
        row = {"asked": _asked(prompt), "trace": trace.to_json()}
        value = json.dumps(row, ensure_ascii=False).encode()
        self.journal.put(number, value, tokens=len(trace.steps))
        self.progress.end(number)
        self._count(row["trace"]["llm"])

    def _count(self, by_llm: Sequence[int]) -> None:
        self.tokens, self.by_llm = self.tokens + len(by_llm), self.by_llm + sum(by_llm)
        self.progress.note = f"LLM {100 * self.by_llm / max(1, self.tokens):.1f}%"

    def _read(self, number: int) -> dict:
        return json.loads(self.journal.get(number))


def _asked(prompt: Prompt) -> str:
    return fingerprint(asdict(prompt))
