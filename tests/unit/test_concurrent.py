"""Many awaits at once, bounded, some before others."""

import asyncio

import pytest

from r2r.errors import ConfigError
from r2r.labeling.concurrent import Shared, Turns, map_bounded


def test_map_bounded_keeps_order_bounds_and_laziness():
    running, most, drawn = 0, 0, 0

    def items():
        nonlocal drawn
        for n in range(20):
            drawn += 1
            yield n

    async def work(n):
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert drawn <= n + 4
        for _ in range(n % 3):
            await asyncio.sleep(0)
        running -= 1
        return n * n

    assert asyncio.run(map_bounded(3, items(), work)) == [n * n for n in range(20)]
    assert most == 3


def test_map_bounded_raises_the_error_itself_and_leaves_no_task():
    ended = []

    async def work(n):
        if n == 1:
            raise ConfigError("no")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(n)

    with pytest.raises(ConfigError, match="no"):
        asyncio.run(map_bounded(3, range(9), work))
    assert sorted(ended) == [0, 2]


def test_a_shared_limit_holds_for_all_calls_at_a_time_and_in_any_event_loop():
    shared, running, most = Shared(3), 0, 0

    async def work(n):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    async def calls():
        return await asyncio.gather(*(shared.map(range(5), work) for _ in range(4)))

    for _ in range(2):  # each with a loop of its own
        assert asyncio.run(calls()) == [list(range(5))] * 4
    assert most == 3


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def hold(turns, number, held, let_go):
    async with turns.turn(number):
        held.append(number)
        await let_go.wait()


def test_turns_go_to_the_lowest_number_that_waits():
    async def work():
        turns, held, let_go = Turns(2), [], asyncio.Event()
        tasks = []
        for number in (5, 7, 9, 3, 8, 3):
            tasks.append(asyncio.create_task(hold(turns, number, held, let_go)))
            await settle()
        assert held == [5, 7]
        let_go.set()
        await asyncio.gather(*tasks)
        assert held[2:] == [3, 3, 8, 9]
        assert turns.free == 2

    asyncio.run(work())


def test_who_is_cancelled_has_no_turn():
    async def work():
        turns, held, never = Turns(1), [], asyncio.Event()
        first, second, third = (asyncio.create_task(hold(turns, n, held, never)) for n in range(3))
        await settle()
        second.cancel()  # while it waits
        first.cancel()  # while it has its turn
        await settle()
        assert held == [0, 2]
        fourth = asyncio.create_task(hold(turns, 3, held, never))
        await settle()
        third.cancel()
        await asyncio.sleep(0)  # the fourth's turn has come, and it does not know yet
        fourth.cancel()
        await settle()
        assert held == [0, 2] and turns.free == 1

    asyncio.run(work())
