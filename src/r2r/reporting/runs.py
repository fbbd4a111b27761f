"""Runs read back from their folders, or from W&B's CSV export of a project's runs."""

from __future__ import annotations

import csv
import glob
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from r2r.errors import must_be
from r2r.jsonl import read_jsonl
from r2r.records import MANIFEST, read_json
from r2r.reporting.controls import RANDOM
from r2r.reporting.timed import together

RESULTS, CALIBRATION, TRAINING, TRACES, FIGURES = (
    "results.json",
    "calibration.json",
    "training.csv",
    "traces.jsonl",
    "figures",
)
HEAD = ("pair", "benchmark", "router", "policy", "threshold", "seed")
NEEDED = ("accuracy", "accuracy_stderr", "n", "llm_share", "avg_params_b", "cost")
# Of a run's command line, what no name of a point tells: it has a place of its own, or decides
# neither what is measured nor how fast it is.
IN_LABELS = (
    "threshold", "run", "benchmark", "pair", "outputs", "systems", "stages", "seed", "force",
    "labeler.in_flight", "labeler.shard_queries", "labeler.executor",
)  # fmt: skip
ARTIFACTS = "artifacts"  # below outputs, and no run


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run. ``folder`` is None where it comes from an export, which has results only.

    ``results``: results.json. ``calibration``: calibration.json, None where that stage did not
    run. ``training``: rows of training.csv, one an epoch. ``manifest``: manifest.json, empty where
    there is none.
    """

    name: str
    folder: Path | None
    results: dict[str, Any]
    calibration: dict[str, Any] | None = None
    training: list[dict[str, float]] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def overrides(self) -> list[str] | None:
        """Of its command line; None where nothing tells them."""
        return self.manifest.get("overrides")

    def traces(self) -> list[dict[str, Any]]:
        """Rows of traces.jsonl (``reporting.traces``)."""
        path = self.folder / TRACES if self.folder else None
        return read_jsonl(path, "report.runs") if path and path.exists() else []


@dataclass(frozen=True, slots=True)
class Point:
    """One system on one benchmark, as one run or more measured it.

    ``series``: what routes in a routed system (``routed_by``), else the system's own name;
    ``threshold`` is None for systems without one.
    """

    pair: str
    benchmark: str
    system: str
    series: str
    threshold: float | None
    figures: dict[str, Any]
    run: Run

    @property
    def label(self) -> str:
        return routed_name(self.series, self.threshold)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the accuracy, in [0, 1]: the run's bootstrap, or, where an export
        has none, 1.96 standard errors."""
        if "accuracy_interval" in self.figures:
            low, high = self.figures["accuracy_interval"]
            return low, high
        mean, error = self.figures["accuracy"], 1.96 * self.figures["accuracy_stderr"]
        return max(0.0, mean - error), min(1.0, mean + error)


def routed_name(router: str, threshold: float | None) -> str:
    """A routed system as tables, plots and traces name it."""
    if threshold is None:
        return router
    return f"{router} @ {threshold:.3g}"


def is_middle(system: str) -> bool:
    """Whether it is a model between SLM and LLM, run alone."""
    return system not in ("slm", "llm", "routed") and not system.startswith("query_")


def policy_of(results: Mapping[str, Any]) -> str:
    """Of the routed system; runs of before there were several name none."""
    return results.get("policy") or "r2r"


def as_replayed(results: Mapping[str, Any], router_id: str) -> bool:
    """Whether a run routed as a replay of the router's scores has it: where a score exceeds the
    threshold the LLM writes the token, and nowhere else."""
    return results.get("router_id") == router_id and policy_of(results) == "r2r"


def routed_by(results: Mapping[str, Any]) -> str:
    """What the routed system of ``results.json`` is called: its router under the paper's policy,
    else the policy, with the router where it asks one."""
    policy = policy_of(results)
    if policy == "r2r":
        return results["router"]
    return policy if results["threshold"] is None else f"{policy} ({results['router']})"


def find_runs(patterns: Iterable[str]) -> list[Run]:
    """The finished runs at and below each folder of ``patterns`` (globs allowed), each once, by
    name; of a .csv file, the finished runs that W&B exported into it.

    Raises ConfigError naming the pattern where there is none.
    """
    found: dict[str, Run] = {}
    for pattern in patterns:
        paths = [Path(path) for path in sorted(glob.glob(str(Path(pattern).expanduser())))]
        here = [run for path in paths for run in runs_at(path)]
        if not here:
            raise must_be(
                "report.runs", f"folders or exports with finished runs ({RESULTS})", pattern
            )
        found |= {run.name: run for run in here}
    return [found[name] for name in sorted(found)]


def runs_at(path: Path) -> list[Run]:
    """The finished runs at and below a folder, or of a W&B export."""
    if path.suffix == ".csv":
        return exported(path)
    return [
        read_run(file.parent)
        for file in sorted(path.resolve().rglob(RESULTS))
        if ARTIFACTS not in file.parts
    ]


def read_run(folder: Path) -> Run:
    """The run of a folder that holds results.json."""
    training = folder / TRAINING
    calibration, manifest = folder / CALIBRATION, folder / MANIFEST
    return Run(
        name=_name(folder),
        folder=folder,
        results=read_json(folder / RESULTS),
        calibration=read_json(calibration) if calibration.exists() else None,
        training=_epochs(training) if training.exists() else [],
        manifest=read_json(manifest) if manifest.exists() else {},
    )


