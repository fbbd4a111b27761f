"""What every labelling rule keeps to, and what those that judge no sentences find."""

import asyncio
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_labeling import EQUIVALENCE, PLAN, column, label, labeler, plan, queries
from test_labeling_flow import Cut, cut_at
from test_on_ray import on_ray, workers_find_the_tests  # noqa: F401  # a fixture
from tiny import NANO
from toy import ToyEngine, ids

from r2r.config import RayConfig
from r2r.errors import ConfigError
from r2r.labeling.dataset import Labels
from r2r.labeling.judge import JudgeVerifier
from r2r.labeling.likelihood import Likelihood
from r2r.labeling.on_ray import OnRay
from r2r.labeling.outcome import Outcome
from r2r.labeling.report import write_report
from r2r.labeling.rules import PathFollowing
from r2r.records import folder_hash
from r2r.stages.check_rule import check_rule
from r2r.stages.compose import compose
from r2r.stages.rules import RULES, verifier
from r2r.stages.workbench import Workbench

CONF = Path(__file__).parents[2] / "conf/labeler"
COMMANDS = {"judge": ["labeler.judge.url=http://127.0.0.1:1/v1", "labeler.judge.model=a"]}


class LastDigit:
    def read(self, query, text):
        return (re.findall(r"\d", text) or [None])[-1]

    def same(self, query, one, other):
        return one == other


class Reader:
    """A judge that calls drafts divergent whose digits differ."""

    async def ask(self, prompts):
        drafts = [re.split(r"Draft [AB]", prompt)[-2:] for prompt in prompts]
        numbers = [[re.findall(r"\d", draft) for draft in both] for both in drafts]
        return ["neutral" if one == other else "divergent" for one, other in numbers]


def led_astray(prompt, answer):
    """An LLM that takes a wrong number of its own answer up in the final one."""
    token = plan(prompt, answer)
    return ids("2")[0] if len(answer) == 17 and answer[6] == ids("4")[0] else token


def outcome(sentences, bound=1.0, per_query=99, samples=0, limit=40, seed=0, finals=LastDigit):
    return Outcome(
        finals=finals(),
        sentences=sentences,
        bound=bound,
        per_query=per_query,
        samples=samples,
        seed=seed,
        max_new_tokens=limit,
    )


def likelihood(sentences, bound=0.1):
    return Likelihood(bound=bound)


MADE = {
    "equivalence": partial(PathFollowing, EQUIVALENCE),
    "judge": partial(PathFollowing, JudgeVerifier(Reader())),
    "likelihood": likelihood,
    "outcome": partial(outcome, per_query=2),
}
every = pytest.mark.parametrize("name", MADE)


def test_every_rule_and_every_file_is_in_this_suite():
    assert {path.stem for path in CONF.glob("*.yaml")} == {*RULES} == {*MADE}


@every
def test_every_file_names_its_rule_and_passes_the_start(name):
    config, _ = compose([f"labeler={name}", *COMMANDS.get(name, []), "benchmark.tasks=[nano_math]"])
    assert config.labeler.verifier == name
    check_rule(config)


@every
def test_labels_depend_on_no_batch_and_no_order(name, tmp_path):
    for folder, batch, in_flight in (("one", 1, 1), ("many", 64, None), ("again", 3, 5)):
        label(
            tmp_path / folder,
            llm=led_astray,
            rule=MADE[name],
            max_batch=batch,
            in_flight=in_flight,
        )
    assert len({folder_hash(tmp_path / each) for each in ("one", "many", "again")}) == 1


@every
def test_a_run_cut_short_ends_with_the_same_labels(name, tmp_path):
    rule = MADE[name]
    with pytest.raises(Cut):
        label(tmp_path / "cut", slm=cut_at(6), llm=led_astray, rule=rule, in_flight=2)
    llm = ToyEngine(led_astray)
    label(tmp_path / "cut", llm=llm, rule=rule)
    assert len({tuple(request.prompt) for request in llm.requests}) < 10
    label(tmp_path / "whole", llm=led_astray, rule=rule)
    assert folder_hash(tmp_path / "cut") == folder_hash(tmp_path / "whole")


@pytest.mark.slow
@every
def test_workers_give_the_same_labels(name, tmp_path):
    pytest.importorskip("ray")
    on_ray(tmp_path / "ray", partial(labeler, rule=MADE[name]), workers=2)
    label(tmp_path / "serial", rule=MADE[name])
    assert folder_hash(tmp_path / "ray") == folder_hash(tmp_path / "serial")


