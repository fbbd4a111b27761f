"""Answers that are left while they are written."""

import asyncio


async def every_second_cancelled(generator, asked, pause=0.0):
    """The answers to every second prompt, while those between break off once all have begun.

    ``pause``: seconds between looks at whether they have.
    """
    heard = [[] for _ in asked]
    pairs = zip(asked, heard, strict=True)
    tasks = [asyncio.create_task(generator.answer(p, h.append)) for p, h in pairs]
    while not all(heard):
        await asyncio.sleep(pause)
    for task in tasks[::2]:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    # A policy that tells of whole steps may have ended the first answers when the last begins.
    assert any(isinstance(end, asyncio.CancelledError) for end in ended[::2])
    others = ended[1::2]
    assert heard[1::2] == [trace.steps for trace in others]  # once, in order, as they stand
    return others


def idle(*engines):
    """Whether torch engines hold nothing of any request."""
    slots = (slot for engine in engines for slot in engine.slots.all)
    return not any(slot.busy or slot.tokens for slot in slots) and not any(
        engine.live() for engine in engines
    )