def _name(folder: Path) -> str:
    """``run/time``, or ``run/time/job`` in a sweep: the folder's name below outputs."""
    levels = 3 if folder.name.isdigit() else 2
    return "/".join(folder.parts[-levels:])


def _epochs(path: Path) -> list[dict[str, float]]:
    """Lightning writes an epoch's training and validation figures as rows of their own."""
    epochs: dict[int, dict[str, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            figures = {key: float(value) for key, value in row.items() if value}
            epochs.setdefault(int(figures["epoch"]), {}).update(figures)
    return [epochs[number] for number in sorted(epochs)]


def exported(path: Path) -> list[Run]:
    """The finished runs of a CSV that W&B's run table exports (summary: ``<system>/<figure>``).

    Raises ConfigError where it has no such columns.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    runs = []
    for number, row in enumerate(rows, start=1):
        systems: dict[str, dict[str, Any]] = {}
        for column, value in row.items():
            system, _, figure = (column or "").partition("/")
            if value and system not in ("run", "val", "train") and _is_number(value):
                systems.setdefault(system, {})[figure] = float(value)
        whole = {
            name: figures for name, figures in systems.items() if all(n in figures for n in NEEDED)
        }
        if not whole:
            continue
        head: dict[str, Any] = {name: row.get(f"run/{name}") or None for name in HEAD}
        if head["threshold"] is not None:
            head["threshold"] = float(head["threshold"])
        name = f"{path.stem}/{row.get('Name') or number}"
        runs.append(Run(name, None, head | {"systems": whole}))
    if not runs:
        wanted = "a W&B export with columns like run/pair and routed/accuracy"
        raise must_be("report.runs", wanted, str(path))
    return runs


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def what_differs(overrides: Sequence[Sequence[str] | None], but: tuple[str, ...] = ()) -> list[str]:
    """For each run the overrides that only some runs have, in short; the router, which names its
    rows, and ``but`` left out. A run whose overrides nothing tells (None) differs from none."""
    known = [set(of) for of in overrides if of is not None]
    common = set.intersection(*known) if known else set()
    left_out = ("router", "policy", *but)
    own = (
        [o for o in of or () if o not in common and o.partition("=")[0] not in left_out]
        for of in overrides
    )
    return [", ".join(map(_short, of)) for of in own]


def _short(override: str) -> str:
    """``draft_tokens=4`` of ``policy.draft_tokens=4``."""
    key, _, value = override.lstrip("+").partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def points(runs: Sequence[Run]) -> list[Point]:
    """What the runs measured, each system once: a sweep's runs share their SLM and LLM.

    Where runs of one router and threshold differ in more, their series say in what; so do those of
    another system that the runs measured differently.
    """
    found: dict[tuple[Any, ...], tuple[Point, str]] = {}
    overrides = [run.overrides for run in runs]
    routers = [routed_by(run.results) for run in runs]
    for run, router, own in zip(runs, routers, what_differs(overrides, IN_LABELS), strict=True):
        head = run.results
        alike = [of for of, other in zip(overrides, routers, strict=True) if other == router]
        among_alike = what_differs([run.overrides, *alike], IN_LABELS)[0]
        for system, figures in head["systems"].items():
            routed = system == "routed"
            point = Point(
                pair=head["pair"],
                benchmark=head["benchmark"],
                system=system,
                series=", ".join(filter(None, (router, among_alike))) if routed else system,
                threshold=head["threshold"] if routed else None,
                figures=figures,
                run=run,
            )
            same = (point.pair, point.benchmark, point.label, head["seed"],
                    figures["accuracy"], figures["avg_params_b"])  # fmt: skip
            found.setdefault(same, (point, own))
    return _comparable(_one_at_random(_told_apart(found.values())))


def _one_at_random(found: Sequence[Point]) -> list[Point]:
    """``RANDOM`` is a row beside one routed system; beside several, the plots have its line."""
    routed = Counter((p.pair, p.benchmark) for p in found if p.system == "routed")
    return [p for p in found if p.system != RANDOM or routed[p.pair, p.benchmark] < 2]


def _comparable(found: Iterable[Point]) -> list[Point]:
    """In the order of tables, and with the speeds that may stand in one."""
    placed = sorted(found, key=lambda p: (p.pair, p.benchmark, p.figures["avg_params_b"]))
    comparable: list[Point] = []
    for _, table in groupby(placed, key=lambda p: (p.pair, p.benchmark)):
        here = list(table)
        figures = together([p.figures for p in here], [p.run.name for p in here])
        comparable += [replace(p, figures=f) for p, f in zip(here, figures, strict=True)]
    return comparable


def _told_apart(found: Iterable[tuple[Point, str]]) -> list[Point]:
    """Points, and what is their run's own: it is added where two other systems have one name."""
    found = list(found)

    def name(point: Point) -> tuple[Any, ...]:
        return point.pair, point.benchmark, point.label, point.run.results["seed"]

    names = Counter(name(point) for point, _ in found)
    return [
        replace(point, series=f"{point.series}, {own}")
        if own and point.system != "routed" and names[name(point)] > 1
        else point
        for point, own in found
    ]
