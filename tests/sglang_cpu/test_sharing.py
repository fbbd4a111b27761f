"""Policies on real SGLang servers: what tests/contract/test_policies.py wants of each, beside the
torch engine, whose answers are those of the slow loops."""

import asyncio
import dataclasses

import pytest
from disturbed import every_second_cancelled

from r2r.policies.build import build_policy
from r2r.routers.build import build_router
from r2r.stages.compose import compose

OPTIONS = {
    "r2r": ["policy=r2r"],
    "check": ["policy=check", "policy.every=6"],
    "learned": ["policy=check", "policy/accept=learned", "policy.every=6"],
    "speculative": ["policy=speculative", "policy.draft_tokens=4"],
    "lossy": ["policy=lossy", "policy.draft_tokens=4"],
    "r_stitch": ["policy=r_stitch"],
    "glimpse": ["policy=glimpse"],
    "spec_reason": ["policy=spec_reason"],
}
BOUND = 0.15  # the median of that network's scores
ROUTER = 0.45  # where a router of arbitrary weights fires for some tokens


@pytest.fixture(params=OPTIONS)
def policy(request, nano):
    made = build_policy(compose(OPTIONS[request.param])[0].policy)
    if request.param == "learned":  # arbitrary weights, and a bound among their scores
        shape = {"hidden_size": nano.llm.config.hidden_size, "vocab_size": 512}
        network = build_router(made.accept.scorer, **shape, token_embeddings=None, seed=0)
        made.accept.attach(network.eval())
        made.accept.bound = BOUND
    return made


def on_torch(nano, policy, **options):
    engines = nano.torch_engine("slm"), nano.torch_engine("llm")
    return nano.routed(*engines, ROUTER, policy=policy, **options)


def on_sglang(nano, servers, policy, **options):
    pairs = zip(("slm", "llm"), servers, strict=True)
    engines = [nano.sglang_engine(name, server) for name, server in pairs]
    return nano.routed(*engines, ROUTER, policy=policy, **options)


def facts(traces):
    """All that a trace tells but scores, which engines compute in other orders, and time."""
    return [
        ([(s.token, s.source, s.draft, s.cut) for s in trace.steps], trace.finish_reason,
         trace.text, trace.spent)
        for trace in traces
    ]  # fmt: skip


def test_answers_and_costs_are_those_of_torch_in_any_batch(nano, servers, policy):
    drawn = nano.prompts(12, budget=50, temperature=1.0, top_p=0.95)
    asked = [*nano.prompts(20), *drawn]
    expected = on_torch(nano, policy).generate(asked)
    assert {step.source for trace in expected for step in trace.steps} == {"slm", "llm"}
    together = on_sglang(nano, servers, policy).generate(asked)
    assert facts(together) == facts(expected)
    for trace, other in zip(together, expected, strict=True):
        given, same = ([s.score for s in t.steps if s.score is not None] for t in (trace, other))
        assert given == pytest.approx(same, abs=1e-3)  # its logits round otherwise
    alone = on_sglang(nano, servers, policy, concurrency=1)
    assert facts(alone.generate(asked[16:24])) == facts(expected[16:24])


def test_stop_strings_and_budgets_end_it_where_they_do_on_torch(nano, servers, policy):
    free = on_torch(nano, policy).generate(nano.prompts(8))
    words = tuple({trace.text.split()[len(trace.text.split()) // 2] for trace in free})
    asked = [
        *(dataclasses.replace(prompt, stop=words) for prompt in nano.prompts(8)),
        *nano.prompts(2, budget=7), *nano.prompts(2, budget=8), *nano.prompts(1, budget=1),
    ]  # fmt: skip
    expected = on_torch(nano, policy).generate(asked)
    assert {trace.finish_reason for trace in expected} >= {"stop", "length"}
    assert facts(on_sglang(nano, servers, policy).generate(asked)) == facts(expected)


def test_a_cancelled_answer_disturbs_no_other_and_begins_anew(nano, servers, policy):
    asked = nano.prompts(8, budget=60)
    expected = facts(on_torch(nano, policy).generate(asked))

    async def disturbed():
        made = on_sglang(nano, servers, policy)
        others = await every_second_cancelled(made, asked, pause=0.001)
        again = await asyncio.gather(*map(made.answer, asked[::2]))
        while made.slm.live() or made.llm.live():
            await asyncio.sleep(0.01)
        return others, again

    others, again = asyncio.run(disturbed())
    assert (facts(others), facts(again)) == (expected[1::2], expected[::2])
