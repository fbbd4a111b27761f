"""stages=[artifacts]: what outputs/artifacts holds, and the removal of what no run uses."""

from __future__ import annotations

import contextlib
import json
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from r2r.errors import must_be
from r2r.records import MANIFEST
from r2r.stages.artifacts import LOCKS, MAKING, described, leftovers, lock_of
from r2r.stages.screen import console, say
from r2r.stages.watch import FILE as PROGRESS

KINDS = ("labels", "router", "judge", "calibration", "evaluation", "query", "traces")
BATCH = 100  # artifacts locked at once, to be removed
WIDTH, INDENT = 80, " " * 20
SHORT = 8  # digits of a name that tell it from others


@dataclass(slots=True)
class Kept:
    """An artifact on disk. ``state`` is complete, being made, not finished, or damaged; ``about``:
    its manifest's ``made``, empty where an earlier version has made it. ``runs`` name it."""

    folder: Path
    state: str
    about: Mapping[str, Any]
    bytes: int
    changed: float  # seconds since the epoch
    runs: list[str] = field(default_factory=list)
    used: bool = False  # by a run, by what is being made, or by another that is

    @property
    def key(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def parents(self) -> Sequence[str]:
        return self.about.get("parents", ())


def artifacts(outputs: Path, remove: str | None) -> list[Kept]:
    """List the artifacts; with ``remove`` unused, remove those that no run uses."""
    found = inventory(outputs)
    shown(found)
    unused = [each for each in found if not each.used]
    if remove == "unused":
        gone = removed(outputs, unused)
        for each in gone:
            say("removed", f"{each.key}, {size(each.bytes)}")
        say("freed", f"{size(sum(each.bytes for each in gone))} of {len(gone)} artifacts")
    elif unused:
        total = size(sum(each.bytes for each in unused))
        say("next", f"artifacts.remove=unused removes {len(unused)} that no run uses ({total})")
    return found


def inventory(outputs: Path) -> list[Kept]:
    """All artifacts, by kind and age, and who uses them."""
    root = outputs / "artifacts"
    found = {}
    for kind in KINDS:
        folders = (root / kind).iterdir() if (root / kind).is_dir() else ()
        each = [_kept(f) for f in folders if f.is_dir() and not f.name.startswith(".")]
        found |= {kept.key: kept for kept in sorted(each, key=lambda kept: kept.changed)}
    named = uses(outputs)
    for run, keys in named.items():
        for key in keys:
            if key in found:
                found[key].runs.append(run)
    wanted = [k for k, kept in found.items() if kept.runs or kept.state == "being made"]
    while wanted:
        kept = found.get(wanted.pop())
        if kept and not kept.used:
            kept.used = True
            wanted += kept.parents
    return list(found.values())


def uses(outputs: Path, *, whole: bool = False) -> dict[str, list[str]]:
    """The artifacts that each run's manifest names, as kind/name.

    A manifest that cannot be read is told of; with ``whole`` it raises ConfigError.
    """
    found = {}
    for depth in ("*/*", "*/*/*"):  # a run; a job of a sweep
        for path in outputs.glob(f"{depth}/{MANIFEST}"):
            run = path.parent
            if run.relative_to(outputs).parts[0] in ("artifacts", "latest"):
                continue
            try:
                told = json.loads(path.read_text())["artifacts"]
            except (OSError, ValueError, KeyError, TypeError):
                if whole:
                    wanted = "a folder whose runs' manifests can be read (delete what that run uses"
                    raise must_be("outputs", f"{wanted} no more)", str(path)) from None
                say("artifacts", f"{path} cannot be read: what that run uses is not known")
                continue
            # An earlier version named paths by kind.
            paths = told.values() if isinstance(told, dict) else told
            found[str(run.relative_to(outputs))] = ["/".join(Path(p).parts[-2:]) for p in paths]
    return found


def _kept(folder: Path) -> Kept:
    state, about = "complete", {}
    manifest = folder / MANIFEST
    try:
        _, about = described(folder)
    except FileNotFoundError:
        state = "not finished"
    except (OSError, ValueError, AttributeError):
        state = "damaged"
        say("artifacts", f"{manifest} cannot be read")
    if not manifest.exists():
        state = "not finished"
    if _in_use(folder):
        state = "being made"
    files = [path for path in folder.rglob("*") if path.is_file()]
    for left in leftovers(folder):
        files += [left] if left.is_file() else [p for p in left.rglob("*") if p.is_file()]
    stats = []
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            stats.append(path.stat())
    changed = max((s.st_mtime for s in stats), default=folder.stat().st_mtime)
    at = about.get("at") if isinstance(about, dict) else None
    if at:
        changed = datetime.fromisoformat(at).timestamp()
    return Kept(folder, state, about, sum(s.st_size for s in stats), changed)


def _in_use(folder: Path) -> bool:
    """Whether a process holds its lock; asked without making one."""
    if not (folder.parents[1] / LOCKS / f"{folder.parent.name}-{folder.name}").exists():
        return False
    lock = lock_of(folder)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def removed(outputs: Path, unused: Iterable[Kept]) -> list[Kept]:
    """Remove artifacts, but for those that a run has come to use meanwhile, or makes: a run says
    what it uses before it takes the artifact's lock."""
    gone: list[Kept] = []
    left = list(unused)
    while left:
        batch, left = left[:BATCH], left[BATCH:]
        with contextlib.ExitStack() as held:
            mine = []
            for each in batch:
                lock = lock_of(each.folder)
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    continue
                held.callback(lock.release)
                mine.append(each)
            now = _used(outputs, {each.key for each in mine})
            for each in mine:
                if each.key in now:
                    continue
                # Its manifest goes first: what a kill leaves is no complete artifact.
                (each.folder / MANIFEST).unlink(missing_ok=True)
                for path in [*leftovers(each.folder), each.folder]:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                gone.append(each)
    return gone


def _used(outputs: Path, locked: set[str]) -> set[str]:
    """Keys in use now; ``locked`` are this process's own."""
    named = {key for keys in uses(outputs, whole=True).values() for key in keys}
    found = {}
    for kind in KINDS:
        for folder in (outputs / "artifacts" / kind).glob("[!.]*"):
            for name in (MANIFEST, MAKING):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    told = json.loads((folder / name).read_text())
                    about = told.get("made", {}) if name == MANIFEST else told
                    found[f"{kind}/{folder.name}"] = about.get("parents", [])
            key = f"{kind}/{folder.name}"
            if key not in locked and _in_use(folder):
                named.add(key)
    used: set[str] = set()
    wanted = list(named)
    while wanted:
        key = wanted.pop()
        if key not in used:
            used.add(key)
            wanted += found.get(key, [])
    return used


# On the terminal, in 80 columns.


def shown(found: Sequence[Kept]) -> None:
    if not found:
        say("artifacts", "none yet")
        return
    for kind in KINDS:
        here = [each for each in found if each.folder.parent.name == kind]
        if not here:
            continue
        console.print(f"{kind} ({len(here)}, {size(sum(e.bytes for e in here))})", style="bold")
        for each in here:
            about = each.about
            told = f"{about.get('pair', '?')}, {about.get('what', 'of an earlier version')}"
            room = WIDTH - 36
            told = told if len(told) <= room else f"{told[: room - 1]}…"
            numbers = f"{size(each.bytes):>9}{age(each.changed):>7}"
            console.print(f"  {each.folder.name}  {told:<{room}}{numbers}", markup=False)
            for line in _details(each):
                wrapped = textwrap.wrap(
                    line, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT
                )
                console.print("\n".join(wrapped), style="dim", markup=False)
    say("in all", f"{len(found)} artifacts, {size(sum(each.bytes for each in found))}")


def _details(each: Kept) -> list[str]:
    lines = []
    if each.state != "complete":
        lines.append(f"{each.state}{_how_far(each.folder)}")
    if each.parents:
        lines.append(f"from {', '.join(_short(parent) for parent in each.parents)}")
    if each.runs:
        newest = max(each.runs, key=lambda run: run.partition("/")[2])
        more = f" and {len(each.runs) - 1} more" if len(each.runs) > 1 else ""
        lines.append(f"used by {newest}{more}")
    else:
        lines.append("used by another artifact" if each.used else "unused")
    return lines


def _short(key: str) -> str:
    kind, _, name = key.partition("/")
    return f"{kind}/{name[:SHORT]}"


def _how_far(folder: Path) -> str:
    """Of what is being made: items finished, as the stage last told."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        items = json.loads((folder / PROGRESS).read_text())["items"]
        if items["total"]:
            return f": {items['finished']:,} of {items['total']:,}"
    return ""


def size(count: float) -> str:
    """``61.3 MB``, with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def age(at: float) -> str:
    """``3 h`` since a time in seconds."""
    seconds = max(0.0, datetime.now(UTC).timestamp() - at)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "now"
