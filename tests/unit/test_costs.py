"""costs: figures worked out by hand, and what must hold for any trace."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2r.costs import Params, summary, trace_stats
from r2r.trace import Spent, Step, Trace, Usage

PARAMS = Params(slm_b=1.5, llm_b=32.0, router_b=0.0625)


def routed(*by: str) -> Trace:
    """A routed trace: each token asked about, the LLM's in place of a rejected draft."""
    steps = [Step(7, "slm", 0.1) if b == "s" else Step(8, "llm", 0.9, draft=7) for b in by]
    return Trace([1, 2], steps)


def test_routed_trace_by_hand():
    stats = trace_stats(routed("s", "s", "s", "l"), PARAMS)
    assert stats == {
        "llm_share": 0.25,
        "avg_params_published_b": (3 * 1.5 + 32) / 4,
        "avg_params_b": (4 * 1.5 + 4 * 0.0625 + 32) / 4,
        "slm_tokens": 3,
        "llm_tokens": 1,
        "output_tokens": 4,
    }


def test_summary_pools_tokens_over_traces():
    traces = [routed("l"), routed("s", "s", "s", "s", "s")]
    figures = summary(traces, PARAMS, wall_seconds=2.0)
    inclusive = (6 * 1.5 + 6 * 0.0625 + 32) / 6
    assert figures == pytest.approx(
        {
            "llm_share": 1 / 6,
            "avg_params_b": inclusive,
            "avg_params_published_b": (5 * 1.5 + 32) / 6,
            "llm_forwards_per_token": 1 / 6,
            "llm_positions_per_token": 0,
            "slm_steps_per_token": 1,
            "cut_per_token": 0,
            "cost": inclusive * 3,
            "output_tokens": 3,
            "seconds": 2.0,
            "tokens_per_s": 3.0,
        }
    )


@pytest.mark.parametrize(("source", "params_b", "share"), [("slm", 1.5, 0), ("llm", 32.0, 1)])
def test_a_single_model_costs_its_own_params(source, params_b, share):
    stats = trace_stats(Trace([1], [Step(5, source)] * 3), PARAMS)
    assert stats["avg_params_b"] == stats["avg_params_published_b"] == params_b
    assert stats["llm_share"] == share


def test_a_replaced_token_without_a_recorded_score_was_still_scored():
    stats = trace_stats(Trace([1], [Step(8, "llm", draft=7)]), PARAMS)
    assert stats["avg_params_b"] == 32 + 1.5 + 0.0625


def test_speculative_trace_by_hand():
    """Two rounds of three drafts: two kept and one replaced, then none kept."""
    steps = [Step(1, "slm"), Step(2, "slm"), Step(9, "llm", draft=3),
             Step(8, "llm", draft=4, cut=(5, 6))]  # fmt: skip
    spent = Spent(Usage(2, 6, 9), Usage(2, 2, 8), verified=6)
    figures = summary([Trace([1], steps, spent=spent)], PARAMS, 1.0)
    assert figures["llm_forwards_per_token"] == 0.5
    assert figures["llm_positions_per_token"] == 2
    assert figures["slm_steps_per_token"] == 1.5
    assert figures["cut_per_token"] == 0.5
    assert figures["acceptance"] == pytest.approx(2 / 6)
    assert figures["llm_share"] == 0.5
    assert figures["avg_params_published_b"] == (2 * 1.5 + 2 * 32) / 4
    assert figures["avg_params_b"] == (6 * 1.5 + (6 + 2) * 32) / 4


def test_a_forward_that_verifies_and_writes_nothing_counts():
    """Six tokens that the LLM read and let stand, cut tokens before them."""
    steps = [Step(1, "slm", 0.1)] * 6
    spent = Spent(Usage(2, 9, 12), Usage(2, 2, 11), verified=9, scored=9)
    figures = summary([Trace([1], steps, spent=spent)], PARAMS, 1.0)
    assert figures["llm_share"] == 0
    assert figures["avg_params_published_b"] == pytest.approx((6 * 1.5 + 2 * 32) / 6)
    assert figures["avg_params_b"] == pytest.approx((9 * 1.5 + 9 * 32 + 9 * 0.0625) / 6)


def test_a_trace_comes_back_from_its_json():
    steps = [Step(1, "slm", 0.5), Step(2, "llm", 0.75, 4, (5, 6))]
    spent = Spent(Usage(1, 4, 6), Usage(1, 1, 5), 3, 4)
    trace = Trace([9], steps, "text", "eos", 0.5, spent)
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_an_empty_answer_costs_nothing():
    assert set(trace_stats(Trace([1]), PARAMS).values()) == {0}
    assert set(summary([Trace([1])], PARAMS, 0.0).values()) == {0}
    assert set(summary([], PARAMS, 0.0).values()) == {0}


@given(st.lists(st.text("sl", max_size=20), min_size=1, max_size=5))
def test_accountings_agree(answers):
    traces = [routed(*answer) for answer in answers]
    figures = summary(traces, PARAMS, 1.0)
    share, published = figures["llm_share"], figures["avg_params_published_b"]
    tokens = sum(map(len, answers))
    if tokens:
        assert published == pytest.approx(1.5 + share * (32 - 1.5))
        assert figures["avg_params_b"] == pytest.approx(published + share * 1.5 + 0.0625)
    stats = [trace_stats(trace, PARAMS) for trace in traces]
    spent = sum(s["avg_params_b"] * s["output_tokens"] for s in stats)
    assert figures["cost"] * len(traces) == pytest.approx(spent)
