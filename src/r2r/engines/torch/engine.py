"""TorchEngine: one transformers model in this process, continuous batching over KV slots."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch

from r2r.engines.base import Decoded, Prefill, Request, Verified
from r2r.engines.judged import Judged, joined, judge
from r2r.engines.slices import slices
from r2r.engines.torch.attention import Layout, width_class
from r2r.engines.torch.cache import SlotCache
from r2r.engines.torch.delay import derived
from r2r.engines.torch.runner import Runner
from r2r.engines.torch.slots import Slot, Slots
from r2r.routers.base import Router


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way: what is to be fed next, what came out so far."""

    request: Request
    future: asyncio.Future[Any]
    text: list[int]  # prompt and answer
    slot: Slot | None = None
    answer: list[int] = field(default_factory=list)  # what stop checks see
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    read_from: int | None = None  # prefill: first position whose signals are wanted
    read: list[tuple[torch.Tensor, ...]] = field(default_factory=list)
    judged: Judged | None = None  # verify: what was found so far

    @property
    def wanted(self) -> int:
        """The first position of its text whose output it asks for."""
        last = len(self.text) - 1
        if self.judged is not None:
            return self.judged.start
        return last if self.read_from is None else min(self.read_from, last)

    @property
    def place(self) -> Slot:
        """The slot of a running job."""
        assert self.slot is not None
        return self.slot


