"""The controls beside routing, and what work and money the tables tell."""

import io

import pytest
from finished import results as finished_results
from rich.console import Console

from r2r.costs import Price, billed
from r2r.errors import ConfigError
from r2r.reporting.compare import tables
from r2r.reporting.controls import RANDOM, at_random, best_single, llm_answers, random_scores
from r2r.reporting.runs import Run, points
from r2r.reporting.tables import WORK, work, work_table
from r2r.stages.compose import compose
from r2r.trace import Source, Spent, Step, Trace, Usage

WORKED = {
    "llm_forwards_per_token": 0.061,
    "llm_positions_per_token": 1.9,
    "slm_steps_per_token": 1.25,
    "cut_per_token": 0.2,
}


def alone(accuracy, tokens, params_b, forwards, rate):
    return {
        "accuracy": accuracy,
        "n": 100,
        "output_tokens": tokens,
        "avg_params_b": params_b,
        "avg_params_published_b": params_b,
        "llm_share": forwards,
        "llm_forwards_per_token": forwards,
        "tokens_per_s": rate,
        "seconds": 1.0,
    }


@pytest.fixture
def systems():
    return {
        "slm": alone(0.4, 100.0, 1.0, 0.0, 1000.0),
        "llm": alone(0.9, 50.0, 9.0, 1.0, 100.0),
        "routed": alone(0.8, 80.0, 2.0, 0.2, 300.0),
    }


def test_at_random_makes_as_many_llm_forwards_as_routing(systems):
    """A third of the answers, half as long as the others, is a fifth of the tokens."""
    assert llm_answers(systems) == pytest.approx(1 / 3)
    found = at_random(systems)
    assert found is not None
    assert found["llm_forwards_per_token"] == found["llm_share"] == pytest.approx(0.2)
    assert found["accuracy"] == pytest.approx((2 * 0.4 + 0.9) / 3)
    assert found["output_tokens"] == pytest.approx(250 / 3)
    assert found["avg_params_b"] == pytest.approx(0.8 * 1 + 0.2 * 9)
    assert found["tokens_per_s"] == pytest.approx(1 / (0.8 / 1000 + 0.2 / 100))


def test_its_problems_score_what_they_do_on_average():
    slm, llm = {("t", 0): 1.0, ("t", 1): 0.0}, {("t", 0): 1.0, ("t", 1): 1.0}
    assert random_scores(slm, llm, 0.25) == {("t", 0): 1.0, ("t", 1): 0.25}


def test_controls_need_both_models(systems):
    assert best_single(systems) == "llm"
    assert best_single({"slm": systems["slm"]}) is None
    del systems["llm"]
    assert at_random(systems) is None


def test_a_speed_that_was_not_timed_here_gives_none(systems):
    systems["llm"]["tokens_per_s"] = None
    found = at_random(systems)
    assert found is not None and found["tokens_per_s"] is None


def test_billed_by_hand():
    """The SLM reads 4 and writes 6, the LLM reads 8 in two forwards and two requests."""
    steps = [Step(1, "slm"), Step(2, "slm"), Step(9, "llm", draft=3), Step(8, "llm", draft=4)]
    spent = Spent(Usage(2, 6, 8), Usage(2, 2, 8), verified=6)
    traces = [Trace([1], steps, spent=spent)] * 2
    prices: dict[Source, Price] = {"slm": Price(10.0, 100.0), "llm": Price(1000.0, 10000.0)}
    one = 4 * 10 + 6 * 100 + 8 * 1000 + 2 * 10000
    assert billed(traces, prices) == pytest.approx(one / 1000)


def test_no_figure_without_a_price_of_all_that_worked():
    trace = Trace([1], [Step(1, "slm")], spent=Spent(Usage(1, 1, 3)))
    assert billed([trace], {"llm": Price(1, 1)}) is None
    assert billed([trace], {"slm": Price(1, 1)}) == pytest.approx(4e-3)


def test_half_a_price_is_refused():
    with pytest.raises(ConfigError, match=r"prices\.llm\.input must be given"):
        compose(["prices.llm.output=1"])
    with pytest.raises(ConfigError, match=r"prices\.slm\.input must be at least 0"):
        compose(["prices.slm.input=-1", "prices.slm.output=1"])


def test_work_in_a_table_of_80_columns():
    results = finished_results()
    results["systems"]["routed"] |= WORKED | {"billed": 0.01234}
    assert work(results["systems"]["routed"]) == ("6.1", "1.90", "1.25", "20.0", "0.0123")
    assert set(work(results["systems"]["slm"])) == {"-"}
    results["systems"][RANDOM] = results["systems"]["slm"]
    every = [work_table(results), *tables(points([Run("made up", None, results)]))]
    console = Console(width=200, record=True, file=io.StringIO())
    for table in every:
        console.print(table)
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert text.count("Billed │" if "Billed │" in text else "Billed") >= 2
    assert all(column in text for column in WORK)
    assert "at random" in text and "Best single model: LLM." in text


def test_at_random_is_a_row_beside_one_routed_system_only():
    def run(threshold):
        results = finished_results() | {"threshold": threshold}
        control = results["systems"]["slm"] | {"avg_params_b": 0.1 + threshold}
        results["systems"] = results["systems"] | {RANDOM: control}
        return Run(f"made up {threshold}", None, results)

    assert RANDOM in {point.system for point in points([run(0.5)])}
    both = points([run(0.5), run(0.9)])
    assert sum(point.system == "routed" for point in both) == 2
    assert RANDOM not in {point.system for point in both}
