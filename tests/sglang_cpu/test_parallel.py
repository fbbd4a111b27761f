"""Tensor parallelism over two ranks, of models that give no access to their input embeddings."""

import asyncio
import dataclasses
import os

import pytest
import torch
from conftest import MLP, PYTHON
from test_routing import facts, on_sglang, on_torch
from transformers import GraniteConfig, GraniteForCausalLM

from r2r.config import ServerConfig
from r2r.engines.sglang.server import command
from r2r.pairs import Source
from r2r.routers.build import build_router
from r2r.routers.checkpoint import load_saved, save_router


def granite(hidden, layers, seed):
    """Random weights; SGLang's class for it has no ``get_input_embeddings``."""
    torch.manual_seed(seed)
    shape = GraniteConfig(
        vocab_size=512, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
        initializer_range=0.3, bos_token_id=1, eos_token_id=4, pad_token_id=0,
        attention_multiplier=0.25, tie_word_embeddings=False,
    )  # fmt: skip
    return GraniteForCausalLM(shape).eval()


@pytest.fixture(scope="module")
def granites(nano, tmp_path_factory):
    """The nano pair's tokenizer and prompts, over two other models, and where these lie."""
    home = tmp_path_factory.mktemp("granites")
    slm, llm = granite(64, 2, 0), granite(96, 3, 1)
    for name, model in (("slm", slm), ("llm", llm)):
        model.save_pretrained(home / name)
    table, shape = slm.get_input_embeddings().weight, {"hidden_size": 64, "vocab_size": 512}
    router = build_router(MLP, **shape, token_embeddings=table)
    save_router(home / "router", router, config=MLP, pair="granites", identity={}, **shape,
                threshold=0.5, metrics={})  # fmt: skip
    digest = load_saved(home / "router", token_embeddings=table).digest
    pair = dataclasses.replace(
        nano, slm=slm, llm=llm, router=router, folder=home / "router", digest=digest
    )
    return pair, home


def started(launch, pair, home, name):
    routing = {
        "route_id": pair.pair.route_id, "eos_ids": sorted(pair.pair.eos_ids), "identity": {},
        "tokens": pair.pair.tokens, "pair": "granites",
        "router": str(pair.folder) if name == "slm" else None,
    }  # fmt: skip
    line = command(
        python=PYTHON, model=Source(str(home / name), True),
        settings=ServerConfig(tp_size=2), device="cpu", dtype="float32",
        max_prefill_tokens=256, routing=routing, extra={},
    )  # fmt: skip
    cores = sorted(os.sched_getaffinity(0))  # SGLang wants to be told, a rank each
    return launch(f"{name}_tp2", line, [f"SGLANG_CPU_OMP_THREADS_BIND={cores[0]}|{cores[-1]}"])


def test_two_ranks_write_what_one_process_writes(granites, launch):
    pair, home = granites
    servers = [started(launch, pair, home, name) for name in ("slm", "llm")]

    async def ready():
        await asyncio.gather(*(server.ready() for server in servers))

    asyncio.run(ready())
    asked = pair.prompts(8, [2.0])
    scores = torch.tensor([s.score for t in on_torch(pair, asked) for s in t.steps])
    asked = pair.prompts(12, [0.0, scores.median().item(), 2.0], budget=60)
    traces = on_sglang(pair, servers, asked)
    assert facts(traces) == facts(on_torch(pair, asked))
    assert {step.source for trace in traces for step in trace.steps} == {"slm", "llm"}
