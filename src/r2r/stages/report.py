"""What a run leaves: its figures and traces as data, and the page over it or over many runs."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, chain, zip_longest
from pathlib import Path
from typing import Any

from r2r.config import PriceConfig
from r2r.costs import Price, billed
from r2r.evaluation.figures import cut_short, problem_scores, stderr
from r2r.policies.query import QUERY_ROUTERS
from r2r.records import MANIFEST, read_json, whole_file, write_json
from r2r.reporting.compare import forecasts, tables
from r2r.reporting.controls import RANDOM, at_random, best_single, random_scores
from r2r.reporting.page import PAGE, write_report
from r2r.reporting.runs import (
    CALIBRATION,
    FIGURES,
    RESULTS,
    TRACES,
    TRAINING,
    find_runs,
    points,
    read_run,
)
from r2r.reporting.statistics import PairedBootstrap
from r2r.reporting.tables import results_table, work_table
from r2r.reporting.timed import untimed
from r2r.reporting.traces import write_traces
from r2r.routers.threshold import recall_at
from r2r.stages import fingerprints
from r2r.stages.artifacts import made
from r2r.stages.calibrate import calibration
from r2r.stages.evaluate import scored_folder, systems
from r2r.stages.graded import evaluation_folder
from r2r.stages.provenance import made_with, timed_otherwise
from r2r.stages.readable import readable
from r2r.stages.samples import SAMPLES, read_samples
from r2r.stages.screen import console, say
from r2r.stages.train import CURVES
from r2r.stages.workbench import Workbench
from r2r.trace import Source, Trace

READ = 24  # problems whose routed answers the SLM reads again, and that traces.md holds
READABLE_TOKENS = 1_000_000  # of all answers on a page: it must stay a page


def collect(bench: Workbench) -> dict[str, Any]:
    """results.json of the run's systems. Raises ConfigError where one was not evaluated yet."""
    config = bench.config
    found: dict[str, Any] = {}
    for system in systems(bench):
        folder = scored_folder(bench, system)
        bench.use(fingerprints.evaluation(bench, system))
        found[system] = read_json(folder / MANIFEST)["metrics"] | {"answers": folder.name}
        found[system] |= _timed(bench, system, folder) | cut_short(read_samples(folder))
        found[system] |= _billed(bench, system, folder)
    compared = _compared(bench, found)
    on_labels = "routed" in found and bench.asks_router
    return {
        "pair": config.pair.name,
        "benchmark": config.benchmark.name,
        "router": bench.router_name,
        "router_id": fingerprints.router_id(bench) if on_labels else None,
        "threshold": bench.threshold if on_labels else None,
        "policy": config.policy["name"],
        "validation": _validation(bench) if on_labels else None,
        "seed": config.seed,
        "target": bench.aimed,
        "forecast": _forecast(bench, found),
        "systems": found,
        "best_single": best_single(found),
        "differences": compared,
    }


def _timed(bench: Workbench, system: str, folder: Path) -> dict[str, Any]:
    """The machine's highest ``load`` meanwhile, and ``timed_in``, this run; or, where another run
    has made the answers, or other settings: no speed, and ``timed_with``, those settings by name.
    What a query-level router takes was timed with the models' own answers."""
    here, of = made_with(bench, "evaluation"), [folder]
    if system in QUERY_ROUTERS:
        of = [evaluation_folder(bench, name) for name in ("slm", "llm")]
    found: dict[str, Any] = {}
    loads: list[float] = []
    for about in map(made, of):
        found |= timed_otherwise(about, here)
        loads += [load for run in (about or {}).get("runs", []) for load in run.get("load", [])]
    load = {"load": max(loads)} if loads else {}
    return load | (untimed(found) if found else {"timed_in": bench.session})


def _forecast(bench: Workbench, found: dict[str, Any]) -> dict[str, Any] | None:
    """What the routed system's speed was expected to be, and what it was: ``measured`` tokens per
    second of both systems with ``under_way`` answers at once on average; None for what was reused,
    and for a forecast of fewer at once.
    """
    about = read_json(evaluation_folder(bench, "routed") / MANIFEST) if "routed" in found else {}
    told = about.get("forecast")
    if not told or told["requests"] < about["measured"]["under_way"]:
        return None
    rates = {name: found.get(name, {}).get("tokens_per_s") for name in ("llm", "routed")}
    return told | {"measured": rates | {"under_way": about["measured"]["under_way"]}}


def _billed(bench: Workbench, system: str, folder: Path) -> dict[str, float]:
    """Money for a thousand answers, where the models of a system have prices."""
    if system in bench.config.pair.middle:
        return {}
    told: dict[Source, PriceConfig] = {
        "slm": bench.config.prices.slm,
        "llm": bench.config.prices.llm,
    }
    prices: dict[Source, Price] = {
        source: Price(price.input, price.output)
        for source, price in told.items()
        if price.input is not None and price.output is not None
    }
    if not prices:
        return {}
    money = billed((Trace.from_json(row["trace"]) for row in read_samples(folder)), prices)
    return {} if money is None else {"billed": money}


