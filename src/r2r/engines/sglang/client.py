"""Talking to a model's SGLang servers: streamed answers, further attempts, sessions, aborts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from r2r.engines.sglang.server import FAILURES, Server, told
from r2r.engines.sglang.sessions import IDLE_S, Held, Sessions, room
from r2r.engines.sglang.turns import Turns
from r2r.errors import EngineFailed

log = logging.getLogger(__name__)
CONNECT_S = 10.0
PAUSES_S = (0.1, 2.0)  # before another attempt: the first time, at most
UNUSED_S = 2.0  # for a connection to be kept; SGLang's servers end one after 5
FAREWELL_S = 5.0  # for a server to hear what it may drop


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds. ``silence``: a server that said nothing for as long must show that it is well (a
    request may just have to wait its turn there), or the attempt has failed. ``down``: a server
    that fails is asked again for as long."""

    silence: float
    down: float


class _Failed(Exception):
    """An answer that another attempt may mend."""


class _Refused(EngineFailed):
    """A request that no further attempt makes right."""


class Client:
    """The HTTP API of one model's servers, from any event loop (one connection pool for each).

    Where there are several, ``Turns`` chooses the one that a request goes to. One that fails is
    left out until ``examine`` finds it well; its requests go on at the others. ``route_id``: the
    token that a server writes last where it hands over, and does not keep.
    """

    def __init__(
        self, servers: Sequence[Server], patience: Patience, *, route_id: int | None = None
    ):
        self.servers, self.patience, self.route_id = servers, patience, route_id
        self.turns = Turns()
        self.down: dict[int, asyncio.Task[None]] = {}  # by number: what waits for it
        self.examine: Callable[[Server], Awaitable[None]] = self._well
        self.loop: asyncio.AbstractEventLoop | None = None
        self.sessions = Sessions()
        # What servers may drop, and have not heard of yet: address and body.
        self.farewells: dict[asyncio.Task[None], tuple[str, dict[str, Any]]] = {}

    def __str__(self) -> str:
        return " and ".join(map(str, self.servers))

    async def messages(
        self,
        body: Callable[[], dict[str, Any]],
        only: Server | None = None,
        session: int | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """What a server says to ``body()``, a /generate request, as it comes; without an end:
        where an answer ends or breaks off, ``body()`` is asked for again. Stop by ``aclose``.

        ``only``: the one server to ask. ``session``: the engine's, whose text a server is to keep
        until ``release``; requests of one come one after the other. Raises EngineFailed once the
        request has failed for ``patience.down`` seconds, its server has ended, or refuses it.
        """
        pause, failing_since = PAUSES_S[0], None
        while True:
            asked = body()
            text = asked["input_ids"]
            size = len(text) + 1  # what it writes beyond is counted at its next turn
            held = self._held(session, text, size)
            known = held is not None
            if only:
                number = self.servers.index(only)
            else:
                number = held.server if held else self._choose(text)
            server = self.servers[number]
            self.turns.under_way[number] += 1
            try:
                if session is not None and held is None and self.sessions.fits(number, size):
                    held = self.sessions.held[session] = Held(number, size)
                    if not await self._opened(number, held):
                        self._drop(session, held)
                        held = None
                if held is not None:
                    asked = held.asked(asked)
                async with contextlib.aclosing(self._answer(server, asked)) as answer:
                    async for message in answer:
                        pause, failing_since = PAUSES_S[0], None
                        if held is not None:
                            held.heard(message, self.route_id)
                        yield message
            except _Refused:
                if not known:
                    raise
                # The server has it no more: it restarted, or let it go.
            except (*FAILURES, _Failed) as error:
                server.check()
                failing_since = failing_since or time.monotonic()
                if time.monotonic() + pause > failing_since + self.patience.down:
                    raise EngineFailed(f"{server}: {told(error)}") from error
                if not only and self._others(number, error):
                    continue
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSES_S[1])
            finally:
                self.turns.under_way[number] -= 1
                if session is not None and held is not None and held.text is None:
                    self._drop(session, held)

    # Sessions.

    async def look(self, server: Server) -> None:
        """See whether a server keeps streaming sessions, and how many; warns where it does not."""
        session, number = await self._session(), self.servers.index(server)
        asked = session.get(f"{server.url}/server_info")
        try:
            async with await asyncio.wait_for(asked, self.patience.silence) as reply:
                found = room(await reply.json()) if reply.ok else f"HTTP {reply.status}"
        except FAILURES as error:
            raise EngineFailed(f"{server}: {told(error)}") from error
        if isinstance(found, str):
            self._without(number, found)
        else:
            self.sessions.rooms[number] = found

    def release(self, session: int) -> None:
        """Let the server that keeps a session's text drop it; nobody waits for that."""
        held = self.sessions.held.get(session)
        if held is not None:
            self._drop(session, held)

    def _without(self, number: int, why: str) -> None:
        self.sessions.rooms.pop(number, None)
        line = f"{self.servers[number]} keeps no sessions: {why}"
        _warn_once(f"{line}; each handoff sends it the whole text (docs/sglang.md)")

    def _held(self, session: int | None, text: list[int], size: int) -> Held | None:
        """The open session that ``text`` goes on in; one in which it does not is closed."""
        held = None if session is None else self.sessions.held.get(session)
        if session is None or held is None:
            return None
        elsewhere = held.server in self.down and len(self.down) < len(self.servers)
        if elsewhere or not self.sessions.goes_on(held, text, size):
            self._drop(session, held)
            return None
        return held

    async def _opened(self, number: int, held: Held) -> bool:
        """Open a session at its server; whether it is one that keeps any."""
        wanted = {"capacity_of_str_len": 1 << 30, "session_id": held.id, "streaming": True}
        session = await self._session()
        url = f"{self.servers[number].url}/open_session"
        asked = session.post(url, json=wanted | {"timeout": IDLE_S})
        async with await asyncio.wait_for(asked, self.patience.silence) as reply:
            if reply.ok:
                held.text = []
                return True
            said = f"HTTP {reply.status} {_line(await reply.text())}"
            if reply.status >= 500:
                raise _Failed(said)
            if number in self.sessions.rooms:
                self._without(number, said)
            return False

    def _drop(self, session: int, held: Held) -> None:
        if self.sessions.held.get(session) is held:
            del self.sessions.held[session]
            server = self.servers[held.server]
            self._farewell(server, "close_session", {"session_id": held.id})

    # Servers.

    def _choose(self, text: Sequence[int]) -> int:
        everywhere = range(len(self.servers))
        if len(everywhere) == 1:
            return 0
        up = [number for number in everywhere if number not in self.down]
        return self.turns.choose(text, up or everywhere)

    def _others(self, number: int, error: Exception) -> bool:
        """Leave a server out that has failed; whether there are others to go on at."""
        if len(self.servers) == 1:
            down = f"asked again for {self.patience.down:g} s (engine.sglang.down_s)"
            _warn_once(f"{self}: {told(error)}; {down}")
            return False
        if number not in self.down:
            log.warning("%s is left out: %s", self.servers[number], told(error))
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
                    said = f"HTTP {reply.status} {_line(await reply.text())}"
                    if reply.status in (408, 429) or reply.status >= 500:
                        raise _Failed(said)
                    raise _Refused(f"{server} refused a request: {said}")
                async for event in self._events(server, reply.content):
                    message = json.loads(event)
                    if "error" in message:
                        raise _Refused(f"{server} refused a request: {message['error']}")
                    why = message["meta_info"]["finish_reason"]
                    finished = why is not None
                    if why and why["type"] == "abort":
                        said = f"aborted: {why.get('message')}"
                        if why.get("status_code") == 400:
                            raise _Refused(f"{server} refused a request: {said}")
                        raise _Failed(said)
                    yield message
            if not finished:
                raise _Failed("the answer broke off")
        finally:
            if not finished:
                self._farewell(server, "abort_request", {"rid": body["rid"]})

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

    def _farewell(self, server: Server, path: str, told: dict[str, Any]) -> None:
        """Tell a server what it may drop, without waiting for it."""
        url = f"{server.url}/{path}"

        async def tell() -> None:
            await _post(await self._session(), url, told)

        def heard(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                self.farewells.pop(task, None)

        task = asyncio.get_running_loop().create_task(tell())
        self.farewells[task] = url, told
        task.add_done_callback(heard)

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            self.opened, self.loop = self._pool(), loop
            self.session = await anext(self.opened)
        return self.session

    async def _pool(self) -> AsyncGenerator[aiohttp.ClientSession, None]:
        """A connection pool; asyncio closes the generator, and thereby the pool, with its loop."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=UNUSED_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            try:
                yield session
            finally:  # what the loop's end has cancelled, or not let begin
                if self.farewells:
                    await asyncio.wait(self.farewells, timeout=FAREWELL_S)
                left, self.farewells = list(self.farewells.values()), {}
                await asyncio.gather(*(_post(session, *farewell) for farewell in left))


async def _post(session: aiohttp.ClientSession, url: str, told: dict[str, Any]) -> None:
    with contextlib.suppress(*FAILURES):
        timeout = aiohttp.ClientTimeout(total=FAREWELL_S)
        async with session.post(url, json=told, timeout=timeout):
            pass


@functools.cache
def _warn_once(line: str) -> None:
    log.warning("%s", line)


def _line(said: str) -> str:
    return " ".join(said.split())[:300]


def _told(error: Exception) -> str:
    return f"{type(error).__name__.strip('_')} {error}".strip()
