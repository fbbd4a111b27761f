"""How long a pair's forwards take, through the engines' contract: some for each batch size."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Sequence

from r2r.engines.base import Engine, Request
from r2r.throughput import Forward, Timed

TOKENS, ROUNDS = 10, 4  # that are timed; of slow models fewer
FEW = 3  # tokens: the least
LONGEST = 4.0  # seconds, about, of one measurement
NEVER = 1e9  # a threshold that no score reaches
Clock = Callable[[], float]


async def timed(
    slm: Engine,
    llm: Engine,
    text: Sequence[int],
    most: int,
    *,
    lengths: Sequence[int] = (),
    reads: float,
    scored: bool,
    together: bool,
    clock: Clock = time.perf_counter,
) -> Timed:
    """Measure both models with 1 to ``most`` requests at once, behind the same ``text``.

    ``lengths``: tokens of it that requests have behind them as they run, where they differ; the
    longest of a batch make it slow. ``reads``: tokens that the LLM reads at a handoff, on average.
    ``scored``: the SLM asks its router. Of slow models only small batches are measured.
    """
    lengths = sorted(lengths) or [len(text)]
    small = Timer(slm, text[: lengths[-1]], NEVER if scored else None, clock, lengths)
    large = Timer(llm, text[: lengths[-1]], None, clock, lengths)
    first = await large.step(1, FEW)
    most = min(most, max(2, int(LONGEST / (FEW * first))))  # a batch takes its parts' time at most
    tokens = min(TOKENS, max(FEW, int(LONGEST / (8 * first))))
    rounds = max(1, tokens * ROUNDS // TOKENS)
    sizes = sorted({1, math.ceil(most**0.5), most})
    steps = {many: await small.step(many, tokens) for many in sizes}
    ones = {many: await large.step(many, tokens) for many in sizes}
    calls = {many: await large.call(many, max(2.0, reads), rounds) for many in sizes}
    return Timed(
        slm=Forward(steps),
        llm=Forward(ones),
        reading=Forward(calls),
        reads=max(2.0, reads),
        prompt=(
            await small.read(most, steps[most], rounds),
            await large.read(most, ones[most], rounds),
        ),
        handoff=max(0.0, await small.again(rounds) - steps[1]),
        together=together,
    )


class Timer:
    """One engine, and what is asked of it to be timed; nothing is left in it."""

    def __init__(
        self,
        engine: Engine,
        text: Sequence[int],
        threshold: float | None,
        clock: Clock,
        lengths: Sequence[int] = (),
    ):
        """``lengths``: tokens of ``text`` that requests have, ascending; all of it where none."""
        self.engine, self.text, self.threshold, self.clock = engine, text, threshold, clock
        self.lengths = lengths or [len(text)]
        self.behind: dict[int, int] = {}  # tokens of the text, by session

    async def step(self, many: int, tokens: int = TOKENS) -> float:
        """Seconds of a token where ``many`` requests are written at once, over ``tokens`` of
        each."""
        sessions = await self._begun(many)
        heard: list[tuple[float, int]] = []

        def listen(tokens: list[int], _: list[float]) -> None:
            heard.append((self.clock(), len(tokens)))

        asked = [self._request(session, [], 1 + tokens) for session in sessions]
        asked[0].on_tokens = listen
        await asyncio.gather(*map(self.engine.decode, asked))
        self._end(sessions)
        if len(heard) < 2:  # the text ended at once
            return await self.again(1)
        (began, _), (ended, _) = heard[0], heard[-1]
        return (ended - began) / max(1, sum(count for _, count in heard[1:]))

    async def call(self, many: int, reads: float, rounds: int) -> float:
        """Seconds of a handoff of ``many`` requests at once, each with as many new tokens as a
        router leaves between two: ``reads`` on average."""
        sessions = await self._begun(many)
        at = [(number + 0.5) / many for number in range(many)]
        widths = [max(1, round(reads * (-math.log(1 - x) if many > 1 else 1))) for x in at]
        texts = [self._more(1) for _ in sessions]
        taken = []
        for _ in range(2 + rounds):  # one to read what was written above, one to begin sessions
            began = self.clock()
            both = zip(sessions, texts, strict=True)
            asked = [self._request(session, text, 1) for session, text in both]
            await asyncio.gather(*map(self.engine.next_token, asked))
            taken.append(self.clock() - began)
            texts = [[*t, *self._more(n)] for t, n in zip(texts, widths, strict=True)]
        self._end(sessions)
        return statistics.median(taken[2:])

    async def again(self, rounds: int) -> float:
        """Seconds of a token where the request for it is a new one, as after every handoff."""
        (session,) = await self._begun(1)
        answer, taken = self._more(1), []
        for _ in range(rounds):
            began = self.clock()
            await self.engine.decode(self._request(session, answer, 1))
            taken.append(self.clock() - began)
            answer = [*answer, *self._more(2)]
        self._end([session])
        return statistics.median(taken)

    async def read(self, many: int, step: float, rounds: int) -> float:
        """Seconds that each token of a new prompt adds to a ``step`` of ``many`` requests, all
        others of which write meanwhile. No server has seen these prompts."""
        sessions = await self._begun(many - 1) if many > 1 else []
        asked = [self._request(session, [], 3 * (1 + rounds)) for session in sessions]
        writing = [asyncio.create_task(self.engine.decode(request)) for request in asked]
        taken = []
        for place in range(1, 1 + rounds):
            session, short = self.engine.new_session(), self.text[: self.lengths[0]]
            new = Request([*short[place:], *short[:place]], [], 1, session=session)
            began = self.clock()
            await self.engine.decode(new)
            taken.append(self.clock() - began)
            sessions.append(session)
        await asyncio.gather(*writing)
        self._end(sessions)
        return max(0.0, statistics.median(taken) - step) / self.lengths[0]

    async def _begun(self, many: int) -> list[int]:
        """Sessions that hold the text: the first all that any has, so that the others can copy
        it where the engine can."""
        sessions = [self.engine.new_session() for _ in range(many)]
        for place, session in enumerate(reversed(sessions)):
            self.behind[session] = self.lengths[int((place + 0.5) * len(self.lengths) / many)]
        await self.engine.decode(self._request(sessions[0], [], 1))
        others = [self._request(session, [], 1) for session in sessions[1:]]
        for request in others:
            request.parent = sessions[0]
        await asyncio.gather(*map(self.engine.decode, others))
        return sessions

    def _end(self, sessions: Sequence[int]) -> None:
        for session in sessions:
            self.engine.release(session)

    def _request(self, session: int, answer: list[int], budget: int) -> Request:
        return Request(
            list(self.text[: self.behind[session]]), answer, budget, session=session,
            threshold=self.threshold, ignore_eos=True,
        )  # fmt: skip

    def _more(self, tokens: int) -> list[int]:
        """Any tokens, as many."""
        return [self.text[at % len(self.text)] for at in range(tokens)]
