"""A small main job as a command of its own, and whether two of them left the same."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
SMALL = ["labeler.prompts.limit=120", "labeler.shard_queries=20", "benchmark.limit=8",
         "trainer.max_epochs=3", "engine.max_batch=4"]  # fmt: skip
TIMES = {"seconds", "tokens_per_s", "load", "timed_in", "timed_with"}  # what a clock says


def start(
    outputs: Path, *overrides: str, small: list[str] = SMALL, env: dict[str, str] | None = None
) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "run.py"), *small, *overrides, f"outputs={outputs}"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
        start_new_session=True,
    )


def run(
    outputs: Path, *overrides: str, small: list[str] = SMALL, env: dict[str, str] | None = None
) -> str:
    process = start(outputs, *overrides, small=small, env=env)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return out


def kept(journal: Path) -> dict[int, int]:
    """Tokens of each item that a run's journal holds; nothing where there is none."""
    if not journal.exists():
        return {}
    with contextlib.closing(sqlite3.connect(journal)) as database:
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return dict(database.execute("SELECT key, tokens FROM items")) if tables else {}


def results(outputs: Path) -> dict:
    return json.loads((outputs / "latest" / "results.json").read_text())


def numbers(found: dict) -> dict:
    """Results without what a clock says."""
    return {
        name: {key: value for key, value in figures.items() if key not in TIMES}
        for name, figures in found["systems"].items()
    }


def samples(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def traces(outputs: Path) -> dict[str, list[dict]]:
    """Every answer of each system, token by token, without what a clock says."""
    found = {}
    for path in sorted((outputs / "latest" / "samples").glob("*.jsonl")):
        found[path.stem] = [row | {"trace": dict(row["trace"], seconds=0)} for row in samples(path)]
    return found


def only(folder: Path) -> Path:
    """The one artifact of a kind."""
    (found,) = folder.iterdir()
    return found


def assert_same(one: Path, other: Path) -> None:
    """Two outputs hold the same labels and router to the byte, the same answers and results."""
    labels = [only(each / "artifacts" / "labels") for each in (one, other)]
    same_files(*labels)
    routers = [only(each / "artifacts" / "router") for each in (one, other)]
    assert routers[0].name == routers[1].name
    for name in ("router.safetensors", "router.json", "manifest.json"):
        assert content(routers[0] / name) == content(routers[1] / name), name
    assert not list(routers[1].glob("*.ckpt"))
    for system, rows in traces(one).items():
        same_answers(rows, traces(other)[system])
    assert numbers(results(one)) == numbers(results(other))


def same_answers(ones: list[dict], others: list[dict], atol: float = 1e-5) -> None:
    """Token by token; scores to ``atol``, since the order of a batch decides their last bits."""
    for one, other in zip(ones, others, strict=True):
        scores = [np.array(row["trace"].pop("scores"), float) for row in (one, other)]
        assert one == other
        np.testing.assert_allclose(*scores, atol=atol)


def same_files(one: Path, other: Path) -> None:
    assert one.name == other.name
    found = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in (one, other)]
    assert found[0] and found[0] == found[1]
    for file in found[0]:
        assert content(one / file) == content(other / file), file


def content(file: Path) -> bytes | dict:
    """A file's bytes; an artifact's manifest without who made it, and when."""
    if file.name != "manifest.json":
        return file.read_bytes()
    return {key: value for key, value in json.loads(file.read_text()).items() if key != "made"}
