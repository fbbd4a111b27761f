"""A long stage while it works: on the terminal, in a log, and in a file beside what it makes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from r2r.eta import EVEN
from r2r.progress import Progress
from r2r.records import write_json
from r2r.stages.screen import LINE_S, console, place, say

FILE = "progress.json"  # in an artifact's folder, while it is made
EACH_S = 1.0  # the facts are taken
FILE_S = 2.0  # they are written
BAR = 6, 24  # columns, at least and at most


@contextlib.contextmanager
def watch(
    stage: str,
    stages: Sequence[str],
    what: str = "",
    *,
    folder: Path | None = None,
    device: str = "cpu",
) -> Iterator[Progress]:
    """The progress of a stage, one of the run's ``stages``, shown until the block ends.

    ``what`` it works on; ``folder``: where ``progress.json`` is kept up to date meanwhile;
    ``device``: where the models run.
    """
    progress = Progress(doing="loading the models", even=EVEN[device.partition(":")[0]])
    screen = _Screen(f"{place(stage, stages)}{stage} {what}".rstrip(), progress)
    over = threading.Event()
    file = folder / FILE if folder is not None else None

    def tell() -> None:
        told = written = time.monotonic()
        while not over.wait(EACH_S):
            now = time.monotonic()
            screen.facts = progress.facts()
            if file is not None and now - written >= FILE_S - EACH_S / 2:
                written = now
                with contextlib.suppress(OSError):  # the stage itself finds what the disk has
                    write_json(file, {"stage": stage, "what": what} | screen.facts.to_json())
            if not console.is_terminal and now - told >= LINE_S:
                told = now
                say(stage, f"{what}: " * bool(what) + ", ".join(screen.parts()))

    teller = threading.Thread(target=tell, name="watch", daemon=True)
    shown = (
        Live(screen, console=console, transient=True, refresh_per_second=4)
        if console.is_terminal
        else contextlib.nullcontext()
    )
    try:
        with shown:
            teller.start()
            yield progress
    finally:
        over.set()
        teller.join()
        if file is not None:
            file.unlink(missing_ok=True)


class _Screen:
    """One line where there is room for it, otherwise two."""

    def __init__(self, name: str, progress: Progress):
        self.name, self.progress = name, progress
        self.facts = progress.facts()
        self.began = time.monotonic()
        self.spinner = Spinner("dots")

    def parts(self) -> list[str]:
        """What is to be told, the most important first."""
        facts, doing = self.facts, self.progress.doing
        if not facts.total:
            return [doing]
        told = [f"{facts.finished:,} of {facts.total:,}"]
        if facts.finished < facts.total:
            told += [f"{len(facts.under_way):,} under way", f"{span(facts.eta_s)} left"]
        rest = "" if facts.expected is None else f" of about {facts.expected:,.0f}"
        told += [f"{facts.tokens:,}{rest} {facts.unit}", f"{facts.tokens_per_s:,.0f}/s"]
        return told + [part for part in (doing, self.progress.note) if part]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        facts, parts, (least, most) = self.facts, self.parts(), BAR
        whole = self._width(parts) + least <= options.max_width
        first, second = (parts, []) if whole else (parts[:3], parts[3:])
        room = max(least, min(most, options.max_width - self._width(first)))
        bar = ProgressBar(total=max(1, facts.total), completed=self._done(), width=room)
        grid = Table.grid(padding=(0, 1))
        shown = bar if facts.total else self.spinner
        grid.add_row(Text(self.name, style="bold"), shown, Text(", ".join(first)))
        yield grid
        if second:
            yield Text("  " + ", ".join(second), no_wrap=True, overflow="ellipsis")

    def _width(self, parts: list[str]) -> int:
        return len(self.name) + len(", ".join(parts)) + 2

    def _done(self) -> float:
        """In items, those under way in parts."""
        facts = self.facts
        if not facts.expected:
            return facts.finished
        return facts.total * min(1.0, facts.tokens / facts.expected)


def span(seconds: float | None) -> str:
    """1:05, 2:03:04, 5 d 2:03:04; ? where it is not known."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    short = f"{hours}:{minutes:02}:{rest:02}" if hours or days else f"{minutes}:{rest:02}"
    return f"{days} d {short}" if days else short
