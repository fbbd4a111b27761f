"""A generator at work in a thread of its own, so that its forwards hold up no connection."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from r2r.engines.base import Engine
from r2r.errors import EngineFailed
from r2r.policies.base import Generator, Prompt
from r2r.serving.metrics import Metrics
from r2r.serving.schema import ApiError
from r2r.serving.text import Piece, StreamedText
from r2r.trace import FinishReason, Spent, Step, Trace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """News of one answer: its next pieces, and with the last of them all of it. ``spent``: what the
    answer had taken when the last piece was written."""

    index: int
    pieces: list[Piece]
    whole: Trace | None = None
    spent: Spent | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        """How it ended; None while it goes on."""
        return self.whole and self.whole.finish_reason


class Worker:
    """Runs answers, ``running`` at once with ``queue`` more waiting, and fails what cannot be had.

    ``beside``: generators that a request may name in the main one's place. ``engines`` are asked
    how much they hold. All methods belong to one event loop, that of the
    connections; generator and engines live in the worker's own.
    """

    def __init__(
        self,
        *,
        generator: Generator,
        engines: Mapping[str, Engine],
        metrics: Metrics,
        running: int,
        queue: int,
        timeout_s: float,
        beside: Mapping[str, Generator] | None = None,
    ):
        self.generator, self.engines, self.metrics = generator, engines, metrics
        self.beside = beside or {}
        self.room, self.timeout_s = running + queue, timeout_s
        self.places = asyncio.Semaphore(running)
        self.accepted, self.running = 0, 0  # answers: running or waiting, running
        self.draining = False
        self.listeners: set[asyncio.Queue[Part | ApiError]] = set()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """The thread runs within this context; what is under way at its end is cancelled."""
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._live(started)), name="generator")
        thread.start()
        await asyncio.to_thread(started.wait)
        try:
            yield
        finally:
            self.loop.call_soon_threadsafe(self.leave.set)
            await asyncio.to_thread(thread.join)

    async def _live(self, started: threading.Event) -> None:
        self.loop, self.leave = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        await self.leave.wait()

    async def figures(self) -> bytes:
        """The metrics, with what runs, waits and is held in each engine now."""

        async def count() -> dict[str, int]:
            return {name: engine.live() for name, engine in self.engines.items()}

        live = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(count(), self.loop))
        rates = await asyncio.to_thread(self.metrics.speed.expected, self.running)
        return self.metrics.text(self.running, self.accepted - self.running, live, rates)

    def drain(self) -> None:
        """Take no more requests."""
        self.draining = True

    def fail_all(self) -> None:
        """Take no more requests, and fail those under way."""
        self.drain()
        for listener in self.listeners:
            listener.put_nowait(shutting_down())

    async def parts(
        self, prompts: Sequence[Prompt], system: str | None = None
    ) -> AsyncGenerator[Part]:
        """News of all answers, as they come; each ends with a part that has a finish reason.

        ``system``: one of ``beside``, None for the main generator.

        Closing the iterator cancels what is still being written. Raises ApiError: 429 where there
        is no room, 503 at shutdown, 504 after the timeout, 500 where an engine failed.
        """
        self._accept(len(prompts))
        news: asyncio.Queue[Part | ApiError] = asyncio.Queue()
        self.listeners.add(news)
        late = ApiError(504, f"no whole answer within {self.timeout_s:g} s")
        timer = asyncio.get_running_loop().call_later(self.timeout_s, news.put_nowait, late)
        by = self.beside[system] if system else self.generator
        tasks = [asyncio.create_task(self._one(by, i, p, news)) for i, p in enumerate(prompts)]
        for task in tasks:
            task.add_done_callback(self._leave)
        try:
            left = len(prompts)
            while left:
                item = await news.get()
                if isinstance(item, ApiError):
                    raise item
                yield item
                left -= item.finish_reason is not None
        finally:
            timer.cancel()
            self.listeners.discard(news)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, count: int) -> None:
        if self.draining:
            raise shutting_down()
        if self.accepted + count > self.room:
            message = f"too many requests: {self.accepted} answers are running or waiting"
            raise ApiError(429, f"{message}, {self.room} at most (serve.running + serve.queue)")
        self.accepted += count

    def _leave(self, _: asyncio.Task[None]) -> None:
        self.accepted -= 1

    async def _one(
        self, by: Generator, index: int, prompt: Prompt, news: asyncio.Queue[Part | ApiError]
    ) -> None:
        text = StreamedText(self.generator.tokenizer, prompt.stop)
        began = time.perf_counter()

        def heard(step: Step, spent: Spent) -> None:
            if not text.tokens:
                self.metrics.first_token.observe(time.perf_counter() - began)
            self.metrics.wrote(step)
            if pieces := text.add(step):
                news.put_nowait(Part(index, pieces, spent=spent))

        try:
            async with self.places:
                self.running += 1
                try:
                    trace = await self._answer(by, prompt, heard)
                finally:
                    self.running -= 1
            if by is self.generator:
                self.metrics.speed.answered(trace)
            news.put_nowait(Part(index, text.end(), trace))
        except Exception as error:  # the request fails, the server goes on
            log.error("an answer failed", exc_info=error)
            status = 503 if isinstance(error, EngineFailed) else 500  # 503: its server is down
            news.put_nowait(ApiError(status, f"the engine failed: {error}"))

    async def _answer(
        self, by: Generator, prompt: Prompt, heard: Callable[[Step, Spent], None]
    ) -> Trace:
        """The generator's answer; ``heard`` is called in this event loop."""
        here, spent = asyncio.get_running_loop(), Spent()

        def tell(step: Step) -> None:
            here.call_soon_threadsafe(heard, step, spent.copy())

        answer = by.answer(prompt, tell, spent)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer, self.loop))


def shutting_down() -> ApiError:
    return ApiError(503, "the server is shutting down")
