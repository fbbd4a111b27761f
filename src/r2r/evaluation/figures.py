"""What the sample rows of a system add up to. A problem's repeats are averaged first."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Problem = tuple[str, int]  # task and doc_id
Rows = Sequence[Mapping[str, Any]]
AVERAGED = ("avg_params_b", "output_tokens")


def problem_scores(rows: Iterable[Mapping[str, Any]]) -> dict[Problem, float]:
    """Each problem's accuracy, in the order of the rows."""
    scores: dict[Problem, list[float]] = defaultdict(list)
    for row in rows:
        scores[row["task"], row["doc_id"]].append(row["score"])
    return {problem: statistics.fmean(given) for problem, given in scores.items()}


def cut_short(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """``cut_answers``: how many the limit of their length has ended, and the ``cut_share`` of all.
    Such an answer is graded by what it had."""
    ended = [row["trace"]["finish_reason"] == "length" for row in rows]
    return {"cut_answers": sum(ended), "cut_share": statistics.fmean(ended) if ended else 0.0}


def figures(rows: Rows) -> dict[str, Any]:
    """``accuracy`` over all problems, its ``accuracy_stderr``, ``n`` problems, and the same with
    the averaged stats for each of ``tasks``."""
    tasks: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        tasks[row["task"]].append(row)
    return _accuracy(rows) | {
        "tasks": {task: _accuracy(of) | _stats(of) for task, of in tasks.items()}
    }


def _accuracy(rows: Rows) -> dict[str, Any]:
    scores = list(problem_scores(rows).values())
    mean, n = statistics.fmean(scores), len(scores)
    return {"accuracy": mean, "accuracy_stderr": stderr(scores), "n": n}


def stderr(scores: Sequence[float]) -> float:
    """Of the mean; 0 for one problem, which tells nothing."""
    n = len(scores)
    return statistics.stdev(scores) / math.sqrt(n) if n > 1 else 0.0


def _stats(rows: Rows) -> dict[str, float]:
    """Means over the answers; the LLM share is that of all their tokens."""
    stats = [row["stats"] for row in rows]
    tokens = sum(each["output_tokens"] for each in stats)
    by_llm = sum(each["llm_share"] * each["output_tokens"] for each in stats)
    means = {name: statistics.fmean(each[name] for each in stats) for name in AVERAGED}
    return means | {"llm_share": by_llm / tokens if tokens else 0.0}
