"""The systems that can be scored or served: the generator of each, and what its tokens cost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from r2r.costs import Params
from r2r.engines.base import Engine
from r2r.errors import must_be
from r2r.pairs import count_params_b, locate
from r2r.policies.base import Generator
from r2r.policies.query import QUERY_ROUTERS
from r2r.policies.query.generator import QueryLevel
from r2r.policies.routed import Routed
from r2r.policies.single import Single
from r2r.routers.checkpoint import load_saved
from r2r.stages.sharing import drafts_in_server
from r2r.stages.workbench import Workbench


def make_generator(bench: Workbench, system: str) -> tuple[Generator, Params]:
    """The generator of a system, its engines ready, and what its tokens cost.

    ``system``: slm, llm, a middle model, routed or one of the query-level routers.
    """
    made = _generator(bench, system)
    bench.ready()
    return made


def _generator(bench: Workbench, system: str) -> tuple[Generator, Params]:
    if system in bench.pair.models:
        return single(bench, system, bench.engine(system))
    both = Params(bench.params_b("slm"), bench.params_b("llm"))
    if system in QUERY_ROUTERS:
        return _query_level(bench, system), both
    if bench.oracle:
        return _oracle(bench), both
    if drafts := drafts_in_server(bench.config, bench.policy):
        # It does not tell which tokens were drafts: all count as the LLM's.
        engine = _speculative_engine(bench, drafts)
        return Single(engine=engine, source="llm", **_common(bench)), both
    return _routed(bench, both)


def _routed(bench: Workbench, params: Params) -> tuple[Routed, Params]:
    saved = bench.saved_router if bench.policy.routes else None
    if bench.learned:
        _ = bench.described_judge
        judge = load_saved(bench.judge_folder, token_embeddings=None)
        bench.learned.attach(judge.router)
    slm = bench.engine("slm", saved)
    routed = Routed(
        policy=bench.policy,
        slm=slm,
        llm=bench.engine("llm", beside=slm),
        threshold=bench.threshold if saved else math.inf,
        eos_ids=bench.pair.eos_ids,
        share=bench.config.hold_share,
        **_common(bench),
    )
    return routed, replace(params, router_b=count_params_b(saved.router)) if saved else params


def measured(generator: Generator) -> dict[str, float]:
    """What a generator's engines measured when they were made; it shows in how they batch."""
    from r2r.engines.torch.engine import TorchEngine

    llm = generator.llm if isinstance(generator, Routed) else None
    return {"patience": llm.patience} if isinstance(llm, TorchEngine) else {}


def _common(bench: Workbench) -> dict[str, Any]:
    return {
        "tokenizer": bench.pair.tokenizer,
        "context": bench.pair.context_length,
        "concurrency": bench.config.engine.max_batch,
    }


def single(bench: Workbench, model: str, engine: Engine) -> tuple[Single, Params]:
    """One of the pair's models by itself, run by ``engine``, and what its tokens cost."""
    source, alone = "slm" if model == "slm" else "llm", bench.params_b(model)
    generator = Single(engine=engine, source=source, **_common(bench))
    return generator, Params(slm_b=alone, llm_b=alone)


def _speculative_engine(bench: Workbench, steps: int) -> Engine:
    """The LLM with the SLM as its draft, by SGLang's own speculative decoding."""
    assert bench.fleet is not None
    pair, draft = bench.pair, locate(bench.pair.models["slm"], bench.pair.keys["slm"])
    return bench.fleet.engine(
        "llm",
        locate(pair.models["llm"], pair.keys["llm"]),
        eos_ids=pair.eos_ids,
        tokens=pair.tokens,
        route_id=None,
        speculative={
            "speculative_algorithm": "STANDALONE",
            "speculative_draft_model_path": draft.where,
            "speculative_draft_model_revision": draft.revision,
            "speculative_num_steps": steps,
            "speculative_eagle_topk": 1,
            "speculative_num_draft_tokens": steps + 1,
        },
    )


def _oracle(bench: Workbench) -> Generator:
    from r2r.labeling.oracle import Oracle
    from r2r.stages.rules import sentences, verifier

    return Oracle(
        slm=bench.engine("slm"),
        llm=bench.engine("llm"),
        verifier=verifier(bench),
        sentences=sentences(bench),
        eos_ids=bench.pair.eos_ids,
        **_common(bench),
    )


def _query_level(bench: Workbench, system: str) -> QueryLevel:
    from r2r.stages.query_router import load_query_router

    threshold = bench.config.query_level.threshold
    if threshold == "auto":
        wanted = "a number here (auto is matched to the routed system by the evaluate stage)"
        raise must_be("query_level.threshold", wanted, threshold)
    return QueryLevel(
        router=load_query_router(bench, system),
        slm=single(bench, "slm", bench.engine("slm"))[0],
        llm=single(bench, "llm", bench.engine("llm"))[0],
        threshold=threshold,
        **_common(bench),
    )
