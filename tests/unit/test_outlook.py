"""What a stage says before it begins: how much it is about to make, and how long that may take."""

import asyncio

import pytest

from r2r.engines.base import Sampling
from r2r.eta import Pace
from r2r.policies.base import Prompt
from r2r.policies.single import Single
from r2r.progress import Progress
from r2r.stages import outlook
from r2r.stages.compose import compose
from r2r.stages.workbench import Workbench


def single(engine):
    return Single(engine=engine, tokenizer=None, source="llm", context=1000, concurrency=4)


PROMPTS = [Prompt([5] * length, Sampling(100)) for length in (10, 20, 30, 40, 50, 990)]


@pytest.fixture
def paced(monkeypatch):
    """Engines in process whose step takes a second, and a hundredth more for each request."""

    async def timed(engine, width):
        assert width == 4
        return Pace(1.0, 0.01)

    monkeypatch.setattr(outlook, "timed", timed)
    monkeypatch.setattr(outlook, "_in_process", lambda engine: engine is not None)


def test_answers_are_counted_and_timed_before_they_are_made(paced, capsys):
    progress = Progress()
    asyncio.run(outlook.tell_answers("llm", single(object()), progress, PROMPTS))
    assert (progress.timed, progress.first_s) == (Pace(1.0, 0.01), pytest.approx(1.0))
    told = " ".join(capsys.readouterr().out.split())
    # Two rounds of 85 steps (the last prompt leaves room for 10), and 510 + 1,140 tokens.
    assert told == (
        "evaluate llm: 6 prompts of 190 tokens, answers of at most 100: 510 tokens at most, up to"
        " 3:06 here"
    )


def test_answers_are_thought_to_be_as_long_as_those_of_earlier_runs(paced, capsys):
    progress = Progress()
    progress.expect(6, width=4, like=[20, 40, 60])
    asyncio.run(outlook.tell_answers("llm", single(object()), progress, PROMPTS))
    told = " ".join(capsys.readouterr().out.split())
    # Two rounds of 35 steps, and 210 + 1,140 tokens.
    assert told == (
        "evaluate llm: 6 prompts of 190 tokens, answers of at most 100, earlier ones of 40: about"
        " 210 tokens, about 1:24 here"
    )


def test_without_an_engine_in_process_the_counts_alone_are_told(capsys):
    progress = Progress()
    asyncio.run(outlook.tell_answers("llm", single(object()), progress, PROMPTS))
    told = " ".join(capsys.readouterr().out.split())
    assert progress.timed is None
    assert told.endswith("510 tokens at most, time by the first that is finished")


def test_labels_are_counted_and_timed_before_they_are_made(paced, capsys):
    progress = Progress()
    asked = outlook.tell_labels((object(), object()), progress, [10, 20, 30, 40], [100] * 4, 64)
    asyncio.run(asked)
    assert (progress.timed, progress.first_s) == (Pace(1.0, 0.01), pytest.approx(1.0))
    assert progress.read_s == pytest.approx(0.02)
    told = " ".join(capsys.readouterr().out.split())
    # The LLM's 100 steps and 500 tokens, and both read them again.
    assert told == (
        "label 4 prompts of 25 tokens, answers of at most 100: 400 tokens at most, up to 1:55 here;"
        " continuations and verdicts come on top"
    )


def test_queries_are_thought_to_take_as_much_as_those_of_earlier_runs(paced, capsys):
    progress = Progress()
    progress.expect(4, width=4, like=[150, 250])
    asked = outlook.tell_labels((object(), object()), progress, [10, 20, 30, 40], [100] * 4, 64)
    asyncio.run(asked)
    told = " ".join(capsys.readouterr().out.split())
    # The LLM's 200 steps and 900 tokens, and both read them again.
    assert told == (
        "label 4 prompts of 25 tokens, 200 written for each before: about 800 tokens, about 3:47"
        " here; verdicts come on top"
    )


def test_a_real_engine_is_timed_and_left_as_it_was(tmp_path):
    bench = Workbench(*compose([f"outputs={tmp_path}", "engine.max_batch=8"]))
    engine = bench.engine("slm")
    found = asyncio.run(outlook.timed(engine, 64))
    assert found.step >= 0 and found.item >= 0 and found.step + found.item > 0
    assert asyncio.run(outlook.timed(engine, 1)).item == 0
    assert engine.live() == 0
