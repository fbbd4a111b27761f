"""How far a long stage is: its items, the tokens made for them, and when it will end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from r2r.eta import EVEN, NONE, Pace, ahead, exceeding, pace

UNLIMITED = float("inf")
# Until those under way have so many tokens each, on average, or one is finished, much of the time
# went into reading the first prompts, and tells nothing of the pace.
FEW = 16
LEAST = 0.1  # of the time is writing, however long reading was thought to take


@dataclass(slots=True)
class UnderWay:
    limit: float  # tokens that it may get
    tokens: int = 0  # that it has
    parts: int | None = None  # that were left of it when that became known
    ahead: float = 0.0  # how long they are thought to be, all together
    before: int = 0  # tokens that it had then


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a moment. Tokens of items that earlier runs have finished (``kept``) count among those
    finished, and in no rate. ``eta_s`` and ``expected`` are None as long as nothing is known."""

    doing: str
    note: str
    unit: str
    total: int
    finished: int
    kept: int
    under_way: dict[str, int]  # tokens of each
    tokens: int  # made by all runs, for finished items and for those under way
    made: int  # by this run
    expected: float | None  # tokens of all items in the end
    tokens_per_s: float
    elapsed_s: float  # since the first item was begun
    eta_s: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, for ``progress.json``."""
        return {
            "doing": self.doing,
            "unit": self.unit,
            "items": {
                "total": self.total,
                "finished": self.finished,
                "kept": self.kept,
                "under_way": len(self.under_way),
            },
            "tokens": {
                "done": self.tokens,
                "made": self.made,
                "expected": None if self.expected is None else round(self.expected),
            },
            "tokens_per_s": round(self.tokens_per_s, 1),
            "elapsed_s": round(self.elapsed_s, 1),
            "eta_s": None if self.eta_s is None else round(self.eta_s, 1),
            "note": self.note,
            "under_way": self.under_way,
        }


@dataclass(slots=True)
class Progress:
    """What a stage tells of its work; another thread may read ``facts`` at any moment.

    An item is what is kept as a whole: an answer, a labelled query. ``expect`` says how many there
    are; then each is either ``keep`` (an earlier run has finished it), or ``begin``, any number of
    ``move``, and ``end``; where all that is left of one is a few parts, ``split`` says so, and
    what was made of it until then has been read again, in ``read_s`` seconds a token. ``doing``:
    what happens beside the items (loading the models, grading); ``note``: what else a reader may
    want to know.
    """

    doing: str = ""
    note: str = ""
    even: float = EVEN["cpu"]  # of the device, see ``eta``; as long as no step was timed
    timed: Pace | None = None  # what steps of the models take, measured before
    first_s: float = 0.0  # in which the first prompts are read, likewise
    read_s: float = 0.0  # where the models read in turns with their writing, and it was measured
    clock: Callable[[], float] = time.monotonic
    total: int = 0
    width: int = 1
    unit: str = "tokens"  # what is counted
    lengths: list[int] = field(default_factory=list)  # of finished items, in tokens
    like: np.ndarray = field(default_factory=lambda: NONE)  # of others, thought to be alike
    serial: float = 1.0  # the share of their tokens that were not written side by side
    # Of finished items that were split, how long their parts were thought to be, and came to.
    foreseen: list[float] = field(default_factory=list)
    of_parts: list[int] = field(default_factory=list)
    of_split: int = 0  # tokens of these items
    kept: int = 0
    made: int = 0
    under_way: dict[Hashable, UnderWay] = field(default_factory=dict)
    working: float = 0.0  # seconds in which any were under way
    running: bool = False  # the first prompts are read; what is timed below counts from then on
    seconds: dict[int, float] = field(default_factory=dict)  # by how many were under way
    reading: dict[int, float] = field(default_factory=dict)  # of these, about
    tokens: dict[int, int] = field(default_factory=dict)
    began: float | None = None
    since: float = 0.0  # when ``seconds`` was last brought up to date
    unsaid: int = 0  # tokens made since then
    reread: int = 0  # and tokens read again
    lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(
        self,
        total: int,
        *,
        width: int,
        unit: str = "tokens",
        doing: str = "",
        like: Sequence[int] = (),
        serial: float = 1.0,
    ) -> None:
        """Work on ``total`` items begins, those kept by earlier runs included; at most ``width`` of
        them are under way at once. ``like``: tokens of others that are thought to be alike, and
        tell of these before the first is finished; ``serial``: what share of them was written one
        after the other, and not in parts. What was before it is over, and forgotten."""
        with self.lock:
            self.total, self.width, self.unit, self.doing = total, width, unit, doing
            self.lengths, self.kept, self.made, self.note = [], 0, 0, ""
            self.like, self.serial = np.array(like, dtype=np.int64), serial
            self.foreseen, self.of_parts, self.of_split = [], [], 0
            self.under_way, self.seconds, self.reading, self.tokens = {}, {}, {}, {}
            self.began, self.unsaid, self.reread = None, 0, 0
            self.working, self.running = 0.0, False
            self.timed, self.first_s, self.read_s = None, 0.0, 0.0

    def keep(self, tokens: int) -> None:
        """An earlier run has finished an item."""
        with self.lock:
            self.lengths.append(tokens)
            self.kept += 1

    def begin(self, item: Hashable, limit: float = UNLIMITED) -> None:
        """An item is under way now; at most ``limit`` tokens are made for it."""
        with self.lock:
            self._clock()
            self.under_way[item] = UnderWay(limit)

    def move(self, item: Hashable, tokens: int = 1) -> None:
        """So many more tokens were made for it."""
        with self.lock:
            self.under_way[item].tokens += tokens
            self.made += tokens
            self.unsaid += tokens

    def split(self, item: Hashable, parts: Sequence[float]) -> None:
        """What is left of it is these parts, worked on side by side; of each how long it is thought
        to be, in tokens. Said again as soon as more is known."""
        with self.lock:
            state = self.under_way[item]
            if state.parts is None:
                self.reread += state.tokens
            state.parts, state.ahead, state.before = len(parts), sum(parts), state.tokens

    def end(self, item: Hashable) -> None:
        """It is finished and kept."""
        with self.lock:
            self._clock()
            state = self.under_way.pop(item)
            self.lengths.append(state.tokens)
            if state.parts is not None:
                self.foreseen.append(state.ahead)
                self.of_parts.append(state.tokens - state.before)
                self.of_split += state.tokens

    def _clock(self) -> None:
        """Count the time since the last change to as many items as were under way since."""
        now, many = self.clock(), len(self.under_way)
        if self.began is None:
            self.began = self.since = now
        if many:
            self.working += now - self.since
        if many and self.running:
            self.seconds[many] = self.seconds.get(many, 0.0) + now - self.since
            self.reading[many] = self.reading.get(many, 0.0) + self.read_s * self.reread
            self.tokens[many] = self.tokens.get(many, 0) + self.unsaid
        self.since, self.unsaid, self.reread = now, 0, 0
        self.running |= self.made >= max(1, FEW * many) or len(self.lengths) > self.kept

    def facts(self) -> Facts:
        with self.lock:
            if self.began is not None:
                self._clock()
            items = list(self.under_way.items())
            finished = np.array(self.lengths, dtype=np.int64)
            seconds, reading, tokens = dict(self.seconds), dict(self.reading), dict(self.tokens)
            elapsed = self.since - self.began if self.began is not None else 0.0
            kept, made, working = self.kept, self.made, self.working
            came, foreseen = np.array(self.of_parts), np.array(self.foreseen)
            serial = 1 - came.sum() / self.of_split if self.of_split else self.serial
        moving = np.array([state.tokens for _, state in items], dtype=np.int64)
        limits = np.array([state.limit for _, state in items])
        done = int(finished.sum() + moving.sum())
        expected = eta = None
        writing = {many: max(s - reading[many], LEAST * s) for many, s in seconds.items()}
        speed = pace(writing, tokens, self.timed.even if self.timed else self.even)
        to_wait = 0.0
        if speed is None and self.timed:
            speed, to_wait = self.timed, max(0.0, self.first_s - working)
        if self.total and len(finished) == self.total:
            expected, eta = float(done), 0.0
        elif len(finished) or len(self.like) or any(state.ahead for _, state in items):
            waiting = max(0, self.total - len(finished) - len(items))
            width = max(self.width, len(items))
            parts = np.array([np.nan if s.parts is None else s.parts for _, s in items])
            before = np.array([state.before for _, state in items])
            rests = np.array([state.ahead for _, state in items], dtype=float)
            some, seen = rests > 0, foreseen > 0
            so_far = (moving - before)[some] / rests[some]
            rests[some] *= exceeding(came[seen], foreseen[seen], so_far)
            ends = np.where(np.isnan(parts), np.nan, before + rests)
            left = ahead(
                finished, moving, limits, waiting=waiting, width=width, like=self.like,
                foreseen=ends, parts=parts * (ends - moving) / np.maximum(rests, 1.0),
                serial=serial,
            )  # fmt: skip
            expected = done + left.tokens
            if speed:
                to_read = left.tokens * serial + moving[np.isnan(parts)].sum()
                eta = speed.seconds(left) + self.read_s * float(to_read) + to_wait
        return Facts(
            doing=self.doing,
            note=self.note,
            unit=self.unit,
            total=self.total,
            finished=len(finished),
            kept=kept,
            under_way={str(item): state.tokens for item, state in items},
            tokens=done,
            made=made,
            expected=expected,
            tokens_per_s=made / working if working else 0.0,
            elapsed_s=elapsed,
            eta_s=eta,
        )
