"""Score each system on the benchmark."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from r2r.config import Config
from r2r.errors import must_be
from r2r.policies.query import QUERY_ROUTERS
from r2r.records import MANIFEST
from r2r.stages.forecast import asked, foretell, work
from r2r.stages.graded import begin, evaluation_folder, graded
from r2r.stages.query_level import score_query_level
from r2r.stages.watch import watch
from r2r.stages.workbench import Workbench

WAVES = 4  # of as many answers as run at once: a half of fewer would mostly be its own end


def systems(bench: Workbench) -> list[str]:
    """The systems to score, ``middle`` spelled out."""
    middle = list(bench.config.pair.middle)
    named: list[str] = []
    for name in bench.config.systems:
        named += middle if name == "middle" else [name]
    return list(dict.fromkeys(named))


def evaluate(bench: Workbench) -> list[str]:
    """Score the systems; the names of those that were scored already.

    Those that write answers now take turns: the first half of each system's, then the second halves
    in the reverse order, so that a machine that slows down meanwhile slows all of them alike.
    """
    wanted = systems(bench)
    new = [system for system in wanted if bench.config.force or not _scored(bench, system)]
    writing = [system for system in new if system not in QUERY_ROUTERS]
    prompts = asked(bench) if writing else []
    turns = writing if _take_turns(bench.config, len(writing), len(prompts)) else []
    if "routed" in writing:
        _foretell(bench, prompts, parts=2 if turns else 1)
    for system in turns:
        begin(bench, system)
    for system in [*reversed(turns), *(each for each in wanted if each not in turns)]:
        graded(bench, system, make=score_query_level if system in QUERY_ROUTERS else None)
    return [system for system in wanted if system not in new]


def scored_folder(bench: Workbench, system: str) -> Path:
    """Of a system's finished answers. Raises ConfigError where this config has none."""
    if _scored(bench, system):
        return evaluation_folder(bench, system)
    asked = system == "routed" and bench.asks_router
    given = f" at threshold={bench.config.threshold}" if asked else ""
    wanted = f"a list with evaluate ({system} has no results yet{given})"
    raise must_be("stages", wanted, bench.config.stages)


def _scored(bench: Workbench, system: str) -> bool:
    return (evaluation_folder(bench, system) / MANIFEST).exists()


def _take_turns(config: Config, systems: int, prompts: int) -> bool:
    """Where halves are long enough, and neither compiling a second time nor keeping an old answer
    until the new one is whole stands against it, nor a share that is held over all of them."""
    if systems < 2 or config.force or config.engine.compile or config.hold_share is not None:
        return False
    return prompts >= 2 * WAVES * config.engine.max_batch


def _foretell(bench: Workbench, prompts: list[list[int]], parts: int) -> None:
    """Say how fast the routed system will be. Compiled models are not made a second time for
    that."""
    from r2r.policies.routed import Routed

    if bench.config.engine.compile:
        return
    from r2r.stages.systems import make_generator

    with watch("evaluate", bench.config.stages, "forecast", device=bench.config.engine.device):
        generator, _ = make_generator(bench, "routed")
        if isinstance(generator, Routed):
            requests = min(bench.config.engine.max_batch, len(prompts))
            _, found = foretell(bench, generator, requests, work(bench, prompts, parts))
            bench.forecast = asdict(found)
