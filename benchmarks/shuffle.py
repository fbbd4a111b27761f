"""Does shuffling in blocks cost validation loss? Full shuffles beside blocks, on real labels.

    python benchmarks/shuffle.py [--seeds 3] [--epochs 5] [--window 16384] [key=value ...]

The keys are those of run.py, which must have made the labels (``python run.py stages=[label]``).
Each seed trains the run's router twice, from the same weights. ``--window``: rows that are shuffled
among each other; it should be a small part of the labels, as the product's is of large ones.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from harness import Shown, Target, finish, interleaved, options, parsed

from r2r.errors import ConfigError
from r2r.stages.compose import compose
from r2r.stages.label import open_labels
from r2r.stages.train import sized
from r2r.stages.workbench import Workbench
from r2r.training import data
from r2r.training.fit import train_router

FULL = 2**40


def loss(bench: Workbench, window: int, seed: int, epochs: int) -> float:
    """The best epoch's validation loss."""
    data.WINDOW = window
    bench.config.seed = seed
    router, config = sized(bench)
    config = replace(config, max_epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        found = train_router(
            bench.new_router(router), open_labels(bench), config, Path(folder), seed=seed,
            loggers=[], progress=lambda done, most, note: None,
        )  # fmt: skip
    return found.metrics["val_loss"]


def main() -> int:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--window", type=int, default=16_384)
    parser.add_argument("overrides", nargs="*", default=[])
    given = parsed(parser)
    try:
        bench = Workbench(*compose(given.overrides))
        rows = len(data.TokenRows(open_labels(bench), "train"))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    full, blocks = [], []
    for seed in range(given.seeds):
        found = interleaved(
            {"full": lambda seed=seed: loss(bench, FULL, seed, given.epochs),
             "blocks": lambda seed=seed: loss(bench, given.window, seed, given.epochs)},
            repeats=1, warmups=0,
        )  # fmt: skip
        full += found["full"]
        blocks += found["blocks"]
    made = [{"seed": n, "full": a, "blocks": b}
            for n, (a, b) in enumerate(zip(full, blocks, strict=True))]  # fmt: skip
    lines = [[str(row["seed"]), f"{row['full']:.4f}", f"{row['blocks']:.4f}"] for row in made]
    # Worse by no more than what another seed changes.
    worse = statistics.fmean(blocks) - statistics.fmean(full)
    target = Target("blocks' mean loss above full's", worse, max(full) - min(full), most=True)
    title = f"Validation loss, {rows:,} rows, windows of {given.window:,}"
    shown = Shown(title, "", ("seed", "full shuffle", "in blocks"), lines)
    about = {"train_rows": rows, "window": given.window, "epochs": given.epochs, "run": data.RUN}
    finish(given, "shuffle", made, about, shown, [target])
    return 0


if __name__ == "__main__":
    sys.exit(main())
