"""Where curves and results go besides the run's folder: Weights & Biases, when it is asked for."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2r.config import LoggerConfig

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

TOLD = 50  # sample traces logged as a table


class Tracking:
    """A W&B run with ``logger=wandb`` (WANDB_MODE=offline for no account), else nothing."""

    def __init__(self, config: LoggerConfig, folder: Path, name: str, logged: dict[str, Any]):
        self.run: Any = None
        self.logger: Logger | None = None
        if config.name == "wandb":
            from pytorch_lightning.loggers import WandbLogger

            self.logger = WandbLogger(
                name=name,
                save_dir=folder,
                project=config.project,
                entity=config.entity,
                tags=config.tags,
                config=logged,
            )
            self.run = self.logger.experiment

    def curves(self, path: Path) -> None:
        """Training curves of a router that an earlier run trained (Lightning's metrics.csv)."""
        if self.run is None or not path.exists():
            return
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                self.run.log({key: float(value) for key, value in row.items() if value})

    def results(self, results: dict[str, Any], plot: Path, traces: list[dict[str, Any]]) -> None:
        if self.run is None:
            return
        import wandb

        columns = ["accuracy", "accuracy_stderr", "n", "llm_share", "avg_params_b",
                   "avg_params_published_b", "cost", "output_tokens", "seconds",
                   "tokens_per_s"]  # fmt: skip
        rows: list[Any] = [
            [name, *(s[c] for c in columns)] for name, s in results["systems"].items()
        ]
        for row in rows:
            pairs = zip(columns, row[1:], strict=True)
            self.run.summary.update({f"{row[0]}/{column}": value for column, value in pairs})
        told: list[Any] = [[r["question"], r["gold"], r["correct"], "".join(r["pieces"]), sum(r["llm"])]
                for r in traces[:TOLD]]  # fmt: skip
        self.run.log(
            {
                "results": wandb.Table(["system", *columns], rows),
                "pareto": wandb.Image(str(plot)),
                "traces": wandb.Table(
                    ["question", "gold", "correct", "answer", "llm_tokens"], told
                ),
            }
        )

    def finish(self, failed: bool) -> None:
        if self.run is not None:
            self.run.finish(exit_code=int(failed), quiet=True)
