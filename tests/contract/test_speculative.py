"""Speculative decoding writes what the LLM alone writes, and drafts as transformers' own does."""

import pytest
import torch
from tiny import BANNED, EOS, SLOW, Words, engine, nano, prompts, single, tiny, tokens

from r2r.engines.base import Sampling
from r2r.errors import ConfigError
from r2r.generators.base import Prompt
from r2r.generators.speculative import Speculative, verified


@pytest.fixture(scope="module", params=["qwen2", *SLOW])
def pair(request):
    if request.param == "nano":
        return nano("slm"), nano("llm")
    return tiny(request.param, 32, 2, 0), tiny(request.param, 48, 3, 1)


def speculative(pair, draft_tokens, max_batch=32):
    slm, llm = (engine(model, max_batch) for model in pair)
    return Speculative(slm=slm, llm=llm, draft_tokens=draft_tokens, tokenizer=Words(),
                       context=256, concurrency=max_batch, eos_ids=frozenset(EOS))  # fmt: skip


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
        assert trace.drafted == trace.count("slm") == 16
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
    assert trace.drafted == forwards


def test_only_greedy_output_is_exact(pair):
    with pytest.raises(ConfigError, match="temperature must be 0 for speculative"):
        speculative(pair, 4).generate([Prompt([9], Sampling(5, temperature=0.7))])


def test_a_round_keeps_drafts_up_to_the_first_other_choice():
    def told(drafts, choices):
        return [(step.token, step.source) for step in verified(drafts, choices)]

    assert told([1, 2, 3], [1, 2, 3, 4]) == [(1, "slm"), (2, "slm"), (3, "slm"), (4, "llm")]
    assert told([1, 2, 3], [1, 9, 3, 4]) == [(1, "slm"), (9, "llm")]
    assert told([], [5]) == [(5, "llm")]
