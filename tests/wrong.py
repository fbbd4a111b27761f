"""run.py in this process: what it says of a mistake, and that it leaves nothing half-written."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from r2r.stages.command import SAID, main


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Puts back what the command changes in its process."""
    handlers = {number: signal.getsignal(number) for number in SAID}
    environment, arguments = dict(os.environ), sys.argv
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = arguments
        GlobalHydra.instance().clear()


def refused(outputs: Path, *arguments: str) -> str:
    """The one line that the command prints before it exits with 2."""
    if not any(a.startswith("outputs=") for a in arguments):
        arguments = (*arguments, f"outputs={outputs}")
    said, printed = io.StringIO(), io.StringIO()
    with as_it_was(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        sys.argv = ["run.py", *arguments]
        with pytest.raises(SystemExit) as ended:
            main()
    lines = said.getvalue().strip().splitlines()
    assert ended.value.code == 2, said.getvalue()
    assert len(lines) == 1 and lines[0].startswith("error: "), said.getvalue()
    assert "Traceback" not in printed.getvalue()
    return lines[0]


def half_written(outputs: Path) -> list[Path]:
    """Files of a run that did not happen; a finished artifact of an earlier stage is none."""
    whole = {manifest.parent for manifest in outputs.glob("artifacts/*/*/manifest.json")}
    return [
        path
        for path in outputs.rglob("*")
        if path.is_file() and path.parent.name != "locks" and not whole & {*path.parents}
    ]
