"""What all comparisons share: interleaved repeats, median and spread, one table, one record."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from r2r.records import write_json
from r2r.stages.provenance import provenance

RESULTS = Path(__file__).parent / "results"


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Clock:
    """Seconds; on a GPU, of work that is done rather than asked for."""

    device, kind = "cpu", "wall"

    def __call__(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return self.host()

    def host(self) -> float:
        """Without waiting for the GPU."""
        return CLOCKS[self.kind]()


clock = Clock()


def options(doc: str | None, repeats: int) -> argparse.ArgumentParser:
    """The options that every comparison has."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="timed rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: what the work took of one thread, on a machine that others use",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    return parser


def on_device(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """For comparisons that a GPU can run."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=found)
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options given; threads and device are set from here on. Exits where there is no GPU
    and one is asked for."""
    given = parser.parse_args()
    if given.clock == "cpu" and given.threads != 1:
        parser.error(f"--threads must be 1 with --clock cpu, got {given.threads}")
    torch.set_num_threads(given.threads)
    clock.kind, clock.device = given.clock, getattr(given, "device", "cpu")
    if clock.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device must be cpu on this machine, got cuda and found no GPU")
    if clock.device == "cpu" and hasattr(given, "device") and not torch.cuda.is_available():
        print("No GPU here: figures are the CPU's.", file=sys.stderr)
    return given


def hardware() -> str:
    """The name of what computes."""
    if clock.device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def interleaved(
    systems: Mapping[str, Callable[[], Any]], repeats: int, warmups: int = 1
) -> dict[str, list[Any]]:
    """What each system returned, round by round: whatever the machine does hits all of them.
    The first ``warmups`` rounds are not kept. Says on stderr how far it is."""
    found: dict[str, list[Any]] = {name: [] for name in systems}
    told = time.monotonic()
    for round_ in range(-warmups, repeats):
        for name, run in systems.items():
            if time.monotonic() - told > 2:
                print(f"round {round_ + 1} of {repeats}: {name}", file=sys.stderr, flush=True)
                told = time.monotonic()
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


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one system's figure by another's in the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


@dataclass(frozen=True)
class Target:
    """A figure that is wanted, and what came: at least ``wanted``, or at most where ``most``."""

    what: str
    found: float
    wanted: float
    most: bool = False

    @property
    def met(self) -> bool:
        return self.found <= self.wanted if self.most else self.found >= self.wanted

    def cells(self) -> tuple[str, ...]:
        sign = "<=" if self.most else ">="
        return (
            self.what,
            f"{sign} {self.wanted:,g}",
            f"{self.found:,.3g}" if abs(self.found) < 1000 else f"{self.found:,.0f}",
            "yes" if self.met else "no",
        )


@dataclass(frozen=True)
class Shown:
    """A table: the first column is text, the others are figures; 80 columns."""

    title: str
    caption: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]

    def table(self) -> Table:
        made = Table(
            title=self.title, caption=self.caption, title_justify="left", caption_justify="left",
            box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False,
        )  # fmt: skip
        for number, name in enumerate(self.columns):
            made.add_column(name, justify="right" if number else "left", no_wrap=True)
        for line in self.lines:
            made.add_row(*line)
        return made


def finish(
    given: argparse.Namespace,
    name: str,
    rows: list[dict[str, Any]],
    about: Mapping[str, Any],
    shown: Shown,
    targets: Sequence[Target] = (),
) -> None:
    """Print the table and the targets, and write ``<results>/<name>_<device>.json``."""
    load = os.getloadavg()[0]
    record: dict[str, Any] = provenance() | {"hardware": hardware(), "load_average": round(load, 2)}
    record |= {key: getattr(given, key) for key in ("threads", "clock", "repeats")} | dict(about)
    record |= {"rows": rows, "targets": [asdict(t) | {"met": t.met} for t in targets]}
    written = given.results / f"{name}_{clock.device}.json"
    write_json(written, record | {"shown": asdict(shown)})
    console = Console(width=80)
    console.print(shown.table())
    if targets:
        columns = ("target", "wanted", "found", "met")
        console.print(Shown("", "", columns, [target.cells() for target in targets]).table())
    print(f"load average at the end: {load:.1f}; written to {written}", flush=True)
