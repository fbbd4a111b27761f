"""Train the run's router on the labels, or only calibrate it where there is nothing to learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from r2r.config import TrainerConfig
from r2r.records import MANIFEST, read_json, write_json
from r2r.stages import fingerprints
from r2r.stages.label import open_labels
from r2r.stages.screen import bar, explain, say
from r2r.stages.tracking import Tracking
from r2r.stages.workbench import Workbench
from r2r.training import FEW, few
from r2r.training.sizes import is_open, sized_router, sized_trainer

CURVES = "metrics.csv"
FILLED = "R2R_ROUTER_FOLDER"  # the folder being filled: for the processes that training starts


def train(bench: Workbench, tracking: Tracking) -> bool:
    """Train or calibrate the run's router, and train the policy's learned test where it has one;
    True where that was done already."""
    reused = _router(bench, tracking)
    if bench.learned is None:
        return reused
    from r2r.stages.judging import train_judge

    return train_judge(bench) and reused


def _router(bench: Workbench, tracking: Tracking) -> bool:
    if not bench.asks_router:
        who = "the oracle" if bench.oracle else f"policy {bench.config.policy['name']}"
        say("train", f"nothing to do: {who} asks no router")
        return True
    if bench.finished_router:
        _ = bench.saved_router
        say("train", f"nothing to do: router {bench.finished_router}")
        return True
    folder = bench.router_folder
    reused = bench.make("train", fingerprints.router(bench), lambda to: _train(bench, tracking, to))
    if reused:
        tracking.curves(folder / CURVES)
    saved = read_json(folder / MANIFEST)
    told = bench.router_name
    if saved["threshold"] is not None:
        told += f": calibrated to {saved['threshold']:.4f}"
    validation = saved["metrics"].get("validation", {})
    if bench.config.trainer.target_share is None and few(validation.get("divergent", FEW)):
        explain(
            "train",
            f"warning: the validation labels have {validation['divergent']:,} divergent tokens, and"
            f" {FEW} is the least to choose a recall by: {100 * validation['positive_rate']:.0f}%"
            " of their tokens are routed instead (trainer.target_share: another share; more"
            " labeler.prompts: a recall)",
        )
    test = saved["metrics"].get("test", {})
    if test.get("recall") is not None:
        told += f", test recall {test['recall']:.3f} at rate {test['positive_rate']:.3f}"
    say("train", told, reused)
    return reused


def train_along(bench: Workbench) -> None:
    """What a further process of strategy=ddp does of a job: it leaves by SystemExit."""
    from r2r.training.fit import train_router

    config, (router, trainer) = bench.config, sized(bench)
    train_router(
        bench.new_router(router),
        open_labels(bench),
        trainer,
        Path(os.environ[FILLED]),
        seed=config.seed,
        loggers=[],
        progress=lambda *_: None,
    )


def sized(bench: Workbench) -> tuple[dict[str, Any], TrainerConfig]:
    """The configs of router and training, with what the pair left open chosen."""
    config = bench.config
    router, trainer = config.router, config.trainer
    if not bench.learns or not is_open(router, trainer):
        return router, trainer
    labels = open_labels(bench).manifest["splits"]["train"]["rows"]
    slm_width = bench.slm_shape()["hidden_size"]
    router = sized_router(router, labels, slm_width)
    widths = router.get("hidden_dims", [])
    trainer = sized_trainer(trainer, labels, max(widths, default=slm_width))
    return router, trainer


def tell_sized(bench: Workbench, router: dict[str, Any], trainer: TrainerConfig) -> None:
    """Say what was chosen, if anything was."""
    if not bench.learns or not is_open(bench.config.router, bench.config.trainer):
        return
    labels = open_labels(bench).manifest["splits"]["train"]["rows"]
    widths = router.get("hidden_dims", [])
    blocks = f"hidden_dims {widths}, " if widths else ""
    say(
        "train",
        f"for {labels:,} labels and an SLM {bench.slm_shape()['hidden_size']} wide:"
        f" {blocks}lr {trainer.lr:.2g}, batches of {trainer.batch_size:,},"
        f" at most {trainer.max_epochs} epochs",
    )


def _train(bench: Workbench, tracking: Tracking, folder: Path) -> None:
    config, (described, trainer) = bench.config, sized(bench)
    tell_sized(bench, described, trainer)
    router = bench.new_router(described)
    threshold, metrics = None, {}
    if bench.learns:
        from pytorch_lightning.loggers import CSVLogger

        from r2r.training.fit import train_router

        loggers = [CSVLogger(folder, name="", version="")]
        loggers += [tracking.logger] if tracking.logger else []
        os.environ[FILLED] = str(folder)
        with bar("train", config.stages) as move:
            fitted = train_router(
                router,
                open_labels(bench),
                trainer,
                folder,
                seed=config.seed,
                loggers=loggers,
                progress=move,
            )
        threshold, metrics = fitted.threshold, fitted.metrics
    elif bench.needs_labels:
        from r2r.training.calibrate import calibrate, quality, scores

        validation = scores(router, open_labels(bench), "validation")
        threshold = calibrate(*validation, trainer.min_recall, trainer.target_share)
        metrics = {"validation": quality(*validation, threshold)}
    from r2r.routers.checkpoint import save_router

    slm = bench.slm_shape()
    save_router(
        folder,
        router,
        config=described,
        pair=config.pair.name,
        identity=bench.pair.identity(),
        hidden_size=slm["hidden_size"],
        vocab_size=slm["vocab_size"],
        threshold=threshold,
        metrics=metrics,
    )
    write_json(folder / MANIFEST, {"threshold": threshold, "metrics": metrics})
    for checkpoint in folder.glob("*.ckpt"):  # only an unfinished training resumes
        checkpoint.unlink()
