"""Whatever a request holds, those that run beside it write what they would write alone."""

import asyncio

import pytest
import torch
from tiny import VOCAB, Back, Wobble, engine, prompts, routed, sources, tiny, tokens

from r2r.engines.base import Request, Sampling
from r2r.policies.base import Prompt


@pytest.fixture(scope="module")
def models():
    return tiny("qwen3", 32, 2, 0), tiny("qwen3", 48, 3, 1)


def beside(generator, asked, hostile):
    """The traces of ``asked``, each begun beside one of ``hostile``; and how those ended."""

    async def every():
        good = [generator.answer(prompt) for prompt in asked]
        bad = [generator.answer(prompt) for prompt in hostile]
        mixed = [task for both in zip(good, bad, strict=True) for task in both]
        return await asyncio.gather(*mixed, return_exceptions=True)

    ended = asyncio.run(every())
    return ended[::2], ended[1::2]


def broken(tokens):
    raise RuntimeError("a stop check that fails")


HOSTILE = {
    "a temperature next to 0": Prompt([9, 10], Sampling(12, temperature=1e-308)),
    "the smallest temperature": Prompt([9, 10], Sampling(12, temperature=5e-324)),
    "the highest temperature": Prompt([9, 10], Sampling(12, temperature=1e308)),
    "a top_p next to 0": Prompt([9, 10], Sampling(12, temperature=1.0, top_p=5e-324)),
    "both": Prompt([9, 10], Sampling(12, temperature=5e-324, top_p=5e-324)),
    "a huge seed": Prompt([9, 10], Sampling(12, temperature=1.0, seed=-(2**200))),
    "an id past the vocabulary": Prompt([9, VOCAB], Sampling(12)),
    "a negative id": Prompt([9, -1], Sampling(12)),
    "no text": Prompt([], Sampling(12)),
    "one token": Prompt([9], Sampling(1)),
    "a text as long as the context": Prompt([9] * 255, Sampling(12)),
    "a longer one": Prompt([9] * 300, Sampling(12)),
    "an odd threshold": Prompt([9, 10], Sampling(12), threshold=float("nan")),
    "odd stop strings": Prompt([9, 10], Sampling(12), stop=("\ufffd", "\0", "\udcff")),
}  # fmt: skip
FAILS = {
    "an id past the vocabulary",
    "a negative id",
    "no text",
    "a longer one",
    "odd stop strings",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_neighbour_changes_nothing(models, kind):
    generator = routed(models, 0.5)
    asked = prompts(5)
    expected = sources(generator.generate(asked))
    good, bad = beside(generator, asked, [HOSTILE[kind]] * len(asked))
    assert sources(good) == expected
    assert all(isinstance(end, Exception) == (kind in FAILS) for end in bad), bad
    assert (generator.slm.live(), generator.llm.live()) == (0, 0)
    assert sources(generator.generate(asked)) == expected


@pytest.mark.parametrize("sampling", [{"temperature": 1e-308}, {"temperature": 1, "top_p": 1e-9}])
def test_next_to_no_temperature_is_greedy(models, sampling):
    generator = routed(models, 0.5)
    assert tokens(generator.generate(prompts(8, seed=3, **sampling))) == tokens(
        generator.generate(prompts(8))
    )


@pytest.mark.parametrize("where", ["stop", "on_tokens"])
def test_what_a_request_brings_along_fails_it_alone(models, where):
    model = engine(models[0])
    good = [Request(p.tokens, [], 9) for p in prompts(4)]
    bad = Request([9, 10, 11], [], 9)
    setattr(bad, where, broken if where == "stop" else lambda tokens, scores: broken(tokens))

    async def run(asked):
        return await asyncio.gather(*map(model.decode, asked), return_exceptions=True)

    alone = asyncio.run(run(good))
    *ended, failed = asyncio.run(run([*good, bad]))
    assert isinstance(failed, RuntimeError)
    assert [end.tokens for end in ended] == [end.tokens for end in alone]
    assert model.live() == 0


@pytest.mark.parametrize("router", [Wobble, None])
@pytest.mark.parametrize("place", ["hidden", "pick"])
def test_a_forward_that_fails_fails_only_whose_fault_it_is(models, place, router, monkeypatch):
    """As one that finds no memory for a text, or a draw that cannot be made."""
    model = engine(models[0], router=router and router())
    threshold = None if router is None else 2.0
    good = [Request(p.tokens, [], 9, threshold=threshold) for p in prompts(4)]
    bad = Request([77, 77, 77], [], 9, sampling=Sampling(seed=77), threshold=threshold)

    async def run(asked):
        return await asyncio.gather(*map(model.decode, asked), return_exceptions=True)

    alone = asyncio.run(run(good))
    run_it = getattr(model.runner, place)

    def fails(first, *rest):
        if 77 in (first if place == "hidden" else [r.sampling.seed for r in first]):
            raise torch.OutOfMemoryError("no memory")
        return run_it(first, *rest)

    monkeypatch.setattr(model.runner, place, fails)
    *ended, failed = asyncio.run(run([*good, bad]))
    assert isinstance(failed, torch.OutOfMemoryError)
    assert [end.tokens for end in ended] == [end.tokens for end in alone]
    assert model.live() == 0


def test_no_room_for_a_text_fails_it_alone(models, monkeypatch):
    model = engine(models[0])
    reserve = model.cache.reserve

    def full(needs):
        if max(needs.values()) > 200:
            raise MemoryError("no memory")
        return reserve(needs)

    monkeypatch.setattr(model.cache, "reserve", full)

    async def run():
        asked = [Request([9] * length, [], 5) for length in (3, 201, 20)]
        return await asyncio.gather(*map(model.decode, asked), return_exceptions=True)

    first, failed, last = asyncio.run(run())
    assert isinstance(failed, MemoryError)
    assert len(first.tokens) == len(last.tokens) == 5
    assert model.live() == 0


def test_a_router_of_several_positions_beside_a_hostile_text(models):
    generator = routed(models, 0.5, router=Back)
    asked = prompts(4)
    expected = sources(generator.generate(asked))
    good, _ = beside(generator, asked, [Prompt([9, VOCAB], Sampling(5))] * 4)
    assert sources(good) == expected


POISON = 77  # a token whose numbers are none, as an overflow in half precision makes them


@pytest.fixture(scope="module")
def poisoned():
    model = tiny("qwen3", 32, 2, 0)
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = torch.nan
    return model


TEXTS = [[9, 10, 11], [12] * 90, [13, 14], [15] * 40]


def alone_and_after(model, before):
    """What each of TEXTS writes alone, and all at once after ``before(engine)``."""
    alone = []
    for text in TEXTS:
        alone.append(asyncio.run(engine(model).decode(Request(text, [], 9))).tokens)

    async def run():
        used = engine(model, max_batch=4)
        sessions = await before(used)
        asked = [Request(t, [], 9, session=s) for t, s in zip(TEXTS, sessions, strict=True)]
        return [end.tokens for end in await asyncio.gather(*map(used.decode, asked))]

    return alone, asyncio.run(run())


def test_a_row_forgets_what_is_no_number(poisoned):
    """A masked position counts for nothing, but nothing times NaN is NaN."""

    async def before(used):
        sessions = [used.new_session() for _ in TEXTS]
        texts = [[POISON] * 95 if n != 1 else [9] for n in range(len(TEXTS))]
        asked = [Request(t, [], 1, session=s) for t, s in zip(texts, sessions, strict=True)]
        await asyncio.gather(*map(used.decode, asked))
        for session in sessions[2:]:  # their rows stay: the other two fill half of the pool
            used.release(session)
        return [used.new_session() for _ in TEXTS]

    alone, after = alone_and_after(poisoned, before)
    assert after == alone


def test_what_is_cut_of_a_text_is_forgotten(poisoned):
    async def before(used):
        sessions = [used.new_session() for _ in TEXTS]
        for behind in ([], [POISON] * 20):  # in one forward all of a text would be NaN
            texts = [[*text, *behind] for text in TEXTS]
            asked = [Request(t, [], 1, session=s) for t, s in zip(texts, sessions, strict=True)]
            await asyncio.gather(*map(used.decode, asked))
        return sessions

    alone, after = alone_and_after(poisoned, before)
    assert after == alone


def test_what_a_failed_forward_has_kept_is_forgotten(poisoned, monkeypatch):
    async def before(used):
        sessions = [used.new_session() for _ in TEXTS]
        told = [Request(t[:1], [], 1, session=s) for t, s in zip(TEXTS, sessions, strict=True)]
        await asyncio.gather(*map(used.decode, told))
        texts = [[*text[:1], *[POISON] * 99] for text in TEXTS]
        asked = [Request(t, [], 1, session=s) for t, s in zip(texts, sessions, strict=True)]
        with monkeypatch.context() as broken:
            broken.setattr(used.runner, "pick", lambda *given: 1 / 0)
            ends = await asyncio.gather(*map(used.decode, asked), return_exceptions=True)
        assert all(isinstance(end, ZeroDivisionError) for end in ends)
        return sessions

    alone, after = alone_and_after(poisoned, before)
    assert after == alone
