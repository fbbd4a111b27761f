"""A share of LLM forwards held over a run, whatever the router's scores are worth."""

import math
import random
from types import SimpleNamespace

import pytest
from tiny import nano, prompts, routed

from r2r.costs import Forwards
from r2r.errors import ConfigError
from r2r.policies.pace import Pace
from r2r.stages.compose import compose
from r2r.stages.fingerprints import evaluation
from r2r.stages.preflight import check
from r2r.stages.workbench import Workbench


def simulated(pace, answers, tokens, mean):
    """LLM share of each half of so many tokens: answers of 100 tokens beside each other, whose
    thresholds are read where R2R reads them, and scores that are logit-normal around ``mean(t)``.
    """
    rng = random.Random(0)
    thresholds, since, written = [pace.threshold] * answers, [0] * answers, [0] * answers
    forwards = [0, 0]
    for token in range(tokens):
        at = token % answers
        score = 1 / (1 + math.exp(-rng.gauss(mean(token / tokens), 2.0)))
        since[at], written[at] = since[at] + 1, written[at] + 1
        routed_away = score >= thresholds[at]
        if routed_away or written[at] == 100:
            forwards[2 * token // tokens] += routed_away
            pace.count(int(routed_away), since[at])
            thresholds[at], since[at] = pace.threshold, 0
            written[at] %= 100
    return [2 * count / tokens for count in forwards]


@pytest.mark.parametrize("answers", [1, 16, 64])
@pytest.mark.parametrize("share, start", [(0.05, 0.5), (0.05, 0.9), (0.05, 0.02), (0.2, 0.5)])
def test_the_share_is_held_wherever_the_threshold_begins(share, start, answers):
    pace = Pace(share=share, start=start, answers=answers)
    first, second = simulated(pace, answers, 40_000, lambda at: -4.0)
    assert second == pytest.approx(share, rel=0.12)
    assert (first + second) / 2 == pytest.approx(share, rel=0.35)


def test_it_is_held_where_problems_become_harder():
    fixed, moved = (
        simulated(Pace(share=0.05, start=0.4, answers=unit), 32, 40_000, lambda at: -4 + 2 * at)
        for unit in (10**9, 32)
    )
    assert fixed[1] > 1.5 * 0.05
    assert moved[1] == pytest.approx(0.05, rel=0.12)


def test_answers_are_held_to_it():
    made = routed((nano("slm"), nano("llm")), 0.5, 4, share=0.25)  # 0.5 where it stays
    forwards = Forwards.of(made.generate(prompts(16, budget=40)))
    assert forwards.llm_forwards / forwards.tokens == pytest.approx(0.25, rel=0.15)


def test_a_prompt_with_a_threshold_of_its_own_is_none_of_it():
    made = routed((nano("slm"), nano("llm")), 0.5, 8, share=0.01)
    asked = prompts(4, budget=20)
    for prompt in asked:
        prompt.threshold = 0.0
    traces = made.generate(asked)
    assert all(step.source == "llm" for trace in traces for step in trace.steps)
    assert made.pace.debt == 0


@pytest.mark.parametrize(
    "wrong, said",
    [
        (["hold_share=0"], "hold_share must be a share, above 0"),
        (["hold_share=0.05", "policy=lossy"], "hold_share must be null where no router"),
        (["hold_share=0.05", "target=share:0.05"], "target must be null where hold_share"),
        (["hold_share=0.05", "router=entropy"], "hold_share must be null where scores are no"),
    ],
)
def test_what_cannot_be_held_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        check(Workbench(*compose(wrong)), machine=False)


def test_answers_know_the_company_that_they_had():
    def decides(*more):
        bench = Workbench(*compose(["router=always_slm", "threshold=0.5", *more]))
        known = {"config": {}, "digest": "", "version": 1, "max_score": 1.0, "threshold": None}
        bench.__dict__["described_router"] = SimpleNamespace(**known)
        return evaluation(bench, "routed").decides["system"]

    assert "held" not in decides()
    assert decides("hold_share=0.05")["held"] == [0.05, "torch", 64]
    assert decides("hold_share=0.05", "engine.max_batch=8")["held"] == [0.05, "torch", 8]
