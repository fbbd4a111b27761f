"""The report: one self-contained HTML page, and beside it every table and figure as files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from r2r.records import whole_file
from r2r.reporting import charts
from r2r.reporting.compare import COLUMNS, blocks, differences, forecasts, notes, write_tables
from r2r.reporting.controls import RANDOM
from r2r.reporting.pareto import pareto_figure
from r2r.reporting.runs import FIGURES, Point, Run, as_replayed, points, policy_of
from r2r.reporting.style import OTHER, inline_svg, looks, save
from r2r.reporting.summary import about, by_task, method, verdict
from r2r.reporting.tables import shown

PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with its file name and what it shows, in a sentence."""

    name: str
    title: str
    caption: str
    figure: Figure


def write_report(runs: Sequence[Run], folder: Path) -> None:
    """Write report.html, table.md, table.tex, table.csv and figures/*.png, *.pdf into ``folder``.

    The page needs no other file and no network. What models wrote is shown as text, never read
    as markup.
    """
    every = points(runs)
    write_tables(runs, every, folder)
    drawings = list(_drawings(runs, every))
    for drawing in drawings:
        save(drawing.figure, folder / FIGURES, drawing.name)
    figures = [
        {
            "name": d.name,
            "title": d.title,
            "caption": d.caption,
            "svg": Markup(inline_svg(d.figure, d.name, d.caption)),
        }
        for d in drawings
    ]
    environment = Environment(
        loader=PackageLoader("r2r.reporting"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    told, left_out = problems(runs, every)
    html = environment.get_template("report.html.j2").render(
        title=_title(every),
        verdict=verdict(runs),
        method=method(runs),
        runs=[{"name": run.name, "about": about(run)} for run in runs],
        series=sorted({p.series for p in every if p.system == "routed"}),
        columns=COLUMNS,
        blocks=blocks(every),
        tasks=_by_task(every),
        notes=notes(every),
        differences=[*differences(runs), *forecasts(runs)],
        figures=figures,
        problems=told,
        left_out=left_out,
    )
    with whole_file(folder / PAGE) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _title(every: Sequence[Point]) -> str:
    return ", ".join(dict.fromkeys(f"{p.pair} on {p.benchmark}" for p in every))


def _by_task(every: Sequence[Point]) -> list[dict[str, Any]]:
    """A table for each pair and benchmark of several tasks."""
    found = []
    for (pair, benchmark), group in groupby(every, key=lambda p: (p.pair, p.benchmark)):
        tasks, rows = by_task(list(group))
        title = f"{pair} on {benchmark}: accuracy % by task (problems)"
        found += [{"title": title, "tasks": tasks, "rows": rows}] if tasks else []
    return found


def _drawings(runs: Sequence[Run], every: Sequence[Point]) -> Iterator[Drawing]:
    every = [point for point in every if point.system != RANDOM]  # the dashed line of each plot
    groups = [
        (_file_name(f"_{pair}_{benchmark}"), list(group))
        for (pair, benchmark), group in groupby(every, key=lambda p: (p.pair, p.benchmark))
    ]
    groups = [("", groups[0][1])] if len(groups) == 1 else groups
    routers = _routers(runs, every)
    styles = looks([*routers, *(p.series for p in every if p.system == "routed")])
    for ending, group in groups:
        yield Drawing(
            f"pareto{ending}", "Accuracy against activated params",
            "Each point is a system on the same problems, with the 95% interval of its accuracy; "
            "a router at several thresholds is a line, each threshold beside its point.",
            pareto_figure(group, styles=styles),
        )  # fmt: skip
        if sum("llm_forwards_per_token" in p.figures for p in group) > 1:
            yield Drawing(
                f"pareto_forwards{ending}", "Accuracy against LLM forwards",
                "What decides the time where a forward reads the weights and does little else.",
                pareto_figure(group, "forwards", styles),
            )  # fmt: skip
        timed = [p for p in group if p.figures.get("tokens_per_s") is not None]
        if len(timed) > 1:
            yield Drawing(
                f"pareto_time{ending}", "Accuracy against measured time",
                "Wall time of the whole benchmark over its tokens, batched; only systems that one "
                "run has timed.",
                pareto_figure(timed, "time", styles),
            )  # fmt: skip
        if timed:
            yield Drawing(
                f"costs{ending}", "Cost and time",
                "Cost: activated params x tokens per answer. Time: wall time of the whole "
                "benchmark over its answers, batched; systems not timed as the others are left "
                "out.", charts.bars_figure(timed, styles),
            )  # fmt: skip
        mixed = [p for p in _one_each(group) if _samples(p)]
        written = {p.label: _written_by(p) for p in mixed}
        if written:
            yield Drawing(
                f"llm_share{ending}", "LLM share along the answer",
                "Who writes where: each answer is cut into 20 equal parts.",
                charts.llm_share_figure(
                    written, {p.label: styles.get(p.series, OTHER) for p in mixed}
                ),
            )  # fmt: skip
    calibrated = {
        name: (run, dict(run.calibration) | {"router": name})
        for name, run in routers.items()
        if run.calibration
    }
    for name, (run, found) in calibrated.items():
        ending = _file_name(f"_{name}") if len(calibrated) > 1 else ""
        measured = [
            p for p in every
            if p.system == "routed" and as_replayed(p.run.results, run.results["router_id"])
        ]  # fmt: skip
        yield Drawing(
            f"thresholds{ending}", f"What a threshold does: {name}",
            "Lines replay scores recorded on the LLM's own answers (test split of the labels, "
            "off-policy); diamonds are what runs measured.",
            charts.threshold_figure(found, measured),
        )  # fmt: skip
        yield Drawing(
            f"scores{ending}", f"Scores by label: {name}",
            "How the router scores tokens that are identical, neutral and divergent.",
            charts.histogram_figure(found),
        )  # fmt: skip
    if calibrated:
        yield Drawing(
            "quality", "Precision, recall and calibration",
            "On the test split of the labels. Right, for probabilities: of the tokens with a "
            "score, how many are divergent; training weighs divergent tokens up, so scores "
            "overstate it.",
            charts.quality_figure([found for _, found in calibrated.values()], styles),
        )  # fmt: skip
    trained = {name: run.training for name, run in routers.items() if run.training}
    if trained:
        yield Drawing(
            "training", "Training",
            "Loss on training (dashed) and validation labels, and validation average precision.",
            charts.training_figure(trained, styles),
        )  # fmt: skip


def _file_name(text: str) -> str:
    """Names come from the files of runs that others may have made: none leads elsewhere."""
    return re.sub(r"[^\w.-]+", "_", text)


def _one_each(group: Sequence[Point]) -> list[Point]:
    """Of each router the threshold in the middle of those measured, and all other systems."""
    series: dict[str, list[Point]] = {}
    for point in group:
        series.setdefault(point.series, []).append(point)
    return [same[len(same) // 2] for same in series.values()]


def _routers(runs: Sequence[Run], every: Sequence[Point]) -> dict[str, Run]:
    """One run for each router, by the router's name on the page: a sweep over thresholds trains
    and calibrates once."""
    alone = [p for p in every if p.system == "routed" and policy_of(p.run.results) == "r2r"]
    series = {p.run.results.get("router_id"): p.series for p in alone}
    found: dict[str, Run] = {}
    seen: set[str] = set()
    for run in runs:
        router_id = run.results.get("router_id")
        if router_id and router_id not in seen:
            seen.add(router_id)
            name = series.get(router_id) or str(run.results["router"])
            found[f"{name} ({len(seen)})" if name in found else name] = run
    return found


def _samples(point: Point) -> Path | None:
    """The file of a system's answers; None for single models and exported runs."""
    folder = point.run.folder
    path = folder / "samples" / _file_name(f"{point.system}.jsonl") if folder else None
    mixed = 0 < point.figures["llm_share"] < 1
    return path if mixed and path is not None and path.exists() else None


def _written_by(point: Point) -> Iterator[list[int]]:
    """Who wrote each token, answer by answer."""
    path = _samples(point)
    assert path is not None
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["trace"]["llm"]


def problems(runs: Sequence[Run], every: Sequence[Point]) -> tuple[list[dict[str, Any]], int]:
    """The problems with readable traces, each with every system's answer to it, and how many
    more the runs have answered."""
    labels = {point.run.name: point.label for point in every if point.system == "routed"}
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        for row in run.traces():
            problem = {"id": row["id"], "question": row["question"], "gold": str(row["gold"])}
            problem = found.setdefault(row["id"], problem | {"answers": {}})
            routed = row["system"] == "routed"
            if routed and run.name not in labels:  # another run measured the same
                continue
            name = labels[run.name] if routed else shown(row["system"])
            problem["answers"].setdefault(name, _answer(row))
    asked = max((int(point.figures["n"]) for point in every), default=0)
    return list(found.values()), max(0, asked - len(found))


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    """A row of traces.jsonl with as few characters a token as it takes: there may be a million."""
    scores = row["scores"]
    known = any(score is not None for score in scores)
    return {
        "correct": row["correct"],
        "pieces": row["pieces"],
        "llm": "".join(map(str, row["llm"])),
        "scores": [s if s is None else round(s, 3) for s in scores] if known else None,
        "drafts": {i: text for i, text in enumerate(row["drafts"]) if text is not None},
        "alternatives": {
            i: found for i, found in enumerate(row.get("alternatives") or []) if found
        },
    }
