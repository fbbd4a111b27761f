"""One experiment: its stages in order, each reusing what is already there."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from r2r.errors import ConfigError, must_be
from r2r.records import MANIFEST, read_json, whole_file, write_json
from r2r.stages.compose import STAGES, checked
from r2r.stages.provenance import provenance
from r2r.training import AT_BEST_EPOCH

if TYPE_CHECKING:
    from r2r.config import Config
    from r2r.stages.tracking import Tracking
    from r2r.stages.workbench import Workbench

OFTEN = 700  # Python's own threshold of collections; command.main begins with SELDOM
CONFIG = "config.yaml"  # of a run's folder: the first file there


@dataclass(slots=True)
class Outcome:
    """A finished run: its folder, its figures under the names W&B knows them by, what it reused."""

    folder: Path
    figures: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    objective: float | tuple[float, ...] | None = None  # what a sweep optimises


def experiment(raw: DictConfig) -> float | tuple[float, ...] | None:
    """Run the stages of a composed config (Hydra's task function); what a sweep optimises."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    config = checked(raw)
    hydra = HydraConfig.get()
    alone = hydra.mode != RunMode.MULTIRUN
    folder = Path(hydra.runtime.output_dir)
    if config.report.runs:
        from r2r.stages.report import report_over

        report_over(config.report.runs, folder)
        point_latest(Path(config.outputs) / "latest", folder)
        return None
    if config.stages == ["plan"]:
        from r2r.stages.plan import plan

        plan(config, folder)
        return None
    if config.stages == ["artifacts"]:
        from r2r.stages.inventory import artifacts

        forget_empty(folder)
        artifacts(Path(config.outputs), config.artifacts.remove)
        return None
    if not alone and config.trainer.strategy == "ddp":
        wanted = "auto in a sweep (train before it: stages=[label,train] trainer=ddp)"
        raise must_be("trainer.strategy", wanted, "ddp")
    router_name = dict(hydra.runtime.choices).get("router") or "router"
    return run(config, folder, router_name, list(hydra.overrides.task), alone=alone).objective


def run(
    config: Config, folder: Path, router_name: str, overrides: list[str], *, alone: bool = True
) -> Outcome:
    """Preflight, then the stages; ``folder`` is the run's own, and becomes ``outputs/latest``.

    ``alone``: no job of a sweep, so that a next command is told.
    """
    from r2r.stages.screen import say

    ddp = "train" in config.stages and config.trainer.strategy == "ddp"
    follows = ddp and _follows()
    if not follows:  # the first process has said so
        steps = ", ".join(stage for stage in STAGES if stage in config.stages)
        say("run", f"{config.pair.name}, {router_name} router: {steps}")
        say("import", "torch; then what each stage needs")
    from r2r.stages.workbench import Workbench

    bench = Workbench(config, router_name)
    if follows:
        from r2r.stages.train import train_along

        train_along(bench)
    try:
        return _run(bench, folder, overrides, alone)
    finally:
        bench.close()


def _follows() -> bool:
    """Whether Lightning has started this command again, as one more process of a training."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def _run(bench: Workbench, folder: Path, overrides: list[str], alone: bool) -> Outcome:
    from r2r.stages.preflight import preflight
    from r2r.stages.screen import next_command, say
    from r2r.stages.tracking import Tracking

    config = bench.config
    preflight(bench)
    _collect_again()
    folder = own_folder(folder)
    bench.session = "/".join((folder if alone else folder.parent).parts[-2:])  # a sweep's jobs: one
    bench.pair.remember()
    with whole_file(folder / CONFIG) as path:
        path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    about = manifest(config, overrides)

    def record(finished: bool = False) -> None:
        if bench.fleet and bench.fleet.version:
            about["versions"]["sglang"] = bench.fleet.version
        told = {"finished": finished, "artifacts": bench.uses}
        write_json(folder / MANIFEST, about | told)

    bench.on_use = record
    record()
    tracking = Tracking(
        config.logger,
        folder,
        name="/".join(folder.parts[-2:]),
        tags=[config.pair.name, bench.router_name, config.benchmark.name],
        logged=asdict(config),
    )
    failed = True
    try:
        outcome = _stages(bench, folder, tracking)
        outcome.objective = _objective(outcome.figures, config.objective)
        failed = False
    except ConfigError:
        kept = any((bench.artifacts / used).exists() for used in bench.uses)
        if not kept and set(os.listdir(folder)) == {CONFIG, MANIFEST}:  # it came to nothing
            for name in (CONFIG, MANIFEST):
                (folder / name).unlink()
        raise
    finally:
        tracking.finish(failed)
    record(finished=True)
    point_latest(Path(config.outputs) / "latest", folder)
    if outcome.reused:
        say("reused", ", ".join(outcome.reused))
    say("done", f"{folder}")
    if "serve" in config.stages:
        from r2r.stages.serve import serve

        serve(bench)
    elif alone and (command := next_command(config, overrides, bench.asks_router)):
        say("next", command)
    return outcome


@functools.cache  # once: a sweep's later jobs would keep what earlier ones have left
def _collect_again() -> None:
    """What was imported until now stays: no collection looks through it."""
    gc.freeze()
    gc.set_threshold(OFTEN)


def forget_empty(folder: Path) -> None:
    """Remove the folders that Hydra has made for a run that leaves none."""
    with contextlib.suppress(OSError):  # not empty
        for made in (folder, *folder.parents[:2]):
            made.rmdir()


def own_folder(folder: Path) -> Path:
    """``folder``, or where another run began in the same second, the next free ``folder_2``."""
    own, number = folder, 1
    while not _begun_here(own):
        number += 1
        own = folder.with_name(f"{folder.name}_{number}")
    return own


def _begun_here(folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / CONFIG).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _objective(
    figures: Mapping[str, float], names: Sequence[str]
) -> float | tuple[float, ...] | None:
    """What a sweep optimises. Raises ConfigError for figures that this run does not have."""
    for name in names:
        if name not in figures:
            raise must_be("objective", "figures of this run", name, figures)
    values = tuple(figures[name] for name in names)
    return values[0] if len(values) == 1 else values or None


def _stages(bench: Workbench, folder: Path, tracking: Tracking) -> Outcome:
    outcome, wanted = Outcome(folder), [s for s in STAGES if s in bench.config.stages]
    labels = "train" not in wanted or bench.needs_labels
    if "label" in wanted and (labels or bench.learned):
        from r2r.stages.label import label

        outcome.reused += ["labels"] if label(bench) else []
    if "train" in wanted:
        from r2r.stages.train import train

        outcome.reused += ["router"] if train(bench, tracking) else []
        outcome.figures |= _training_figures(bench)
    if "calibrate" in wanted and labels:
        from r2r.stages.calibrate import calibrate

        outcome.reused += ["calibration"] if calibrate(bench, folder) else []
    if bench.config.target is not None and _routes(wanted, bench.config.systems):
        from r2r.stages.target import choose

        bench.aimed = choose(bench)
    scored = "routed" in bench.config.systems and "evaluate" in wanted
    if bench.asks_router and bench.aimed is None and (scored or "serve" in wanted):
        from r2r.stages.calibrate import tell_threshold

        tell_threshold(bench)
    if "evaluate" in wanted:
        from r2r.stages.evaluate import evaluate

        outcome.reused += evaluate(bench)
    if "report" in wanted:
        from r2r.stages.report import report

        results = report(bench, folder)
        outcome.figures |= {
            f"{system}/{name}": float(value)
            for system, figures in results["systems"].items()
            for name, value in figures.items()
            if isinstance(value, int | float)
        }
        tracking.results(results, folder)
    tracking.artifacts(bench.used())
    tracking.summary(outcome.figures)
    if "trace" in wanted:
        from r2r.stages.trace import trace

        trace(bench)
    return outcome


def _routes(wanted: Sequence[str], systems: Sequence[str]) -> bool:
    """Whether a stage needs to know how the routed system routes."""
    evaluated = {"evaluate", "report"} & set(wanted) and "routed" in systems
    return bool(evaluated or {"trace", "serve"} & set(wanted))


def _training_figures(bench: Workbench) -> dict[str, float]:
    """``val/...`` of the router's best epoch; nothing where nothing was trained."""
    if not bench.learns:
        return {}
    metrics = read_json(bench.router_folder / MANIFEST)["metrics"]
    best = {f"val/{name}": metrics["validation"][name] for name in AT_BEST_EPOCH}
    return {"val/loss": metrics["val_loss"], **best}


def manifest(config: Config, overrides: list[str]) -> dict[str, Any]:
    """Where results come from: overrides, seed, date, versions, commit, machine."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["run.py", *sys.argv[1:]],
        "overrides": overrides,  # of this job, where the command starts several
        "seed": config.seed,
    } | provenance()


def point_latest(link: Path, folder: Path) -> None:
    """Make ``outputs/latest`` a link to the newest run."""
    temporary = link.with_name(f".latest.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(folder, link.parent))
    temporary.replace(link)
