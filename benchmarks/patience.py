"""Two rules of delayed batching in one process, simulated: patience, and so many that must wait.

    python benchmarks/patience.py

``patience`` is the torch engine's rule (src/r2r/engines/torch/delay.py): handoffs wait while what
waiting has lost, in steps of the SLM, is below what a forward of the LLM costs. ``enough``: the LLM
starts once as many wait as the throughput model finds best for just these costs, requests and
handoffs. Costs of the LLM's forward in SLM steps, growing by 2 or 15 % with each request; the SLM's
by 1.2 %. Nothing is timed: every machine gets the same figures.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
from typing import Any

from harness import Shown, finish, options, parsed

from r2r.engines.torch.delay import BASE, CENTRE
from r2r.throughput import CALLS, Forward, Pair, Turns, best

COSTS = {1.5: 1.5, 4: 6, 10: 6}  # of the LLM's forward: what ``delay.derived`` takes them to
GROWTH, REQUESTS, HANDOFFS = (0.02, 0.15), (4, 8, 32, 64), (0.05, 0.1, 0.3)


def patient(pair: Pair, handoff: float, requests: int, patience: float) -> float:
    """Tokens per SLM step of one request, with the engine's rule."""
    draw = random.Random(0)
    small, large, waited, made = requests, 0, 0.0, 0
    now, began, begun = 0.0, 0.0, 0
    while made < CALLS:
        lost = large / small if small else float("inf")
        if large and waited + lost > patience:
            now += pair.llm(large)
            made, small, large, waited = made + large, small + large, 0, 0.0
        else:
            waited += lost if large else 0.0
            now += pair.slm(small)
            away = sum(draw.random() < handoff for _ in range(small))
            small, large = small - away, large + away
        if made < CALLS // 10:
            began, begun = now, made
    return (made - begun) / handoff / (now - began)


def compare(cost: float, growth: float, requests: int, handoff: float) -> dict[str, Any]:
    llm = Forward({1: cost, 64: cost * (1 + 63 * growth)})
    pair = Pair(Forward({1: 1.0, 64: 1.0 + 63 * 0.012}), llm, together=False)
    enough, rate = best(pair, Turns.routed(handoff), requests)
    ours = patient(pair, handoff, requests, COSTS[cost])
    return {
        "cost": cost, "growth": growth, "requests": requests, "handoff": handoff,
        "enough": enough, "rate": rate, "patience": ours,
        "none": patient(pair, handoff, requests, 0.0), "gain": ours / rate - 1,
    }  # fmt: skip


def main() -> int:
    given = parsed(options(__doc__, repeats=1))
    assert all(CENTRE * BASE**n in COSTS.values() for n in (0, 1))
    tried = itertools.product(COSTS, GROWTH, REQUESTS, HANDOFFS)
    rows = [compare(*at) for at in tried]
    lines = [
        [f"{cost:g}, {requests}"]
        + [f"{100 * value:+.1f}" for value in (min(g), statistics.median(g), max(g))]
        + [f"{100 * statistics.median(r['none'] / r['rate'] - 1 for r in here):+.1f}"]
        for (cost, requests), here in itertools.groupby(
            sorted(rows, key=lambda r: (r["cost"], r["requests"])),
            key=lambda r: (r["cost"], r["requests"]),
        )
        for here in [list(here)]
        for g in [[row["gain"] for row in here]]
    ]
    columns = ("LLM's cost, requests", "least", "median", "most", "no waiting")
    every = [row["gain"] for row in rows]
    caption = (
        f"% against so many that must wait; of all: median {100 * statistics.median(every):+.1f}"
    )
    finish(given, "patience", rows, {}, Shown("Patience", caption, columns, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
