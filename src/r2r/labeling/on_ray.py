"""Labelling by many processes: an actor each, on this machine's Ray or a cluster's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from r2r.config import RayConfig
from r2r.errors import ConfigError, EngineFailed, must_be
from r2r.labeling.shards import Shard

KEY = "labeler.ray"
CONNECT_S = 10.0


class Labeler(Protocol):
    async def label(self, shard: Shard, folder: Path) -> None:
        """Make the shard's own folder in ``folder``."""
        ...


class Worker:
    """An actor: one process with a labeler, and thereby engines, of its own."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def load(self, make: Callable[[], Labeler]) -> None:
        self.labeler = make()

    def label(self, shard: Shard, folder: Path) -> None:
        self.runner.run(self.labeler.label(shard, folder))


class OnRay:
    """Labels shards by ``config.workers`` actors, which write them into a folder that they share
    with this process. ``make`` is called in each to get its labeler.

    Shards go to the actors whose labeler is ready, so that one that waits for room in the cluster
    holds up nothing. Where an actor is lost its shard goes to another, ``config.retries`` times,
    and a new actor takes its place.
    """

    def __init__(self, make: Callable[[], Labeler], config: RayConfig):
        self.make, self.config = make, config

    async def each(self, shards: Sequence[Shard], folder: Path) -> AsyncGenerator[Shard, None]:
        """Label shards as ``shards.Execute`` says.

        Raises ConfigError where Ray is missing, its address does not answer, the cluster has no
        room for a worker, or the folder is not shared; EngineFailed where a shard's workers are
        lost again and again; and what a labeler raises, once, as it is.
        """
        if not shards:
            return
        ray = _ray()
        _connect(ray, self.config.address)
        try:
            async for shard in self._each(ray, shards, folder.resolve()):
                yield shard
        finally:
            ray.shutdown()  # and with it the actors

    async def _each(
        self, ray: Any, shards: Sequence[Shard], folder: Path
    ) -> AsyncGenerator[Shard, None]:
        actors = ray.remote(num_cpus=self.config.cpus, num_gpus=self.config.gpus)(Worker)
        todo, lost = deque(shards), Counter[str]()
        under_way: dict[asyncio.Future[None], tuple[Any, Shard | None]] = {}

        def start() -> None:
            actor = actors.remote()
            under_way[_future(actor.load.remote(self.make))] = actor, None

        for _ in range(min(_workers(ray, self.config), len(shards))):
            start()
        left = len(shards)
        while left:
            ended, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for future in ended:
                actor, shard = under_way.pop(future)
                try:
                    future.result()
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayActorError as error:
                    name = shard.name if shard else "its start"
                    lost[name] += 1
                    if lost[name] > self.config.retries:
                        raise EngineFailed(_gave_up(name, lost[name], error)) from error
                    if shard:
                        todo.appendleft(shard)
                    start()
                    continue
                if todo:
                    following = todo.popleft()
                    under_way[_future(actor.label.remote(following, folder))] = actor, following
                if shard:
                    if not (folder / shard.name).exists():
                        wanted = "a folder that the workers share with this process"
                        raise must_be("outputs", wanted, str(folder))
                    left -= 1
                    yield shard


def _future(reference: Any) -> asyncio.Future[None]:
    return asyncio.wrap_future(reference.future())


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        wanted = "serial where Ray is not installed (pip install ray)"
        raise must_be("labeler.executor", wanted, "ray") from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    ends = signal.getsignal(signal.SIGTERM)
    try:
        if address and ":" in address:  # Ray itself would wait for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_S).close()
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        wanted = "of a running Ray cluster, auto, or null for this machine alone"
        raise ConfigError(f"{KEY}.address must be {wanted}, got {address!r}: {reason}") from error
    signal.signal(signal.SIGTERM, ends)  # which Ray has changed


def _workers(ray: Any, config: RayConfig) -> int:
    """How many to start: as configured, or as many as there is room for."""
    there = ray.cluster_resources()
    needed = {"CPU": config.cpus, "GPU": config.gpus}
    room = [int(there.get(kind, 0) / each) for kind, each in needed.items() if each]
    if room and not min(room):
        has = f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs"
        wanted = f"cpus and gpus of one worker that fit a cluster of {has}"
        raise must_be(KEY, wanted, needed)
    return config.workers or min(room, default=1)


def _gave_up(what: str, times: int, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return f"labeler: the workers at {what} were lost {times} times ({KEY}.retries): {reason}"
