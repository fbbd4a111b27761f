"""Score each system on the benchmark."""

from __future__ import annotations

from r2r.policies.query import QUERY_ROUTERS
from r2r.records import MANIFEST
from r2r.stages.graded import evaluation_folder, graded
from r2r.stages.query_level import score_query_level
from r2r.stages.workbench import Workbench


def systems(bench: Workbench) -> list[str]:
    """The systems to score, ``middle`` spelled out."""
    middle = list(bench.config.pair.middle)
    named: list[str] = []
    for name in bench.config.systems:
        named += middle if name == "middle" else [name]
    return list(dict.fromkeys(named))


def evaluate(bench: Workbench) -> list[str]:
    """Score the systems; the names of those that were scored already."""
    before = []
    for system in systems(bench):
        there = (evaluation_folder(bench, system) / MANIFEST).exists()
        graded(bench, system, make=score_query_level if system in QUERY_ROUTERS else None)
        before += [system] if there and not bench.config.force else []
    return before
