"""Does the cost of a routed answer grow linearly with its length, and its memory as predicted?

    python benchmarks/lengths.py [--pair medium] [--lengths 256 512 1024 2048 4096] [--share 10]

Batch 1. ``of it forwards``: what the forwards take alone (benchmarks/watch.py): attention over a
longer text takes longer, the engine around it should not. ``KV predicted``: layers x 2 x KV heads
x head size x bytes, of both models, for every token of prompt and answer.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from decode import ours
from harness import Shown, Target, finish, interleaved, middle, on_device, options, parsed, spread
from pairs import PROMPT, Pair, load_pair
from watch import bandwidth

from r2r.engines.torch.cache import SMALLEST


def predicted_mb(pair: Pair, tokens: int) -> float:
    """Of the KV cache of both models, for one answer."""
    total = 0
    for model in (pair.slm, pair.llm):
        shape = model.config.get_text_config()
        width = shape.num_key_value_heads * shape.head_dim * model.dtype.itemsize
        total += 2 * shape.num_hidden_layers * width * (PROMPT + tokens)
    return total / 1e6


def measure(pair: Pair, share: float, speed: float, tokens: int) -> dict[str, float]:
    return ours(pair, pair.routed(1, 0, False), 1, speed, share, tokens)


def main() -> int:
    parser = on_device(options(__doc__, repeats=1))
    parser.add_argument("--pair", default="medium")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--share", type=float, default=10)
    given = parsed(parser)
    speed = bandwidth(given.device)
    pair = load_pair(given.pair, given.device)
    measure(pair, given.share / 100, speed, 8)  # warms up
    runs = interleaved(
        {str(n): partial(measure, pair, given.share / 100, speed, n) for n in given.lengths},
        given.repeats, warmups=0,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for length, found in zip(given.lengths, runs.values(), strict=True):
        rates = [run["tokens_per_s"] for run in found]
        row = {
            "length": length,
            "spread": spread(rates),
            "predicted_mb": predicted_mb(pair, length),
        }
        rows.append(row | middle(found))
    lines = [
        [f"{row['length']:,}", f"{row['tokens_per_s']:.1f}", f"{100 * row['spread']:.0f}",
         f"{1000 / row['tokens_per_s']:.2f}",
         f"{1000 * row['efficiency'] / row['tokens_per_s']:.2f}",
         f"{row['kv_mb']:.1f}", f"{row['predicted_mb']:.1f}"] for row in rows
    ]  # fmt: skip
    columns = ("answer", "tok/s", "± %", "ms/token", "of it forwards", "KV MB", "predicted")
    caption = ""
    shown = Shown(f"{given.pair}, {given.share:g} % by the LLM, batch 1", caption, columns, lines)
    # Rows of the cache have room for powers of two.
    long = (row for row in rows if row["length"] >= SMALLEST)
    most = max(row["kv_mb"] / (2 * row["predicted_mb"]) for row in long)
    targets = [Target("KV held / twice what is predicted", most, 1.0, most=True)]
    finish(given, f"lengths_{given.pair}", rows, {"share": given.share}, shown, targets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
