"""Disturb jobs in every way a machine can: python tests/drill.py (make drill)

A small main job runs undisturbed once. Then, each time in new outputs, it is killed, terminated or
interrupted at a random moment, finds the disk full or read-only, or the clock set to another day;
after that the same command must run to its end and leave the same labels and router to the byte,
the same answers token by token, and the same results. Prints a tally last; exits with 1 where
anything was not as it should be.

Full and read-only disks are tmpfs mounts and need root, clocks need libfaketime (Debian:
faketime); without them these faults are left out, and the tally says so.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from job import assert_same, run, start

JOB = ["labeler.prompts.limit=60", "labeler.shard_queries=10", "benchmark.limit=6",
       "trainer.max_epochs=3", "engine.max_batch=4", "threshold=0.1"]  # fmt: skip
SYSTEMS = 4  # that the job scores
STAGES = ("start", "label", "train", "calibrate", "evaluate", "report")
ENDS = {
    signal.SIGKILL: ([-signal.SIGKILL], ""),
    signal.SIGTERM: ([143], "terminated; the same command goes on from here"),
    signal.SIGINT: ([130], "interrupted; the same command goes on from here"),
}
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
MARK = "R2R_DRILL"  # in the environment of all that a job starts
DAY_S = 86_400


@dataclass
class Undisturbed:
    outputs: Path
    seconds: dict[str, float]  # by stage
    bytes: int


@dataclass
class Tally:
    """Of one kind of fault: how often, in which stage, and what went wrong."""

    name: str
    stages: Counter = field(default_factory=Counter)
    tried: int = 0
    wrong: list[str] = field(default_factory=list)
    left_out: str = ""

    def line(self) -> str:
        if self.left_out:
            return f"{self.name:<12} left out: {self.left_out}"
        where = ", ".join(f"{stage} {count}" for stage, count in self.stages.items())
        return f"{self.name:<12} {self.tried - len(self.wrong)}/{self.tried}  ({where})"


def undisturbed(folder: Path) -> Undisturbed:
    run(folder / "first", small=JOB)  # fills caches of the interpreter and of matplotlib
    seconds = timed(folder / "undisturbed")
    assert_same(folder / "first", folder / "undisturbed")
    files = [p for p in (folder / "undisturbed").rglob("*") if p.is_file() and not p.is_symlink()]
    return Undisturbed(folder / "undisturbed", seconds, sum(p.stat().st_size for p in files))


def timed(outputs: Path) -> dict[str, float]:
    """Run a job; how long each of its stages took."""
    process, seconds, began = start(outputs, small=JOB), dict.fromkeys(STAGES, 0.0), 0.0
    while process.poll() is None:
        before, began = began, time.monotonic()
        seconds[stage(outputs)] += began - before if before else 0.0
        time.sleep(0.02)
    ended(process, [0], "")
    return seconds


def stage(outputs: Path) -> str:
    """What a job is doing, or was when it ended."""
    artifacts = outputs / "artifacts"
    for kind, name, count in (
        ("labels", "label", 1), ("router", "train", 1), ("calibration", "calibrate", 1),
        ("evaluation", "evaluate", SYSTEMS),
    ):  # fmt: skip
        if len(list(artifacts.glob(f"{kind}/*/manifest.json"))) < count:
            begun = any(artifacts.glob(f"{kind}/*")) or kind != "labels"
            return name if begun else "start"
    return "report"


def ended(process: subprocess.Popen, codes: list[int], says: str) -> None:
    """It ends as it should: with one of ``codes``, and one line that starts with ``says``."""
    _, err = process.communicate(timeout=120)
    lines = err.strip().splitlines()
    assert process.returncode in codes, f"exit code {process.returncode}: {lines[-2:]}"
    assert len(lines) == bool(says) and err.startswith(says), f"said {lines[:2]} ... {lines[-2:]}"


def no_process_left(mark: str) -> None:
    wanted = f"{MARK}={mark}".encode()
    until = time.monotonic() + 10
    while True:
        left = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    left.append((entry / "cmdline").read_bytes().replace(b"\0", b" ")[:80])
        if not left:
            return
        assert time.monotonic() < until, f"processes left: {left}"
        time.sleep(0.2)


@dataclass
class Moment:
    """When ``share`` of a stage's usual time has passed."""

    stage: str
    share: float


def running_at(
    moment: Moment, base: Undisturbed, outputs: Path, env: dict[str, str]
) -> subprocess.Popen:
    """A job that has come to a moment. Another one where it is faster now, and over by then."""
    process = start(outputs, small=JOB, env=env)
    while STAGES.index(stage(outputs)) < STAGES.index(moment.stage) and process.poll() is None:
        time.sleep(0.02)
    try:
        process.wait(timeout=max(0.5, moment.share * base.seconds[moment.stage]))
    except subprocess.TimeoutExpired:
        return process
    ended(process, [0], "")
    shutil.rmtree(outputs)
    return running_at(Moment(moment.stage, moment.share / 2), base, outputs, env)


def stopped(base: Undisturbed, outputs: Path, number: signal.Signals, moment: Moment) -> str:
    """Send a signal to a job at a moment; the stage it was in."""
    process = running_at(moment, base, outputs, {MARK: str(outputs)})
    os.kill(process.pid, number)
    process.wait(timeout=120)
    # Python was starting, or had done its work and was ending.
    unheard = stage(outputs) == "start" or (outputs / "latest").exists()
    unheard &= process.returncode == -number
    ended(process, *([-number], "") if unheard else ENDS[number])
    no_process_left(str(outputs))
    return stage(outputs)


