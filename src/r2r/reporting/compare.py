"""The main table: what runs measured, the paper's numbers beside it, each row with its source."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table

from r2r.records import whole_file
from r2r.reporting.controls import RANDOM
from r2r.reporting.runs import Point, Run, routed_by, routed_name
from r2r.reporting.statistics import Estimate, verdict
from r2r.reporting.tables import (
    RANDOM_LEGEND,
    WORK,
    WORK_LEGEND,
    accuracy,
    cut,
    footnotes,
    latex,
    markdown,
    params,
    shown,
    speed,
    work,
)

COLUMNS = (
    "System", "Accuracy % (95%)", "LLM %", "Params", "Published", "Cost", "Tokens", "Cut",
    "Tok/s", *WORK, "Source",
)  # fmt: skip
TERMINAL_WORK = ("System", *WORK)
TERMINAL = ("System", "Accuracy % (95%)", "LLM %", "Params", "Cost", "Cut", "Tok/s")
OURS = "here"
AVERAGE = "average"  # of all the paper's benchmarks
LEGEND = (
    "Params: activated per token, rejected drafts and router "
    "included; Published: without them, as the paper counts. Cost: params x tokens, relative to "
    "the LLM. Tokens: mean per answer. Cut: answers that the limit of their length has ended."
)
FIGURES = (
    "accuracy", "accuracy_stderr", "n", "llm_share", "avg_params_b", "avg_params_published_b",
    "cost", "llm_forwards_per_token", "llm_positions_per_token", "slm_steps_per_token",
    "cut_per_token", "billed", "output_tokens", "cut_answers", "cut_share", "seconds",
    "tokens_per_s", "load",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of ``COLUMNS``; ``series``: the router's name on the page, empty without one."""

    cells: tuple[str, ...]
    series: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows under one title."""

    title: str
    rows: list[Row]

    @property
    def cells(self) -> list[tuple[str, ...]]:
        return [row.cells for row in self.rows]


def blocks(points: Sequence[Point]) -> list[Block]:
    """A block for each pair and benchmark, then the paper's for the same benchmarks, and its
    average where all of them are here."""
    found = []
    for (pair, benchmark), group in groupby(points, key=lambda p: (p.pair, p.benchmark)):
        here = list(group)
        llm = next((p.figures["cost"] for p in here if p.system == "llm"), None)
        problems = max(int(p.figures["n"]) for p in here)
        title = f"{pair} on {benchmark} ({problems} problems)"
        found.append(Block(title, [_row(point, llm) for point in here]))
    return [*found, *map(_published, _known(points))]


def tables(points: Sequence[Point]) -> list[Table]:
    """What the runs measured, for a terminal: the columns that fit 80."""
    found = []
    for block in blocks(points):
        rows = [dict(zip(COLUMNS, cells, strict=True)) for cells in block.cells]
        if all(row["Source"] == OURS for row in rows):
            found += [_part(block.title, TERMINAL, rows), _part("", TERMINAL_WORK, rows)]
    return found


def _part(title: str, columns: Sequence[str], rows: Sequence[Mapping[Any, str]]) -> Table:
    """Some columns of the rows, for a terminal."""
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "System" else "right")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table


def _known(points: Sequence[Point]) -> list[str]:
    """The paper's benchmarks that are here too."""
    measured = {point.benchmark for point in points}
    every = list(published()["benchmarks"])
    whole = measured.issuperset(name for name in every if name != AVERAGE)
    return [name for name in every if name in measured or (whole and name == AVERAGE)]


def _row(point: Point, llm_cost: float | None) -> Row:
    figures = point.figures
    published_b = figures.get("avg_params_published_b")
    cells = (
        shown(point.label),
        accuracy(figures["accuracy"], point.interval),
        f"{100 * figures['llm_share']:.1f}",
        params(figures["avg_params_b"]),
        "-" if published_b is None else params(published_b),
        f"{figures['cost'] / llm_cost:.2f}x" if llm_cost else "-",
        f"{figures['output_tokens']:.0f}" if "output_tokens" in figures else "-",
        cut(figures),
        speed(figures),
        *work(figures),
        OURS,
    )
    return Row(cells, point.series if point.system == "routed" else "")


