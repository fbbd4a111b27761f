"""Tokens per second of a server: those of the last moments, and those that its models allow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from r2r.throughput import FEW, Taken, Timed, Turns, best
from r2r.trace import Trace

WINDOW_S = 10.0  # that speed is measured over


class Speed:
    """Hears of every token and every finished answer.

    ``timed``: the engines' forwards, where they were measured. ``turns``: how answers are expected
    to take turns, until some are finished.
    """

    def __init__(
        self,
        timed: Timed | None = None,
        turns: Turns | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.timed, self.first, self.clock = timed, turns, clock
        self.taken = Taken()
        self.seconds: deque[tuple[int, int]] = deque()  # each second with tokens, and how many
        self.known: dict[tuple[Turns | None, int], dict[str, float]] = {}

    def wrote(self) -> None:
        """One token."""
        now = int(self.clock())
        if self.seconds and self.seconds[-1][0] == now:
            self.seconds[-1] = now, self.seconds[-1][1] + 1
        else:
            self.seconds.append((now, 1))
            self._forget(now)

    def answered(self, trace: Trace) -> None:
        """A whole answer of the pair."""
        self.taken.add(trace)

    def now(self) -> float:
        """Tokens per second of the last whole seconds."""
        now = int(self.clock())
        self._forget(now)
        return sum(tokens for at, tokens in self.seconds if at < now) / WINDOW_S

    def expected(self, running: int) -> dict[str, float]:
        """Tokens per second of the pair and of the LLM alone with ``running`` answers at once;
        empty where nothing runs or nothing was measured, or not with as many."""
        if self.timed is None or not 0 < running <= self.timed.most:
            return {}
        turns = self.taken.turns if self.taken.calls else self.first
        turns = turns.rounded() if turns else None
        if (turns, running) not in self.known:
            found = {"llm": self.timed.alone(running)}
            if turns:
                pair = self.timed.pair(turns)
                found["routed"] = best(pair, turns, running, calls=FEW)[1]
            self.known[turns, running] = found
        return self.known[turns, running]

    def _forget(self, now: int) -> None:
        while self.seconds and self.seconds[0][0] < now - WINDOW_S:
            self.seconds.popleft()
