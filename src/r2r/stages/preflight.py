"""Every mistake that can be found before anything expensive is done."""

from __future__ import annotations

from typing import Any

from r2r.config import ModelConfig
from r2r.errors import must_be
from r2r.pairs import load_config, shape_of
from r2r.policies.query import QUERY_ROUTERS
from r2r.records import MANIFEST
from r2r.stages.aims import check_target
from r2r.stages.check_rule import check_rule
from r2r.stages.paths import check_paths, check_router
from r2r.stages.room import check_room
from r2r.stages.rules import judges_here
from r2r.stages.screen import say
from r2r.stages.sharing import check_policy
from r2r.stages.workbench import Workbench


def check(bench: Workbench, *, machine: bool = True) -> None:
    """Find what is wrong with the config's values, by themselves and for this ``machine``;
    no model, label or router is looked at."""
    config = bench.config
    if machine:
        check_room(config)
    if machine and config.logger.name == "wandb":
        from r2r.stages.tracking import check_login

        check_login()
    if "train" in config.stages:
        from r2r.training.check import check_trainer

        check_trainer(config.trainer, machine=machine)
    if "evaluate" in config.stages:
        from r2r.evaluation.harness import check_benchmark

        check_benchmark(config.benchmark)
    if not bench.asks_router and config.threshold != "auto":
        whose = "router=oracle" if bench.oracle else "a policy that asks no router"
        raise must_be("threshold", f"auto with {whose}", config.threshold)
    check_policy(config, bench.policy, bench.oracle)
    if config.target is not None:
        check_target(config, bench.asks_router)
    if config.objective:
        _check_objective(bench)
    check_rule(config)
    if "label" in config.stages and not config.labeler.labels:
        check_paths(bench)
    if not bench.finished_router and bench.asks_router:
        bench.check_threshold(bench.router_class.max_score)
        if "train" in config.stages:
            _try_router(config.router)


def preflight(bench: Workbench) -> None:
    """Find every mistake that can be found before anything expensive is done."""
    config = bench.config
    check(bench)
    if bench.learned and "train" in config.stages:
        _check_heard(bench)
    learned = "evaluate" in config.stages and set(QUERY_ROUTERS) & set(config.systems)
    if learned or config.target is not None:
        from r2r.evaluation.harness import check_split

        check_split(config.benchmark, "train")
    if bench.fleet:
        bench.fleet.check()
    for note in bench.pair.notes:  # tokenizers, reserved id, context length were checked
        say("pair", note)
    if bench.fleet is None:
        _check_exact(bench)
    if config.labeler.labels or (
        "label" in config.stages
        and ("train" not in config.stages or bench.needs_labels or bench.learned)
    ):
        _ = bench.labels_folder  # the queries can be read, or given labels used
        if config.labeler.paths.routed and not (bench.labels_folder / MANIFEST).exists():
            check_router(bench)
    if "serve" in config.stages:
        from r2r.serving.server import api_key, listen

        if bench.oracle:
            raise must_be("router", "one that reads signals, to be served", "oracle")
        api_key(config.serve)
        listen(config.serve).close()
    scored = "routed" in config.systems and "evaluate" in config.stages
    needed = scored or "serve" in config.stages
    missing = needed and "train" not in config.stages
    if bench.asks_router and (bench.finished_router or missing):
        _ = bench.threshold  # the router is there, fits the SLM, and has a threshold
    if bench.learned and missing:
        _ = bench.described_judge  # it is there, and of this pair


def _check_objective(bench: Workbench) -> None:
    """Every figure that a sweep is to optimise is one that this run's stages make."""
    from r2r.reporting.compare import FIGURES
    from r2r.stages.evaluate import systems
    from r2r.training import AT_BEST_EPOCH

    stages = bench.config.stages
    scored = systems(bench) if "report" in stages else []
    known = [
        f"val/{name}" for name in ("loss", *AT_BEST_EPOCH) if "train" in stages and bench.learns
    ]
    known += [f"{system}/{name}" for system in scored for name in FIGURES]
    for name in bench.config.objective:
        if name not in known:
            raise must_be("objective", "figures of this run", name, known)


def _try_router(router: dict[str, Any]) -> None:
    """Its class takes the values it is given, with any widths where they are chosen by labels."""
    from r2r.routers.build import STAND_IN, try_out
    from r2r.training.sizes import sized_router

    try_out(sized_router(router, labels=1, slm_width=STAND_IN))


def _check_heard(bench: Workbench) -> None:
    """Labels that come from elsewhere hold what the LLM knew of the tokens that differ."""
    labeler = bench.config.labeler
    wanted = "labels made by this version with policy/accept=learned, which reads what the LLM knew"
    if labeler.path:
        raise must_be("labeler.path", f"null, for {wanted}", labeler.path)
    if labeler.labels and not any(bench.labels_folder.glob("shard-*/large_logits.npy")):
        raise must_be("labeler.labels", wanted, labeler.labels)


def _check_exact(bench: Workbench) -> None:
    """Every model that this run's torch engines would run is one that they run exactly."""
    from r2r.engines.torch.exact import check_exact

    for name, shape in bench.pair.shapes.items():
        check_exact(shape, bench.pair.keys[name], bench.pair.context_length)
    labeler = bench.config.labeler
    if "label" in bench.config.stages and judges_here(labeler):
        judge, key = ModelConfig(path=str(labeler.judge.path)), "labeler.judge"
        longest = getattr(
            load_config(judge, key).get_text_config(), "max_position_embeddings", None
        )
        check_exact(shape_of(judge, key), key, longest or bench.pair.context_length)
