"""Labelling as a flow: no query waits for another, and what is done is kept whatever ends a run."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections import Counter, deque
from pathlib import Path

import pytest
import torch
from memory import peak
from test_labeling import EQUIVALENCE, PLAN, label, labeler, plan, queries, run, slips
from toy import END, ToyEngine, ids

from r2r.engines.base import Decoded
from r2r.errors import ConfigError
from r2r.journal import Journal
from r2r.labeling import flow
from r2r.labeling.dataset import Labels
from r2r.labeling.flow import JOURNAL, SILENT, Progress
from r2r.labeling.respond import Query
from r2r.records import MANIFEST, folder_hash

SENTENCE = 6  # tokens


class Stepped(ToyEngine):
    """Writes a token of each of ``batch`` requests a step, as an engine that batches does."""

    def __init__(self, rule, batch):
        super().__init__(rule)
        self.batch, self.steps = asyncio.Semaphore(batch), 0
        self.step = self.ticking = None

    async def decode(self, request):
        async with self.batch:
            written, answer = [], list(request.answer)
            while True:
                await self._step()
                token = self.rule(request.prompt, answer)
                answer.append(token)
                written.append(token)
                if token == END:
                    return self._done(request, written, "eos")
                if request.stop and request.stop(answer):
                    return self._done(request, written, "stop")
                if len(written) == request.budget:
                    return self._done(request, written, "budget")

    def _done(self, request, written, reason):
        self.requests.append((len(request.prompt), len(request.answer)))
        return Decoded(written, reason)

    async def _step(self):
        """Until the step that everyone takes who writes now."""
        if self.step is None:
            self.step = asyncio.get_running_loop().create_future()
            self.ticking = asyncio.create_task(self._tick(self.step))
        await self.step

    async def _tick(self, step):
        for _ in range(20):  # let others come
            await asyncio.sleep(0)
        self.steps, self.step = self.steps + 1, None
        step.set_result(None)


def of_length(lengths):
    """Models for prompts of so many tokens: answers of that length, in sentences; where the LLM
    writes every third "1", the SLM writes "2"."""

    def llm(prompt, answer):
        if len(answer) + 1 >= lengths[len(prompt)]:
            return END
        return ids(".\n")[0] if len(answer) % SENTENCE == SENTENCE - 1 else ids("1")[0]

    def slm(prompt, answer):
        token = llm(prompt, answer)
        return ids("2")[0] if token == ids("1")[0] and len(answer) % 3 == 0 else token

    return slm, llm


def asked(count, long_at=None):
    """``count`` queries of one length, and one at ``long_at`` that is longer."""
    made = [Query(f"q{n}", ids("<ask>", "<go>"), "?") for n in range(count)]
    if long_at is not None:
        made.insert(long_at, Query("long", ids("<ask>", "1", "<go>"), "?"))
    return list(enumerate(made))


def steps(numbered, batch=16):
    """Steps of the LLM to label queries, and the order in which they are done."""
    slm, llm = of_length({2: 30, 3: 600})
    engine, done = Stepped(llm, batch), []

    async def keep(finished):
        assert finished.facts.left_out is None
        done.append(finished.data_id)

    options = {"max_new_tokens": 700, "max_batch": batch, "context": 2000, "in_flight": 24}
    made = labeler(slm=slm, llm=engine, think=(None, None), **options)
    asyncio.run(made.each(numbered, keep, SILENT))
    assert sorted(done) == [data_id for data_id, _ in numbered]
    return engine.steps, done


@pytest.mark.parametrize("place", [0, 31, 64])
def test_a_query_twenty_times_as_long_delays_the_end_by_no_more_than_its_own_time(place):
    alone, _ = steps(asked(0, long_at=0))
    without, _ = steps(asked(64))
    together, order = steps(asked(64, long_at=place))
    assert 20 * 30 < max(alone, without) <= together <= without + alone
    assert order[-1] == place  # nobody waits for it
    if place == 0:
        assert together < 1.1 * max(alone, without)


def test_the_llm_writes_all_the_time():
    """Answers, and continuations of others, side by side."""
    taken, _ = steps(asked(64))
    tails = sum(
        SENTENCE - at % SENTENCE - 1
        for at in range(29)
        if at % 3 == 0 and at % SENTENCE != SENTENCE - 1
    )
    work = 64 * (30 + tails) / 16
    assert work <= taken < 1.15 * work


def test_queries_under_way_are_bounded_and_one_that_is_judged_for_long_holds_up_none():
    under_way, most, kept = set(), 0, []
    others = asyncio.Event()

    class Slow:
        async def verify(self, comparisons):
            verdicts = await EQUIVALENCE.verify(comparisons)
            if not kept:
                kept.append("the first to be judged")
                await others.wait()
            return verdicts

    made = labeler(verifier=Slow(), max_batch=4, in_flight=6)
    inner = made.label

    async def watched(numbered, on_tokens, on_parts):
        nonlocal most
        under_way.add(numbered[0])
        most = max(most, len(under_way))
        return await inner(numbered, on_tokens, on_parts)

    async def keep(finished):
        under_way.discard(finished.data_id)
        kept.append(finished.data_id)
        if len(kept) == 30:
            others.set()

    made.label = watched
    asyncio.run(asyncio.wait_for(made.each(list(enumerate(queries(30))), keep, SILENT), 20))
    assert most == 6 and len(set(kept)) == 31


class Watched(Progress):
    """What a run tells of itself."""

    def __init__(self):
        self.kept, self.begun, self.moved, self.done = [], [], Counter(), {}

    def found(self, tokens, counts, dropped):
        self.kept.append((len(tokens), sum(tokens), counts["divergent"], dropped["unfinished"]))

    def begin(self, data_id):
        self.begun.append(data_id)

    def move(self, data_id, tokens):
        self.moved[data_id] += tokens

    def finished(self, data_id, query, facts):
        assert query.id == f"q{data_id}"
        assert self.moved[data_id] == facts.tokens or data_id not in self.begun
        self.done[data_id] = (facts.counts["divergent"], facts.left_out)


def endless(prompt, answer):
    return ids("1")[0] if len(prompt) == 3 else plan(prompt, answer)


def test_each_query_is_told_of_as_it_is_done_and_of_an_earlier_run_each_shard(tmp_path):
    first, second = Watched(), Watched()
    with pytest.raises(Cut):
        label(tmp_path, slm=cut_at(7), llm=endless, in_flight=1, progress=first)
    assert first.done == {0: (0, "unfinished")} | {n: (1, None) for n in range(1, 7)}
    assert first.begun == list(range(8)) and min(first.moved.values()) >= len(PLAN)
    label(tmp_path, llm=endless, progress=second)
    assert second.kept == [(4, sum(first.moved[n] for n in range(4)), 3, 1)]
    assert second.done == {n: (1, None) for n in range(4, 10)}
    assert sorted(second.begun) == [7, 8, 9]


class Cut(Exception):
    pass


def cut_at(prompt_tokens, position=9):
    """The SLM until it reads so far in an answer to such a prompt."""

    def rule(prompt, answer):
        if len(prompt) == prompt_tokens and len(answer) == position:
            raise Cut
        return slips(prompt, answer)

    return rule


def test_a_run_cut_short_goes_on_with_what_was_under_way(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with pytest.raises(Cut):
        label(broken, slm=cut_at(7), in_flight=3)  # query 7
    assert not (broken / MANIFEST).exists()
    finished = [path.name for path in sorted(broken.glob("shard-*"))]
    with Journal(broken / JOURNAL) as journal:
        kept = journal.keys()
    assert finished == ["shard-00000"] and {4, 5} <= set(kept)
    slm, llm = ToyEngine(slips), ToyEngine(plan)
    label(broken, slm=slm, llm=llm)
    assert slm.read == 10 - len({0, 1, 2, 3, *kept})
    assert sum(request.parent is None for request in llm.requests) == slm.read
    label(whole)
    assert folder_hash(broken) == folder_hash(whole)
    assert sorted(path.name for path in broken.iterdir()) == [
        MANIFEST, "shard-00000", "shard-00001", "shard-00002",
    ]  # fmt: skip


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
import test_labeling as t
from pathlib import Path
from r2r.journal import Journal
from r2r.labeling import shards

def kill(*given):
    os.kill(os.getpid(), signal.SIGKILL)

rule = slips = t.slips
{when}
t.label(Path({folder!r}), slm=rule)
"""


