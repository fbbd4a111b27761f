"""SGLangEngine: the engine contract over SGLang servers of one model with our plug-in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from r2r.engines.base import Decoded, EndReason, Prefill, Request, Sampling, Verified
from r2r.engines.judged import joined
from r2r.engines.sglang.client import Client
from r2r.engines.sglang.delay import Delay, Gate, Rule, measure
from r2r.engines.sglang.server import Server
from r2r.errors import EngineFailed

READ = 2048  # positions whose signals come in one message
SCORED = ("r2r_score", "r2r_draft")


class SGLangEngine:
    """Servers whose schedulers do the batching; prefixes stay in their radix caches.

    The first request waits for the servers, which are refused where they do not route as this job
    means to. ``eos_ids`` end an answer; ``route_id``: what the server writes in the place of a
    token that is the LLM's (None: a model outside the pair); ``digest``: of the server's router,
    None where none is asked; ``stream_interval``: tokens written before they are sent on;
    ``plugged``: false for a server past whose sampling no plug-in comes (speculative decoding).
    ``keeps``: servers are to keep the text of a session between its handoffs (``next_token``, and
    ``decode`` of what stays), so that each sends what is new; those that can't are told of, and
    sent the whole text.
    ``beside``: the engine whose handoffs come here (a routed pair's SLM); they wait for company as
    ``delay`` says.
    """

    def __init__(
        self,
        *,
        client: Client,
        eos_ids: frozenset[int],
        route_id: int | None,
        digest: str | None,
        delay: Delay,
        stream_interval: int,
        plugged: bool = True,
        keeps: bool = False,
        beside: SGLangEngine | None = None,
    ):
        self.client, self.eos_ids, self.route_id, self.digest = client, eos_ids, route_id, digest
        self.delay, self.stream_interval, self.plugged = delay, stream_interval, plugged
        self.keeps, self.beside = keeps, beside
        self.ids = itertools.count()
        self.sessions: set[int] = set()
        self.asked = 0  # requests under way
        self.written = 0  # tokens, those of the LLM's that it was to replace included
        self.gate: Gate | None = None
        self.rule: Rule | None = None
        self.probed = False
        self.probing: asyncio.Task[None] | None = None

    # The contract.

    def new_session(self) -> int:
        session = next(self.ids)
        self.sessions.add(session)
        return session

    def release(self, session: int) -> None:
        self.sessions.discard(session)
        self.client.release(session)
        if self.gate:
            self.gate.check()

    def live(self) -> int:
        """Requests under way, texts that servers keep, and what they may drop and have not heard
        of yet. What else they cache they drop when they need the room."""
        return self.asked + self.client.sessions.idle() + len(self.client.farewells)

    async def decode(self, request: Request) -> Decoded:
        if request.threshold is not None and self.digest is None:
            raise ValueError("a threshold needs an engine with a router")
        async with self._under_way():
            if self.beside and request.answer:
                await self._company()
            decoded = await self._write(request, self._kept(request) if request.stays else None)
        self.written += len(decoded.tokens) + (decoded.reason == "divergent")
        return decoded

    async def next_token(self, request: Request) -> int:
        async with self._under_way():
            await self._company()
            one = Request(request.prompt, request.answer, 1, request.sampling)
            return (await self._write(one, self._kept(request))).tokens[0]

    async def verify(self, request: Request, start: int) -> Verified:
        text, first = [*request.prompt, *request.answer], len(request.prompt) + start - 1
        wish = _wish(request.sampling, request.prompt) | {"judge_from": first}
        if request.signals:
            wish["read_from"] = first
        async with self._under_way():
            await self._company()
            told = await self._reading(text, first, wish)
        found = Verified(**told["r2r_judged"][0])
        if request.signals:
            found.read = joined([_unpacked(told["r2r_read"][0])], first, len(text) - 1)
        return found

    async def prefill(self, tokens: list[int], start: int, session: int = -1) -> Prefill:
        end = len(tokens) - 1
        async with self._under_way():
            parts = [
                await self._read(tokens[: min(first + READ, end)], first)
                for first in range(start, end, READ)
            ]
        return joined(parts, start, end)

    # One request.

    def _kept(self, request: Request) -> int | None:
        """The session in which a server is to keep the text; None: in none."""
        return request.session if self.keeps and request.session >= 0 else None

    @contextlib.asynccontextmanager
    async def _under_way(self) -> AsyncGenerator[None, None]:
        self.asked += 1
        try:
            await self.ready()
            yield
        finally:
            self.asked -= 1

    async def _company(self) -> None:
        if self.gate is None:
            return
        if self.rule and self.beside:
            size, window = self.rule.called(self.beside.written, len(self.sessions))
            self.gate.size = self.delay.size or size
            self.gate.window = window if self.delay.window is None else self.delay.window
        await self.gate.wait()

    async def _write(self, request: Request, session: int | None) -> Decoded:
        writing = Writing(request, answer=list(request.answer))

        def body() -> dict[str, Any]:
            wish = _wish(request.sampling, request.prompt)
            if request.threshold is not None:
                wish["threshold"] = request.threshold
            if request.unsure:
                wish["above"] = request.above
            if session is not None:
                wish["takes_back"] = self.route_id
            left = request.budget - len(writing.tokens)
            # Where a token may be the last for what it is, none should be written behind it.
            interval = self.stream_interval if request.below is None else 1
            return self._body([*request.prompt, *writing.answer], left, wish, interval)

        messages = self.client.messages(body, session=session)
        async with contextlib.aclosing(messages):
            async for message in messages:
                end = self._take(writing, message["output_ids"], message["meta_info"])
                if end:
                    return end
        raise AssertionError("messages have no end")

    def _take(self, writing: Writing, tokens: list[int], told: dict[str, Any]) -> Decoded | None:
        """Add what came; how the request ended, if it did."""
        scored = writing.request.scored
        if scored and SCORED[0] not in told:
            raise EngineFailed(f"{self.client}: its routing plug-in is not active")
        scores, drafts = (told[key] if scored else [None] * len(tokens) for key in SCORED)
        first, end = len(writing.tokens), None
        for token, score, draft in zip(tokens, scores, drafts, strict=True):
            if token == self.route_id:
                end = Decoded(writing.tokens, "divergent", writing.scores, draft, score)
                break
            writing.tokens.append(token)
            writing.answer.append(token)
            if score is not None:
                writing.scores.append(score)
            if reason := self._reason(writing):
                end = Decoded(writing.tokens, reason, writing.scores)
                break
        new = writing.tokens[first:]
        if new and writing.request.on_tokens is not None:
            writing.request.on_tokens(new, writing.scores[first:])
        return end

    def _reason(self, writing: Writing) -> EndReason | None:
        request = writing.request
        # Where an answer goes on all the same, the server is asked again.
        if writing.tokens[-1] in self.eos_ids and not request.ignore_eos:
            return "eos"
        if request.stop is not None and request.stop(writing.answer):
            return "stop"
        if len(writing.tokens) == request.budget:
            return "budget"
        sure = request.below is not None and writing.scores[-1] < request.below
        return "certain" if sure else None

    async def _read(self, text: list[int], first: int) -> tuple[torch.Tensor, ...]:
        """Signals from position ``first`` of ``text`` on."""
        wish = _wish(Sampling(), text) | {"read_from": first}
        return _unpacked((await self._reading(text, first, wish))["r2r_read"][0])

    async def _reading(self, text: list[int], first: int, wish: dict[str, Any]) -> dict[str, Any]:
        """What ``wish`` wants told of positions from ``first`` of ``text`` on. Asking for
        log-probabilities keeps the server from taking these out of its cache unread."""
        logprobs = {"return_logprob": True, "logprob_start_len": first}

        def body() -> dict[str, Any]:
            return self._body(text, 1, wish) | logprobs

        async with contextlib.aclosing(self.client.messages(body)) as messages:
            told = (await anext(messages))["meta_info"]
        if not {"r2r_judged", "r2r_read"} & told.keys():
            raise EngineFailed(f"{self.client}: its plug-in is not active")
        return told

    def _body(
        self, text: list[int], budget: int, wish: dict[str, Any], interval: int | None = None
    ) -> dict[str, Any]:
        # With our plug-in SGLang is greedy: the draw is made as in every other engine.
        drawn = {"temperature": 0, "custom_params": {"r2r": wish}}
        if not self.plugged:
            drawn = {"temperature": wish["temperature"], "top_p": wish["top_p"]}
        stops = [*self.eos_ids] if self.route_id is None else [*self.eos_ids, self.route_id]
        return {
            "input_ids": text,
            "sampling_params": {
                "max_new_tokens": budget,
                "stop_token_ids": stops,
                "stream_interval": interval or self.stream_interval,
            }
            | drawn,
        }

    # The start.

    async def ready(self) -> None:
        """Wait for the server and probe it, once.

        Raises EngineFailed where the server does not start, and where the plug-in is not active,
        its router is another one, or its route token is.
        """
        if self.probed:
            return
        loop = asyncio.get_running_loop()
        if self.probing is None or self.probing.done() or self.probing.get_loop() is not loop:
            self.probing = loop.create_task(self._probe())
        await asyncio.shield(self.probing)

    async def _probe(self) -> None:
        """See that the servers route as this job means to; open the gate."""
        for server in self.client.servers:
            await server.ready()
            await self._examine(server)
        self.client.examine = self._examine
        if not self.plugged:
            self.probed = True
            return
        self.gate = await self._gate()
        self.probed = True

    async def _gate(self) -> Gate | None:
        """Where handoffs wait; None where they don't."""
        window, size = self.delay.window, self.delay.size
        if window == 0 or size == 1:
            return None
        if window is None or size is None:
            if self.beside is None:
                return None
            await self.beside.ready()
            slm, llm = [await measure(engine._ask_many) for engine in (self.beside, self)]
            self.rule = Rule(slm, llm)
        return Gate(size=size or 1, window=window or 0.0, live=lambda: len(self.sessions))

    async def _examine(self, server: Server) -> None:
        if not self.plugged:
            return
        told = await self._ask(server, probe=1, threshold=-1.0)
        if "r2r_router" not in told:
            line = "its plug-in is not active (r2r must be installed beside sglang, and the server "
            raise EngineFailed(f"{server}: {line}started as docs/sglang.md says)")
        router = told["r2r_router"][0]
        if self.digest is not None and router != self.digest:
            got = f"router {router[:12]}" if router else "no router"
            raise EngineFailed(
                f"{server} must have router {self.digest[:12]} of this job, got {got}"
            )
        if told["r2r_route"][0] != self.route_id:
            line = f"{server} must have route token {self.route_id} (pair.route_token)"
            raise EngineFailed(f"{line}, got {told['r2r_route'][0]}")
        if self.digest is not None and told["first"] != self.route_id:
            raise EngineFailed(f"{server} does not hand over: its plug-in is not active")
        if self.keeps:
            await self.client.look(server)

    async def _ask_many(self, count: int) -> None:
        await asyncio.gather(*(self._ask() for _ in range(count)))

    async def _ask(self, server: Server | None = None, **wishes: float) -> dict[str, Any]:
        """What is told with one token behind a short text."""
        text = [min(self.eos_ids)] * 2
        wish = _wish(Sampling(), text) | wishes
        messages = self.client.messages(lambda: self._body(text, 1, wish), server)
        async with contextlib.aclosing(messages):
            message = await anext(messages)
        return message["meta_info"] | {"first": message["output_ids"][0]}


@dataclass(slots=True)
class Writing:
    """What a request has written so far, whatever becomes of an attempt."""

    request: Request
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)  # with what was there before


def _wish(sampling: Sampling, prompt: list[int]) -> dict[str, Any]:
    """What every request asks of the plug-in: the draw, and where the answer starts."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "prompt": len(prompt),
    }


def _unpacked(packed: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """Argmax [n] int64, top-k logits [n, k], their ids [n, k] int64, hidden [n, hidden]."""
    n, k, hidden = packed["shape"]
    raw = np.frombuffer(bytearray(base64.b64decode(packed["data"])), dtype=np.float32)
    argmax, indices, logits, states = np.split(raw, np.cumsum([n, n * k, n * k]))
    return (
        torch.from_numpy(argmax.view(np.int32).astype(np.int64)),
        torch.from_numpy(logits.reshape(n, k)),
        torch.from_numpy(indices.view(np.int32).astype(np.int64).reshape(n, k)),
        torch.from_numpy(states.reshape(n, hidden)),
    )
