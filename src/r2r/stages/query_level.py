"""Query-level routers: trained on graded answers, scored by putting saved answers together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2r.costs import Params, summary
from r2r.errors import must_be
from r2r.evaluation.figures import figures, problem_scores
from r2r.policies.query.features import Features, Words
from r2r.policies.query.generator import by_llm, matched_threshold
from r2r.policies.query.scorers import (
    Scorer,
    Similarity,
    fit_factors,
    fit_linear,
    fit_mlp,
    fit_neighbours,
    save_scorer,
)
from r2r.records import MANIFEST, read_json, write_json
from r2r.stages import fingerprints
from r2r.stages.graded import graded
from r2r.stages.query_router import features_of, load_query_router
from r2r.stages.samples import read_samples, write_samples
from r2r.stages.screen import say
from r2r.stages.workbench import Workbench
from r2r.trace import Trace

HELD_OUT = 0.2  # share of the training prompts that tell how good a query-level router is
LEAST = 10  # training prompts of each kind

Row = dict[str, Any]


# Training.


def train_query_router(bench: Workbench, system: str) -> None:
    key = fingerprints.query(bench, system)
    reused = bench.make("evaluate", key, lambda to: _train(bench, system, to))
    metrics = read_json(key.folder / MANIFEST)["metrics"]
    told = f"{system}: {metrics['prompts']} prompts, {100 * metrics['wins']:.0f}% only by the LLM"
    say("evaluate", f"{told}, AUROC {metrics['auroc']:.3f}", reused)


def _train(bench: Workbench, system: str, folder: Path) -> None:
    import torch
    from torchmetrics.functional.classification import binary_auroc

    rows = {
        model: list(read_samples(graded(bench, model, "train")))
        for model in fingerprints.graded_models(bench, system)
    }
    right = np.array([[row["correct"] for row in each] for each in rows.values()]).T
    wins = (right[:, -1] & ~right[:, 0]).astype(int)
    order = np.random.default_rng(bench.config.seed).permutation(len(wins))
    test, train = np.split(order, [int(HELD_OUT * len(order))])
    for part, least in ((train, LEAST), (test, 1)):
        if np.bincount(wins[part], minlength=2).min() < least:
            wanted = f"enough that of {LEAST} or more only the LLM is right, and as many others"
            raise must_be("labeler.prompts.limit", wanted, bench.config.labeler.prompts.limit)
    prompts = [row["trace"]["prompt"] for row in rows["slm"]]
    if system != "query_mlp" and bench.config.query_level.encoder is None:
        Words.learn(bench.pair.tokenizer, prompts).save(folder)
    features = asyncio.run(_every(features_of(bench, system, folder), prompts))
    seed = bench.config.seed

    def fitted(chosen: np.ndarray) -> Scorer:
        if system == "query_sw":
            return Similarity.fit(features[chosen], wins[chosen])
        if system == "query_knn":
            return fit_neighbours(features[chosen], wins[chosen])
        if system == "query_linear":
            return fit_linear(features[chosen], wins[chosen])
        if system == "query_mlp":
            return fit_mlp(features[chosen], wins[chosen], seed)
        return fit_factors(features[chosen], right[chosen], seed)

    unseen = torch.from_numpy(fitted(train).score(features[test]))
    auroc = float(binary_auroc(unseen, torch.from_numpy(wins[test])))
    save_scorer(fitted(order), folder)
    metrics = {"prompts": len(wins), "wins": float(wins.mean()), "auroc": auroc}
    write_json(folder / MANIFEST, {"system": system, "metrics": metrics})


async def _every(features: Features, prompts: Sequence[list[int]]) -> np.ndarray:
    return np.stack(await asyncio.gather(*map(features.of, prompts)))


# Evaluation.


def score_query_level(bench: Workbench, system: str, folder: Path) -> None:
    """Answer each problem as the SLM or the LLM did alone: the same answers, the same grades.

    With ``query_level.threshold`` auto, the threshold is the one whose average params are nearest
    to those of the routed system. Time is the models' own, for the tokens taken from each.
    """
    train_query_router(bench, system)
    alone = {name: graded(bench, name) for name in ("slm", "llm")}
    metrics = {name: read_json(path / MANIFEST)["metrics"] for name, path in alone.items()}
    rows: dict[str, list[Row]] = {n: list(read_samples(path)) for n, path in alone.items()}
    problems = list(problem_scores(rows["slm"]))
    assert problems == list(problem_scores(rows["llm"])), "the same problems in the same order"
    prompts = {(row["task"], row["doc_id"]): row["trace"]["prompt"] for row in rows["slm"]}
    scores = load_query_router(bench, system).scores([prompts[problem] for problem in problems])
    params = Params(bench.params_b("slm"), bench.params_b("llm"))
    threshold = bench.config.query_level.threshold
    if threshold == "auto":
        target = read_json(graded(bench, "routed") / MANIFEST)["metrics"]["avg_params_b"]
        lengths = _tokens(rows["slm"]), _tokens(rows["llm"])
        threshold = matched_threshold(scores, *lengths, params, target)
    large = dict(zip(problems, by_llm(scores, threshold).tolist(), strict=True))
    chosen: list[Row] = [
        {**(llm if large[slm["task"], slm["doc_id"]] else slm), "system": system}
        for slm, llm in zip(rows["slm"], rows["llm"], strict=True)
    ]
    traces = [Trace.from_json(row["trace"]) for row in chosen]
    taken = {"slm": sum(t.count("slm") for t in traces), "llm": sum(t.count("llm") for t in traces)}
    seconds = sum(
        metrics[name]["seconds"] * taken[name] / max(1, _tokens(rows[name]).sum()) for name in alone
    )
    found = figures(chosen) | summary(traces, params, float(seconds))
    write_samples(folder, chosen)
    write_json(
        folder / MANIFEST, {"system": system, "metrics": found | {"threshold": float(threshold)}}
    )


def _tokens(rows: Sequence[Row]) -> np.ndarray:
    """Tokens of each problem's answers [problems], over its repeats."""
    total: dict[tuple[str, int], int] = defaultdict(int)
    for row in rows:
        total[row["task"], row["doc_id"]] += len(row["trace"]["tokens"])
    return np.array(list(total.values()))
