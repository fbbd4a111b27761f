"""The backbone: routed generation equals the slow reference, the SLM or the LLM, exactly."""

import asyncio
import copy
import dataclasses
import json

import pytest
import torch
from disturbed import every_second_cancelled, idle
from reference import alone
from reference import routed as reference_routed
from tiny import (
    BANNED,
    EOS,
    NANO,
    VOCAB,
    Back,
    Wobble,
    Words,
    engine,
    nano,
    prompts,
    routed,
    single,
    sources,
    tiny,
    tokens,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config

from r2r.chat import encode_question
from r2r.engines.base import Request, Sampling
from r2r.engines.torch.engine import TorchEngine
from r2r.policies.base import Prompt
from r2r.policies.r2r import R2R
from r2r.policies.routed import Routed
from r2r.policies.single import Single
from r2r.routers.build import build_router


def test_one_model_equals_the_reference(pair):
    asked = prompts(12)
    for model in pair:
        expected = [alone(model, p.tokens, p.sampling.max_new_tokens, EOS, BANNED) for p in asked]
        assert tokens(single(model).generate(asked)) == expected


def test_threshold_zero_is_the_llm(pair):
    asked = prompts(12)
    traces = routed(pair, 0.0).generate(asked)
    assert tokens(traces) == tokens(single(pair[1]).generate(asked))
    assert all(step.source == "llm" for trace in traces for step in trace.steps)


def test_threshold_above_every_score_is_the_slm(pair):
    asked = prompts(12)
    traces = routed(pair, 1.1).generate(asked)
    assert tokens(traces) == tokens(single(pair[0]).generate(asked))
    assert all(step.source == "slm" for trace in traces for step in trace.steps)


@pytest.mark.parametrize(
    ("threshold", "router"), [(0.2, Wobble), (0.5, Wobble), (0.9, Wobble), (0.5, Back)]
)
def test_any_threshold_equals_the_slow_loop(pair, threshold, router):
    asked = prompts(10)
    traces = routed(pair, threshold, router=router).generate(asked)
    for prompt, trace in zip(asked, traces, strict=True):
        expected = reference_routed(
            *pair, router(), threshold, prompt.tokens, prompt.sampling.max_new_tokens, EOS, BANNED
        )
        assert [(s.token, s.source, s.draft) for s in trace.steps] == [
            (s.token, s.source, s.draft) for s in expected
        ]
        assert [s.score for s in trace.steps] == pytest.approx(
            [s.score for s in expected], abs=1e-3
        )


@pytest.mark.parametrize(("temperature", "router"), [(0.0, Wobble), (1.0, Wobble), (1.0, Back)])
def test_batch_1_equals_batch_32(pair, temperature, router):
    asked = prompts(32, temperature=temperature, top_p=0.9, seed=5)
    together = routed(pair, 0.5, router=router).generate(asked)
    one_by_one = routed(pair, 0.5, max_batch=1, router=router).generate(asked)
    assert sources(together) == sources(one_by_one)


def test_a_router_of_several_positions_outlives_its_slot(pair):
    asked = prompts(10)
    roomy = routed(pair, 0.5, router=Back)
    tight = routed(pair, 0.5, max_batch=2, router=Back)
    tight.concurrency = 10  # answers take turns at two slots
    assert sources(tight.generate(asked)) == sources(roomy.generate(asked))
    assert tight.slm.runner.past.rows == {}


def test_a_router_of_several_positions_needs_a_session(pair):
    alone = engine(pair[0], router=Back())
    request = Request([9, 10, 11], [], 4, threshold=0.5)
    with pytest.raises(ValueError, match="needs requests of a session"):
        asyncio.run(alone.decode(request))


def test_a_small_forward_limit_changes_nothing(pair):
    asked = prompts(8)
    plain = routed(pair, 0.5).generate(asked)
    assert sources(routed(pair, 0.5, max_prefill_tokens=5).generate(asked)) == sources(plain)


def test_a_reading_is_the_same_to_the_byte_whatever_else_is_asked_for(pair):
    asked = prompts(12, budget=40)
    texts = [[*p.tokens, *range(20, 20 + 5 * n)] for n, p in enumerate(asked, 2)]

    def found(model, text):
        return model.prefill(text, start=len(text) // 3)

    async def beside(model):
        writing = [asyncio.create_task(model.decode(Request(p.tokens, [], 40))) for p in asked]
        await asyncio.sleep(0)
        readings = await asyncio.gather(*(found(model, text) for text in texts))
        await asyncio.gather(*writing)
        return readings

    for model in pair:
        alone = [asyncio.run(found(engine(model), text)) for text in texts]
        for one, other in zip(alone, asyncio.run(beside(engine(model))), strict=True):
            for name in ("token", "logits", "hidden"):
                assert torch.equal(getattr(one.signals, name), getattr(other.signals, name))
            assert torch.equal(one.indices, other.indices)


def test_the_nano_pair_on_its_own_problems():
    """Real prompts, real ends of answers, a trained router's kind of network."""
    tokenizer = AutoTokenizer.from_pretrained(NANO / "llm")
    slm, llm = nano("slm"), nano("llm")
    embeddings = slm.get_input_embeddings().weight
    config = {"_target_": "r2r.routers.mlp.MLPRouter", "inputs": ["hidden", "token", "logits"],
              "normalize_input": False, "top_k": 100, "hidden_dims": [32], "expansion": 2,
              "dropout": 0.1}  # fmt: skip
    router = build_router(config, hidden_size=48, vocab_size=512, token_embeddings=embeddings)
    eos, banned = {tokenizer.eos_token_id}, [5]
    rows = (NANO / "data" / "test.jsonl").read_text().splitlines()[:4]
    asked = [
        Prompt(encode_question(tokenizer, json.loads(row)["question"], {}), Sampling(110))
        for row in rows
    ]

    def answers(threshold):
        small, large = (
            TorchEngine(model=model, eos_ids=eos, banned=banned, max_batch=8,
                        max_prefill_tokens=512, router=scorer)
            for model, scorer in ((slm, router), (llm, None))
        )  # fmt: skip
        generator = Routed(policy=R2R(), slm=small, llm=large, threshold=threshold,
                           tokenizer=tokenizer, context=1024, concurrency=8,
                           eos_ids=frozenset(eos))  # fmt: skip
        return generator.generate(asked)

    scores = [step.score for trace in answers(2.0) for step in trace.steps]
    for threshold in (0.0, float(torch.tensor(scores).median()), 2.0):
        for prompt, trace in zip(asked, answers(threshold), strict=True):
            steps = reference_routed(slm, llm, router, threshold, prompt.tokens, 110, eos, banned)
            assert [(s.token, s.source) for s in trace.steps] == [
                (s.token, s.source) for s in steps
            ]
            assert trace.finish_reason == "eos"


def test_models_of_half_precision_are_accepted():
    for dtype in (torch.bfloat16, torch.float16):
        made = single(tiny("llama", 48, 3, 1).to(dtype)).generate(prompts(4))
        assert all(trace.steps for trace in made)


def windowed(layers, seed):
    """Every other layer sees 12 tokens; scores and logits are capped."""
    torch.manual_seed(seed)
    shape = Gemma2Config(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=256,
        initializer_range=0.3, sliding_window=12, attn_logit_softcapping=3.0,
        final_logit_softcapping=2.0, bos_token_id=None, eos_token_id=3,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(shape, attn_implementation="eager").eval()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.1])
def test_windows_and_caps_equal_the_slow_loop(threshold):
    pair = windowed(2, 0), windowed(3, 1)
    slow = copy.deepcopy(pair)  # an engine changes its model's attention
    asked = prompts(8)
    for options in ({}, {"max_prefill_tokens": 5}, {"max_batch": 2}):
        traces = routed(pair, threshold, **options).generate(asked)
        for prompt, trace in zip(asked, traces, strict=True):
            steps = reference_routed(
                *slow, Wobble(), threshold, prompt.tokens, prompt.sampling.max_new_tokens, EOS,
                BANNED,
            )  # fmt: skip
            expected = [(s.token, s.source, s.draft) for s in steps]
            assert [(s.token, s.source, s.draft) for s in trace.steps] == expected


def test_banned_tokens_are_never_written(pair):
    greedy = [t for answer in tokens(single(pair[0]).generate(prompts(12))) for t in answer]
    favourite = max(set(greedy), key=greedy.count)
    muted = TorchEngine(model=pair[0], eos_ids=EOS, banned=[favourite], max_batch=4,
                        max_prefill_tokens=64)  # fmt: skip
    made = Single(engine=muted, tokenizer=Words(), source="slm", context=256, concurrency=4)
    assert all(favourite not in answer for answer in tokens(made.generate(prompts(12))))


def all_answers(generator, asked, listeners):
    async def every():
        pairs = zip(asked, listeners, strict=True)
        return await asyncio.gather(*(generator.answer(p, heard.append) for p, heard in pairs))

    return asyncio.run(every())


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.1])
def test_steps_are_heard_as_the_trace_has_them(pair, threshold):
    asked = prompts(6)
    for generator in (routed(pair, threshold), single(pair[0])):
        heard = [[] for _ in asked]
        traces = all_answers(generator, asked, heard)
        assert heard == [trace.steps for trace in traces]
        assert heard == [trace.steps for trace in generator.generate(asked)]