@pytest.mark.parametrize(
    "when",
    [
        "rule = lambda *t: kill() if [len(part) for part in t] == [7, 9] else slips(*t)",
        "shards.write_json = kill",  # a shard is written but for its manifest
        "Journal.drop = kill",  # and whole, and its items lie in the journal too
        "Journal.remove = kill",  # all shards are there
    ],
    ids=["reading", "writing a shard", "dropping its items", "all but the manifest"],
)
def test_a_killed_run_leaves_nothing_half_done(tmp_path, when):
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    script = KILLED.format(path=path, folder=str(tmp_path / "killed"), when=when)
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / MANIFEST).exists()
    label(tmp_path / "killed")
    label(tmp_path / "whole")
    assert folder_hash(tmp_path / "killed") == folder_hash(tmp_path / "whole")


def test_shards_of_a_run_without_a_journal_are_used(tmp_path):
    label(tmp_path)
    before = folder_hash(tmp_path)
    (tmp_path / MANIFEST).unlink()
    for made in (tmp_path / "shard-00001").iterdir():
        made.unlink()
    (tmp_path / "shard-00001").rmdir()
    slm = ToyEngine(slips)
    label(tmp_path, slm=slm)
    assert slm.read == 4 and folder_hash(tmp_path) == before


def test_a_damaged_journal_is_told_in_one_line(tmp_path):
    with pytest.raises(Cut):
        label(tmp_path, slm=cut_at(4, 0), max_batch=2, in_flight=1)
    database = sqlite3.connect(tmp_path / JOURNAL)
    database.execute("UPDATE items SET value = zeroblob(length(value))")
    database.commit()
    database.close()
    with pytest.raises(ConfigError, match=r"whole journals, got .*labels\.sqlite: item 0") as error:
        label(tmp_path)
    assert "\n" not in str(error.value)


