"""A finished query-level router, and what it reads of a prompt."""

from __future__ import annotations

from pathlib import Path

from r2r.errors import must_be
from r2r.policies.query.features import Encoded, Features, PromptState, Words
from r2r.policies.query.generator import QueryRouter
from r2r.policies.query.scorers import load_scorer
from r2r.records import MANIFEST
from r2r.stages import fingerprints
from r2r.stages.workbench import Workbench


def load_query_router(bench: Workbench, system: str) -> QueryRouter:
    """The finished query-level router of ``system``. Raises ConfigError where there is none yet."""
    key = fingerprints.query(bench, system)
    folder = key.folder
    if not (folder / MANIFEST).exists():
        wanted = f"a list with evaluate first ({system} is not trained yet)"
        raise must_be("stages", wanted, bench.config.stages)
    bench.use(key)
    return QueryRouter(features_of(bench, system, folder), load_scorer(folder))


def features_of(bench: Workbench, system: str, folder: Path) -> Features:
    if system == "query_mlp":
        return PromptState(bench.engine("slm"))
    tokenizer, encoder = bench.pair.tokenizer, bench.config.query_level.encoder
    if encoder is None:
        return Words.load(tokenizer, folder)
    return Encoded(tokenizer, encoder, bench.config.engine.device)
