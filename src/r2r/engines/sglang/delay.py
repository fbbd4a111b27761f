"""Delayed batching: handoffs wait for company, so that one forward of the LLM takes many of them.

How many should wait, and how long at most, the throughput model says (``r2r.throughput``): from the
seconds that forwards of both servers take, and, as they change, from how many answers are under way
and how many steps of the SLM come between two handoffs.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from r2r.throughput import FEW, THRESHOLDS, Forward, Pair, Turns, best

MANY = 16  # sequences of the larger forward that is timed
REPEATS = 5
FADING = 0.99  # of what was counted is left after another handoff
GRID = 1.25  # steps between two handoffs are taken to powers of it: the optimum is flat
PATIENT = 2  # times that as many handoffs take to come as should wait, they wait at most


@dataclass(frozen=True, slots=True)
class Delay:
    """How handoffs are delayed: ``window`` in seconds, ``size`` a count; None: as the model says
    (where no SLM's engine is known, handoffs do not wait)."""

    window: float | None
    size: int | None


async def measure(ask: Callable[[int], Awaitable[None]]) -> Forward:
    """Time a server's forwards: ``ask(n)`` sends n sequences of one new token each at once."""

    async def seconds(count: int) -> float:
        taken = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            await ask(count)
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    await ask(MANY)  # their common prefix is cached from here on
    return Forward({count: await seconds(count) for count in (1, MANY)})


class Rule:
    """How many handoffs should wait, and for how many seconds at most, as things stand.

    ``slm``, ``llm``: seconds of a forward of each server. The model is asked in a thread, once for
    each situation; until it has answered the last answer holds, at first that nobody waits.
    """

    def __init__(self, slm: Forward, llm: Forward):
        self.pair = Pair(slm, llm)
        self.steps, self.calls, self.seen = 0.0, 0.0, 0
        self.known: dict[tuple[int, float], tuple[int, float]] = {}
        self.now = 1, 0.0
        self.asking: asyncio.Task[None] | None = None

    def called(self, written: int, requests: int) -> tuple[int, float]:
        """A handoff comes. ``written``: tokens of the SLM up to here; ``requests`` under way."""
        self.steps = FADING * self.steps + written - self.seen
        self.calls, self.seen = FADING * self.calls + 1, written
        steps = GRID ** max(0, round(math.log(max(1.0, self.steps / self.calls), GRID)))
        at = THRESHOLDS[bisect_right(THRESHOLDS, max(1, requests)) - 1], steps
        if at in self.known:
            self.now = self.known[at]
        elif self.asking is None or self.asking.done():
            self.asking = asyncio.create_task(self._ask(*at))
        return self.now

    async def _ask(self, requests: int, steps: float) -> None:
        self.known[requests, steps] = await asyncio.to_thread(self.ask, requests, steps)

    def ask(self, requests: int, steps: float) -> tuple[int, float]:
        """What the model says."""
        turns = Turns(steps=steps, tokens=steps)
        enough, rate = best(self.pair, turns, requests, calls=FEW)
        return enough, PATIENT * enough * steps / rate if enough > 1 else 0.0


class Gate:
    """Holds callers back until ``size`` of them wait, or ``window`` seconds after the first; both
    may be changed at any time.

    ``live()`` is how many requests there are that could still come: nobody waits for more.
    """

    def __init__(self, *, size: int, window: float, live: Callable[[], int]):
        self.size, self.window, self.live = size, window, live
        self.waiting: list[asyncio.Future[None]] = []
        self.timer: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self.waiting.append(turn)
        if self.timer is None:
            self.timer = loop.call_later(self.window, self._open)
        self.check()
        try:
            await turn
        finally:
            if turn.cancelled():
                self.waiting = [other for other in self.waiting if other is not turn]

    def check(self) -> None:
        """Let those who wait go if no more are worth waiting for; also called when one leaves."""
        if self.waiting and len(self.waiting) >= min(self.size, self.live()):
            self._open()

    def _open(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for turn in self.waiting:
            if not turn.done():
                turn.set_result(None)
        self.waiting = []
