"""What a run says while it works: a line a stage, a progress bar where there is a terminal."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from r2r.config import Config
from r2r.stages.compose import STAGES

console = Console(highlight=False)


def say(stage: str, text: str, reused: bool = False) -> None:
    """One line of a stage; ``reused``: its artifact was there already."""
    console.print(f"{stage:<9}", style="bold", end=" ")
    console.print(text + (" (reused)" if reused else ""), markup=False, soft_wrap=True)


def next_command(config: Config, given: Sequence[str]) -> str:
    """What a person may want to do after a run with the overrides ``given``."""
    kept = [part for part in given if not part.startswith(("stages=", "-"))]
    if "evaluate" not in config.stages and "report" not in config.stages:
        more = ["stages=[evaluate,report]"]
    elif "routed" in config.systems and "trace" not in config.stages:
        more = ["stages=[trace]", "trace.problem=1"]
    else:
        kept, more = [part for part in kept if "threshold" not in part], ["-m", "+sweep=threshold"]
    return shlex.join(["python", "run.py", *kept, *more])


def place(stage: str, stages: Sequence[str]) -> str:
    """``2/5 ``: which of the run's stages it is; nothing where it is none of them."""
    ordered = [name for name in STAGES if name in stages]
    return f"{ordered.index(stage) + 1}/{len(ordered)} " if stage in ordered else ""


@contextlib.contextmanager
def bar(
    stage: str, stages: Sequence[str], what: str = ""
) -> Iterator[Callable[[int, int, str], None]]:
    """A function ``(done, total, note)`` that moves the bar of a stage, one of the run's
    ``stages``; nothing is shown where the output is no terminal."""
    columns = (
        TextColumn("[bold]{task.description:<9}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(
            f"{place(stage, stages)}{stage} {what}".rstrip(), total=None, note=""
        )
        yield lambda done, total, note: progress.update(
            task, completed=done, total=total, note=note
        )
