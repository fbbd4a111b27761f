"""Training from start to end: fit, keep the best epoch, calibrate, touch the test split once."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger

from r2r.config import TrainerConfig
from r2r.errors import must_be
from r2r.records import whole_file
from r2r.routers.base import Router
from r2r.training.calibrate import calibrate, quality, require_divergent, scores
from r2r.training.check import check_trainer
from r2r.training.data import LabelledTokens, RouterDataModule
from r2r.training.module import RouterModule

BEST = "best"
LAST = "last"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What training found: the calibrated threshold, and plain metrics for router.json.

    ``metrics``: epochs, best_epoch, val_loss; and ``validation`` and ``test``, each as
    ``calibrate.quality`` gives them at the threshold.
    """

    threshold: float
    metrics: dict[str, Any]


def train_router(
    router: Router,
    labels: LabelledTokens,
    config: TrainerConfig,
    folder: Path,
    *,
    seed: int,
    loggers: list[Logger],
    progress: Callable[[int, int, str], None],
) -> TrainResult:
    """Fit ``router`` in place and leave it with its best epoch's weights, in eval mode on the CPU.

    ``folder`` holds best.ckpt and last.ckpt while training; where a killed run left them, it goes
    on from there and ends with the weights it would have had. ``progress(epochs done, at most,
    note)`` is called after each epoch. Raises ConfigError for values of
    ``trainer`` that cannot work here, and for labels without divergent tokens. Leaves the further
    processes of strategy=ddp by SystemExit once their part is done.
    """
    check_trainer(config)
    assert config.lr is not None and config.batch_size and config.max_epochs, "sizes.sized_trainer"
    pl.seed_everything(seed, verbose=False)
    stopping = _Patience("val/loss", patience=config.patience)
    with _quiet():
        trainer = _trainer(config, folder, stopping, loggers, progress)
    batch, uneven = divmod(config.batch_size, trainer.world_size)
    if uneven:
        wanted = f"a multiple of the {trainer.world_size} processes it is shared by"
        raise must_be("trainer.batch_size", wanted, config.batch_size)
    data = RouterDataModule(
        labels=labels,
        batch_size=batch,
        num_workers=config.num_workers,
        seed=seed,
        window=router.window,
    )
    divergent = data.train_rows.labels()
    require_divergent(divergent, "train")
    require_divergent(data.validation_rows.labels(), "validation")
    positives = int(divergent.sum())
    module = RouterModule(
        router,
        lr=config.lr,
        betas=list(config.betas),
        weight_decay=config.weight_decay,
        pos_weight=(len(divergent) - positives) / positives if router.balanced else 1.0,
        seed=seed,
    )
    router.train()  # Lightning keeps the mode it finds
    with _quiet():
        last = folder / f"{LAST}.ckpt"
        trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=True)
    if not trainer.is_global_zero:  # one of the processes of strategy=ddp: its part is done
        raise SystemExit(0)
    if not stopping.best_score.isfinite():
        raise must_be("trainer.lr", "low enough for the loss to stay finite", config.lr)
    best = torch.load(folder / f"{BEST}.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    router.eval()

    device = "cuda" if config.accelerator == "gpu" else "cpu"
    validation = scores(router, labels, "validation", device)
    threshold = calibrate(*validation, config.min_recall, config.target_share)
    metrics = {
        "epochs": trainer.current_epoch,
        "best_epoch": best["epoch"],
        "val_loss": float(stopping.best_score),
        "validation": quality(*validation, threshold),
        "test": quality(*scores(router, labels, "test", device), threshold),
    }
    router.to("cpu")
    return TrainResult(threshold, metrics)


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there. Lightning copies its own from the temporary folder,
    which may be on another disk: a full disk or a kill then leaves half of one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: None = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with whole_file(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


class _Patience(EarlyStopping):
    """Early stopping that a run resumed after its last epoch does not forget."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _Told(Callback):
    """Says after each epoch how far training is."""

    def __init__(self, progress: Callable[[int, int, str], None]) -> None:
        self.progress = progress

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["val/loss"])
        self.progress(trainer.current_epoch + 1, trainer.max_epochs or 0, f"val loss {loss:.4f}")


def _trainer(
    config: TrainerConfig,
    folder: Path,
    stopping: EarlyStopping,
    loggers: list[Logger],
    progress: Callable[[int, int, str], None],
) -> pl.Trainer:
    def checkpoint(name: str, monitor: str | None) -> ModelCheckpoint:
        return ModelCheckpoint(
            folder,
            filename=name,
            monitor=monitor,
            save_on_train_epoch_end=True,  # a whole epoch, validation and all
            enable_version_counter=False,
        )

    return pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy=config.strategy,
        # Lightning starts its processes itself, under Slurm too.
        plugins=[LightningEnvironment(), WholeCheckpoints()],
        precision=config.precision,  # pyright: ignore[reportArgumentType]
        max_epochs=config.max_epochs,
        default_root_dir=folder,
        logger=loggers or False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            stopping,
            checkpoint(BEST, "val/loss"),  # before last: a run killed between them redoes it
            checkpoint(LAST, None),
            _Told(progress),
        ],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's tips and hints, so that the terminal shows the progress bar only."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
