"""Forecast beside measured tokens/s of routing on the torch engine.

    python benchmarks/forecast.py [--pair nano] [--batches 1 8 32] [--shares 5 10 30]
                                  [--tokens 128] [--waves 2]

Before each run some forwards of both engines are timed (``r2r.engines.timing``), as ``evaluate``
and ``serve`` do. From these, from how the run's answers took turns, and from how long they and
their prompts are, the model (``r2r.throughput``, ``r2r.workload``) says its tokens/s. So it is the
model of speed that is tested here, not what a router will do. ``LLM alone``: what it says of that.
Nano is asked its own questions: of random ones its models think so unlike that check cuts all.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from functools import partial
from typing import Any

from harness import (
    Shown,
    Target,
    clock,
    finish,
    interleaved,
    middle,
    on_device,
    options,
    parsed,
    spread,
)
from pairs import NANO, Pair, load_pair, load_questions

from r2r.engines.timing import timed
from r2r.policies.acceptance import Ratio
from r2r.policies.base import Prompt
from r2r.policies.check import Check
from r2r.policies.r2r import R2R
from r2r.policies.routed import Policy, Routed
from r2r.throughput import Taken, Timed
from r2r.workload import Work

POLICIES: dict[str, Policy] = {"r2r": R2R(), "check": Check(every=32, accept=Ratio(tau=0.1))}


def measure(
    pair: Pair, generator: Routed, policy: str, share: float, given: argparse.Namespace
) -> dict[str, float]:
    pair.ours()
    pair.share(share / 100)
    generator.policy = POLICIES[policy]
    batch = generator.concurrency
    prompts = pair.prompts(batch * (given.waves if batch > 1 else 1), given.tokens)
    read = round(statistics.fmean(len(prompt.tokens) for prompt in prompts))
    text = [token for prompt in prompts[: 1 + given.tokens // read] for token in prompt.tokens]
    text *= 1 + (read + given.tokens) // len(text)
    forwards = asyncio.run(
        timed(generator.slm, generator.llm, text, batch, reads=100 / share, scored=True,
              lengths=Work(read, [given.tokens] * batch).texts(batch), together=False, clock=clock)
    )  # fmt: skip
    return beside(generator, forwards, prompts)


def beside(generator: Routed, forwards: Timed, prompts: list[Prompt]) -> dict[str, float]:
    """A run's tokens/s, and what ``forwards`` say of it."""
    began, began_wall = clock(), time.perf_counter()
    traces = generator.generate(prompts)
    seconds, wall = clock() - began, time.perf_counter() - began_wall
    taken = Taken()
    for trace in traces:
        taken.add(trace)
    read = statistics.fmean(len(prompt.tokens) for prompt in prompts)
    work = Work(read, [len(trace.steps) for trace in traces])
    said = work.rate(forwards, taken.turns, generator.concurrency)
    found = taken.tokens / seconds
    return {
        "llm_share": sum(trace.count("llm") for trace in traces) / taken.tokens,
        "under_way": taken.seconds / wall,
        "tokens_per_s": found,
        "forecast": said,
        "error": said / found - 1,
        "llm_alone": work.alone(forwards, generator.concurrency),
    }


def compare(pair: Pair, batch: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    generator = pair.routed(batch, None, False)
    tried = [(policy, share) for policy in POLICIES for share in given.shares]
    runs = interleaved(
        {f"{policy} {share:g}": partial(measure, pair, generator, policy, share, given)
         for policy, share in tried},
        given.repeats, warmups=given.warmups,
    )  # fmt: skip
    rows = []
    for (policy, share), found in zip(tried, runs.values(), strict=True):
        rates = [run["tokens_per_s"] for run in found]
        rows.append({"batch": batch, "policy": policy, "share": share / 100} | middle(found)
                    | {"spread": spread(rates)})  # fmt: skip
    return rows


def main() -> int:
    parser = on_device(options(__doc__, repeats=3))
    parser.add_argument("--pair", default="nano")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--shares", type=float, nargs="+", default=[5, 10, 30])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--waves", type=int, default=2)
    parser.add_argument("--warmups", type=int, default=1)
    given = parsed(parser)
    pair = load_pair(given.pair, given.device)
    if given.pair == "nano":
        pair.questions = load_questions("nano", NANO / "data" / "test.jsonl")
    rows = [row for batch in given.batches for row in compare(pair, batch, given)]
    name = given.pair if given.pair in ("nano", "medium") else "own"
    show(given, name, rows, {"tokens": given.tokens, "waves": given.waves}, most=15.0)
    return 0


def show(
    given: argparse.Namespace,
    name: str,
    rows: list[dict[str, Any]],
    about: dict[str, Any],
    *,
    most: float,
) -> None:
    """The table and the record; the median error is to be ``most`` %."""
    lines = [
        [f"{row['batch']}", row["policy"], f"{100 * row['llm_share']:.0f}",
         f"{row['under_way']:.0f}", f"{row['tokens_per_s']:.1f}", f"{100 * row['spread']:.0f}",
         f"{row['forecast']:.1f}",
         f"{100 * row['error']:+.0f}", f"{row['llm_alone']:.1f}"] for row in rows
    ]  # fmt: skip
    columns = ("batch", "policy", "LLM %", "under way", "tok/s", "± %", "forecast", "off %",
               "LLM alone")  # fmt: skip
    off = statistics.median(abs(row["error"]) for row in rows)
    targets = [Target("median error, %", 100 * off, most, most=True)]
    shown = Shown(f"{name}: forecast and measured", "", columns, lines)
    finish(given, f"forecast_{name}", rows, about, shown, targets)


if __name__ == "__main__":
    sys.exit(main())