@every
def test_sessions_are_given_back_and_each_mismatch_is_shown(name, tmp_path):
    llm = ToyEngine(led_astray)
    manifest = label(tmp_path, llm=llm, rule=MADE[name])
    assert llm.sessions == set() and llm.most <= 4
    counts = manifest["counts"]
    assert sum(counts[k] for k in ("neutral", "divergent", "unsampled", "unverified")) == 40
    examples = manifest["report"]["examples"]
    assert all("«" in each["slm"] for kind in examples.values() for each in kind)
    assert {kind for kind, found in examples.items() if found} == {"neutral", "divergent"}


@pytest.mark.slow
def test_a_worker_has_the_judge_tried(tmp_path):
    pytest.importorskip("ray")
    tried = OnRay(labeler, RayConfig(workers=1)).prove(partial(proof_of, MADE["judge"]))
    proof = asyncio.run(tried)
    assert proof and proof.score == 0.75  # by digits alone: a changed operation may have none


def proof_of(rule):
    return asyncio.run(rule(None).prove())


# Judges.


@pytest.fixture
def nano_judge(monkeypatch, tmp_path):
    """A judge that is the nano pair's LLM, and what was loaded."""
    loaded, load = [], Workbench.load

    def seen(self, model, key):
        loaded.append(key)
        return load(self, model, key)

    monkeypatch.setattr(Workbench, "load", seen)
    shutil.copytree(NANO / "llm", tmp_path / "judge")
    paths = [f"labeler.judge.path={tmp_path / 'judge'}", f"outputs={tmp_path}"]
    config, router = compose(["labeler=judge", *paths, "engine.max_batch=2"])
    bench = Workbench(config, router)
    judged = verifier(bench)
    assert isinstance(judged, JudgeVerifier)
    return bench, judged.judge, loaded


def test_a_judge_that_is_one_of_the_pair_is_not_loaded_again(nano_judge):
    bench, _, loaded = nano_judge
    bench.engine("llm")
    assert loaded == ["pair.llm"]


def test_what_a_judge_has_read_already_it_reads_no_more_and_says_the_same(nano_judge):
    _, judge, _ = nano_judge
    runner, fed = judge.engine.runner, []
    hidden = runner.hidden

    def counted(ids, layout):
        fed.append(len(ids))
        return hidden(ids, layout)

    runner.hidden = counted
    prompts = [f"What is {'1+' * 60}1? Draft A: 2{n}+3={n}. Draft B: {n}." for n in range(6)]
    together = asyncio.run(judge.ask(prompts))
    once, fed[:] = sum(fed), []
    assert [asyncio.run(judge.ask([prompt]))[0] for prompt in prompts] == together
    assert once < 0.5 * sum(fed)


# Likelihood.


def labels_of(tmp_path, **options):
    label(tmp_path, llm=led_astray, **options)
    return column(Labels.open(tmp_path), "divergent")[: len(PLAN)][[1, 5, 6, 18]].tolist()


def test_likelihood_asks_the_llm_for_readings_and_nothing_else(tmp_path):
    llm = ToyEngine(plan)
    label(tmp_path, llm=llm, rule=likelihood)
    assert llm.read == 10 and all(request.parent is None for request in llm.requests)
    assert len(llm.requests) == 10  # the answers; each is read for the columns


def test_likelihood_is_relative_to_the_llms_own_token(tmp_path):
    # Of the toy's five tokens <end> is second, at a logit less; other slips are not among them.
    assert labels_of(tmp_path / "1", rule=partial(likelihood, bound=0.36)) == [1, 1, 1, 0]
    assert labels_of(tmp_path / "2", rule=partial(likelihood, bound=0.37)) == [1, 1, 1, 1]


# Outcome.


def test_outcome_is_divergent_where_the_final_answer_changes(tmp_path):
    assert labels_of(tmp_path, rule=outcome) == [0, 0, 1, 0]


def test_outcome_follows_only_what_the_llm_finds_unlikely(tmp_path):
    llm = ToyEngine(led_astray)
    manifest = label(tmp_path, llm=llm, rule=partial(outcome, bound=0.36, per_query=1))
    assert sum(request.parent is not None for request in llm.requests) == 10  # of 40 mismatches
    assert manifest["counts"]["unsampled"] == 20 and manifest["counts"]["neutral"] >= 10


class Warm(ToyEngine):
    """Draws what ``drawn`` says, and is else led astray."""

    def __init__(self, drawn):
        super().__init__(led_astray)
        self.drawn = drawn

    async def decode(self, request):
        rule = self.drawn if request.sampling.temperature else led_astray
        return await ToyEngine(rule).decode(replace(request, parent=None))


