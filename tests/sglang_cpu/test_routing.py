"""Routing on stock SGLang equals the torch engine and the slow loop, token by token."""

import asyncio
import copy

import pytest
import torch
from conftest import same_labels
from reference import routed as slow

from r2r.engines.base import Request
from r2r.engines.sglang.delay import Delay
from r2r.errors import EngineFailed
from r2r.stages.compose import compose
from r2r.stages.label import _label
from r2r.stages.workbench import Workbench


def facts(traces):
    return [
        ([(s.token, s.source, s.draft) for s in trace.steps], trace.finish_reason)
        for trace in traces
    ]


def thresholds(nano):
    """None but the LLM, two between, none but the SLM."""
    traces = on_torch(nano, nano.prompts(8, [2.0]))
    scores = torch.tensor([step.score for trace in traces for step in trace.steps])
    return [0.0, *scores.quantile(torch.tensor([0.4, 0.9])).tolist(), 2.0]


def on_torch(nano, asked):
    return nano.routed(nano.torch_engine("slm"), nano.torch_engine("llm")).generate(asked)


def on_sglang(nano, servers, asked, delay=Delay(0.0, 1)):  # noqa: B008
    slm, llm = (
        nano.sglang_engine(name, server, delay=delay)
        for server, name in zip(servers, ("slm", "llm"), strict=True)
    )
    return nano.routed(slm, llm).generate(asked)


def test_48_requests_in_flight_equal_torch_and_the_slow_loop(nano, servers):
    asked = nano.prompts(48, thresholds(nano))
    traces = on_sglang(nano, servers, asked)
    assert facts(traces) == facts(on_torch(nano, asked))
    eos, banned = nano.pair.eos_ids, [nano.pair.route_id]
    for prompt, trace in zip(asked, traces, strict=True):
        budget = prompt.sampling.max_new_tokens
        steps = slow(nano.slm, nano.llm, nano.router, prompt.threshold, prompt.tokens, budget,
                     eos, banned)  # fmt: skip
        assert facts([trace])[0][0] == [(s.token, s.source, s.draft) for s in steps]
    sources = {step.source for trace in traces for step in trace.steps}
    assert sources == {"slm", "llm"}


def test_at_temperature_1_the_same_tokens_are_drawn_with_the_same_scores(nano, servers):
    asked = nano.prompts(16, thresholds(nano), temperature=1.0, top_p=0.95)
    traces = on_sglang(nano, servers, asked)
    same = on_torch(nano, asked)
    assert facts(traces) == facts(same)
    exact = [exactly(nano, trace) for trace in traces]
    for trace, other, scores in zip(traces, same, exact, strict=True):
        given = [step.score for step in trace.steps]
        assert given == pytest.approx(scores, abs=1e-5)
        assert given == pytest.approx([step.score for step in other.steps], abs=1e-5)


@torch.inference_mode()
def exactly(nano, trace):
    """The scores of a trace's drafts in double precision."""
    slm, router = copy.deepcopy(nano.slm).double(), copy.deepcopy(nano.router).double()
    router.token_embeddings = nano.router.token_embeddings.double()
    answer = [step.token for step in trace.steps]
    out = slm(input_ids=torch.tensor([trace.prompt + answer]), output_hidden_states=True)
    rows = slice(len(trace.prompt) - 1, len(trace.prompt) - 1 + len(answer))
    drafts = torch.tensor([s.token if s.draft is None else s.draft for s in trace.steps])
    logits = out.logits[0, rows].topk(100).values
    return router(out.hidden_states[-1][0, rows], logits, drafts).sigmoid().tolist()


@pytest.mark.parametrize("delay", [Delay(0.05, 8), Delay(None, None)], ids=["given", "measured"])
def test_delayed_batching_changes_no_token(nano, servers, delay):
    asked = nano.prompts(16, thresholds(nano))
    assert facts(on_sglang(nano, servers, asked, delay)) == facts(on_torch(nano, asked))


def test_labels_equal_torchs(nano, servers, tmp_path):
    for name in ("torch", "sglang"):
        bench = Workbench(compose(["labeler.prompts.limit=12"])[0], "mlp")
        engines = {"slm": nano.torch_engine("slm"), "llm": nano.torch_engine("llm")}
        if name == "sglang":
            engines = {n: nano.sglang_engine(n, s) for s, n in zip(servers, engines, strict=True)}
        bench.engine = lambda name, idle=0, engines=engines: engines[name]
        _label(bench, tmp_path / name)
    same_labels(tmp_path / "torch", tmp_path / "sglang")


def test_a_server_of_another_job_is_refused(nano, servers):
    slm, llm = servers
    prompt = nano.prompts(1)[0]

    def ask(engine):
        return asyncio.run(nano.routed(engine, nano.sglang_engine("llm", llm)).answer(prompt))

    with pytest.raises(EngineFailed, match="must have router 0000"):
        ask(nano.sglang_engine("slm", slm, digest="0" * 64))
    with pytest.raises(EngineFailed, match="got no router"):
        ask(nano.sglang_engine("slm", llm))
    engine = nano.sglang_engine("slm", slm)
    engine.route_id += 1
    with pytest.raises(EngineFailed, match=r"pair\.route_token"):
        ask(engine)


def test_a_server_that_must_not_serve_does_not(nano, launch):
    """No plug-in; a router of another pair; a route token that ends answers; too little cache."""
    other = nano.pair.identity() | {"slm": "another"}
    plain = launch("plain", nano.command("slm"), ["SGLANG_PLUGINS=r2r_cpu"])
    strange = launch("strange", nano.command("slm", identity=other))
    unsafe = launch("unsafe", nano.command("slm", route_id=min(nano.pair.eos_ids)))
    for server, why in (
        (plain, "plug-in is not active"),
        (strange, "must be a router trained for pair nano"),
        (unsafe, r"pair\.route_token"),
    ):
        with pytest.raises(EngineFailed, match=why):
            asyncio.run(
                nano.sglang_engine("slm", server).next_token(
                    Request(nano.prompts(1)[0].tokens, [], 1)
                )
            )


def test_a_full_cache_queues(nano, launch):
    small = launch("small", [*nano.command("slm"), "--max-total-tokens", "400"])
    asked = nano.prompts(24, [2.0])

    async def answers():
        engine = nano.sglang_engine("slm", small)
        generator = nano.routed(engine, engine)
        return await asyncio.gather(*map(generator.answer, asked))

    assert facts(asyncio.run(answers())) == facts(on_torch(nano, asked))