def test_labels_do_not_depend_on_order_or_batch(tmp_path):
    for name, options in (
        ("one", {"max_batch": 1, "in_flight": 1}),
        ("two", {"max_batch": 2, "in_flight": 7}),
        ("many", {"max_batch": 64}),
    ):
        label(tmp_path / name, count=13, **options)
    assert len({folder_hash(tmp_path / name) for name in ("one", "two", "many")}) == 1


def test_a_shard_is_made_as_soon_as_its_queries_are_done_and_nothing_is_kept_twice(
    tmp_path, monkeypatch
):
    made = []
    inner = flow.write_shard

    def seen(shard, finished, rows, differing, folder):
        inner(shard, finished, rows, differing, folder)
        made.append(shard.name)

    monkeypatch.setattr(flow, "write_shard", seen)
    kept = []

    class Reader(Watched):
        def finished(self, data_id, query, facts):
            with Journal(tmp_path / JOURNAL) as journal:
                kept.append((len(journal.keys()), len(made)))

    label(tmp_path, count=12, progress=Reader(), max_batch=2, in_flight=1)
    # After each query those of its shard are in the journal, and the shards before are made.
    assert kept == [(n % 4 + 1, n // 4) for n in range(12)]
    assert made == ["shard-00000", "shard-00001", "shard-00002"]
    assert len(Labels.open(tmp_path).shards) == 3


class Wide(ToyEngine):
    """Its signals are as large as a model's."""

    async def prefill(self, tokens, start, session=-1):
        found = await super().prefill(tokens, start, session)
        found.signals.hidden = torch.zeros(len(found.signals.token), 4096)
        return found


@pytest.mark.slow
def test_ten_times_the_queries_take_no_ten_times_the_memory(tmp_path):
    def most(count):
        llm = ToyEngine(plan)
        llm.requests = deque(maxlen=0)  # it remembers what it was asked
        made = labeler(slm=Wide(slips), llm=llm)
        return peak(lambda: run(made, queries(4) * count, tmp_path / str(count)))

    most(1)  # what is loaded once
    assert most(40) < 4 * most(4)  # what is under way together varies by half
