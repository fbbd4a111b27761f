"""Many awaits at once, but never more than a given number."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sized
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def map_bounded(
    limit: int, items: Iterable[Item], work: Callable[[Item], Awaitable[Result]]
) -> list[Result]:
    """``work(item)`` for each item, ``limit`` at once, results in the order of the items.

    Items are drawn from the iterable only as they start, so a generator is never held whole. The
    first error cancels the rest and is raised as it is (a TaskGroup would wrap it).
    """
    results: dict[int, Result] = {}
    todo = enumerate(items)

    async def worker() -> None:
        for index, item in todo:
            results[index] = await work(item)

    count = min(limit, len(items)) if isinstance(items, Sized) else limit
    workers = [asyncio.create_task(worker()) for _ in range(count)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [results[index] for index in range(len(results))]


class Shared:
    """``map_bounded`` with one limit for all calls that are under way at a time."""

    def __init__(self, limit: int):
        self.limit, self.calls = limit, 0

    async def map(
        self, items: Iterable[Item], work: Callable[[Item], Awaitable[Result]]
    ) -> list[Result]:
        if not self.calls:
            self.gate = asyncio.Semaphore(self.limit)  # of this event loop
        self.calls += 1
        gate = self.gate

        async def gated(item: Item) -> Result:
            async with gate:
                return await work(item)

        try:
            return await map_bounded(self.limit, items, gated)
        finally:
            self.calls -= 1


class Turns:
    """A semaphore of ``limit``, whose next turn goes to who waits with the lowest number."""

    def __init__(self, limit: int):
        self.free = limit
        self.order = itertools.count()
        self.waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap

    @contextlib.asynccontextmanager
    async def turn(self, number: int) -> AsyncGenerator[None, None]:
        """Hold one of the turns; equal numbers get theirs in the order in which they ask."""
        await self._take(number)
        try:
            yield
        finally:
            self._give()

    async def _take(self, number: int) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self.waiting, (number, next(self.order), mine))
        self._serve()
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # it was given just before
                self._give()
            raise

    def _give(self) -> None:
        self.free += 1
        self._serve()

    def _serve(self) -> None:
        while self.free and self.waiting:
            _, _, mine = heapq.heappop(self.waiting)
            if not mine.cancelled():
                self.free -= 1
                mine.set_result(None)
