"""The paired bootstrap: widths as theory has them, pairing, and claims only where they hold."""

import numpy as np
import pytest

from r2r.evaluation.figures import figures, problem_scores
from r2r.reporting.statistics import Estimate, PairedBootstrap, verdict, wilson


def graded(grades):
    return {("task", number): float(grade) for number, grade in enumerate(grades)}


def bernoulli(share, count=400, seed=0):
    return np.random.default_rng(seed).random(count) < share


def test_an_interval_has_the_width_of_the_normal_approximation():
    grades = bernoulli(0.7)
    found = PairedBootstrap({"a": graded(grades)}, seed=0).accuracy("a")
    error = grades.std(ddof=1) / np.sqrt(len(grades))
    assert found.value == grades.mean()
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_wilsons_interval_as_published():
    """Newcombe (1998), table I: 81/263, 15/148, 0/20 and 1/29."""
    for right, count, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        found = wilson(right / count, count)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("grade", [0, 1])
def test_nothing_is_certain_where_all_is_right_or_all_is_wrong(grade):
    same = graded([grade] * 20)
    bootstrap = PairedBootstrap({"a": same, "b": same}, seed=0)
    found = bootstrap.accuracy("a")
    assert found.high - found.low == pytest.approx(0.1611, abs=1e-4)
    assert found.low <= found.value <= found.high
    between = bootstrap.difference("a", "b")
    assert (between.low, between.high) == pytest.approx((-0.1611, 0.1611), abs=1e-4)
    assert between.sign == 0


def test_averaged_repeats_have_the_bootstraps_interval():
    halves = {p: (g + 0.5) / 2 for p, g in graded(bernoulli(0.5)).items()}
    found = PairedBootstrap({"a": halves}, seed=0).accuracy("a")
    assert found.high - found.low == pytest.approx(1.96 / 20 / 2, rel=0.05)


def test_the_same_seed_gives_the_same_interval():
    scores = {"a": graded(bernoulli(0.5)), "b": graded(bernoulli(0.6, seed=1))}
    bootstraps = (PairedBootstrap(scores, seed=seed) for seed in (3, 3, 4))
    one, two, other = (bootstrap.difference("a", "b") for bootstrap in bootstraps)
    assert one == two != other


def test_pairing_shows_what_separate_intervals_hide():
    """One system is right wherever the other is, and on a few problems more."""
    worse = bernoulli(0.5)
    better = worse.copy()
    better[np.flatnonzero(~worse)[:12]] = True
    bootstrap = PairedBootstrap({"a": graded(better), "b": graded(worse)}, seed=0)
    a, b = bootstrap.accuracy("a"), bootstrap.accuracy("b")
    assert a.low < b.high  # apart, nothing could be said
    assert bootstrap.difference("a", "b").sign == 1
    assert bootstrap.difference("b", "a").sign == -1


def test_no_claim_without_a_difference():
    same = graded(bernoulli(0.5))
    other = graded(bernoulli(0.5, seed=1))
    assert PairedBootstrap({"a": same, "b": other}, seed=0).difference("a", "b").sign == 0


def test_false_claims_are_as_rare_as_the_level_says():
    claims = [
        PairedBootstrap(
            {"a": graded(bernoulli(0.5, 60, s)), "b": graded(bernoulli(0.5, 60, s + 1000))}, seed=0
        )
        .difference("a", "b")
        .sign
        for s in range(60)
    ]
    assert sum(map(abs, claims)) <= 9  # 3 expected, 9 is beyond 3 standard deviations


@pytest.mark.parametrize("other", [graded([1, 0]), {}])
def test_only_the_same_problems_are_compared(other):
    with pytest.raises(ValueError, match="same problems"):
        PairedBootstrap({"a": graded([1, 0, 1]), "b": other}, seed=0)


def test_repeats_are_averaged_before_anything_else():
    rows = [{"task": "t", "doc_id": 0, "score": c} for c in (True, False)]
    rows.append({"task": "u", "doc_id": 0, "score": 1.0})
    assert problem_scores(rows) == {("t", 0): 0.5, ("u", 0): 1.0}


def test_figures_by_hand():
    def row(task, doc_id, correct, tokens, share):
        stats = {"avg_params_b": tokens / 10, "output_tokens": tokens, "llm_share": share}
        return {"task": task, "doc_id": doc_id, "score": correct, "stats": stats}

    rows = [row("t", 0, True, 10, 0.0), row("t", 1, False, 30, 0.5), row("u", 0, True, 0, 0.0)]
    found = figures(rows)
    assert (found["accuracy"], found["n"]) == (pytest.approx(2 / 3), 3)
    assert found["accuracy_stderr"] == pytest.approx(1 / 3)
    t, u = found["tasks"]["t"], found["tasks"]["u"]
    assert (t["accuracy"], t["n"], t["accuracy_stderr"]) == (0.5, 2, pytest.approx(0.5))
    assert (t["llm_share"], t["output_tokens"], t["avg_params_b"]) == (15 / 40, 20, 2)
    assert (u["accuracy_stderr"], u["llm_share"]) == (0.0, 0.0)


def test_verdicts_say_what_the_interval_says():
    assert verdict("a", "b", Estimate(0.1, 0.02, 0.2)) == (
        "a beats b by 10.0 points (95%: +2.0 to +20.0)"
    )
    assert verdict("a", "b", Estimate(-0.1, -0.2, -0.02)).startswith("a is below b by 10.0")
    assert verdict("a", "b", Estimate(0.1, -0.02, 0.2)).startswith("a against b: no difference")
