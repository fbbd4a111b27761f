"""What a run says while it works: a line a stage, a progress bar where there is a terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from r2r.config import Config
from r2r.stages.compose import STAGES

console = Console(highlight=False)
LINE_S = 60.0  # between two lines of a long stage where there is no terminal


def say(stage: str, text: str, reused: bool = False) -> None:
    """One line of a stage, that can be copied; ``reused``: its artifact was there already."""
    console.print(f"{stage:<9}", style="bold", end=" ")
    console.print(text + (" (reused)" if reused else ""), markup=False, soft_wrap=True)


def explain(stage: str, text: str) -> None:
    """Words of a stage, on as many lines as they take."""
    indent = 10 * " "
    lines = textwrap.wrap(text, console.width - len(indent), break_on_hyphens=False)
    say(stage, f"\n{indent}".join(lines))


def next_command(config: Config, given: Sequence[str], asks_router: bool) -> str | None:
    """What a person may want to do after a run with the overrides ``given``, as it can be typed
    here; None after the last step. ``asks_router``: a threshold decides in the routed system."""
    done, left_out = set(config.stages), {"stages", "force"}
    if done <= {"label"}:
        more = []  # all the rest; what is done is reused
    elif done <= {"label", "train", "calibrate"}:
        more = ["stages=[evaluate,report]"]
    elif done <= {"label", "train", "calibrate", "evaluate"}:
        more = ["stages=[report]"]
    elif "routed" not in config.systems:
        more, left_out = [], left_out | {"systems"}
    elif "trace" not in done and config.trace.system in config.systems:
        more = ["stages=[trace]"]
    elif asks_router:
        more = ["+sweep=threshold"]
        left_out |= {"threshold", "run", "trace.problem", "trace.system"}
    else:
        return None
    kept = [part for part in given if part.lstrip("+~").partition("=")[0] not in left_out]
    return shlex.join([*_program(), *kept, *more])


def _program() -> list[str]:
    """How this command was started, with paths as they are from the working folder."""

    def short(path: str) -> str:
        relative = os.path.relpath(path)
        return os.path.abspath(path) if relative.startswith("..") else relative

    python = "python" if shutil.which("python") == sys.executable else short(sys.executable)
    script = sys.argv[0]
    return [python, *([short(script)] if Path(script).name == "run.py" else ["-m", "r2r"])]


def place(stage: str, stages: Sequence[str]) -> str:
    """``2/5 ``: which of the run's stages it is; nothing where it is none of them."""
    ordered = [name for name in STAGES if name in stages]
    return f"{ordered.index(stage) + 1}/{len(ordered)} " if stage in ordered else ""


@contextlib.contextmanager
def bar(stage: str, stages: Sequence[str]) -> Iterator[Callable[[int, int, str], None]]:
    """A function ``(epochs done, at most, note)`` that moves the bar of a training stage, one of
    the run's ``stages``; where the output is no terminal it tells a line a minute."""
    columns = (
        TextColumn("[bold]{task.description:<9}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    quiet, told = not console.is_terminal, time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(f"{place(stage, stages)}{stage}", total=None, note="")

        def move(done: int, total: int, note: str) -> None:
            nonlocal told
            progress.update(task, completed=done, total=total, note=note)
            if quiet and time.monotonic() - told >= LINE_S:
                told = time.monotonic()
                say(stage, f"{done} of at most {total} epochs, {note}")

        yield move
