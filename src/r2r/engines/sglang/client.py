"""Talking to a model's SGLang servers: streamed answers, further attempts, aborts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from r2r.engines.sglang.server import Server
from r2r.engines.sglang.turns import Turns
from r2r.errors import EngineFailed

log = logging.getLogger(__name__)
CONNECT_S = 10.0
FAILURES = (aiohttp.ClientError, TimeoutError, ConnectionError)
PAUSES_S = (0.1, 2.0)  # before another attempt: the first time, at most


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds. ``silence``: a server that said nothing for as long must show that it is well (a
    request may just have to wait its turn there), or the attempt has failed. ``down``: a server
    that fails is asked again for as long."""

    silence: float
    down: float


class _Failed(Exception):
    """An answer that another attempt may mend."""


class Client:
    """The HTTP API of one model's servers, from any event loop (one connection pool for each).

    Where there are several, ``Turns`` chooses the one that a request goes to. One that fails is
    left out until ``examine`` finds it well; its requests go on at the others.
    """

    def __init__(self, servers: Sequence[Server], patience: Patience):
        self.servers, self.patience = servers, patience
        self.turns = Turns()
        self.down: dict[int, asyncio.Task[None]] = {}  # by number: what waits for it
        self.examine: Callable[[Server], Awaitable[None]] = self._well
        self.loop: asyncio.AbstractEventLoop | None = None
        self.aborts: set[asyncio.Task[None]] = set()

    def __str__(self) -> str:
        return " and ".join(map(str, self.servers))

    async def messages(
        self, body: Callable[[], dict[str, Any]], only: Server | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """What a server says to ``body()``, a /generate request, as it comes; without an end:
        where an answer ends or breaks off, ``body()`` is asked for again. Stop by ``aclose``.

        ``only``: the one server to ask. Raises EngineFailed once the request has failed for
        ``patience.down`` seconds, its server has ended, or refuses it.
        """
        pause, failing_since = PAUSES_S[0], None
        while True:
            asked = body()
            number = self.servers.index(only) if only else self._choose(asked["input_ids"])
            server = self.servers[number]
            self.turns.under_way[number] += 1
            try:
                async with contextlib.aclosing(self._answer(server, asked)) as answer:
                    async for message in answer:
                        pause, failing_since = PAUSES_S[0], None
                        yield message
            except (*FAILURES, _Failed) as error:
                server.check()
                failing_since = failing_since or time.monotonic()
                if time.monotonic() + pause > failing_since + self.patience.down:
                    raise EngineFailed(f"{server}: {_told(error)}") from error
                if not only and self._others(number, error):
                    continue
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSES_S[1])
            finally:
                self.turns.under_way[number] -= 1

    def _choose(self, text: Sequence[int]) -> int:
        everywhere = range(len(self.servers))
        if len(everywhere) == 1:
            return 0
        up = [number for number in everywhere if number not in self.down]
        return self.turns.choose(text, up or everywhere)

    def _others(self, number: int, error: Exception) -> bool:
        """Leave a server out that has failed; whether there are others to go on at."""
        if len(self.servers) == 1:
            return False
        if number not in self.down:
            log.warning("%s is left out: %s", self.servers[number], _told(error))
            loop = asyncio.get_running_loop()
            self.down[number] = loop.create_task(self._until_well(number))
        return len(self.down) < len(self.servers)

    async def _until_well(self, number: int) -> None:
        server, said = self.servers[number], ""
        try:
            while True:
                await asyncio.sleep(PAUSES_S[1])
                try:
                    await self._well(server)
                    await self.examine(server)
                    break
                except EngineFailed as error:
                    if str(error) != said:
                        said = str(error)
                        log.warning("%s stays left out: %s", server, said)
                except (*FAILURES, _Failed):  # as expected
                    continue
            log.warning("%s is back", server)
        finally:
            del self.down[number]

    async def _answer(
        self, server: Server, body: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """One attempt. A request that we leave before its end is aborted in the server."""
        body |= {"rid": uuid.uuid4().hex, "stream": True}
        finished = False
        try:
            session = await self._session()
            asked = session.post(f"{server.url}/generate", json=body)
            async with await asyncio.wait_for(asked, self.patience.silence) as reply:
                if reply.status >= 400:
                    said = f"HTTP {reply.status} {' '.join((await reply.text()).split())[:300]}"
                    if reply.status in (408, 429) or reply.status >= 500:
                        raise _Failed(said)
                    raise EngineFailed(f"{server} refused a request: {said}")
                async for event in self._events(server, reply.content):
                    message = json.loads(event)
                    if "error" in message:
                        raise EngineFailed(f"{server} refused a request: {message['error']}")
                    why = message["meta_info"]["finish_reason"]
                    finished = why is not None
                    if why and why["type"] == "abort":
                        raise _Failed(f"aborted: {why.get('message')}")
                    yield message
            if not finished:
                raise _Failed("the answer broke off")
        finally:
            if not finished:
                self._abort(server, body["rid"])

    async def _events(
        self, server: Server, content: aiohttp.StreamReader
    ) -> AsyncGenerator[bytes, None]:
        """The data of server-sent events up to the last; they may be longer than a line may be."""
        rest = b""
        while part := await self._patiently(server, asyncio.ensure_future(content.readany())):
            *whole, rest = (rest + part).split(b"\n\n")
            for event in whole:
                data = event.removeprefix(b"data: ")
                if data != b"[DONE]":
                    yield data

    async def _patiently(self, server: Server, reading: asyncio.Future[bytes]) -> bytes:
        try:
            while True:
                done, _ = await asyncio.wait({reading}, timeout=self.patience.silence)
                if done:
                    return reading.result()
                await self._well(server)
        finally:
            reading.cancel()

    async def _well(self, server: Server) -> None:
        """Raises an error where the server does not answer, or says that it is not well."""
        session = await self._session()
        asked = session.get(f"{server.url}/health")
        async with await asyncio.wait_for(asked, self.patience.silence) as reply:
            if not reply.ok:
                raise _Failed(f"silent, and its health is HTTP {reply.status}")

    def _abort(self, server: Server, rid: str) -> None:
        async def abort() -> None:
            with contextlib.suppress(*FAILURES):
                session = await self._session()
                async with session.post(f"{server.url}/abort_request", json={"rid": rid}):
                    pass

        task = asyncio.get_running_loop().create_task(abort())
        self.aborts.add(task)
        task.add_done_callback(self.aborts.discard)

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            self.opened, self.loop = _open(), loop
            self.session = await anext(self.opened)
        return self.session


async def _open() -> AsyncGenerator[aiohttp.ClientSession, None]:
    """A connection pool; asyncio closes the generator, and thereby the pool, with its loop."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


def _told(error: Exception) -> str:
    return f"{type(error).__name__.strip('_')} {error}".strip()
