"""Where curves and results go besides the run's folder: Weights & Biases, when it is asked for."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2r.config import LoggerConfig
from r2r.errors import ConfigError, must_be
from r2r.reporting.runs import FIGURES, HEAD, read_run

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


def check_login() -> None:
    """Raises ConfigError where W&B would ask for a key; WANDB_MODE=offline needs none."""
    from wandb.errors import Error
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    settings = wandb_setup.singleton().settings
    if settings.mode in ("offline", "disabled", "dryrun"):
        return
    try:
        found = wbauth.authenticate_session(host=settings.base_url, source="run.py", prompt=False)
    except Error as error:
        raise ConfigError(f"logger: {' '.join(str(error).split())}") from error
    if found is None:
        wanted = "csv, or wandb with a login (wandb login, WANDB_API_KEY) or WANDB_MODE=offline"
        raise must_be("logger", wanted, "wandb without one")


class Tracking:
    """A W&B run with ``logger=wandb`` (WANDB_MODE=offline for no account), else nothing.

    Names are those of the run's folder: ``routed/accuracy`` is results.json's
    ``systems.routed.accuracy``, ``val/loss`` a column of training.csv.
    """

    def __init__(
        self,
        config: LoggerConfig,
        folder: Path,
        *,
        name: str,
        tags: Sequence[str],
        logged: dict[str, Any],
    ):
        self.run: Any = None
        self.logger: Logger | None = None
        if config.name == "wandb":
            from pytorch_lightning.loggers import WandbLogger

            self.logger = WandbLogger(
                name=name,
                save_dir=folder,
                project=config.project,
                entity=config.entity,
                group=config.group,
                tags=[*dict.fromkeys([*tags, *config.tags])],
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

    def results(self, results: Mapping[str, Any], folder: Path) -> None:
        """Of a run's folder: results as a table, every figure, the traces, the threshold curve."""
        if self.run is None:
            return
        import wandb

        run = read_run(folder)
        systems = {
            name: {
                key: value for key, value in figures.items() if not isinstance(value, dict | list)
            }
            for name, figures in results["systems"].items()
        }
        columns = list(next(iter(systems.values())))
        table = wandb.Table(["system", *columns])
        for name, figures in systems.items():
            table.add_data(name, *(figures.get(column) for column in columns))
        told = wandb.Table(["system", "id", "question", "gold", "correct", "answer", "llm_tokens"])
        for row in run.traces():
            text, by_llm = "".join(row["pieces"]), sum(row["llm"])
            told.add_data(row["system"], row["id"], row["question"], str(row["gold"]),
                          row["correct"], text, by_llm)  # fmt: skip
        logged = {"results": table, "traces": told}
        if run.calibration:
            curve = run.calibration["curve"]
            rows: list[Any] = [list(row) for row in zip(*curve.values(), strict=True)]
            logged["thresholds"] = wandb.Table(list(curve), rows)
        figures = {p.stem: wandb.Image(str(p)) for p in sorted((folder / FIGURES).glob("*.png"))}
        self.run.log(logged | {f"figures/{name}": image for name, image in figures.items()})
        self.run.summary.update({f"run/{name}": results[name] for name in HEAD})

    def summary(self, figures: Mapping[str, float]) -> None:
        """Figures of the whole run, such as a sweep optimises."""
        if self.run is not None:
            self.run.summary.update(dict(figures))

    def artifacts(self, used: Mapping[str, str]) -> None:
        """Fingerprints of labels and router; with a connection, also their files."""
        if self.run is None:
            return
        self.run.config.update({"made_from": {kind: Path(p).name for kind, p in used.items()}})
        if self.run.offline:
            return
        import wandb

        for kind, path in used.items():
            whole = wandb.Artifact(f"{kind}-{Path(path).stem}", type=kind)
            whole.add_dir(path) if Path(path).is_dir() else whole.add_file(path)
            self.run.log_artifact(whole)

    def finish(self, failed: bool) -> None:
        if self.run is not None:
            self.run.finish(exit_code=int(failed))