def by_signal(number: signal.Signals, moment: Moment) -> Callable[[Undisturbed, Path], str]:
    return lambda base, outputs: stopped(base, outputs, number, moment)


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of ``size`` bytes at ``folder``."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def on_full_disk(share: float) -> Callable[[Undisturbed, Path], str]:
    """The disk holds ``share`` of what the job writes; then there is room."""

    def fault(base: Undisturbed, outputs: Path) -> str:
        with disk(outputs, int(share * base.bytes)):
            ended(start(outputs, small=JOB), [2], "error: outputs")
            where = stage(outputs)
            remount(outputs, f"size={4 * base.bytes}")
            run(outputs, small=JOB)
            assert_same(base.outputs, outputs)
        return where

    return fault


def read_only(stages: str) -> Callable[[Undisturbed, Path], str]:
    """The disk is read-only once ``stages`` are done; then it can be written again."""

    def fault(base: Undisturbed, outputs: Path) -> str:
        with disk(outputs, 4 * base.bytes):
            if stages:
                run(outputs, f"stages=[{stages}]", small=JOB)
            remount(outputs, "ro")
            ended(start(outputs, small=JOB), [2], "error: outputs")
            where = stage(outputs)
            remount(outputs, "rw")
            run(outputs, small=JOB)
            assert_same(base.outputs, outputs)
        return where

    return fault


def clock_jumps(days: int, moment: Moment) -> Callable[[Undisturbed, Path], str]:
    """The clock is set to another day while the job runs."""

    def fault(base: Undisturbed, outputs: Path) -> str:
        offset = outputs.with_suffix(".clock")
        offset.write_text("+0")
        env = {
            "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        process = running_at(moment, base, outputs, env)
        offset.write_text(f"{days * DAY_S:+d}")
        where = stage(outputs)
        ended(process, [0], "")
        return where

    return fault


def files_of_another_time(when: float) -> Callable[[Undisturbed, Path], str]:
    """A killed job goes on with files that are dated 1970 or 2040."""

    def fault(base: Undisturbed, outputs: Path) -> str:
        where = stopped(base, outputs, signal.SIGKILL, Moment("evaluate", 0.5))
        for path in outputs.rglob("*"):
            os.utime(path, (when, when), follow_symlinks=False)
        return where

    return fault


def why_not_mount() -> str:
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True
        )
        if tried.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return "" if tried.returncode == 0 else "mounting a tmpfs needs root"


def faults(each: int, seed: int) -> list[tuple[str, str, list]]:
    """Name, why it cannot be had here, and what to try."""
    rng = random.Random(seed)
    kinds: list[tuple[str, str, list]] = []
    for number in ENDS:
        stages = rng.sample(STAGES, len(STAGES)) * each
        moments = [Moment(name, rng.random()) for name in stages[:each]]
        kinds.append((number.name, "", [by_signal(number, moment) for moment in moments]))
    mount, clock = why_not_mount(), "" if FAKETIME else "libfaketime is not installed"
    full = [on_full_disk(rng.uniform(*part)) for part in ((0, 0.2), (0.2, 0.5), (0.5, 0.9))]
    kinds.append(("disk full", mount, full))
    kinds.append(("read-only", mount, [read_only(s) for s in ("", "label", "label,train")]))
    days = dict(zip((-400, -1, 1, 400), ("label", "train", "evaluate", "label"), strict=True))
    jumps = [clock_jumps(by, Moment(name, rng.random())) for by, name in days.items()]
    kinds.append(("clock jump", clock, jumps))
    dates = [files_of_another_time(when) for when in (0, 2_208_988_800)]
    kinds.append(("file dates", "", dates))
    return kinds


def drill(folder: Path, each: int, seed: int, kinds: list[str]) -> list[Tally]:
    base = undisturbed(folder)
    tallies = []
    for name, left_out, tries in faults(each, seed):
        if kinds and name not in kinds:
            continue
        tally = Tally(name, left_out=left_out)
        tallies.append(tally)
        for fault in [] if left_out else tries[:each]:
            tally.tried += 1
            outputs = folder / f"{name.replace(' ', '-')}-{tally.tried}"
            where, told = "?", "as undisturbed"
            try:
                where = fault(base, outputs)
                tally.stages[where] += 1
                if any(outputs.iterdir()):  # not a disk, unmounted by now
                    run(outputs, small=JOB)
                    assert_same(base.outputs, outputs)
                shutil.rmtree(outputs)
            except AssertionError as error:
                told = f"{outputs}: {error}"
                tally.wrong.append(told)
            print(f"{name} {tally.tried} in {where}: {told}", flush=True)
    return tallies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=10, help="tries of each kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="kinds of fault, e.g. SIGTERM")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unmounts, and clears up
    with tempfile.TemporaryDirectory(prefix="r2r-drill-") as folder:
        tallies = drill(Path(folder), given.each, given.seed, given.only)
    wrong = [line for tally in tallies for line in tally.wrong]
    print("", *wrong, "Ended as undisturbed, after:", sep="\n")
    print(*(tally.line() for tally in tallies), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
