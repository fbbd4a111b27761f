"""The KV cache: what it keeps, and how much memory that takes."""

import asyncio
import random

import pytest
import torch
from tiny import engine, tiny

from r2r.engines.base import Request
from r2r.engines.torch.cache import SMALLEST, SlotCache

LAYERS, HEADS, SIZE = 2, 3, 4
TOKEN = 2 * LAYERS * HEADS * SIZE * 4  # bytes


class Cache:
    """A cache beside what its slots should hold."""

    def __init__(self, slots):
        self.cache, self.texts = SlotCache(slots), {}

    def add(self, needs):
        """Random tokens to each slot's text, written as a forward would."""
        self.cache.reserve({s: len(self.texts.get(s, ())) + n for s, n in needs.items()})
        for slot, count in needs.items():
            new = torch.rand(2, LAYERS, HEADS, count, SIZE)
            old = self.texts.get(slot, torch.empty(0))
            where = slice(len(old), len(old) + count)
            pool = self.cache.homes[slot]
            pool.fit()
            for layer in range(LAYERS):
                at = (pool.rows[slot], where)
                if slot % 2:
                    row, places = torch.tensor(at[0]), torch.arange(where.start, where.stop)
                    at = row.expand(count), places
                pool.store(layer, new[0, layer], new[1, layer], at)
            self.texts[slot] = torch.cat([old, new.permute(3, 0, 1, 2, 4)])

    def free(self, slot):
        self.cache.free(slot)
        self.texts.pop(slot, None)

    def copy(self, source, target, length):
        self.free(target)
        self.cache.reserve({target: length})
        self.cache.copy(source, target, length)
        self.texts[target] = self.texts[source][:length]

    def check(self):
        for slot, text in self.texts.items():
            pool = self.cache.homes[slot]
            row = pool.rows[slot]
            kept = [torch.stack([b[row, :, : len(text)] for b in pool.layers[n]])
                    for n in range(LAYERS)]  # fmt: skip
            assert torch.equal(torch.stack(kept, 1).permute(3, 0, 1, 2, 4), text)
        fitting = sum(max(SMALLEST, 2 * len(text)) for text in self.texts.values())
        assert self.cache.nbytes <= 2 * fitting * TOKEN


@pytest.mark.parametrize("seed", range(6))
def test_texts_that_come_grow_move_and_go_stay_what_they_are(seed):
    rng = random.Random(seed)
    held = Cache(9)
    for _ in range(150):
        slot = rng.randrange(9)
        match rng.choice(("add", "add", "free", "copy")):
            case "add":
                held.add({s: rng.randint(1, 200) for s in rng.sample(range(9), rng.randint(1, 9))})
            case "free":
                held.free(slot)
            case "copy" if len(held.texts) > 1:
                source = rng.choice([s for s in held.texts if s != slot])
                held.copy(source, slot, rng.randint(1, len(held.texts[source])))
        held.check()
    for slot in range(9):
        held.free(slot)
    assert held.cache.nbytes == 0


def held_at_most(model, monkeypatch):
    """Bytes of an engine's KV cache after each forward."""
    seen, forward = [], model._forward

    def kept(jobs):
        forward(jobs)
        seen.append(model.cache.nbytes)

    monkeypatch.setattr(model, "_forward", kept)
    return seen


def test_one_long_text_does_not_lengthen_the_others(monkeypatch):
    made = tiny("qwen2", 32, 2, 0)
    model = engine(made, max_batch=64, max_prefill_tokens=512)
    lengths = [8000, *[100] * 63]
    seen = held_at_most(model, monkeypatch)

    async def run():
        asked = (Request([9 + n] * length, [], 3) for n, length in enumerate(lengths))
        await asyncio.gather(*map(model.decode, asked))

    asyncio.run(run())
    shape = made.config
    token = 2 * shape.num_hidden_layers * shape.num_key_value_heads * 8 * 4
    assert max(seen) < 3 * sum(lengths) * token
    assert model.cache.nbytes == 0


LENGTHS = [3, 120, 200, 255, 256, 400, 505, 600]
TEXT = [random.Random(0).randrange(8, 150) for _ in range(700)]
PARTS = (10, 110)  # tokens of a first and a second request for each answer


async def write(model, text, **shared):
    answer = []
    for part in PARTS:
        asked = Request(text, list(answer), part, **shared)
        answer += (await model.decode(asked)).tokens
    return answer


@pytest.fixture(scope="module")
def alone():
    model = engine(tiny("qwen3", 32, 2, 0), max_batch=1)
    return [asyncio.run(write(model, TEXT[:length])) for length in LENGTHS]


@pytest.mark.parametrize("slots", [pytest.param(3, marks=pytest.mark.slow), 16])
def test_texts_of_mixed_lengths_write_what_each_writes_alone(slots, alone):
    """Across the capacities of pools, with sessions that are evicted and texts that are shared."""
    model = engine(tiny("qwen3", 32, 2, 0), max_batch=slots, max_prefill_tokens=300)

    async def one(length, parent):
        session = model.new_session()
        answer = await write(model, TEXT[:length], session=session, parent=parent)
        model.release(session)
        return answer

    async def run():
        parent = model.new_session()
        await model.prefill(TEXT, start=len(TEXT) - 2, session=parent)
        answers = await asyncio.gather(*(one(length, parent) for length in LENGTHS))
        model.release(parent)
        return answers

    assert asyncio.run(run()) == alone
    assert model.cache.nbytes == 0
