"""Labelling by many processes: an actor each, on this machine's Ray or a cluster's."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from r2r.config import RayConfig
from r2r.errors import ConfigError, EngineFailed, must_be
from r2r.labeling.controls import Proof
from r2r.labeling.finished import Finished
from r2r.labeling.flow import Asked, Keep, Progress

KEY = "labeler.ray"
CONNECT_S = 10.0


class Labeler(Protocol):
    in_flight: int

    async def label(self, asked: Asked) -> Finished:
        """Label one query; many calls may be under way at once, up to ``in_flight``."""
        ...


class Worker:
    """An actor: one process with a labeler, and thereby engines, of its own."""

    async def load(self, make: Callable[[], Labeler]) -> int:
        """Get the labeler ready; how many queries it takes at once."""
        self.labeler = await asyncio.to_thread(make)
        return self.labeler.in_flight

    async def prove(self, prove: Callable[[], Proof | None]) -> Proof | None:
        return await asyncio.to_thread(prove)

    async def label(self, asked: Asked) -> bytes:
        return (await self.labeler.label(asked)).to_bytes()


class OnRay:
    """Labels queries by ``config.workers`` actors, which send them back to this process. ``make``
    is called in each to get its labeler.

    Queries go to the actors whose labeler is ready, so that one that waits for room in the cluster
    holds up nothing. Where an actor is lost the queries that it had under way go to others, each
    ``config.retries`` times, and a new actor takes its place.
    """

    def __init__(self, make: Callable[[], Labeler], config: RayConfig):
        self.make, self.config = make, config

    async def each(self, asked: Sequence[Asked], keep: Keep, progress: Progress) -> None:
        """Label queries as ``flow.Execute`` says.

        Raises ConfigError where Ray is missing, its address does not answer, or the cluster has no
        room for a worker; EngineFailed where a query's workers are lost again and again; and what a
        labeler raises, once, as it is.
        """
        if not asked:
            return
        ray = _ray()
        _connect(ray, self.config.address)
        try:
            await self._each(ray, asked, keep, progress)
        finally:
            ray.shutdown()  # and with it the actors

    async def prove(self, prove: Callable[[], Proof | None]) -> Proof | None:
        """``prove()`` in a worker. Raises ConfigError as ``each`` does."""
        ray = _ray()
        _connect(ray, self.config.address)
        try:
            _workers(ray, self.config)  # there is room for one
            return await _future(self._actors(ray).remote().prove.remote(prove))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        finally:
            ray.shutdown()

    def _actors(self, ray: Any) -> Any:
        return ray.remote(num_cpus=self.config.cpus, num_gpus=self.config.gpus)(Worker)

    async def _each(self, ray: Any, asked: Sequence[Asked], keep: Keep, progress: Progress) -> None:
        actors = self._actors(ray)
        workers = min(_workers(ray, self.config), len(asked))
        share = math.ceil(len(asked) / workers)  # the first to be ready leaves the others theirs
        todo, lost, left = deque(asked), Counter[str](), len(asked)
        under_way: dict[asyncio.Future[Any], tuple[Any, Asked | None]] = {}
        gone: set[Any] = set()

        def start() -> None:
            actor = actors.remote()
            under_way[_future(actor.load.remote(self.make))] = actor, None

        def give(actor: Any) -> None:
            following = todo.popleft()
            progress.begin(following[0])
            under_way[_future(actor.label.remote(following))] = actor, following

        for _ in range(workers):
            start()
        while left:
            ended, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for future in ended:
                actor, query = under_way.pop(future)
                try:
                    made = future.result()
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayActorError as error:
                    name = f"query {query[1].id}" if query else "their start"
                    lost[name] += 1
                    if lost[name] > self.config.retries:
                        raise EngineFailed(_gave_up(name, lost[name], error)) from error
                    if query:
                        todo.appendleft(query)
                    if actor not in gone:
                        gone.add(actor)
                        start()
                    continue
                for _ in range(1 if query else min(made, share)):
                    if todo:
                        give(actor)
                if query:
                    finished = Finished.from_bytes(query[0], made)
                    progress.move(finished.data_id, finished.facts.tokens)
                    await keep(finished)
                    left -= 1


def _future(reference: Any) -> asyncio.Future[Any]:
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
