"""Answers are on disk when they are finished; what a kill costs is what was under way."""

import asyncio
import contextlib

import pytest

from r2r.engines.base import Sampling
from r2r.journal import Journal
from r2r.policies.base import Generator, Prompt
from r2r.policies.saved import HalfWay, Saved
from r2r.progress import Progress
from r2r.trace import Step


class Killed(Exception):
    pass


async def silent(prompts):
    pass


class Counting(Generator):
    """Writes as many tokens as a prompt's first one says; dies after ``dies`` tokens in all."""

    def __init__(self, dies=None, concurrency=4):
        super().__init__(tokenizer=self, context=1000, concurrency=concurrency)
        self.dies, self.made, self.most, self.running = dies, {}, 0, 0

    def decode(self, tokens, skip_special_tokens):
        return " ".join(map(str, tokens))

    async def write(self, prompt, budget, add, spent):
        self.running += 1
        self.most = max(self.most, self.running)
        for n in range(prompt.tokens[0]):
            await asyncio.sleep(0)
            if self.dies is not None and sum(self.made.values()) >= self.dies:
                raise Killed
            number = prompt.tokens[1]
            self.made[number] = self.made.get(number, 0) + 1
            add(Step(n, "llm" if n % 2 else "slm", 0.5))
        self.running -= 1
        return "eos"


LENGTHS = [3, 60, 5, 7, 3, 9, 4, 30, 6, 3, 5, 8]
PROMPTS = [Prompt([length, n], Sampling(100)) for n, length in enumerate(LENGTHS)]


def answered(path, inner, prompts=PROMPTS):
    with Journal(path) as journal:
        saved = Saved(inner=inner, journal=journal, progress=Progress(), before=silent)
        traces = list(saved.each(prompts))
        assert [t.to_json() for t in saved.kept()] == [t.to_json() for t in traces]
        return saved, traces


@pytest.mark.parametrize("dies", [1, 10, 25, 50, 80, 120, 142])
def test_what_is_finished_is_never_made_again(tmp_path, dies):
    path = tmp_path / "answers.sqlite"
    killed = Counting(dies)
    with pytest.raises(Killed):
        answered(path, killed)
    with Journal(path) as journal:
        kept = set(journal.keys())
    assert kept == {n for n, made in killed.made.items() if made == LENGTHS[n]}
    again = Counting()
    saved, traces = answered(path, again)
    assert kept.isdisjoint(again.made)
    assert sorted({*kept, *again.made}) == list(range(len(PROMPTS)))
    assert [len(trace.steps) for trace in traces] == LENGTHS
    under_way = sum(made for n, made in killed.made.items() if n not in kept)
    twice = sum(killed.made.values()) + sum(again.made.values()) - sum(LENGTHS)
    assert twice == under_way
    facts = saved.progress.facts()
    assert (facts.finished, facts.kept, facts.made) == (12, len(kept), sum(again.made.values()))


def test_the_batch_stays_full_until_too_few_are_left(tmp_path):
    inner = Counting()
    answered(tmp_path / "answers.sqlite", inner)
    assert inner.most == 4
    steps = max(60 + 3, sum(LENGTHS) / 4)  # the longest, which is begun at once, bounds them
    assert sum(LENGTHS) <= 4 * steps


def test_a_half_is_always_the_same_and_the_rest_comes_later(tmp_path):
    path = tmp_path / "answers.sqlite"
    halves = []
    for dies in (10, None, None):  # killed, gone on with, and asked for once more
        first = Counting(dies)
        with Journal(path) as journal, pytest.raises(Killed if dies else HalfWay):
            saved = Saved(
                inner=first, journal=journal, progress=Progress(), before=silent, half=True
            )
            next(saved.each(PROMPTS))
        halves.append(set(first.made))
    assert len(halves[0] | halves[1]) == len(PROMPTS) // 2 and not halves[2]
    rest = Counting()
    _, traces = answered(path, rest)
    assert set(rest.made) == set(range(len(PROMPTS))) - (halves[0] | halves[1])
    assert [len(trace.steps) for trace in traces] == LENGTHS


def test_all_kept_asks_nobody(tmp_path):
    path = tmp_path / "answers.sqlite"
    _, first = answered(path, Counting())
    again = Counting()
    _, second = answered(path, again)
    assert not again.made and [t.to_json() for t in second] == [t.to_json() for t in first]


@pytest.mark.parametrize(
    ("changed", "cleared"),
    [
        ({0: Prompt([3, 99], Sampling(100))}, 1),
        ({4: Prompt([3, 4], Sampling(100, temperature=0.5))}, 1),
        ({5: Prompt([9, 5], Sampling(100), stop=("x",))}, 1),
        ({}, 0),
    ],
)
def test_answers_to_other_prompts_are_made_again(tmp_path, changed, cleared):
    path = tmp_path / "answers.sqlite"
    answered(path, Counting())
    asked = [changed.get(n, prompt) for n, prompt in enumerate(PROMPTS)]
    again = Counting()
    saved, traces = answered(path, again, asked)
    assert saved.cleared == cleared and len(again.made) == cleared
    assert [trace.prompt for trace in traces] == [prompt.tokens for prompt in asked]


def test_answers_beyond_what_is_asked_are_forgotten(tmp_path):
    path = tmp_path / "answers.sqlite"
    answered(path, Counting())
    saved, traces = answered(path, Counting(), PROMPTS[:5])
    assert saved.cleared == 7 and len(traces) == 5


def test_what_is_to_be_answered_is_told_before_it_is_and_only_that(tmp_path):
    path, told = tmp_path / "answers.sqlite", []

    async def before(prompts):
        told.append((len(prompts), sum(inner.made.values())))

    for inner in (Counting(dies=60), Counting(), Counting()):
        with Journal(path) as journal:
            saved = Saved(inner=inner, journal=journal, progress=Progress(), before=before)
            with contextlib.suppress(Killed):
                list(saved.each(PROMPTS))
    kept = len(PROMPTS) - told[1][0]
    assert told == [(len(PROMPTS), 0), (len(PROMPTS) - kept, 0)] and kept > 0
