"""Speculative decoding writes what the LLM alone writes, and drafts as transformers' own does."""

import pytest
import torch
from tiny import BANNED, EOS, SLOW, nano, prompts, routed, single, tiny, tokens

from r2r.engines.base import Sampling
from r2r.policies.acceptance import Exact
from r2r.policies.base import Prompt
from r2r.policies.speculative import Speculative


@pytest.fixture(scope="module", params=["qwen2", *SLOW])
def pair(request):
    if request.param == "nano":
        return nano("slm"), nano("llm")
    return tiny(request.param, 32, 2, 0), tiny(request.param, 48, 3, 1)


def speculative(pair, draft_tokens, max_batch=32):
    policy = Speculative(draft_tokens=draft_tokens, accept=Exact())
    return routed(pair, float("inf"), max_batch, policy=policy)


@pytest.mark.parametrize("draft_tokens", [1, 5])
def test_the_output_is_the_llms(pair, draft_tokens):
    asked = prompts(12)
    expected = single(pair[1]).generate(asked)
    for max_batch in (1, 32):
        traces = speculative(pair, draft_tokens, max_batch).generate(asked)
        assert tokens(traces) == tokens(expected)
        assert [t.finish_reason for t in traces] == [t.finish_reason for t in expected]


def test_an_slm_that_is_the_llm_has_every_draft_accepted(pair):
    _, llm = pair
    (trace,) = speculative((llm, llm), 4).generate([Prompt([9, 10, 11], Sampling(20))])
    if trace.finish_reason == "length":
        assert trace.spent.verified == trace.count("slm") == 16
    assert trace.count("llm") == (len(trace.steps) + 4) // 5


def test_stop_strings_end_it_where_they_end_the_llm(pair):
    asked = [Prompt(p.tokens, p.sampling, stop=(" 1",)) for p in prompts(12)]
    expected = single(pair[1]).generate(asked)
    traces = speculative(pair, 5).generate(asked)
    assert tokens(traces) == tokens(expected)
    assert [t.text for t in traces] == [t.text for t in expected]


def test_transformers_accepts_as_many(pair):
    """The same rounds as transformers' assisted generation: as many SLM forwards, same tokens."""
    slm, llm = pair
    forwards = 0

    def count(*_):
        nonlocal forwards
        forwards += 1

    for model in pair:
        model.generation_config.pad_token_id = 0
    slm.generation_config.num_assistant_tokens = 4
    slm.generation_config.num_assistant_tokens_schedule = "constant"
    slm.generation_config.assistant_confidence_threshold = 0.0
    prompt = prompts(12)[-1].tokens
    hook = slm.register_forward_hook(count)
    try:
        theirs = llm.generate(
            torch.tensor([prompt]), assistant_model=slm, do_sample=False, max_new_tokens=25,
            eos_token_id=sorted(EOS), suppress_tokens=BANNED,
        )[0, len(prompt) :].tolist()  # fmt: skip
    finally:
        hook.remove()
    (trace,) = speculative(pair, 4).generate([Prompt(prompt, Sampling(25))])
    assert [step.token for step in trace.steps] == theirs
    assert trace.spent.slm.forwards == forwards
