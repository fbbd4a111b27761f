"""The router as a LightningModule: its loss, its optimizer, its validation metrics."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryPrecision,
    BinaryRecall,
)

from r2r.routers.base import Router, routed
from r2r.training.data import Batch


class RouterModule(pl.LightningModule):
    """Binary cross-entropy on the router's logits, divergent tokens weighted by ``pos_weight``.

    Dropout follows (seed, step), so that a resumed run draws what the first would.
    Validation metrics are taken at threshold 0.5.
    """

    pos_weight: Tensor

    def __init__(
        self,
        router: Router,
        *,
        lr: float,
        betas: list[float],
        weight_decay: float,
        pos_weight: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["router"])
        self.router = router
        self.lr = lr
        self.betas = (betas[0], betas[1])
        self.weight_decay = weight_decay
        self.seed = seed
        self.register_buffer("pos_weight", torch.tensor(pos_weight), persistent=False)
        self.metrics = MetricCollection(
            {
                "recall": BinaryRecall(),
                "precision": BinaryPrecision(),
                "auroc": BinaryAUROC(),
                "average_precision": BinaryAveragePrecision(),
            },
            prefix="val/",
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        sequence = np.random.SeedSequence([self.seed, self.global_step, self.global_rank])
        torch.manual_seed(int(sequence.generate_state(1)[0]))
        loss, _ = self._loss(batch)
        size = len(batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        labels = batch[1]
        loss, logits = self._loss(batch)
        scores = torch.sigmoid(logits)
        self.metrics.update(scores, labels.long())
        rate = routed(scores, 0.5).float().mean()
        size = len(labels)
        self.log("val/loss", loss, prog_bar=True, batch_size=size, sync_dist=True)
        self.log("val/positive_rate", rate, batch_size=size, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.metrics.compute())
        self.metrics.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.router.parameters(),
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
        )

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss of the batch, and its logits [batch] float32."""
        signals, labels = batch
        logits = self.router(signals.hidden, signals.logits, signals.token).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, labels, pos_weight=self.pos_weight
        )
        return loss, logits
