"""Labels per second, by step, beside a naive labeller that generates anew at each mismatch.

    python benchmarks/labelling.py [--pair nano] [--queries 30] [--repeats 2] [key=value ...]
    python benchmarks/labelling.py --pair own pair=local pair.slm.path=... pair.llm.path=...

The keys are those of run.py. The naive labeller asks transformers' ``generate`` for the response
and for every continuation, its whole prefix each time, one after the other. Both must come to the
same labels.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
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
from pairs import save_medium
from transformers import StoppingCriteria, StoppingCriteriaList

import r2r.labeling.labeler as steps
from r2r.labeling.continuations import compare, forks_of
from r2r.labeling.respond import Query, Response
from r2r.records import read_json
from r2r.stages.compose import compose
from r2r.stages.label import sentences, think, verifier
from r2r.stages.workbench import Workbench

STEPS = ("respond", "read", "follow", "verify")
QUERIES = {"nano": 30, "medium": 16, "own": 30}
SHARE = 0.1  # of the medium pair's tokens that differ
Labelled = dict[int, list[int]]  # of each query, by data_id: its labels, -1 for none


def ours(bench: Workbench, queries: list[Query]) -> dict[str, Any]:
    """The labeller of the product, its steps timed."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any, **named: Any) -> Any:
            began = clock()
            made = await step(*args, **named)
            seconds[name] += clock() - began
            return made

        return run

    judge = verifier(bench)
    judge.verify = timed("verify", judge.verify)  # type: ignore[method-assign]
    labeler = steps.PathFollowingLabeler(
        slm=bench.engine("slm"), llm=bench.engine("llm"), verifier=judge,
        sentences=sentences(bench), config=bench.config.labeler,
        context=bench.pair.context_length, **think(bench),
    )  # fmt: skip
    before = {name: getattr(steps, name) for name in STEPS[:3]}
    for name, step in before.items():
        setattr(steps, name, timed(name, step))
    with tempfile.TemporaryDirectory() as folder:
        began = clock()
        asyncio.run(labeler.run(queries, Path(folder)))
        whole = clock() - began
        labels: Labelled = defaultdict(list)
        for shard in sorted(Path(folder).glob("shard-*")):
            if read_json(shard / "manifest.json")["counts"]["rows"]:
                ids, marks = (np.load(shard / f"{n}.npy") for n in ("data_id", "divergent"))
                for data_id, mark in zip(ids.tolist(), marks.tolist(), strict=True):
                    labels[data_id].append(mark)
    for name, step in before.items():
        setattr(steps, name, step)
    rows = sum(map(len, labels.values()))
    found = {"labels_per_s": rows / whole, "labels": dict(labels)}
    return found | {name: seconds[name] / whole for name in STEPS}


class Stop(StoppingCriteria):
    """A stop check of ours, for one sequence."""

    def __init__(self, check: Any, prompt: int):
        self.check, self.prompt = check, prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return torch.tensor([self.check(input_ids[0, self.prompt :].tolist())])