def always_astray(prompt, answer):
    return ids("2")[0] if len(answer) == 17 else plan(prompt, answer)


@pytest.mark.parametrize(
    ("drawn", "divergent", "unverified"),
    [(led_astray, 10, 0), (plan, 0, 10), (always_astray, 0, 10)],
    ids=["as before", "comes back", "was never sure"],
)
def test_a_change_is_confirmed_by_ends_that_are_drawn(tmp_path, drawn, divergent, unverified):
    counts = label(tmp_path, llm=Warm(drawn), rule=partial(outcome, samples=2))["counts"]
    assert (counts["divergent"], counts["unverified"]) == (divergent, unverified)


def test_an_answer_whose_tokens_are_all_likely_has_nothing_to_follow(tmp_path):
    llm = ToyEngine(led_astray)
    manifest = label(tmp_path, llm=llm, rule=partial(outcome, bound=0.0))
    assert all(request.parent is None for request in llm.requests)
    assert (manifest["counts"]["neutral"], manifest["counts"]["unsampled"]) == (40, 0)


def test_what_is_not_drawn_has_no_label_and_is_told(tmp_path):
    manifest = label(tmp_path, llm=led_astray, rule=partial(outcome, per_query=3))
    counts = manifest["counts"]
    assert (counts["unsampled"], counts["unverified"]) == (10, 0)
    labels = Labels.open(tmp_path)
    missing = (column(labels, "mismatch") == 1) & (column(labels, "divergent") == -1)
    assert missing.sum() == 10
    usable = zip(labels.shards, labels.rows("train"), strict=True)
    trained = np.concatenate([shard["divergent"][rows] for shard, rows in usable])
    assert set(trained.tolist()) == {0, 1}
    text = write_report(tmp_path).read_text()
    assert "20 masked, 0 unverified, 10 of the differing ones not sampled. Responses" in text


def test_outcome_says_how_much_of_the_answer_is_left_where_it_goes_on():
    told = []
    made = labeler(llm=led_astray, rule=partial(outcome, per_query=2))
    asyncio.run(made.label((0, queries(1)[0]), on_parts=told.append))
    assert told[0] == [] and len(told[1]) == 2 and len(told) == 2
    assert all(0 < left <= len(PLAN) for left in told[1])


def test_another_seed_draws_others(tmp_path):
    counts = []
    for seed in (0, 1):
        options = {"per_query": 1, "seed": seed}
        manifest = label(tmp_path / str(seed), llm=led_astray, rule=partial(outcome, **options))
        counts.append(folder_hash(tmp_path / str(seed)))
        assert manifest["counts"]["unsampled"] == 30
    assert counts[0] != counts[1]


def test_an_answer_cut_off_or_without_a_final_one_is_no_verdict(tmp_path):
    class Never(LastDigit):
        def read(self, query, text):
            return None

    cut = label(tmp_path / "cut", rule=partial(outcome, limit=len(PLAN) - 1))
    assert (cut["counts"]["unverified"], cut["counts"]["neutral"]) == (30, 10)  # <end> ends at once
    none = label(tmp_path / "none", rule=partial(outcome, finals=Never))
    assert none["counts"]["unverified"] == 40


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["labeler=outcome"], r"benchmark\.tasks must be tasks whose .*, got 'nano_code'"),
        (["labeler=outcome", "benchmark=humaneval"], "got 'humaneval'|got 'bespoke_stratos'"),
        (
            ["labeler=outcome", "benchmark=gsm8k", "labeler.prompts.data_files=a.jsonl"],
            r"labeler\.prompts must be left out for labeler=outcome",
        ),
        (["labeler=outcome", "labeler.per_query=null"], r"labeler\.per_query must be given"),
        (["labeler=outcome", "labeler.bound=null"], r"labeler\.bound must be given"),
        (["labeler=likelihood", "labeler.bound=null"], r"labeler\.bound must be given"),
        (["labeler=likelihood", "router=oracle"], r"labeler must be a rule that compares"),
    ],
)
def test_what_a_rule_cannot_label_is_refused_at_the_start(more, told):
    config, _ = compose(more)
    with pytest.raises(ConfigError, match=told) as refused:
        check_rule(config)
    assert "\n" not in str(refused.value)


def test_a_bound_is_a_share():
    with pytest.raises(ConfigError, match=r"labeler\.bound must be a share"):
        compose(["labeler=likelihood", "labeler.bound=2"])
