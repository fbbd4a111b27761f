"""What a run says while it works: a line a stage, a progress bar where there is a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(highlight=False)


def say(stage: str, text: str, reused: bool = False) -> None:
    """One line of a stage; ``reused``: its artifact was there already."""
    console.print(f"{stage:<9}", style="bold", end=" ")
    console.print(text + (" (reused)" if reused else ""), markup=False, soft_wrap=True)


@contextlib.contextmanager
def bar(stage: str) -> Iterator[Callable[[int, int, str], None]]:
    """A function ``(done, total, note)`` that moves the stage's progress bar."""
    columns = (
        TextColumn("[bold]{task.description:<9}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(stage, total=None, note="")
        yield lambda done, total, note: progress.update(
            task, completed=done, total=total, note=note
        )