def naive(bench: Workbench, slm: Any, llm: Any, queries: list[Query]) -> dict[str, Any]:
    """One model call after the other, nothing shared. The models are as transformers loads them."""
    pair, config = bench.pair, bench.config.labeler
    cut, ends, judge = sentences(bench), think(bench), verifier(bench)
    banned = [[pair.route_id]]

    def go_on(tokens: list[int], budget: int, **more: Any) -> list[int]:
        ids = torch.tensor([tokens])
        made = llm.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=budget,
            eos_token_id=sorted(pair.eos_ids), pad_token_id=0, bad_words_ids=banned, **more,
        )  # fmt: skip
        return made[0, len(tokens) :].tolist()

    labels: Labelled = {}
    began = clock()
    for data_id, query in enumerate(queries):
        answer = go_on(query.tokens, min(config.max_new_tokens, 1024))
        if answer[-1] not in pair.eos_ids or ends["think_end"] not in (None, *answer):
            continue
        response = Response(query, data_id, answer)
        with torch.no_grad():
            logits = slm(input_ids=torch.tensor([[*query.tokens, *answer[:-1]]])).logits[0]
        logits[:, pair.route_id] = -torch.inf
        small = logits[len(query.tokens) - 1 :].argmax(-1).numpy()
        real = np.array(answer)
        differs = small != real
        masked = differs & (real == ends["think_end"])
        marks = np.where(masked, -1, 0)
        forks = forks_of(response, differs & ~masked, small, cut)
        for fork in forks:
            prefix = [*answer[: fork.position], fork.token]
            stop = cut.check(fork.start, fork.position)
            if not stop(prefix):
                stopping = StoppingCriteriaList([Stop(stop, len(query.tokens))])
                text = [*query.tokens, *prefix]
                prefix += go_on(text, cut.limit - 1, stopping_criteria=stopping)
            fork.tail = prefix[fork.position : cut.end(prefix, fork.start, fork.position)]
        verdicts = asyncio.run(judge.verify(compare(fork, cut) for fork in forks))
        for fork, verdict in zip(forks, verdicts, strict=True):
            marks[fork.position] = steps.LABELS[verdict]
        labels[data_id] = marks.tolist()
    whole = clock() - began
    return {"labels_per_s": sum(map(len, labels.values())) / whole, "labels": labels}


def measure(given: argparse.Namespace, name: str, count: int, overrides: list[str]) -> None:
    """One pair: measured, shown and written."""
    bench = Workbench(*compose(overrides))
    asked = bench.queries[:count]
    queries = [Query(key, bench.pair.encode(question), question) for key, question in asked]
    pair = bench.pair
    plain = [bench.load(pair.models[model], pair.keys[model]) for model in ("slm", "llm")]
    small = queries[:3]  # warms up
    ours(bench, small)
    runs = interleaved(
        {"ours": lambda: ours(bench, queries), "naive": lambda: naive(bench, *plain, queries)},
        given.repeats, warmups=0,
    )  # fmt: skip
    labels = [run.pop("labels") for found in runs.values() for run in found]
    pairs = [(labels[0].get(key), other.get(key)) for other in labels[1:] for key in labels[0]]
    same = statistics.fmean(one == other for one, other in pairs)
    rows, lines = [], []
    for system, found in runs.items():
        rates = [run["labels_per_s"] for run in found]
        row = {"system": system, "spread": spread(rates)} | middle(found)
        rows.append(row)
        parts = [f"{100 * row[step]:.0f}" if step in row else "" for step in STEPS]
        lines.append([system, f"{row['labels_per_s']:.1f}", f"{100 * row['spread']:.0f}", *parts])
    wanted = ratio(*([run["labels_per_s"] for run in found] for found in runs.values()))
    targets = [Target("ours / naive", wanted, 5.0), Target("answers labelled alike", same, 1.0)]
    count_all = sum(map(len, labels[0].values()))
    title = f"{name}: {len(queries)} queries, {count_all:,} labels"
    shown = Shown(title, "steps: % of the time.", ("labeller", "labels/s", "± %", *STEPS), lines)
    about = {"queries": len(queries), "labels": count_all, "pair": bench.config.pair.name}
    finish(given, f"labelling_{name}", rows, about, shown, targets)


def main() -> int:
    parser = options(__doc__, repeats=2)
    parser.add_argument("--pair", choices=QUERIES, help="own: that of the keys; else nano, medium")
    parser.add_argument("--queries", type=int, help=f"how many ({QUERIES})")
    parser.add_argument("overrides", nargs="*", default=[])
    given = parsed(parser)
    for name in [given.pair] if given.pair else ("nano", "medium"):
        count = given.queries or QUERIES[name]
        with tempfile.TemporaryDirectory() as folder:
            made = save_medium(Path(folder), SHARE, count) if name == "medium" else []
            measure(given, name, count, [*made, *given.overrides])
    return 0


if __name__ == "__main__":
    sys.exit(main())
