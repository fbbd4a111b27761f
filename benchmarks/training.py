"""Training's rows per second: the loader alone, and whole steps beside steps on ready tensors.

    python benchmarks/training.py [--rows 200000] [--steps 3] [--repeats 3] [--compile]
    python benchmarks/training.py --memory [--rows 300000 2400000]

Synthetic shards in our format (hidden 1536, 100 logits); the paper's network at that width.
Peers: the same steps on tensors already in memory; and, for the loader, the published layout read
through Hugging Face datasets row by row, with PyTorch's default collate. ``--memory``: the loader
alone over datasets of several sizes, each in a process of its own: what that process itself holds
at most beyond what it held before, mapped files not counted.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from harness import (
    Shown,
    Target,
    clock,
    finish,
    interleaved,
    middle,
    options,
    parsed,
    ratio,
    spread,
)
from torch.utils.data import DataLoader

from r2r.labeling.dataset import ShardWriter
from r2r.routers.mlp import MLPRouter
from r2r.training.data import Batch, BlockShuffle, RouterDataModule, Split, TokenRows
from r2r.training.module import RouterModule

HIDDEN, TOP, VOCAB = 1536, 100, 1000
NETWORK = [1024] * 6
SHARD = 20_000
BATCH = 1024
PEER_ROWS = 4096  # a read of the peer


class Shards:
    """Label shards of noise, memory-mapped; all hold the same, each in its own files."""

    def __init__(self, folder: Path, rows: int):
        draw = np.random.default_rng(0)
        count = min(rows, SHARD)
        hidden = draw.standard_normal((count, HIDDEN), dtype=np.float32)
        columns = {
            "small_logits": -np.sort(-draw.standard_normal((count, TOP), dtype=np.float32)),
            "small_last_hidden_states": hidden,
            "small_token": draw.integers(0, VOCAB, count),
            "position": np.arange(count),
            "divergent": hidden[:, 0] > 1,
        }
        first = folder / "0"
        first.mkdir()
        with ShardWriter(first, count) as writer:
            writer.append(columns)
        folders = [first]
        for number in range(1, rows // count):
            folders.append(shutil.copytree(first, folder / str(number)))
        self.shards = [
            {name: np.load(shard / f"{name}.npy", mmap_mode="r") for name in columns}
            for shard in folders
        ]

    def rows(self, split: Split, *, labelled: bool = True) -> list[np.ndarray]:
        return [np.arange(len(shard["divergent"])) for shard in self.shards]

    def gigabytes(self) -> float:
        return sum(column.nbytes for shard in self.shards for column in shard.values()) / 1e9


def own_mb() -> float:
    """Anonymous memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def rate(batches: Any, rows: int) -> float:
    """Rows/s of reading ``rows`` rows."""
    began, seen = clock(), 0
    for _ in batches:
        seen += BATCH
        if seen >= rows:
            break
    return seen / (clock() - began)


def loader(shards: Shards) -> DataLoader[Batch]:
    """The product's own training loader, without its trainer."""
    rows = TokenRows(shards, "train")
    data = RouterDataModule(labels=shards, batch_size=BATCH, num_workers=0, seed=0)
    return data._loader(rows, BlockShuffle(rows, num_replicas=1, rank=0))


def published(shards: Shards) -> DataLoader[Any]:
    """Rows in the published layout, a Python row at a time."""
    from datasets import Dataset

    first = {name: column[:PEER_ROWS] for name, column in shards.shards[0].items()}
    rows = Dataset.from_dict({name: list(column) for name, column in first.items()})
    return DataLoader(rows.with_format("torch"), batch_size=BATCH, shuffle=True)  # type: ignore[arg-type]


def module(compiled: bool) -> RouterModule:
    torch.manual_seed(0)
    network = MLPRouter(
        inputs=["hidden", "token", "logits"], normalize_input=False, hidden_size=HIDDEN, top_k=TOP,
        hidden_dims=NETWORK, expansion=4, dropout=0.1, token_embeddings=torch.randn(VOCAB, HIDDEN),
    )  # fmt: skip
    if compiled:
        network.compile()
    made = RouterModule(
        network, lr=1e-4, betas=[0.9, 0.999], weight_decay=0.0, pos_weight=1.0, seed=0
    )
    made.log = lambda *args, **named: None  # type: ignore[method-assign]
    return made


class Took(pl.Callback):
    """Seconds of all steps but the first, which warms up; reading included."""

    seconds = began = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == 1:
            self.began = clock()
        self.seconds = clock() - self.began