class TorchEngine:
    """A model, its KV cache, and a loop that batches whatever requests are ready.

    ``model``: a transformers causal LM, one of those in ``exact``; NotExact where slots give it
    other logits than its own forward. It changes for whoever else uses it: its attention, and on a
    CPU in bfloat16 its linear layers' weights.
    ``banned``: token ids never written (the route token). ``max_batch``: requests running at once
    (others wait, in order). ``max_prefill_tokens``: tokens of one forward.
    ``beside``: the engine whose requests come here one token at a time (a routed pair's SLM): they
    wait for company (see ``delay``) for as long as ``patience`` says, as measured where it is None.
    ``compile``: the decoder by torch.compile, which takes its time once and needs a C++ compiler;
    ConfigError where there is none.
    Deterministic: ``patience`` and the order of requests decide how they are batched.
    """

    def __init__(
        self,
        *,
        model: Any,
        eos_ids: Collection[int],
        banned: Collection[int],
        max_batch: int,
        max_prefill_tokens: int,
        router: Router | None = None,
        beside: TorchEngine | None = None,
        patience: float | None = None,
        compile: bool = False,
    ):
        self.cache = SlotCache(max_batch)
        self.runner = Runner(
            model=model, banned=banned, cache=self.cache, router=router, compile=compile
        )
        self.eos_ids = frozenset(eos_ids)
        self.max_prefill_tokens = max_prefill_tokens
        self.beside, self.waited = beside, 0.0
        self.slots = Slots(self.cache)
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.ids = itertools.count()
        self.steps = 0
        self.driver: asyncio.Task[None] | None = None
        self.patience = patience or 0.0
        if beside is not None and patience is None:
            self.patience = derived(self.runner.write_one, beside.runner.write_one)

    # The contract.

    def new_session(self) -> int:
        return next(self.ids)

    def release(self, session: int) -> None:
        self.slots.evict(session)
        if self.runner.past is not None:
            self.runner.past.forget(session)

    def live(self) -> int:
        return len(self.waiting) + len(self.running) + self.slots.idle_sessions()

    async def decode(self, request: Request) -> Decoded:
        if request.threshold is not None and self.runner.router is None:
            raise ValueError("a threshold needs an engine with a router")
        if request.threshold is not None and self.runner.past and request.session < 0:
            raise ValueError("a router that reads several positions needs requests of a session")
        job = self._job(request)
        job.answer = list(request.answer)
        return await self._submit(job)

    async def next_token(self, request: Request) -> int:
        one = Request(request.prompt, request.answer, 1, request.sampling, request.session)
        return (await self.decode(one)).tokens[0]

    async def verify(self, request: Request, start: int) -> Verified:
        job = self._job(request)
        prompt = len(request.prompt)
        first = prompt + start - 1
        job.judged = Judged(job.text, prompt, first, request.sampling)
        found: Verified = await self._submit(job)
        if request.signals:
            found.read = joined(job.read, first, len(job.text) - 1)
        return found

    async def prefill(self, tokens: list[int], start: int, session: int = -1) -> Prefill:
        job = self._job(Request(tokens[:-1], [], 0, session=session))
        job.read_from = start
        return joined(await self._submit(job), start, len(tokens) - 1)

    def _job(self, request: Request) -> Job:
        future = asyncio.get_running_loop().create_future()
        text = [*request.prompt, *request.answer]
        if not text or not 0 <= min(text) <= max(text) < self.runner.known:
            wanted = f"1 or more token ids below {self.runner.known}"
            raise ValueError(f"a text must have {wanted}, got {len(text)} of them")
        return Job(request, future, text)

    async def _submit(self, job: Job) -> Any:
        self.waiting.append(job)
        if self.driver is None or self.driver.done():
            self.driver = asyncio.create_task(self._drive())
        return await job.future

    # The loop.

    async def _drive(self) -> None:
        while self.waiting or self.running:
            await asyncio.sleep(0)  # let those whose tokens came decide what to ask next
            if self.beside is not None:
                lost = self._lost_by_waiting()
                if self.waited + lost <= self.patience:
                    self.waited += lost
                    continue
                await asyncio.sleep(0)  # let those come whose token was just rejected
                self.waited = 0.0
            try:
                self._step()
            except Exception as error:  # ours: belongs to whoever awaits the futures
                for job in [*self.running, *self.waiting]:
                    if not job.future.done():
                        job.future.set_exception(error)
                self.waiting.clear()
                self._leave()

    def _lost_by_waiting(self) -> float:
        """By one more step of the engine beside (see ``delay``); infinite where none may come."""
        assert self.beside is not None
        writing = len(self.beside.running) + len(self.beside.waiting)
        if self.running or not writing or len(self.waiting) >= self.cache.slots:
            return math.inf
        return len(self.waiting) / writing

    @torch.inference_mode()
    def _step(self) -> None:
        self._leave()  # those that were cancelled
        self._admit()
        self._leave()  # those there was no room for
        self.steps += 1
        for group in self._groups():
            self._attempt(group)
        self._leave()

    def _attempt(self, jobs: list[Job]) -> None:
        """One forward. Where it fails, each request is tried alone: only those that fail it fail.

        With a router of several positions all of them do: some of those may be noted already.
        """
        held = {job: len(job.place.tokens) for job in jobs}
        try:
            self._forward(jobs)
        except Exception as error:
            left = [job for job in jobs if not job.future.done()]
            for job in left:
                del job.place.tokens[held[job] :]
                self.cache.cut(job.place.index, held[job])
            if len(jobs) == 1 or self.runner.past is not None:
                for job in left:
                    job.future.set_exception(error)
                return
            for job in left:
                self._attempt([job])

    def _admit(self) -> None:
        while self.waiting:
            job = self.waiting[0]
            if job.future.done():  # cancelled while it waited
                self.waiting.popleft()
                continue
            slot = self.slots.take(job.request)
            if slot is None:
                return
            self.waiting.popleft()
            job.slot = slot
            self.running.append(job)
            try:
                self._settle(job)
            except Exception as error:  # no memory for it: the others go on
                job.future.set_exception(error)

    def _settle(self, job: Job) -> None:
        """Make room in a job's slot, and find what it holds of its text already."""
        slot = job.place
        self.cache.reserve({slot.index: len(job.text)})
        given = _common(slot.tokens, job.text)
        parent = self.slots.parent(job.request)
        if not slot.tokens and parent:
            given = _common(parent.tokens, job.text)
            self.cache.copy(parent.index, slot.index, given)
        # A token whose output is asked for is fed (again), the last one always.
        kept = min(given, job.wanted)
        if kept < len(slot.tokens):
            self.cache.cut(slot.index, kept, len(slot.tokens))
        slot.tokens = job.text[:kept]

    def _leave(self) -> None:
        """Free the slots of jobs that are done, failed or cancelled."""
        for job in self.running:
            if job.future.done():
                self.slots.leave(job.place, self.steps)
        self.running = [job for job in self.running if not job.future.done()]

    def _groups(self) -> list[list[Job]]:
        """What goes through the model together: as many tokens as one forward may have. A reading
        goes alone, so that what it finds is the same to the byte whatever else is asked for."""
        limit = self.max_prefill_tokens
        widths = {job: min(len(job.text) - len(job.place.tokens), limit) for job in self.running}
        self.cache.reserve({job.place.index: len(job.text) for job in self.running})

        def order(job: Job) -> tuple[int, tuple[int, int]]:
            return width_class(widths[job]), self.cache.place(job.place.index)

        groups: list[list[Job]] = []
        room = 0
        for job in sorted(widths, key=order):
            alone = job.read_from is not None
            if alone or widths[job] > room:
                groups.append([])
                room = limit
            groups[-1].append(job)
            room = 0 if alone else room - widths[job]
        return groups

    def _forward(self, jobs: list[Job]) -> None:
        starts = [len(job.place.tokens) for job in jobs]
        fed = [j.text[s : s + self.max_prefill_tokens] for j, s in zip(jobs, starts, strict=True)]
        slots, widths = [job.place.index for job in jobs], [len(tokens) for tokens in fed]
        layout = Layout(self.cache, slots, starts, widths, self.runner.head.weight)
        hidden = self.runner.hidden(list(itertools.chain.from_iterable(fed)), layout)
        writing, last = [], []
        judging: list[tuple[Judged, range, int]] = []
        for job, tokens, start, end in zip(
            jobs, fed, starts, itertools.accumulate(widths), strict=True
        ):
            job.place.tokens.extend(tokens)
            complete = len(job.place.tokens) == len(job.text)
            if job.read_from is not None:
                first = end - len(tokens) + max(0, job.read_from - start)
                job.read += self.runner.read(hidden[first:end])
                if complete:
                    job.future.set_result(job.read)
            elif job.judged is not None:
                first = max(start, job.wanted)
                rows = range(end - len(tokens) + first - start, end)
                judging.append((job.judged, rows, first))
                if job.request.signals:
                    job.read += self.runner.read(hidden[rows.start : rows.stop])
            elif complete:
                writing.append(job)
                last.append(end - 1)
        if judging:
            judge(judging, hidden, self.runner.logits)
            for job in jobs:
                if job.judged and len(job.place.tokens) == len(job.text) and not job.future.done():
                    job.future.set_result(job.judged.found)
        if writing:
            self._write(writing, hidden if len(last) == len(hidden) else hidden[last])

    def _write(self, jobs: list[Job], hidden: torch.Tensor) -> None:
        for rows in slices(len(jobs), self.runner.vocabulary):
            some = jobs[rows]
            positions = [len(job.answer) for job in some]
            asked = [job.request for job in some]
            tokens, verdicts = self.runner.pick(asked, positions, hidden[rows])
            for row, (job, token) in enumerate(zip(some, tokens, strict=True)):
                try:
                    self._advance(job, token, *verdicts.get(row, (None, False)))
                except Exception as error:  # of its own stop check or listener
                    job.future.set_exception(error)

    def _advance(self, job: Job, token: int, score: float | None, divergent: bool) -> None:
        if job.future.done():  # cancelled by its caller
            return
        if divergent:
            end = Decoded(job.tokens, "divergent", job.scores, token, score)
            job.future.set_result(end)
            return
        job.tokens.append(token)
        job.answer.append(token)
        job.text.append(token)
        if score is not None:
            job.scores.append(score)
        if job.request.on_tokens is not None:
            job.request.on_tokens([token], [] if score is None else [score])
        reason = None
        if token in self.eos_ids and not job.request.ignore_eos:
            reason = "eos"
        elif job.request.stop is not None and job.request.stop(job.answer):
            reason = "stop"
        elif len(job.tokens) == job.request.budget:
            reason = "budget"
        elif score is not None and job.request.below is not None and score < job.request.below:
            reason = "certain"
        if reason:
            job.future.set_result(Decoded(job.tokens, reason, job.scores))


def _common(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return shorter
