"""Labels along routed answers (``labeler.paths``): which router these have, and how it is found."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from r2r.config import PathsConfig
from r2r.errors import ConfigError, must_be
from r2r.policies.r2r import R2R
from r2r.policies.routed import ROUTED_VERSION, Routed
from r2r.records import MANIFEST

if TYPE_CHECKING:
    from r2r.engines.base import Engine
    from r2r.labeling.paths import RoutedPaths
    from r2r.routers.checkpoint import Description
    from r2r.stages.workbench import Workbench


def check_paths(bench: Workbench) -> None:
    """Raises ConfigError where labels along routed answers cannot be made: found out before
    anything is, and without a look at the router."""
    labeler = bench.config.labeler
    share, threshold = labeler.paths.routed, labeler.paths.threshold
    if not 0 <= share <= 1:
        raise must_be("labeler.paths.routed", "a share, from 0 to 1", share)
    if not share:
        return
    if threshold != "auto" and type(threshold) not in (int, float):
        raise must_be("labeler.paths.threshold", "a number, or auto", threshold)
    if labeler.path:
        raise must_be("labeler.paths.routed", "0 where labeler.path is read", share)
    if labeler.verifier == "outcome":
        wanted = "0 with labeler=outcome, which compares answers with the LLM's own"
        raise must_be("labeler.paths.routed", wanted, share)
    if labeler.paths.router is None and not bench.asks_router:
        wanted = "the folder of a router where router and policy of the run ask none"
        raise must_be("labeler.paths.router", wanted, None)


def check_router(bench: Workbench) -> None:
    """Raises ConfigError where the router of routed answers is not there, or is another pair's."""
    paths, by = bench.config.labeler.paths, routing(bench)
    if not by.finished_router and not (by.router_folder / MANIFEST).exists():
        wanted = (
            "the folder of a router, or null once this very run with labeler.paths.routed=0"
            " has trained the one to be asked"
        )
        raise must_be("labeler.paths.router", wanted, paths.router)
    _ = _described(by)


def _described(by: Workbench) -> tuple[Description, float]:
    """What is known of the router of routed answers, and the threshold that these have."""
    try:
        return by.described_router, by.threshold
    except ConfigError as error:
        raise ConfigError(f"labeler.paths.router: {error}") from error


def routing(bench: Workbench) -> Workbench:
    """The run whose router writes the routed answers: ``labeler.paths.router``'s, or this one with
    all labels along the LLM's answers."""
    config = copy.deepcopy(bench.config)
    paths, config.labeler.paths = config.labeler.paths, PathsConfig()
    config.policy = {"name": "r2r", "_target_": "r2r.policies.r2r.R2R"}
    config.threshold = paths.threshold
    if paths.router is not None:
        config.router = {"path": paths.router}
    other = type(bench)(config, bench.router_name)
    other.models = bench.models
    other.__dict__ |= {"pair": bench.pair, "fleet": bench.fleet}  # one of each in a process
    return other


def decides_paths(bench: Workbench) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What routed answers add to what decides labels, and the artifact they are made with; nothing
    where all are the LLM's."""
    paths = bench.config.labeler.paths
    if not paths.routed:
        return {}, ()
    from r2r.labeling.paths import PATHS_VERSION

    by = routing(bench)
    told: dict[str, Any] = {
        "routed": paths.routed,
        "steps": {"paths": PATHS_VERSION, "routed": ROUTED_VERSION, "policy": R2R.version},
    }
    if by.finished_router:
        known, threshold = _described(by)
        router = [known.config, known.digest, known.version]
        return {"paths": told | {"router": router, "threshold": threshold}}, ()
    router = by.router_folder.name  # made of what decides it, its threshold too
    told |= {"router": router, "threshold": paths.threshold}
    return {"paths": told}, (f"router/{router}",)


def routed_paths(bench: Workbench, llm: Engine) -> RoutedPaths | None:
    """What answers part of the queries for the labeler, with its ``llm``; None for none of them."""
    from r2r.labeling.paths import RoutedPaths

    share = bench.config.labeler.paths.routed
    if not share:
        return None
    by = routing(bench)
    generator = Routed(
        policy=R2R(),
        slm=by.engine("slm", by.saved_router),
        llm=llm,
        threshold=by.threshold,
        eos_ids=bench.pair.eos_ids,
        tokenizer=bench.pair.tokenizer,
        context=bench.pair.context_length,
        concurrency=bench.config.engine.max_batch,
    )
    return RoutedPaths(generator, share)
