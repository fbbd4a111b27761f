"""Many awaits at once, but never more than a given number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
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

    workers = [asyncio.create_task(worker()) for _ in range(limit)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [results[index] for index in range(len(results))]
