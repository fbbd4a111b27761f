"""An artifact is made once, by one run at a time: another that wants it too waits, and finds it.

Its manifest says what it holds and, under ``made``, who made it: pair, parents, what decided it,
and of each run that worked on it the settings that decided nothing but time, and the machine's load
average when it began and when it ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from r2r.records import MANIFEST, fingerprint, read_json, whole_folder, write_json
from r2r.stages.screen import say

LOCKS = "locks"  # beside the kinds of artifacts; empty files, locked by the kernel while in use
MAKING = "making.json"  # in an artifact's folder until it is whole: its manifest's ``made``


@dataclass(frozen=True, slots=True)
class Key:
    """An artifact by what decides it. ``parents``: those it was made from, as ``kind/name``.
    ``pair`` and ``what`` are for people."""

    root: Path
    kind: str
    pair: str
    what: str
    decides: dict[str, Any]
    parents: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return fingerprint(self.decides)

    @property
    def folder(self) -> Path:
        return self.root / self.kind / self.name

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    def about(self) -> dict[str, Any]:
        """Plain data, for the artifact's manifest."""
        return {
            "kind": self.kind,
            "name": self.name,
            "pair": self.pair,
            "what": self.what,
            "parents": list(self.parents),
            "decides": self.decides,
        }


def artifact(
    stage: str,
    key: Key,
    force: bool,
    make: Callable[[Path], None],
    made_with: Callable[[], dict[str, Any]] = dict,
) -> bool:
    """Run ``make(folder)`` unless the artifact is already complete; True where it was reused.

    An artifact is complete once it holds a manifest, which ``make`` writes last; without one, what
    it has made is left for the next call. ``make`` finds what such a call, or a killed run, left in
    the folder, and goes on from there. With ``force`` it starts anew, and
    the old artifact stays until the new one is whole. ``made_with``: this run's settings.
    """
    folder = key.folder
    with locked(stage, folder):
        whole = (folder / MANIFEST).exists()
        if whole and (folder / MAKING).exists():  # killed in between
            _finish(folder, None)
        if whole and not force:
            return True
        _clear_leftovers(folder)
        if whole:
            with whole_folder(folder) as temporary:
                _make(temporary, key, make, made_with())
            return False
        if force and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _make(folder, key, make, made_with())
        return False


def made(folder: Path) -> dict[str, Any] | None:
    """Who made a complete artifact; None where a version without such entries has."""
    return read_json(folder / MANIFEST).get("made")


def described(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an artifact holds, nothing while it is being made; and who makes it or has made it,
    nothing where a version without such entries has.

    Raises OSError where neither is on disk, ValueError or AttributeError where it is damaged.
    """
    if (folder / MANIFEST).exists():
        holds = read_json(folder / MANIFEST)
        return holds, holds.get("made", {})
    return {}, begun(folder)


def begun(folder: Path) -> dict[str, Any]:
    """The same of an artifact that is being made."""
    return read_json(folder / MAKING)


def _make(folder: Path, key: Key, make: Callable[[Path], None], settings: dict[str, Any]) -> None:
    about = begun(folder) if (folder / MAKING).exists() else key.about() | {"runs": []}
    about["runs"].append({"began": _now(), "seconds": None, "load": [_load()]} | settings)
    write_json(folder / MAKING, about)
    began = time.perf_counter()
    try:
        make(folder)
    except Exception:  # not an interrupt, after which it goes on, nor the exit of a ddp process
        if [path.name for path in folder.iterdir()] == [MAKING]:  # it came to nothing
            shutil.rmtree(folder)
        raise
    if (folder / MANIFEST).exists():
        _finish(folder, time.perf_counter() - began)
    else:
        write_json(folder / MAKING, _ended(folder, time.perf_counter() - began))


def _finish(folder: Path, seconds: float | None) -> None:
    about = _ended(folder, seconds)
    write_json(folder / MANIFEST, read_json(folder / MANIFEST) | {"made": about | {"at": _now()}})
    (folder / MAKING).unlink()


def _ended(folder: Path, seconds: float | None) -> dict[str, Any]:
    """Who made an artifact, now that the last of the runs that made it is over."""
    about = begun(folder)
    last = about["runs"][-1]
    last["seconds"] = seconds
    last["load"] = [*last.get("load", []), _load()]
    return about


def _load() -> float:
    """Processes that wanted this machine's processors, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def locked(stage: str, folder: Path) -> Iterator[None]:
    """Hold the artifact's lock, which ends with the process."""
    lock = lock_of(folder)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say(stage, f"another run is making {folder.parent.name}/{folder.name}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lock_of(folder: Path) -> FileLock:
    locks = folder.parents[1] / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{folder.parent.name}-{folder.name}")


def _clear_leftovers(folder: Path) -> None:
    """Temporary files and folders of killed runs."""
    for left in leftovers(folder):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def leftovers(folder: Path) -> list[Path]:
    return [*folder.glob(".*"), *folder.parent.glob(f".{folder.name}.*")]
