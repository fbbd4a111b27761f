"""Score each system on the benchmark."""

from __future__ import annotations

from dataclasses import asdict

from r2r.policies.query import QUERY_ROUTERS
from r2r.records import MANIFEST
from r2r.stages.graded import evaluation_folder, graded
from r2r.stages.query_level import score_query_level
from r2r.stages.watch import watch
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
    _foretell(bench)
    for system in systems(bench):
        there = (evaluation_folder(bench, system) / MANIFEST).exists()
        graded(bench, system, make=score_query_level if system in QUERY_ROUTERS else None)
        before += [system] if there and not bench.config.force else []
    return before


def _foretell(bench: Workbench) -> None:
    """Say how fast the routed system will be, where its answers are still to be made. Compiled
    models are not made a second time for that."""
    from r2r.policies.routed import Routed

    if "routed" not in systems(bench) or bench.config.engine.compile:
        return
    there = (evaluation_folder(bench, "routed") / MANIFEST).exists()
    if there and not bench.config.force:
        return
    from r2r.stages.forecast import evaluated_at_once, foretell
    from r2r.stages.systems import make_generator

    with watch("evaluate", bench.config.stages, "forecast", device=bench.config.engine.device):
        generator, _ = make_generator(bench, "routed")
        if isinstance(generator, Routed):
            _, found = foretell(bench, generator, evaluated_at_once(bench))
            bench.forecast = asdict(found)
