"""Routed generation on the torch engine beside transformers' generate and assisted generation.

    python benchmarks/decode.py [--pairs nano medium SLM,LLM] [--batches 1 8 32] [--tokens 256]
                                [--shares 0 5 10 15 30 100] [--patience 4] [--compile]
                                [--prompts QUESTIONS.jsonl]

Every system answers the same prompts greedily, with ``--tokens`` tokens, end of text or not: random
ones, and of a pair by path the questions of ``--prompts``, since random ids lead real models into
loops in which neither shares nor acceptance are what they are on text. A table and a record for
each pair and batch size. ``eff`` to ``loop``: where the wall time goes (benchmarks/watch.py);
``bound``: of the wall time, what reading the weights of all its forwards takes at the memory's
measured speed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
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
    ratio,
    spread,
)
from pairs import Pair, load_pair, load_questions
from watch import Watch, bandwidth, parts

from r2r.policies.base import Generator
from r2r.policies.routed import Routed
from r2r.policies.single import Single

PARTS = ("efficiency", "router", "layout", "pick", "loop", "bound")
AT = 10  # per cent: the LLM share of which the targets speak
Run = Callable[[int], dict[str, float]]  # tokens to write -> figures


def ours(
    pair: Pair, generator: Generator, batch: int, speed: float, share: float, tokens: int
) -> dict[str, float]:
    """One run of ours, then its forwards alone. ``speed``: of the memory, GB/s."""
    pair.share(share)
    pair.ours()
    prompts = pair.prompts(batch, tokens)
    if isinstance(generator, Routed):
        engines: list[Any] = [generator.slm, generator.llm]
    else:
        assert isinstance(generator, Single)
        engines = [generator.engine]
    watches = [Watch(engine) for engine in engines]
    began = clock()
    traces = generator.generate(prompts)
    seconds = clock() - began
    for watch in watches:
        watch.stop()
    written = sum(len(trace.steps) for trace in traces)
    found = {
        "tokens_per_s": written / seconds,
        "llm_share": sum(trace.count("llm") for trace in traces) / written,
        "bound": sum(watch.gigabytes() for watch in watches) / speed / seconds,
        "kv_mb": sum(watch.kv_mb for watch in watches),
    } | parts(watches, seconds)
    if isinstance(generator, Routed):
        extends = [len(slots) for slots, _, widths in watches[1].shapes if min(widths) < 64]
        found["llm_rows"] = statistics.fmean(extends) if extends else 0.0
        found["patience"] = engines[1].patience
    return found


def transformers(pair: Pair, name: str, batch: int, share: float, tokens: int) -> dict[str, float]:
    """One run of ``generate`` with a model, or of ``assisted`` generation (batch 1 only)."""
    pair.share(share)
    pair.peers()
    model = pair.slm if name == "slm" else pair.llm
    prompts = [prompt.tokens for prompt in pair.prompts(batch, tokens)]
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=model.device)
    seen = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts]).to(ids.device)
    helper = {"assistant_model": pair.slm} if name == "assisted" else {}
    began = clock()
    made = model.generate(
        ids, attention_mask=seen, do_sample=False, max_new_tokens=tokens,
        min_new_tokens=tokens, eos_token_id=None, pad_token_id=0, **helper,
    )  # fmt: skip
    seconds = clock() - began
    return {"tokens_per_s": (made.numel() - ids.numel()) / seconds}


def systems(pair: Pair, batch: int, given: argparse.Namespace, speed: float) -> dict[str, Run]:
    """By name: ``generate slm``, ``ours llm``, ``assisted 10``, ``routed 10`` (LLM share in %);
    ``assisted`` alone for a pair by path."""
    found: dict[str, Run] = {}
    modes = {"": False} | ({" (c)": True} if given.compile else {})
    for name in ("slm", "llm"):
        found[f"generate {name}"] = partial(transformers, pair, name, batch, 0.0)
        for mark, compiled in modes.items():
            generator = pair.single(name, batch, compiled)
            found[f"ours {name}{mark}"] = partial(ours, pair, generator, batch, speed, 0.0)
    routed = {mark: pair.routed(batch, given.patience, mode) for mark, mode in modes.items()}
    own = pair.name not in ("nano", "medium")
    if batch == 1 and own:  # what it accepts is the models' own affair
        found["assisted"] = partial(transformers, pair, "assisted", batch, 0.0)
    for share in given.shares:
        if batch == 1 and not own:
            found[f"assisted {share:g}"] = partial(
                transformers, pair, "assisted", batch, share / 100
            )
        for mark, generator in routed.items():
            found[f"routed {share:g}{mark}"] = partial(
                ours, pair, generator, batch, speed, share / 100
            )
    return found


def targets(pair: str, batch: int, runs: dict[str, list[Any]]) -> list[Target]:
    """What was asked of the pairs that everybody has; nothing of others."""
    rates = {name: [run["tokens_per_s"] for run in found] for name, found in runs.items()}
    routed, made = f"routed {AT}", []
    if pair not in ("nano", "medium"):
        return made

    def beside(what: str, above: str, below: str, wanted: float) -> None:
        if above in rates and below in rates:
            made.append(Target(what, ratio(rates[above], rates[below]), wanted))

    if batch in (1, 32) and routed in runs:
        least = 0.6 if pair == "nano" else 0.85
        made.append(Target("efficiency, routed", middle(runs[routed])["efficiency"], least))
    if pair == "medium" and routed in runs:
        made.append(Target("router's share", middle(runs[routed])["router"], 0.06, most=True))
    if pair == "medium" or batch == 1:
        for name in ("slm", "llm"):
            wanted = 1.0 if pair == "medium" else 2.0
            for mark in ("", " (c)"):
                what = f"ours{mark} / generate, {name}"
                beside(what, f"ours {name}{mark}", f"generate {name}", wanted)
    if pair == "medium" and batch == 1:
        beside("routed / assisted", routed, f"assisted {AT}", 1.5)
        beside("routed / ours llm", routed, "ours llm", 3.0)
    return made


def shown(pair: Pair, batch: int, tokens: int, rows: list[dict[str, Any]]) -> Shown:
    lines = []
    for row in rows:
        shares = [f"{100 * row[key]:.0f}" if key in row else "" for key in ("llm_share", *PARTS)]
        rows_ = f"{row['llm_rows']:.1f}" if "llm_rows" in row else ""
        lines.append([row["system"], f"{row['tokens_per_s']:.1f}", f"{100 * row['spread']:.0f}",
                      *shares, rows_])  # fmt: skip
    sizes = f"{pair.params_m('slm'):.1f} M and {pair.params_m('llm'):.1f} M"
    title = f"{pair.name} ({sizes}), batch {batch}, {tokens} new tokens"
    caption = (
        "LLM, ± and all to the right: %. eff, rtr, lay, pick, loop: parts of the wall time.\n"
        "bound: reading the weights. rows: requests in a forward of the LLM."
    )
    columns = ("system", "tok/s", "±", "LLM", "eff", "rtr", "lay", "pick", "loop", "bound", "rows")
    return Shown(title, caption, columns, lines)


def compare(pair: Pair, batch: int, given: argparse.Namespace, speed: float) -> None:
    """One pair at one batch size: measured, shown and written."""
    every = systems(pair, batch, given, speed)
    for run in every.values():
        run(min(8, given.tokens))  # warms up
    timed = {name: partial(run, given.tokens) for name, run in every.items()}
    runs = interleaved(timed, given.repeats, warmups=0)
    rows = []
    for name, found in runs.items():
        rates = [run["tokens_per_s"] for run in found]
        rows.append({"system": name, "spread": spread(rates)} | middle(found))
    name = pair.name if pair.name in ("nano", "medium") else "own"
    about = {
        "pair": pair.name, "batch": batch, "tokens": given.tokens,
        "dtype": str(pair.llm.dtype), "memory_gb_per_s": speed,
    }  # fmt: skip
    finish(given, f"decode_{name}_{batch}", rows, about, shown(pair, batch, given.tokens, rows),
           targets(pair.name, batch, runs))  # fmt: skip


def main() -> int:
    parser = on_device(options(__doc__, repeats=2))
    parser.add_argument("--pairs", nargs="+", default=["nano", "medium"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 5, 10, 15, 30, 100])
    parser.add_argument("--patience", type=float, help="of handoffs (default: as measured)")
    parser.add_argument("--compile", action="store_true", help="ours also compiled (c)")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--prompts", type=Path, help="questions for a pair by path (JSONL)")
    given = parsed(parser)
    questions: Path | None = given.prompts
    if questions is None and (own := set(given.pairs) - {"nano", "medium"}):
        parser.error(f"--prompts must be a JSONL file of questions for {min(own)}, got none")
    speed = bandwidth(given.device)
    for name in given.pairs:
        pair = load_pair(name, given.device)
        if questions and name not in ("nano", "medium"):
            pair.questions = load_questions(name, questions)
            if len(pair.questions) < max(given.batches):
                wanted = f"a file of {max(given.batches)} questions or more"
                parser.error(f"--prompts must be {wanted}, got {len(pair.questions)}")
        for batch in given.batches:
            compare(pair, batch, given, speed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