def _validation(bench: Workbench) -> dict[str, float] | None:
    """What the run's router does to the validation labels, where it was tried on them."""
    saved = bench.described_router
    found = saved.metrics.get("validation", {})
    if "curve" not in found:
        return None
    return {"recall": recall_at(found["curve"], bench.threshold), "auroc": found["auroc"]}


def _compared(bench: Workbench, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Give each system its accuracy's interval, and add what they all have to beat
    (``reporting.controls``); the routed one's differences to all others."""
    scores = {s: problem_scores(read_samples(evaluation_folder(bench, s))) for s in found}
    if control := at_random(found):
        by_chance = random_scores(scores["slm"], scores["llm"], control["llm_answers"])
        scores[RANDOM], found[RANDOM] = by_chance, control
        control["accuracy_stderr"] = stderr(list(by_chance.values()))
    bootstrap = PairedBootstrap(scores, seed=bench.config.seed)
    for system, metrics in found.items():
        estimate = bootstrap.accuracy(system)
        metrics["accuracy_interval"] = [estimate.low, estimate.high]
    differences = []
    for other in found if "routed" in found else ():
        if other != "routed":
            by = bootstrap.difference("routed", other)
            interval = [by.low, by.high]
            differences.append(
                {"system": "routed", "other": other, "difference": by.value, "interval": interval}
            )
    return differences


def report(bench: Workbench, folder: Path) -> dict[str, Any]:
    """Write everything into the run's folder, show the table, return the results."""
    results = collect(bench)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    answered = [system for system in results["systems"] if system != RANDOM]
    for system in answered:
        _copy(evaluation_folder(bench, system) / SAMPLES, folder / "samples" / f"{system}.jsonl")
    if results["router_id"] and not bench.finished_router:
        _copy(bench.router_folder / CURVES, folder / TRAINING)
        replayed = calibration(bench)
        if replayed:
            write_json(folder / CALIBRATION, replayed)
    _copy(_traces(bench, answered), folder / TRACES)
    rows = [json.loads(line) for line in (folder / TRACES).open(encoding="utf-8")]
    told = "routed" if "routed" in results["systems"] else answered[0]
    write_traces([row for row in rows if row["system"] == told][:READ], folder / "traces.md")
    write_json(folder / RESULTS, results)
    write_report([read_run(folder)], folder)
    console.print()
    console.print(results_table(results))
    console.print()
    console.print(work_table(results))
    console.print()
    for line in forecasts([read_run(folder)]):
        say("forecast", line)
    say("report", f"{folder}: {PAGE}, table.md, {FIGURES}/, traces.md, {RESULTS}")
    return results


def report_over(patterns: Sequence[str], folder: Path, *, table: bool = True) -> None:
    """One page over any set of runs, and their ``table`` on the terminal. Raises ConfigError where
    a pattern names none."""
    runs = find_runs(patterns)
    folder.mkdir(parents=True, exist_ok=True)
    write_report(runs, folder)
    if table:
        console.print()
        for each in tables(points(runs)):
            console.print(each)
    say("report", f"{len(runs)} runs in {folder}: {PAGE}, table.md, table.csv, {FIGURES}/")


def _traces(bench: Workbench, names: Sequence[str]) -> Path:
    """The file of ``chosen``; an artifact, because the SLM reads the answers for it."""
    key = fingerprints.traces(bench, names)

    def make(to: Path) -> None:
        with whole_file(to / TRACES) as path, path.open("w", encoding="utf-8") as file:
            for row in chosen(bench, names):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        write_json(to / MANIFEST, {"answers": key.decides["answers"]})

    bench.make("report", key, make)
    return key.folder / TRACES


def chosen(bench: Workbench, names: Sequence[str]) -> list[dict[str, Any]]:
    """The same problems of every system in readable form, the tasks in turn; as many as stay
    within ``READABLE_TOKENS``. The first ``READ`` tell what else the SLM could have written."""
    tasks: dict[str, list[str]] = {}
    tokens: Counter[str] = Counter()
    for name in names:
        for sample in read_samples(evaluation_folder(bench, name)):
            if sample["repeat"] == 0:
                tokens[sample["id"]] += len(sample["trace"]["tokens"])
                if name == names[0]:
                    tasks.setdefault(sample["task"], []).append(sample["id"])
    in_turn = [key for key in chain(*zip_longest(*tasks.values())) if key is not None]
    upto = accumulate(tokens[key] for key in in_turn)
    wanted = [key for key, total in zip(in_turn, upto, strict=True) if total <= READABLE_TOKENS]
    places = {key: place for place, key in enumerate(wanted or in_turn[:1])}
    answers: dict[str, list[dict[str, Any]]] = {key: [] for key in places}
    for name in names:
        for sample in read_samples(evaluation_folder(bench, name)):
            if sample["id"] in places and sample["repeat"] == 0:
                answers[sample["id"]].append(sample)
    rows = list(chain(*answers.values()))
    again = [row["system"] == "routed" and places[row["id"]] < READ for row in rows]
    return readable(bench, rows, again)


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        with whole_file(target) as temporary:
            shutil.copyfile(source, temporary)
