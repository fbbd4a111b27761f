"""The servers of a job: which run, which make room for others, and the engines over them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r2r.config import EngineConfig
from r2r.engines.sglang.client import Client, Patience
from r2r.engines.sglang.delay import Delay
from r2r.engines.sglang.engine import SGLangEngine
from r2r.engines.sglang.server import Server, command, free_port
from r2r.errors import must_be
from r2r.pairs import Source

ORDER = ("slm", "llm", "judge")  # what may share GPUs: each takes its share of what is left
LOOK = """
from importlib import metadata, util
hooks = metadata.entry_points(group="sglang.srt.plugins")
print(metadata.version("sglang") if util.find_spec("sglang") and "r2r" in hooks.names else "")
"""
EVERYTHING = "middle"  # has the GPUs for itself


class Fleet:
    """Starts servers as engines are asked for, waits for them with ``ready``, ends them with
    ``stop``.

    ``dtype``: the pair's. ``logs``: the folder for what the servers print.
    """

    def __init__(self, config: EngineConfig, *, dtype: str, logs: Path):
        assert config.sglang is not None
        self.config, self.settings, self.dtype, self.logs = config, config.sglang, dtype, logs
        self.servers: dict[str, Server] = {}
        self.commands: dict[str, tuple[list[str], list[str]]] = {}  # without and with the router
        self.waiting: list[SGLangEngine] = []
        self.version: str | None = None  # of SGLang, where ``check`` has found one

    def __str__(self) -> str:
        """Its servers by place; those that run already by address."""
        urls = [server.url for engine in self.waiting for server in engine.client.servers]
        return ", ".join(self.servers or dict.fromkeys(urls))

    def engine(
        self,
        place: str,
        model: Source,
        *,
        eos_ids: frozenset[int],
        tokens: int,
        route_id: int | None,
        routing: Mapping[str, Any] | None = None,
        digest: str | None = None,
        speculative: Mapping[str, Any] | None = None,
        beside: SGLangEngine | None = None,
    ) -> SGLangEngine:
        """An engine over the server at ``place``: slm, llm, middle or judge.

        ``tokens``: how many ids the tokenizer has; those of larger embeddings are never written.
        ``routing``: path of the router, pair and identity, for a server that routes, and
        ``digest`` its router's. ``speculative``: server arguments that turn on SGLang's own
        speculative decoding, past which no plug-in sees a token. ``beside``: the engine whose
        handoffs it takes.
        """
        keeps = place in ("slm", "llm") and speculative is None
        own = {"enable_streaming_session": True} if keeps else {}
        if speculative:
            own = {"return_hidden_states_mode": None} | dict(speculative)
        if self.config.name == "sglang_remote":
            servers = self._running(place)
        else:
            common = {"route_id": route_id, "eos_ids": sorted(eos_ids), "tokens": tokens}
            unrouted = common | {"router": None, "pair": None, "identity": None}
            plain = self._command(place, model, unrouted, own)
            full = self._command(place, model, common | dict(routing), own) if routing else plain
            servers = [self._started(place, plain, full)]
        settings = self.settings
        window = None if settings.delay_ms is None else settings.delay_ms / 1000
        engine = SGLangEngine(
            client=Client(
                servers, Patience(settings.silence_s, settings.down_s), route_id=route_id
            ),
            eos_ids=eos_ids,
            route_id=route_id,
            digest=digest,
            delay=Delay(window, settings.delay_size),
            stream_interval=settings.stream_interval,
            plugged=speculative is None,
            keeps=keeps,
            beside=beside,
        )
        self.waiting.append(engine)
        return engine

    def ready(self) -> None:
        """Wait until the servers of all engines asked for answer, so that no request has to.

        Raises EngineFailed as ``SGLangEngine.ready`` does.
        """

        async def every() -> None:
            servers = {server for engine in self.waiting for server in engine.client.servers}
            await asyncio.gather(*(server.ready() for server in servers))  # each silent one says so
            for engine in self.waiting:  # in turn: each times its server
                await engine.ready()

        asyncio.run(every())
        self.waiting.clear()

    def check(self) -> None:
        """Raises ConfigError where this machine's Python cannot start a server of ours."""
        if self.config.name == "sglang_remote":
            return
        python = self.settings.python or sys.executable
        try:
            found = subprocess.run([python, "-c", LOOK], capture_output=True, text=True).stdout
        except OSError as error:
            raise must_be("engine.sglang.python", "a Python interpreter", python) from error
        self.version = found.strip() or None
        if self.version is None:
            wanted = "a Python with sglang and this package installed (docs/sglang.md)"
            raise must_be("engine.sglang.python", wanted, python)

    def stop(self) -> None:
        for place in reversed(list(self.servers)):
            self.servers.pop(place).stop()

    def _running(self, place: str) -> list[Server]:
        given = getattr(self.settings, place).url
        key, urls = f"engine.sglang.{place}.url", given if isinstance(given, list) else [given]
        for url in urls:
            if not isinstance(url, str) or not url.startswith(("http://", "https://")):
                raise must_be(key, "the http:// address of a running server, or several", given)
        if not urls or len(set(urls)) < len(urls):
            raise must_be(key, "addresses that differ", given)
        return [Server(key=key, url=url, patience=self.settings.down_s) for url in urls]

    def _command(
        self, place: str, model: Source, routing: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> list[str]:
        return command(
            python=self.settings.python or sys.executable,
            model=model,
            settings=getattr(self.settings, place),
            device=self.config.device,
            dtype=self.dtype,
            max_prefill_tokens=self.config.max_prefill_tokens,
            routing=routing,
            extra=extra,
        )

    def _started(self, place: str, plain: list[str], full: list[str]) -> Server:
        """The server of command ``full``; any of its model's where that is ``plain``, no router."""
        there = self.commands[place] if place in self.servers else None
        if there and plain == there[0] and full in (plain, there[1]):
            return self.servers[place]
        on_gpu = self.config.device != "cpu"
        for other in reversed(list(self.servers)):
            if other == place or (on_gpu and _in_the_way(other, place)):
                self.servers.pop(other).stop()
        port = free_port()
        server = Server(
            key=f"engine.sglang.{place}",
            url=f"http://127.0.0.1:{port}",
            patience=self.settings.start_s,
            command=[*full, "--port", str(port)],
            log=self.logs / f"{place}-{port}.log",
            after=next(reversed(self.servers.values()), None) if on_gpu else None,
        )
        if not on_gpu:
            server.start()
        self.servers[place], self.commands[place] = server, (plain, full)
        return server


def _in_the_way(running: str, coming: str) -> bool:
    """A server gets a share of the memory it finds free, so the order of starting is fixed."""
    if EVERYTHING in (running, coming):
        return True
    return ORDER.index(running) > ORDER.index(coming)
