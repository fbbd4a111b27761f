"""Delayed batching on the torch engine: tokens/s by how long handoffs wait for company.

    python benchmarks/delay.py [--pair nano] [--batches 8 32] [--tokens 128] [--waves 6]
                               [--patience 0 1 4 16]

``--waves`` times as many prompts as run at once, so that a finished answer makes room for the next.
``patience``: SLM steps that waiting may lose (src/r2r/engines/torch/delay.py); one row is what the
engine derives from its measured costs.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

from harness import Shown, clock, finish, interleaved, middle, on_device, options, parsed, spread
from pairs import Pair, load_pair

from r2r.engines.torch.engine import TorchEngine
from r2r.policies.routed import Routed


def measure(
    pair: Pair, generator: Routed, patience: float, waves: int, tokens: int
) -> dict[str, float]:
    slm, llm = generator.slm, generator.llm
    assert isinstance(slm, TorchEngine) and isinstance(llm, TorchEngine)
    llm.patience = patience
    before = slm.steps, llm.steps
    prompts = pair.prompts(waves * generator.concurrency, tokens)
    began = clock()
    traces = generator.generate(prompts)
    seconds = clock() - began
    forwards = llm.steps - before[1]
    by_llm = sum(trace.count("llm") for trace in traces)
    return {
        "tokens_per_s": sum(len(trace.steps) for trace in traces) / seconds,
        "slm_steps": slm.steps - before[0],
        "llm_steps": forwards,
        "rows": by_llm / forwards if forwards else 0.0,
    }


def compare(pair: Pair, batch: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    generator = pair.routed(batch, None, False)
    assert isinstance(generator.llm, TorchEngine)
    derived = generator.llm.patience
    pair.ours()
    pair.share(given.share / 100)
    tried = sorted({*given.patience, derived})
    runs = interleaved(
        {str(p): partial(measure, pair, generator, p, given.waves, given.tokens) for p in tried},
        given.repeats,
    )
    rows = []
    for patience, found in zip(tried, runs.values(), strict=True):
        rates = [run["tokens_per_s"] for run in found]
        row = {"batch": batch, "patience": patience, "derived": patience == derived}
        rows.append(row | {"spread": spread(rates)} | middle(found))
    return rows


def main() -> int:
    parser = on_device(options(__doc__, repeats=3))
    parser.add_argument("--pair", default="nano")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--patience", type=float, nargs="+", default=[0, 0.5, 1, 2, 4, 16])
    parser.add_argument("--share", type=float, default=10)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--waves", type=int, default=6)
    given = parsed(parser)
    pair = load_pair(given.pair, given.device)
    rows = [row for batch in given.batches for row in compare(pair, batch, given)]
    lines = [
        [f"{row['batch']}", f"{row['patience']:g}{' *' if row['derived'] else ''}",
         f"{row['tokens_per_s']:.1f}", f"{100 * row['spread']:.0f}", f"{row['slm_steps']:.0f}",
         f"{row['llm_steps']:.0f}", f"{row['rows']:.1f}"] for row in rows
    ]  # fmt: skip
    columns = ("batch", "patience", "tok/s", "± %", "SLM steps", "LLM forwards", "rows")
    shown = Shown(f"{given.pair}, {given.share:g} % by the LLM", "*: as derived", columns, lines)
    about = {"share": given.share, "tokens": given.tokens, "waves": given.waves}
    name = given.pair if given.pair in ("nano", "medium") else "own"
    finish(given, f"delay_{name}", rows, about, shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
