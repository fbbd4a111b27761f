"""Answers kept on disk, so that a killed run goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from r2r.generators.base import Generator, Prompt
from r2r.records import read_json, write_json
from r2r.trace import FinishReason, Step, Trace


class Saved(Generator):
    """Another generator whose answers are written to ``folder``, a file for each ``chunk`` prompts.

    A chunk is answered as a whole: its batches do not depend on what was there before, so a
    resumed run equals an undisturbed one to the last bit, and no more than one is in memory, unless
    ``generate`` is asked for all. ``seconds`` sums the wall time of all
    chunks, whichever run answered them. ``live`` hears of each answer as it ends, those that an
    earlier run kept included.
    """

    def __init__(
        self,
        *,
        inner: Generator,
        folder: Path,
        chunk: int,
        live: Callable[[Trace], None] = lambda trace: None,
    ):
        super().__init__(
            tokenizer=inner.tokenizer, context=inner.context, concurrency=inner.concurrency
        )
        self.inner, self.folder, self.chunk, self.live = inner, folder, chunk, live
        self.seconds = 0.0
        self.asked = 0

    async def write(self, prompt: Prompt, budget: int, add: Callable[[Step], None]) -> FinishReason:
        return await self.inner.write(prompt, budget, add)

    def generate(
        self, prompts: Sequence[Prompt], done: Callable[[Trace], None] | None = None
    ) -> list[Trace]:
        traces = list(self.each(prompts))
        if done:
            for trace in traces:
                done(trace)
        return traces

    def each(self, prompts: Sequence[Prompt]) -> Iterator[Trace]:
        self.asked = len(prompts)
        for start in range(0, len(prompts), self.chunk):
            path = self._path(start)
            kept_before = path.exists()
            if not kept_before:
                began = time.perf_counter()
                made = self.inner.generate(prompts[start : start + self.chunk], self.live)
                seconds = time.perf_counter() - began
                rows = [trace.to_json() for trace in made]
                write_json(path, {"seconds": seconds, "traces": rows})
            kept = read_json(path)
            self.seconds += kept["seconds"]
            for trace in map(Trace.from_json, kept["traces"]):
                if kept_before:
                    self.live(trace)
                yield trace

    def kept(self) -> Iterator[Trace]:
        """All answers to what was asked, in order, read back from the folder."""
        for start in range(0, self.asked, self.chunk):
            yield from map(Trace.from_json, read_json(self._path(start))["traces"])

    def _path(self, start: int) -> Path:
        return self.folder / f"answers-{start:06d}.json"
