"""Policies on the medium pair, each at a point at which the nano pair answers as well as its LLM.

    python benchmarks/policies.py [--batches 1 8] [--tokens 64]

Beside the LLM alone and transformers' assisted generation (batch 1). What decides is made
(benchmarks/pairs.py) to be as it was on nano (experiments/arena): the SLM errs on the share of
tokens that the LLM corrects there, the router fires on these and on as many others as its threshold
had; for exact speculation it differs from the LLM as often as on nano, wording included. Answers of
one length that no end token ends.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

from decode import transformers
from harness import Shown, clock, finish, interleaved, middle, on_device, options, parsed, spread
from pairs import Pair, load_pair

from r2r.costs import Forwards
from r2r.policies.acceptance import Exact, Ratio
from r2r.policies.base import Generator
from r2r.policies.check import Check
from r2r.policies.r2r import R2R
from r2r.policies.routed import Policy
from r2r.policies.speculative import Speculative

# On nano, of the tokens: those that check has the LLM correct, and those at which models differ.
WRONG, DIFFERENT = 0.028, 0.085


@dataclass(frozen=True)
class Point:
    """A policy, the share of tokens on which the SLM errs and of those on which the router fires;
    ``nano``: the arena's accuracy at the point of this name, in percent."""

    policy: Policy
    wrong: float
    fires: float
    nano: float


POINTS = {
    "r2r_quality": Point(R2R(), WRONG, 0.084, 98.9),
    "check_90": Point(Check(every=32, accept=Ratio(tau=0.3)), WRONG, 0.053, 99.8),
    "check_share": Point(Check(every=32, accept=Ratio(tau=0.3)), WRONG, 0.0, 99.8),
    "lossy_8": Point(Speculative(draft_tokens=8, accept=Ratio(tau=0.3)), WRONG, 0.0, 99.8),
    "lossy_share": Point(Speculative(draft_tokens=32, accept=Ratio(tau=0.05)), WRONG, 0.0, 99.3),
    "draft_8": Point(Speculative(draft_tokens=8, accept=Exact()), DIFFERENT, 0.0, 99.8),
}


def run(
    pair: Pair, generator: Generator, wrong: float, fires: float, batch: int, tokens: int
) -> dict[str, float]:
    pair.share(wrong)
    pair.router.share = fires
    pair.ours()
    prompts = pair.prompts(batch, tokens)
    began = clock()
    forwards = Forwards.of(generator.generate(prompts))
    return {"tokens_per_s": forwards.tokens / (clock() - began)} | forwards.work()


def shown(batch: int, tokens: int, rows: list[dict[str, Any]]) -> Shown:
    lines = []
    for row in rows:
        work = [
            f"{scale * row[name]:.{digits}f}" if name in row else ""
            for name, scale, digits in (
                ("llm_forwards_per_token", 100, 1),
                ("llm_positions_per_token", 1, 2),
                ("slm_steps_per_token", 1, 2),
                ("cut_per_token", 100, 1),
                ("nano", 1, 1),
            )
        ]
        lines.append([row["system"], f"{row['tokens_per_s']:.1f}", f"{100 * row['spread']:.0f}",
                      *work])  # fmt: skip
    columns = ("system", "tok/s", "± %", "LLM fwd %", "LLM pos", "SLM steps", "cut %", "nano %")
    caption = "fwd, pos, steps, cut: per token. nano: accuracy of the point of this name there."
    return Shown(f"medium, batch {batch}, {tokens} new tokens", caption, columns, lines)


def main() -> int:
    parser = on_device(options(__doc__, repeats=1))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64)
    given = parsed(parser)
    pair = load_pair("medium", given.device)
    for batch in given.batches:
        alone = pair.single("llm", batch, False)
        every = {"ours llm": partial(run, pair, alone, 0.0, 0.0, batch)}
        for name, point in POINTS.items():
            made = pair.routed(batch, None, False, point.policy)
            every[name] = partial(run, pair, made, point.wrong, point.fires, batch)
        if batch == 1:
            every["assisted"] = partial(transformers, pair, "assisted", 1, DIFFERENT)
        for one in every.values():
            one(min(8, given.tokens))  # warms up
        timed = {name: partial(one, given.tokens) for name, one in every.items()}
        rows: list[dict[str, Any]] = []
        for name, found in interleaved(timed, given.repeats, warmups=0).items():
            known = {"nano": POINTS[name].nano} if name in POINTS else {}
            rates = [each["tokens_per_s"] for each in found]
            rows.append({"system": name, "spread": spread(rates)} | middle(found) | known)
        about = {"batch": batch, "tokens": given.tokens}
        finish(given, f"policies_medium_{batch}", rows, about, shown(batch, given.tokens, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
