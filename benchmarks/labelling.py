"""Labels per second where lengths differ, beside another version and a naive labeller.

    python benchmarks/labelling.py [--pair nano] [--queries 192] [--before WORKTREE] [key=value ...]
    python benchmarks/labelling.py --pair own pair=local pair.slm.path=... pair.llm.path=...

The keys are those of run.py. ``--before``: a checkout of another version (git worktree add PATH
COMMIT). The naive labeller generates anew at each mismatch. Each labelling is a process of its own
(label_once.py). All must come to the same labels.
Answers have 1 to 191 tokens with medium, as it is made; nano's are cut after 5 to 100, even in the
logarithm; an own pair's are as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import Shown, Target, finish, interleaved, middle, options, parsed, ratio, spread
from pairs import save_medium

ONCE = Path(__file__).with_name("label_once.py")
QUERIES = {"nano": 192, "medium": 24, "own": 30}
NAIVE = {"nano": 24, "medium": 4, "own": 8}  # of them: it takes several times as long for each
SHARE = 0.1  # of the medium pair's tokens that differ
LENGTHS = 5, 100  # of nano's answers
KEYS = {  # shards of half as many queries again as the LLM answers at once, as by default
    "nano": ["engine.max_batch=32", "labeler.shard_queries=48", "pair.think_start=null",
             "pair.think_end=null"],
    "medium": ["engine.max_batch=8", "labeler.shard_queries=12"],
    "own": [],
}  # fmt: skip
WANTED = 0.85  # of the time in the LLM's forwards, with medium


def lengths(name: str, count: int) -> list[int]:
    """Of the answers to ``count`` queries, in an order that means nothing; none: as they come."""
    if name != "nano":
        return []
    least, most = LENGTHS
    spread = [round(least * (most / least) ** (n / max(1, count - 1))) for n in range(count)]
    random.Random(0).shuffle(spread)
    return spread


def once(
    given: argparse.Namespace, count: int, cuts: list[int], keys: Sequence[str], *more: str,
    package: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What one labelling found; ``package``: the checkout whose package labels."""
    env = os.environ | ({"PYTHONPATH": str(package / "src")} if package else {})
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [
            sys.executable, ONCE, "--queries", str(count), "--lengths", json.dumps(cuts),
            "--json", found, "--threads", str(given.threads), "--clock", given.clock, *more, *keys,
            f"outputs={folder}",
        ]  # fmt: skip
        subprocess.run(command, check=True, env=env)
        made = json.loads(found.read_text())
    labels = made.pop("labels")
    rows = sum(map(len, labels.values()))
    return made | {"labels": labels, "labels_per_s": rows / made["seconds"]}


def measure(given: argparse.Namespace, name: str, count: int, keys: list[str]) -> None:
    """One pair: measured, shown and written."""
    cuts, few = lengths(name, count), min(NAIVE[name], count)
    systems = {"ours": lambda: once(given, count, cuts, keys)}
    if given.before:
        before = given.before.resolve()
        systems["before"] = lambda: once(given, count, cuts, keys, package=before)
    systems["naive"] = lambda: once(given, few, cuts[:few], keys, "--naive")
    runs = interleaved(systems, given.repeats, warmups=0)
    labels = runs["ours"][0]["labels"]
    others = [run.pop("labels") for found in runs.values() for run in found]
    same = statistics.fmean(
        marks == labels.get(key) for other in others for key, marks in other.items()
    )
    rows, lines = [], []
    for system, found in runs.items():
        rates = [run["labels_per_s"] for run in found]
        row = {"system": system, "spread": spread(rates)} | middle(found)
        rows.append(row)
        shares = [f"{100 * row[model]:.0f}" if model in row else "" for model in ("slm", "llm")]
        lines.append([system, f"{row['labels_per_s']:.1f}", f"{100 * row['spread']:.0f}", *shares])
    rates = {name: [run["labels_per_s"] for run in found] for name, found in runs.items()}
    targets = [Target("answers labelled alike", same, 1.0)]
    if given.before:
        targets.append(Target("ours / before", ratio(rates["ours"], rates["before"]), 1.0))
    targets.append(Target("ours / naive", ratio(rates["ours"], rates["naive"]), 5.0))
    if name == "medium":
        targets.append(Target("time in the LLM's forwards", rows[0]["llm"], WANTED))
    sizes = sorted(map(len, labels.values()))
    title = f"{name}: {count} queries, {sum(sizes):,} labels, answers of {sizes[0]} to {sizes[-1]}"
    caption = f"forwards: % of the time. naive: the first {few} queries."
    columns = ("labeller", "labels/s", "± %", "SLM forwards", "LLM forwards")
    about = {
        "queries": count, "labels": sum(sizes), "pair": name,
        "before": _commit(given.before) if given.before else None,
    }  # fmt: skip
    shown = Shown(title, caption, columns, lines)
    finish(given, f"labelling_{name}", rows, about, shown, targets)


def _commit(checkout: Path) -> str:
    told = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return told.stdout.strip() or "unknown"


def main() -> int:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--pair", choices=QUERIES, help="own: that of the keys; else nano, medium")
    parser.add_argument("--queries", type=int, help=f"how many ({QUERIES})")
    parser.add_argument("--before", type=Path, help="a checkout of another version, to compare")
    parser.add_argument("overrides", nargs="*", default=[])
    given = parsed(parser)
    for name in [given.pair] if given.pair else ("nano", "medium"):
        count = given.queries or QUERIES[name]
        with tempfile.TemporaryDirectory() as folder:
            made = save_medium(Path(folder), SHARE, count) if name == "medium" else []
            measure(given, name, count, [*made, *KEYS[name], *given.overrides])
    return 0


if __name__ == "__main__":
    sys.exit(main())
