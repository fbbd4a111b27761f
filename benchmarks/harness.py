"""What all comparisons share: interleaved repeats, median and spread, one table, one record."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from r2r.records import write_json
from r2r.stages.main import provenance

RESULTS = Path(__file__).parent / "results"
# On a machine that others use too, with one thread: what the work itself took.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Clock:
    """The seconds that all figures are in."""

    kind = "wall"

    def __call__(self) -> float:
        return CLOCKS[self.kind]()


clock = Clock()


def options(doc: str | None, repeats: int) -> argparse.ArgumentParser:
    """The options that every comparison has."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="timed rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: with --threads 1")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options given; threads and clock are set from here on."""
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock.kind = given.clock
    return given


def interleaved(
    systems: Mapping[str, Callable[[], Any]], repeats: int, warmups: int = 1
) -> dict[str, list[Any]]:
    """What each system returned, round by round: whatever the machine does hits all of them.
    The first ``warmups`` rounds are not kept."""
    found: dict[str, list[Any]] = {name: [] for name in systems}
    for round_ in range(-warmups, repeats):
        for name, run in systems.items():
            made = run()
            if round_ >= 0:
                found[name].append(made)
    return found


def middle(runs: list[Any]) -> Any:
    """The median of figures of one shape."""
    if isinstance(runs[0], dict):
        keys = {key: None for run in runs for key in run}
        return {key: middle([run[key] for run in runs if key in run]) for key in keys}
    known = [run for run in runs if run is not None]
    return statistics.median(known) if known else None


def spread(values: Sequence[float]) -> float:
    """Highest minus lowest, over the median."""
    return (max(values) - min(values)) / statistics.median(values)


def table(title: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """80 columns; the first column is text, the others are figures."""
    shown = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for number, name in enumerate(columns):
        shown.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    return shown


def finish(name: str, rows: list[dict[str, Any]], about: dict[str, Any], *shown: Table) -> None:
    """Print the tables and write ``results/<name>.json``."""
    load = os.getloadavg()[0]
    written = RESULTS / f"{name}.json"
    known = {"load_average": round(load, 2), "threads": torch.get_num_threads(),
             "clock": clock.kind}  # fmt: skip
    write_json(written, provenance() | known | about | {"rows": rows})
    console = Console(width=80)
    for each in shown:
        console.print(each)
    print(f"load average at the end: {load:.1f}; written to {written.relative_to(Path.cwd())}"
          if written.is_relative_to(Path.cwd()) else f"written to {written}")  # fmt: skip