def test_an_engine_tells_its_tokens_while_it_decodes(pair):
    scored = engine(pair[0], router=Wobble())
    for threshold in (None, 1.1):
        heard = []

        async def decode(threshold=threshold, heard=heard):
            request = Request([9, 8, 12], [], 12, threshold=threshold)
            request.on_tokens = lambda *told: heard.append(told)
            task = asyncio.create_task(scored.decode(request))
            while not heard and not task.done():
                await asyncio.sleep(0)
            assert not task.done()  # the first token came before the last
            return await task

        decoded = asyncio.run(decode())
        assert [token for tokens, _ in heard for token in tokens] == decoded.tokens
        assert [score for _, scores in heard for score in scores] == decoded.scores


def test_prompts_bring_their_own_threshold(pair):
    asked = prompts(9)
    own = [None, 0.0, 1.1]
    mixed = [dataclasses.replace(p, threshold=own[n % 3]) for n, p in enumerate(asked)]
    traces = sources(routed(pair, 0.5).generate(mixed))
    for n, threshold in enumerate([0.5, 0.0, 1.1]):
        assert traces[n::3] == sources(routed(pair, threshold).generate(asked))[n::3]


def test_a_cancelled_answer_frees_both_engines_and_disturbs_no_other(pair):
    asked = prompts(8)
    generator = routed(pair, 0.5)
    expected = sources(generator.generate(asked))
    kept = asyncio.run(every_second_cancelled(generator, asked))
    assert sources(kept) == expected[1::2]
    assert idle(generator.slm, generator.llm)


def test_a_failed_forward_fails_its_requests_and_leaves_no_slot_taken(pair, monkeypatch):
    generator = single(pair[0])
    asked = prompts(5)
    expected = tokens(generator.generate(asked))
    with monkeypatch.context() as broken:
        broken.setattr(generator.engine, "_forward", lambda jobs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generator.generate(asked)
    assert not any(slot.busy for slot in generator.engine.slots.all)
    assert tokens(generator.generate(asked)) == expected
