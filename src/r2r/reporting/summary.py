"""What a page says first: the verdict in a sentence, and where its figures come from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from r2r.reporting.controls import RANDOM
from r2r.reporting.runs import Point, Run, policy_of, routed_by, routed_name
from r2r.reporting.statistics import Estimate
from r2r.reporting.tables import params, shown


def verdict(runs: Sequence[Run]) -> str:
    """What routing did, in a sentence: of the run with the fewest activated params whose accuracy
    is not shown to be below the LLM's; where all are below, of the most accurate. Empty where no
    run compares a routed system with its LLM."""
    compared = [(run, found) for run in runs for found in run.results.get("differences", [])
                if (found["system"], found["other"]) == ("routed", "llm")]  # fmt: skip
    if not compared:
        return ""
    routed = [run.results["systems"]["routed"] for run, _ in compared]
    level = [i for i, (_, found) in enumerate(compared) if found["interval"][1] >= 0]
    chosen = (
        min(level, key=lambda i: routed[i]["avg_params_b"])
        if level
        else max(range(len(routed)), key=lambda i: routed[i]["accuracy"])
    )
    (run, found), figures = compared[chosen], routed[chosen]
    llm = run.results["systems"]["llm"]
    name = routed_name(routed_by(run.results), run.results["threshold"])
    value, (low, high) = 100 * found["difference"], (100 * end for end in found["interval"])
    sign = Estimate(value, low, high).sign
    span = f"(95%: {low:+.1f} to {high:+.1f})"
    against = {
        0: f"no difference from the LLM's {100 * llm['accuracy']:.1f}% is shown {span}",
        1: f"{value:.1f} points above the LLM {span}",
        -1: f"{-value:.1f} points below the LLM {span}",
    }[sign]
    share = f"{100 * figures['llm_share']:.1f}% of its tokens by the LLM"
    cost = f"{params(figures['avg_params_b'])} activated params a token, the LLM's are"
    return (
        f"{name} answers {100 * figures['accuracy']:.1f}% right, {against}, with {share} and"
        f" {cost} {params(llm['avg_params_b'])}."
    )


def method(runs: Sequence[Run]) -> str:
    """How the two models share an answer, in a sentence."""
    policies = dict.fromkeys(policy_of(run.results) for run in runs)
    if list(policies) == ["r2r"]:
        return (
            "A small model writes, a router looks at each token, and a large one writes the tokens"
            " whose score reaches the threshold."
        )
    return f"Two models share each answer; the policy ({', '.join(policies)}) says who writes what."


def about(run: Run) -> list[tuple[str, str]]:
    """Where a run's figures come from, as (what, value); what is not known is left out."""
    told, results = run.manifest, run.results
    threshold = results.get("threshold")
    machine = told.get("machine", {})
    found = [
        ("Command", shlex.join(["python", *told["command"]]) if "command" in told else None),
        ("Threshold", None if threshold is None else f"{threshold:.4g}"),
        ("Seed", results.get("seed")),
        ("Commit", told.get("commit")),
        ("Machine", f"{machine['cpus']} CPUs, {machine['platform']}" if machine else None),
        ("Date", told.get("date")),
    ]
    return [(name, str(value)) for name, value in found if value is not None]


def by_task(points: Sequence[Point]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Each system's accuracy on each task: the tasks, and a row of cells for each system. No
    tasks where there are fewer than two."""
    tasks = list(dict.fromkeys(t for p in points for t in p.figures.get("tasks", {})))
    if len(tasks) < 2:
        return [], []

    def cell(found: dict[str, Any] | None) -> str:
        return "-" if found is None else f"{100 * found['accuracy']:.1f} ({found['n']:,})"

    rows = [
        (shown(p.label), [cell(p.figures.get("tasks", {}).get(task)) for task in tasks])
        for p in points
        if p.system != RANDOM
    ]
    return tasks, rows
