"""What the torch engine spends: tokens it reads, how it batches, how its weights lie."""

import asyncio

import pytest
import torch
from tiny import engine, prompts, routed, sources, tiny
from torch import nn

from r2r.engines.base import Request
from r2r.engines.torch import delay
from r2r.engines.torch.packed import Packed


def counting(model, monkeypatch):
    """The widths of an engine's forwards: [tokens of all requests, requests]."""
    fed = []
    forward = model._forward

    def counted(jobs):
        before = sum(len(job.place.tokens) for job in jobs)
        forward(jobs)
        fed.append((sum(len(job.place.tokens) for job in jobs) - before, len(jobs)))

    monkeypatch.setattr(model, "_forward", counted)
    return fed


@pytest.mark.parametrize("patience", [0, 3, 1000])
def test_each_engine_reads_each_token_once(pair, patience, monkeypatch):
    asked = prompts(8)
    generator = routed(pair, 0.5, max_batch=8)
    expected = sources(generator.generate(asked))
    generator.llm.beside, generator.llm.patience = generator.slm, patience
    small, large = (counting(model, monkeypatch) for model in (generator.slm, generator.llm))
    traces = generator.generate(asked)
    assert sources(traces) == expected
    texts = sum(len(trace.prompt) + len(trace.steps) for trace in traces)
    again = sum(trace.count("llm") for trace in traces)  # at most the token before a rejected one
    assert sum(tokens for tokens, _ in small) <= texts + again
    assert sum(tokens for tokens, _ in large) <= texts


def test_handoffs_wait_for_company(pair, monkeypatch):
    sizes = {}
    for patience in (0, 1000):
        generator = routed(pair, 0.5, max_batch=16)
        generator.llm.beside, generator.llm.patience = generator.slm, patience
        large = counting(generator.llm, monkeypatch)
        generator.generate(prompts(16))
        sizes[patience] = sum(rows for _, rows in large) / len(large)
    assert sizes[1000] > sizes[0]


@pytest.mark.parametrize(
    "cost, patience", [(0.7, 0.375), (1.0, 1.5), (2.7, 1.5), (3.5, 6), (6.5, 6), (15, 24)]
)
def test_patience_is_what_a_forward_costs(monkeypatch, cost, patience):
    now = [0.0]

    def takes(seconds):
        def forward():
            now[0] += seconds * (1 if now[0] > 30 else 5)  # some come too late

        return forward

    monkeypatch.setattr(delay.time, "perf_counter", lambda: now[0])
    assert delay.derived(takes(2 * cost), takes(2.0)) == patience


def test_patience_is_measured_where_none_is_given():
    slm, llm = tiny("qwen3", 32, 2, 0), tiny("qwen3", 32, 8, 1)
    small = engine(slm)
    assert engine(llm).patience == 0
    assert engine(llm, beside=small, patience=0.5).patience == 0.5
    assert engine(llm, beside=small).patience in (1.5, 6, 24)


@pytest.mark.parametrize("slots", [1, 2, 6])
def test_continuations_read_their_common_text_once(slots, monkeypatch):
    """However many more there are than slots."""
    model = engine(tiny("qwen3", 32, 2, 0), max_batch=slots)
    text = list(range(10, 50))
    asked = [Request(text[:-end], [5], 6) for end in range(1, 20)]

    async def run(parent):
        async def one(request):
            request.parent = parent
            return (await model.decode(request)).tokens

        return await asyncio.gather(*map(one, asked))

    async def follow():
        session = model.new_session()
        await model.prefill(text, start=len(text) - 2, session=session)
        fed = counting(model, monkeypatch)
        made = await run(session)
        return made, sum(tokens for tokens, _ in fed)

    alone = asyncio.run(run(None))
    made, fed = asyncio.run(follow())
    assert made == alone
    written = sum(map(len, made))
    assert fed == written if slots > 1 else fed > written


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_are_packed_for_the_cpu_and_give_the_same(dtype):
    """In bfloat16, where this CPU has such products."""
    model = tiny("qwen2", 48, 3, 1).to(dtype)  # its attention has biases
    ids = torch.arange(8, 40)[None]
    expected = model(ids).logits
    linear = sum(type(module) is nn.Linear for module in model.modules())
    engine(model)
    packed = sum(type(module) is Packed for module in model.modules())
    able = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert packed == (linear if dtype == torch.bfloat16 and able else 0)
    for _ in range(2):
        made = model(ids).logits
        assert (made - expected).norm() <= 0.02 * expected.norm()
        engine(model)  # once more