def fit(shards: Shards, steps: int, precision: Any, compiled: bool = False) -> float:
    """Rows/s of the product's training."""
    took = Took()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    trainer = pl.Trainer(
        accelerator="cpu", precision=precision, max_steps=steps + 1, callbacks=[took],
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip
    data = RouterDataModule(labels=shards, batch_size=BATCH, num_workers=0, seed=0)
    trainer.fit(module(compiled), data)
    return steps * BATCH / took.seconds


def ready(shards: Shards, steps: int) -> float:
    """Rows/s of the same steps on one batch that lies in memory."""
    made = module(False)
    made.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    optimizer = made.configure_optimizers()
    batch = TokenRows(shards, "train").__getitems__(list(range(BATCH)))
    began = 0.0
    for step in range(steps + 1):
        optimizer.zero_grad()
        made.training_step(batch, step).backward()
        optimizer.step()
        began = began or clock()  # the first warms up
    return steps * BATCH / (clock() - began)


def steps(given: argparse.Namespace) -> None:
    rows = given.rows[0]
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder), rows)
        ours, peer = loader(shards), published(shards)
        systems = {
            "loader": lambda: rate(ours, rows),
            "loader, datasets": lambda: rate(peer, PEER_ROWS),
            "steps": lambda: fit(shards, given.steps, "32-true"),
            "steps, ready tensors": lambda: ready(shards, given.steps),
            "steps, bf16-mixed": lambda: fit(shards, given.steps, "bf16-mixed"),
        }
        if given.compile:
            systems["steps, compiled"] = lambda: fit(shards, given.steps, "32-true", True)
        runs = interleaved(systems, given.repeats)
    found = [
        {"system": name, "rows_per_s": middle(rates), "spread": spread(rates)}
        for name, rates in runs.items()
    ]
    lines = [[row["system"], f"{row['rows_per_s']:,.0f}", f"{100 * row['spread']:.0f}"]
             for row in found]  # fmt: skip
    targets = [
        Target("steps / steps on ready tensors", ratio(runs["steps"], runs["steps, ready tensors"]),
               0.9),
        Target("loader, rows/s", middle(runs["loader"]), 500_000),
    ]  # fmt: skip
    title = f"Training, batch {BATCH}, {rows:,} rows ({shards.gigabytes():.2f} GB)"
    shown = Shown(title, "", ("system", "rows/s", "± %"), lines)
    about = {"steps": given.steps, "dataset_rows": rows, "gb": shards.gigabytes()}
    finish(given, "training", found, about, shown, targets)


def held(rows: int) -> dict[str, float]:
    """What a process that reads an epoch holds, and its rows/s."""
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder), rows)
        before, most, seen, began = own_mb(), 0.0, 0, clock()
        for _ in loader(shards):
            seen += BATCH
            if seen % (64 * BATCH) == 0:
                most = max(most, own_mb())
        return {"rows": rows, "gb": shards.gigabytes(), "rows_per_s": rows / (clock() - began),
                "own_mb": max(most, own_mb()) - before}  # fmt: skip


def memory(given: argparse.Namespace) -> None:
    command = [sys.executable, __file__, "--threads", str(given.threads), "--held"]
    found = []
    for rows in given.rows:
        print(f"reading {rows:,} rows", file=sys.stderr, flush=True)
        done = subprocess.run([*command, str(rows)], check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    lines = [[f"{row['rows']:,}", f"{row['gb']:.2f}", f"{row['own_mb']:,.0f}",
              f"{row['rows_per_s']:,.0f}"] for row in found]  # fmt: skip
    more = found[-1]["own_mb"] - found[0]["own_mb"]
    shown = Shown("Memory while an epoch is read", "", ("rows", "GB", "own MB", "rows/s"), lines)
    target = Target("MB more for the largest dataset", more, 50.0, most=True)
    finish(given, "memory", found, {}, shown, [target])


def main() -> int:
    parser = options(__doc__, repeats=3)
    parser.add_argument(
        "--rows", type=int, nargs="+", help="default: 200,000; of --memory 300,000 and 2,400,000"
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also steps of a compiled network")
    parser.add_argument("--memory", action="store_true", help="of the loader, by --rows")
    parser.add_argument("--held", type=int, help=argparse.SUPPRESS)
    given = parsed(parser)
    given.rows = given.rows or ([300_000, 2_400_000] if given.memory else [200_000])
    if given.held:
        print(json.dumps(held(given.held)))
    elif given.memory:
        memory(given)
    else:
        steps(given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
