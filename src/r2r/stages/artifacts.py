"""An artifact is made once, by one run at a time: another that wants it too waits, and finds it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from r2r.records import MANIFEST, whole_folder
from r2r.stages.screen import say

LOCKS = "locks"  # beside the kinds of artifacts; empty files, locked by the kernel while in use
MAKING = "R2R_MAKING"  # process, artifact and the folder being filled: for processes it starts


def artifact(stage: str, folder: Path, force: bool, make: Callable[[Path], None]) -> bool:
    """Run ``make(folder)`` unless the folder is already complete; True where it was reused.

    An artifact is complete once it holds a manifest, which ``make`` writes last. ``make`` finds
    what a killed run left in the folder, and goes on from there. With ``force`` it starts anew, and
    the old artifact stays until the new one is whole.
    """
    if helping():  # its parent has the lock
        _, made, filling = _making()
        if made == str(folder):
            make(Path(filling))
        return made != str(folder)
    with _alone(stage, folder):
        if (folder / MANIFEST).exists() and not force:
            return True
        _clear_leftovers(folder)
        if force:
            with whole_folder(folder) as temporary, _told(folder, temporary):
                make(temporary)
            return False
        folder.mkdir(parents=True, exist_ok=True)
        with _told(folder, folder):
            make(folder)
        return False


def helping() -> bool:
    """Whether a run started this process to help with an artifact (strategy=ddp does)."""
    return _making()[0] not in (None, os.getpid())


def _making() -> tuple[int | None, str, str]:
    return json.loads(os.environ.get(MAKING, '[null, "", ""]'))


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


@contextlib.contextmanager
def _told(folder: Path, filling: Path) -> Iterator[None]:
    before = os.environ.get(MAKING)
    os.environ[MAKING] = json.dumps([os.getpid(), str(folder), str(filling)])
    try:
        yield
    finally:
        if before is None:
            del os.environ[MAKING]
        else:
            os.environ[MAKING] = before
