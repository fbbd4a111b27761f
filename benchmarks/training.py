"""Training's rows per second: the loader alone, and whole steps beside steps on ready tensors.

    python benchmarks/training.py [--rows 40000 ...] [--steps 3] [--repeats 3]

Synthetic shards in our format (hidden 1536, 100 logits); the paper's network at that width.
Peers: the same step on tensors already in memory; and, for the loader, the published layout read
through Hugging Face datasets row by row, with PyTorch's default collate. Several ``--rows``: does
the memory grow with the dataset? ``MB``: what the process itself holds, mapped files not counted.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from datasets import Dataset
from harness import clock, finish, interleaved, middle, options, parsed, spread, table
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from r2r.labeling.dataset import ShardWriter
from r2r.routers.mlp import MLPRouter
from r2r.training.data import Batch, RouterDataModule, Split, TokenRows
from r2r.training.module import RouterModule

HIDDEN, TOP, VOCAB = 1536, 100, 1000
SHARD = 20_000
BATCH = 1024
PEER_ROWS = 4096


class Shards:
    """Label shards of noise, memory-mapped."""

    def __init__(self, folder: Path, rows: int):
        draw = np.random.default_rng(0)
        self.shards: list[dict[str, np.ndarray]] = []
        for first in range(0, rows, SHARD):
            count = min(SHARD, rows - first)
            shard = folder / str(first)
            shard.mkdir()
            hidden = draw.standard_normal((count, HIDDEN), dtype=np.float32)
            columns = {
                "small_logits": -np.sort(-draw.standard_normal((count, TOP), dtype=np.float32)),
                "small_last_hidden_states": hidden,
                "small_token": draw.integers(0, VOCAB, count),
                "position": np.arange(count),
                "divergent": hidden[:, 0] > 1,
            }
            with ShardWriter(shard, count) as writer:
                writer.append(columns)
            self.shards.append({n: np.load(shard / f"{n}.npy", mmap_mode="r") for n in columns})

    def rows(self, split: Split, *, labelled: bool = True) -> list[np.ndarray]:
        return [np.arange(len(shard["divergent"])) for shard in self.shards]


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
    return data._loader(rows, DistributedSampler(rows, num_replicas=1, rank=0))


def published(shards: Shards) -> DataLoader[Any]:
    """PEER_ROWS rows in the published layout, a Python row at a time."""
    first = {name: column[:PEER_ROWS] for name, column in shards.shards[0].items()}
    rows = Dataset.from_dict({name: list(column) for name, column in first.items()})
    return DataLoader(rows.with_format("torch"), batch_size=BATCH, shuffle=True)  # type: ignore[arg-type]


def module() -> RouterModule:
    torch.manual_seed(0)
    network = MLPRouter(
        inputs=["hidden", "token", "logits"], normalize_input=False, hidden_size=HIDDEN, top_k=TOP,
        hidden_dims=[1024] * 6, expansion=4, dropout=0.1,
        token_embeddings=torch.randn(VOCAB, HIDDEN),
    )  # fmt: skip
    made = RouterModule(
        network, lr=1e-4, betas=[0.9, 0.999], weight_decay=0.0, pos_weight=1.0, seed=0
    )
    made.log = lambda *args, **named: None  # type: ignore[method-assign]
    return made


class Took(pl.Callback):
    """Seconds from the first batch's start to the last one's end, reading included."""

    seconds = began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = clock()

    def on_train_batch_end(self, *args: Any) -> None:
        self.seconds = clock() - self.began


def fit(shards: Shards, steps: int, precision: Any) -> float:
    """Rows/s of the product's training."""
    took = Took()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    trainer = pl.Trainer(
        accelerator="cpu", precision=precision, max_steps=steps, callbacks=[took], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip
    data = RouterDataModule(labels=shards, batch_size=BATCH, num_workers=0, seed=0)
    trainer.fit(module(), data)
    return steps * BATCH / took.seconds


def ready(shards: Shards, steps: int) -> float:
    """Rows/s of the same steps on one batch that lies in memory."""
    made = module()
    made.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    optimizer = made.configure_optimizers()
    batch = TokenRows(shards, "train").__getitems__(list(range(BATCH)))
    began = clock()
    for step in range(steps):
        optimizer.zero_grad()
        made.training_step(batch, step).backward()
        optimizer.step()
    return steps * BATCH / (clock() - began)


def main() -> int:
    parser = options(__doc__, repeats=2)
    parser.add_argument("--rows", type=int, nargs="+", default=[40_000])
    parser.add_argument("--steps", type=int, default=3)
    given = parsed(parser)
    found_rows, lines = [], []
    for number, rows in enumerate(given.rows):
        with tempfile.TemporaryDirectory() as folder:
            shards = Shards(Path(folder), rows)
            ours, peer = loader(shards), published(shards)
            systems: dict[str, Callable[[], float]] = {
                "loader": lambda ours=ours, rows=rows: rate(ours, min(rows, 200_000)),
                "loader, datasets": lambda peer=peer: rate(peer, PEER_ROWS),
            }
            if number == 0:
                systems |= {
                    "steps": lambda shards=shards: fit(shards, given.steps, "32-true"),
                    "steps, ready tensors": lambda shards=shards: ready(shards, given.steps),
                    "steps, bf16-mixed": lambda shards=shards: fit(
                        shards, given.steps, "bf16-mixed"
                    ),
                }
            for name, runs in interleaved(systems, given.repeats).items():
                size = sum(column.nbytes for shard in shards.shards for column in shard.values())
                row = {"system": name, "rows": rows, "gb": size / 1e9, "rows_per_s": middle(runs),
                       "spread": spread(runs), "own_mb": own_mb()}  # fmt: skip
                found_rows.append(row)
                lines.append([name, f"{rows:,}", f"{row['gb']:.2f}", f"{row['rows_per_s']:,.0f}",
                              f"{100 * row['spread']:.0f}", f"{row['own_mb']:,.0f}"])  # fmt: skip
    columns = ("system", "dataset rows", "GB", "rows/s", "± %", "MB")
    shown = table(f"Training, batch {BATCH}", "", columns, lines)
    finish("training", found_rows, {"repeats": given.repeats, "steps": given.steps}, shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
