"""An artifact is made once, by one run at a time: another that wants it too waits, and finds it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from r2r.records import MANIFEST, whole_folder
from r2r.stages.screen import say

LOCKS = "locks"  # beside the kinds of artifacts; empty files, locked by the kernel while in use


def artifact(stage: str, folder: Path, force: bool, make: Callable[[Path], None]) -> bool:
    """Run ``make(folder)`` unless the folder is already complete; True where it was reused.

    An artifact is complete once it holds a manifest, which ``make`` writes last. ``make`` finds
    what a killed run left in the folder, and goes on from there. With ``force`` it starts anew, and
    the old artifact stays until the new one is whole.
    """
    with _alone(stage, folder):
        whole = (folder / MANIFEST).exists()
        if whole and not force:
            return True
        _clear_leftovers(folder)
        if whole:
            with whole_folder(folder) as temporary:
                make(temporary)
            return False
        if force and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        return False


@contextlib.contextmanager
def _alone(stage: str, folder: Path) -> Iterator[None]:
    """Hold the artifact's lock, which ends with the process."""
    locks = folder.parents[1] / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{folder.parent.name}-{folder.name}")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say(stage, f"another run is making {folder.parent.name}/{folder.name}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _clear_leftovers(folder: Path) -> None:
    """Temporary files and folders of killed runs."""
    for left in [*folder.glob(".*"), *folder.parent.glob(f".{folder.name}.*")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
