"""What several runs end with, whoever ran them: one page, an experiment's in one table too."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from r2r.errors import ConfigError
from r2r.records import MANIFEST, read_json, whole_file

if TYPE_CHECKING:
    from r2r.reporting.gathered import Run

GATHERED = "gathered.md"
BEST = "optimization_results.yaml"  # by Optuna's sweeper


class SweepPage(Callback):
    """Hydra's callback of every sweep: its jobs are checked before the first starts, and counted;
    it ends with one table and page over its runs, in its own folder."""

    def __init__(self):
        self.jobs: list[list[str]] = []
        self.total = 0
        self.ended: list[tuple[str, Any]] = []  # in this process: overrides, what is optimised

    def on_multirun_start(self, config: DictConfig, **_kwargs: Any) -> None:
        from r2r.stages import sweep
        from r2r.stages.command import fail
        from r2r.stages.screen import say

        HydraConfig.instance().set_config(config)  # launchers want hydra.sweep.dir before any job
        self.jobs = sweep.overrides_of(config)
        self.total = sweep.total(config, self.jobs)
        say("sweep", f"{self.total} jobs")
        logging.getLogger("optuna.storages").setLevel(logging.WARNING)  # a name nobody asked for
        try:
            sweep.check(config, self.jobs)
        except ConfigError as error:  # Hydra would only warn of it
            fail(str(error))

    def on_job_start(self, config: DictConfig, **_kwargs: Any) -> None:
        if self.total:
            from r2r.stages.screen import console, say

            console.print()
            say("job", f"{config.hydra.job.num + 1} of {self.total}: {self._named(config)}")

    def on_job_end(self, config: DictConfig, job_return: Any, **_kwargs: Any) -> None:
        value = getattr(job_return, "_return_value", None)
        if self.total and isinstance(value, float | tuple):
            self.ended.append((self._named(config), value))

    def _named(self, config: DictConfig) -> str:
        from r2r.stages.sweep import own

        return ", ".join(own(list(config.hydra.overrides.task), self.jobs))

    def on_multirun_end(self, config: DictConfig, **_kwargs: Any) -> None:
        from r2r.stages.main import point_latest
        from r2r.stages.screen import console, say

        sweep = Path(config.hydra.sweep.dir)
        folders = reported(sweep)
        if self.ended and config.objective:
            from r2r.reporting.tables import objectives_table
            from r2r.stages.compose import with_lists

            console.print()
            console.print(objectives_table(with_lists(config).objective, self.ended))
            if (best := sweep / BEST).exists():
                say("best", f"{best}")
        if len(folders) > 1:
            from r2r.stages.report import report_over

            told = "gather" in config.hydra.callbacks  # an experiment's own table
            report_over([str(folder) for folder in folders], sweep, table=not told)
        if folders:
            point_latest(sweep.parents[1] / "latest", sweep)


class Gather(Callback):
    """Hydra's callback of the configs in experiments/experiment.

    ``claims``: [better, worse] names to be compared (``gathered.claims``). ``tenths``: also show
    where in the answers the LLM writes. ``correlate``: also tell whether routers of higher recall
    answer more accurately.
    """

    def __init__(
        self,
        *,
        claims: Sequence[Sequence[str]],
        tenths: bool = False,
        correlate: bool = False,
    ):
        self.claims, self.tenths, self.correlate = claims, tenths, correlate

    def on_multirun_end(self, config: DictConfig, **_kwargs: Any) -> None:
        """Hydra calls it once all jobs of the sweep are done."""
        from r2r.stages.screen import console, say

        folder = Path(config.hydra.sweep.dir)
        folders = reported(folder)
        if not folders:
            return
        text = self.gather(folders)
        with whole_file(folder / GATHERED) as path:
            path.write_text(text, encoding="utf-8")
        console.print(text, markup=False, soft_wrap=True)
        say("gathered", f"{folder / GATHERED}")

    def gather(self, folders: Sequence[Path]) -> str:
        """The table of finished runs."""
        from r2r.reporting import gathered as report
        from r2r.reporting.tables import footnotes

        runs = [_run(folder) for folder in folders]
        rows = report.gathered(runs)
        first = runs[0].results
        problems = max(row.figures["n"] for row in rows)
        parts = [
            f"{first['benchmark']}, {problems} problems, seed {first['seed']}; intervals: paired"
            " bootstrap over problems.",
            report.table(rows),
            report.LEGEND,
            *footnotes((row.label, row.figures) for row in rows),
        ]
        said = report.claims(rows, self.claims, first["seed"])
        parts += ["\n".join(f"- {line}" for line in said)] if said else []
        if self.tenths:
            routed = [row for row in rows if row.system == "routed"]
            samples = {row.label: _samples(folders[min(row.runs)], "routed") for row in routed}
            shares = {label: report.tenths(of) for label, of in samples.items()}
            parts.append(report.tenths_table(shares))
        if self.correlate:
            parts.append(report.correlation(rows))
        return "\n\n".join(parts) + "\n"


def reported(sweep: Path) -> list[Path]:
    """The folders of a sweep's jobs; none where their stages lack report."""
    jobs = (path.parent for path in sweep.glob("*/results.json"))
    return sorted(jobs, key=lambda job: int(job.name))


def _run(folder: Path) -> Run:
    from r2r.evaluation.figures import problem_scores
    from r2r.reporting.controls import RANDOM
    from r2r.reporting.gathered import Run

    results = read_json(folder / "results.json")
    scores = {s: problem_scores(_samples(folder, s)) for s in results["systems"] if s != RANDOM}
    return Run(results, read_json(folder / MANIFEST)["overrides"], scores)


def _samples(folder: Path, system: str) -> list[dict[str, Any]]:
    with (folder / "samples" / f"{system}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