def published() -> dict[str, Any]:
    """The paper's numbers, each with its source (published.json)."""
    return json.loads(files("r2r.reporting").joinpath("published.json").read_text("utf-8"))


def _published(benchmark: str) -> Block:
    systems = published()["benchmarks"][benchmark]
    llm_cost = systems[-1].get("cost_k")
    cells = [
        (
            system["system"],
            f"{system['accuracy']}",
            "-",
            "-",
            params(system["params_b"]),
            f"{system['cost_k'] / llm_cost:.2f}x" if llm_cost else "-",
            "-",
            "-",
            "-",
            *("-" for _ in WORK),
            f"[{system['source']}]",
        )
        for system in systems
    ]
    title = "average of its three benchmarks" if benchmark == AVERAGE else benchmark
    return Block(f"The paper, {title}", list(map(Row, cells)))


def notes(points: Sequence[Point]) -> list[str]:
    """What stands below the tables: the columns, and what the marks of the paper's rows mean."""
    legend = [f"{LEGEND} {WORK_LEGEND}"]
    legend += [RANDOM_LEGEND] if any(p.system == RANDOM for p in points) else []
    legend += [*footnotes((point.label, point.figures) for point in points)]
    if not _known(points):
        return legend
    about = published()
    marks = "; ".join(f"[{mark}] {meaning}" for mark, meaning in about["sources"].items())
    return [*legend, f"Published numbers ({about['paper']}): {marks}. {about['settings']}."]


def differences(runs: Sequence[Run]) -> list[str]:
    """What each run's paired bootstrap says of its routed system against the others."""
    return [
        verdict(
            routed_name(routed_by(run.results), run.results["threshold"]),
            shown(found["other"]),
            Estimate(found["difference"], *found["interval"]),
        )
        for run in runs
        for found in run.results.get("differences", [])
    ]


def forecasts(runs: Sequence[Run]) -> list[str]:
    """Tokens per second that each run expected, and what it measured, where one run did both."""
    found = []
    for run in runs:
        told = run.results.get("forecast") or {}
        measured = told.get("measured", {})
        for name in ("llm", "routed"):
            if told.get(name) and measured.get(name):
                expected = f"{told[name]:,.0f} tokens/s expected of {told['requests']} at once"
                found.append(f"{shown(name)}: {expected}, {measured[name]:,.0f} measured")
    return found


def write_tables(runs: Sequence[Run], points: Sequence[Point], folder: Path) -> None:
    """table.md, table.tex, and table.csv (the figures as results.json and W&B name them)."""
    every = blocks(points)
    parts = [f"{block.title}\n\n{markdown(COLUMNS, block.cells)}" for block in every]
    said = "\n".join(f"- {line}" for line in [*differences(runs), *forecasts(runs)])
    below = notes(points)
    text = "\n\n".join(filter(None, [*parts, *below, said])) + "\n"
    caption = f"{'; '.join(b.title for b in every)}. {' '.join(below)}"
    tex = latex(COLUMNS, [block.cells for block in every], caption)
    for name, content in (("table.md", text), ("table.tex", tex)):
        with whole_file(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    with whole_file(folder / "table.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        head = ("pair", "benchmark", "system", "router", "threshold", "seed")
        writer.writerow([*head, *FIGURES, "accuracy_low", "accuracy_high", "run", "timed_with"])
        for p in points:
            router = p.series if p.system == "routed" else ""
            about = (p.pair, p.benchmark, p.system, router, p.threshold, p.run.results["seed"])
            figures = [p.figures.get(name) for name in FIGURES]
            other = p.figures.get("timed_with", {})
            told = "; ".join(f"{key}={value}" for key, value in other.items())
            writer.writerow([*about, *figures, *p.interval, p.run.name, told])
