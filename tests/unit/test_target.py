"""What a target chooses among measured points, what it says of them, and what it refuses."""

from types import SimpleNamespace

import pytest

from r2r.errors import ConfigError
from r2r.reporting.statistics import ratio
from r2r.routers.threshold import threshold_at
from r2r.stages import target
from r2r.stages.aims import Target
from r2r.stages.compose import compose
from r2r.stages.preflight import check
from r2r.stages.target import Measured
from r2r.stages.workbench import Workbench

CURVE = {"recall": [0.5, 0.9, 1.0], "threshold": [0.9, 0.6, 0.2]}
TRIED = "tried={recall: [0.5, 0.9, 1.0], every: [16, 64]}"
PROBLEMS = 200


def measured(accuracy, forwards, steps=1.0, rate=100.0):
    scores = {("t", n): float(n < accuracy * PROBLEMS) for n in range(PROBLEMS)}
    figures = {
        "n": PROBLEMS,
        "accuracy": accuracy,
        "llm_forwards_per_token": forwards,
        "slm_steps_per_token": steps,
        "tokens_per_s": rate,
    }
    return Measured(figures, scores, [(100 * forwards, 100.0)] * PROBLEMS)


def routed(threshold, every):
    """A lower threshold is more accurate and asks more; so does checking more often."""
    accuracy = {0.9: 0.6, 0.6: 0.94, 0.2: 0.98}[threshold] + (0.01 if every == 16 else 0)
    return measured(accuracy, (1.05 - threshold) / 10 + 1 / every, 1 + every / 64)


@pytest.fixture
def bench(monkeypatch):
    def made(aim, *more):
        config, router = compose([f"target={aim}", "policy=check", TRIED, "~tried.tau", *more])
        bench = Workbench(config, router)
        known = SimpleNamespace(threshold=0.5, max_score=1.0, metrics={})
        known.metrics = {"validation": {"curve": CURVE}}
        bench.__dict__["described_router"] = known
        return bench

    def answers(bench, system, part):
        alone = {"slm": measured(0.4, 0.0, rate=1000.0), "llm": measured(1.0, 1.0, rate=100.0)}
        if system in alone:
            return alone[system]
        return routed(bench.threshold, bench.config.policy["every"])

    monkeypatch.setattr(target, "_measure", answers)
    return made


def test_a_share_is_kept_and_as_accurate_as_it_gets(bench, capsys):
    made = bench("share:0.08")
    found = target.choose(made)
    assert "trying threshold 0.9, every 32 (1 of at most 5)" in capsys.readouterr().out
    assert found["chosen"] == {"threshold": 0.6, "every": 32}  # 16: too often, 64: more steps
    assert (made.threshold, made.policy.every) == (0.6, 32)
    assert found["held_out"]["verdict"] == "reached"


def test_quality_takes_the_fewest_forwards(bench):
    found = target.choose(bench("quality:0.9"))
    assert found["chosen"] == {"threshold": 0.6, "every": 64}
    assert (
        found["held_out"]["accuracy_interval"][0] < 0.94 < found["held_out"]["accuracy_interval"][1]
    )


def test_speed_takes_the_fastest_that_is_not_shown_to_be_worse(bench):
    """0.99 right of 200 where the LLM has all is not shown to be below; 0.94 is."""
    found = target.choose(bench("speed"))
    assert found["chosen"]["threshold"] == 0.2


def test_what_nothing_reaches_is_refused_with_the_nearest(bench):
    with pytest.raises(ConfigError, match=r"target must be one .* share:0\.01 .*threshold 0\.9"):
        target.choose(bench("share:0.01"))


@pytest.mark.parametrize("text", ["share", "share:0", "share:2", "quality:x", "fast", "speed:1"])
def test_other_targets_are_refused(text):
    with pytest.raises(ConfigError, match=r"target must be share:0\.05, quality:0\.98 or speed"):
        Target.read(text)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["threshold=0.5"], "threshold must be auto where target chooses it"),
        (["~tried.recall"], "tried must be options of policy=r2r"),
        (["tried={recall: [x]}"], "tried.recall must be a list of numbers"),
        (["tried.recall=[1.5]"], "tried.recall must be a list of shares from 0 to 1"),
        (["policy=check", "tried.every=[0]"], "tried.every: policy.every must be at least 1"),
        (["policy=check", "tried.tau=[-1]"], "tried.tau: policy.accept.tau must be 0 or more"),
    ],
)
def test_runs_that_cannot_choose_are_refused_at_once(overrides, said):
    config, router = compose(["target=share:0.05", *overrides])
    with pytest.raises(ConfigError, match=said):
        check(Workbench(config, router))


def test_the_threshold_of_a_recall():
    assert [threshold_at(CURVE, recall) for recall in (0.01, 0.5, 0.51, 1.0)] == [
        0.9,
        0.9,
        0.6,
        0.2,
    ]


def test_a_ratio_of_sums_and_its_interval():
    found = ratio([(1, 10), (3, 10)] * 50, seed=0)
    assert found.value == pytest.approx(0.2)
    assert 0.17 < found.low < 0.2 < found.high < 0.23
    assert ratio([(1, 4)] * 9, seed=0).low == pytest.approx(0.25)
