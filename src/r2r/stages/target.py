"""What the run routes with, chosen for a target: ``share:0.05``, ``quality:0.98`` or ``speed``.

Each option of ``tried`` that the policy has is tried in turn, with the others at the best so far,
by answering problems that the labels hold out for validation. The choice is then checked on those
of the labels' test split. All answers are artifacts, so that a second run chooses at once.

``share:S``     at most S LLM forwards a token, and of those the most accurate.
``quality:Q``   at least Q times the LLM's accuracy, and of those the fewest LLM forwards.
``speed``       not shown to be less accurate than the LLM, and of those the fastest: by what an SLM
                and an LLM forward take when each model answers the same problems alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from r2r.errors import ConfigError, must_be
from r2r.evaluation.figures import problem_scores
from r2r.records import MANIFEST, read_json
from r2r.reporting.statistics import Estimate, PairedBootstrap, Scores, ratio
from r2r.routers.threshold import threshold_at
from r2r.stages.aims import RECALL, Target, holder, tried, with_option
from r2r.stages.graded import graded
from r2r.stages.samples import read_samples
from r2r.stages.screen import explain, say
from r2r.stages.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Measured:
    """A system on some problems. ``figures``: its metrics; ``forwards``: LLM forwards and tokens
    of each problem."""

    figures: Mapping[str, Any]
    scores: Scores
    forwards: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Point:
    """What can be chosen: the threshold, and the policy's config."""

    threshold: float | str
    policy: dict[str, Any]

    def told(self, names: Iterable[str]) -> dict[str, Any]:
        found = {} if self.threshold == "auto" else {"threshold": self.threshold}
        return found | {n: holder(self.policy, n)[n] for n in names if n != RECALL}


def choose(bench: Workbench) -> dict[str, Any]:
    """Choose, set the run's threshold and policy, and tell what they were on the held-out problems.

    Raises ConfigError where nothing that was tried reaches the target.
    """
    text, names = str(bench.config.target), tried(bench.config, bench.asks_router)
    target = Target.read(text)
    rank = _Rank(bench, target, names, most=sum(map(len, names.values())))
    best = first = Point(bench.threshold if bench.asks_router else "auto", bench.config.policy)
    for name, values in names.items():
        points = [_with(bench, best, name, value) for value in values]
        best = max([best, *points], key=rank) if best is not first else max(points, key=rank)
    reached, found = rank.measured(best), best.told(names)
    if not rank.reaches(reached):
        at = f"the nearest is {_told(found)}: {_figures(reached)}"
        raise ConfigError(f"target must be one that something tried reaches, got {text} ({at})")
    bench.route_as(best.threshold, best.policy)
    explain("target", f"{text}: {_told(found)}; validation: {_figures(reached)}")
    checked = _checked(bench, target)
    explain("target", checked.pop("said"))
    validation = {
        "n": reached.figures["n"],
        "accuracy": reached.figures["accuracy"],
        "llm_forwards_per_token": reached.figures["llm_forwards_per_token"],
    }
    return {"target": text, "chosen": found, "validation": validation, "held_out": checked}


def _with(bench: Workbench, point: Point, name: str, value: float) -> Point:
    if name == RECALL:
        curve = bench.described_router.metrics.get("validation", {}).get("curve")
        if curve is None:
            wanted = "one that was tried on validation labels, for a target to find thresholds"
            raise must_be("router", wanted, bench.router_name)
        return Point(threshold_at(curve, value), point.policy)
    return Point(point.threshold, with_option(point.policy, name, value))


class _Rank:
    """Orders what can be chosen, at ``most`` so many points, by how well it does what the target
    wants."""

    def __init__(self, bench: Workbench, target: Target, names: Iterable[str], *, most: int):
        self.bench, self.target, self.names, self.most = bench, target, list(names), most
        self.found: dict[str, Measured] = {}
        needs = {"share": (), "quality": ("llm",), "speed": ("slm", "llm")}[target.aim]
        self.alone = {name: _measure(bench, name, "validation") for name in needs}

    def measured(self, point: Point) -> Measured:
        key = repr(point)
        if key not in self.found:
            place = f"{len(self.found) + 1} of at most {self.most}"
            say("target", f"trying {_told(point.told(self.names))} ({place})")
            self.bench.route_as(point.threshold, point.policy)
            self.found[key] = _measure(self.bench, "routed", "validation")
        return self.found[key]

    def reaches(self, found: Measured) -> bool:
        figures, bound = found.figures, self.target.bound
        if self.target.aim == "share":
            return figures["llm_forwards_per_token"] <= bound
        llm = self.alone["llm"]
        if self.target.aim == "quality":
            return figures["accuracy"] >= bound * llm.figures["accuracy"]
        return _difference(self.bench, found.scores, llm.scores).sign >= 0

    def __call__(self, point: Point) -> tuple[float, ...]:
        """The higher the better: first whether the target is reached."""
        found = self.measured(point)
        figures, reached = found.figures, self.reaches(found)
        forwards, steps = figures["llm_forwards_per_token"], figures["slm_steps_per_token"]
        if self.target.aim == "share":
            return (1, figures["accuracy"], -steps) if reached else (0, -forwards)
        if not reached:
            return 0, figures["accuracy"]
        return (
            (1, -forwards, -steps) if self.target.aim == "quality" else (1, -self._seconds(found))
        )

    def _seconds(self, found: Measured) -> float:
        """A token's, from what a forward of each model took, at as many answers at once."""
        each = {name: 1 / alone.figures["tokens_per_s"] for name, alone in self.alone.items()}
        steps, forwards = "slm_steps_per_token", "llm_forwards_per_token"
        return each["slm"] * found.figures[steps] + each["llm"] * found.figures[forwards]


def _measure(bench: Workbench, system: str, part: str) -> Measured:
    folder = graded(bench, system, part)
    rows = list(read_samples(folder))
    forwards: dict[tuple[str, int], tuple[float, float]] = {}
    for row in rows:
        key, spent = (row["task"], row["doc_id"]), row["trace"]["spent"]["llm"]["forwards"]
        calls, tokens = forwards.get(key, (0.0, 0.0))
        forwards[key] = calls + spent, tokens + len(row["trace"]["tokens"])
    metrics = read_json(folder / MANIFEST)["metrics"]
    return Measured(metrics, problem_scores(rows), list(forwards.values()))


def _difference(bench: Workbench, scores: Scores, others: Scores) -> Estimate:
    both = {"it": scores, "other": others}
    return PairedBootstrap(both, seed=bench.config.seed).difference("it", "other")


def _checked(bench: Workbench, target: Target) -> dict[str, Any]:
    """The choice on problems that it was not made on, with 95% intervals, and in words whether it
    does there what the target wants."""
    seed, it = bench.config.seed, _measure(bench, "routed", "held_out")
    llm = _measure(bench, "llm", "held_out")
    accuracy = PairedBootstrap({"it": it.scores}, seed=seed).accuracy("it")
    share = ratio(it.forwards, seed=seed)
    if target.aim == "share":
        over = Estimate(target.bound - share.value, target.bound - share.high,
                        target.bound - share.low)  # fmt: skip
    else:
        least = target.bound if target.aim == "quality" else 1.0
        wanted = {problem: least * score for problem, score in llm.scores.items()}
        over = _difference(bench, it.scores, wanted)
    verdict = {1: "reached", 0: "neither shown nor contradicted", -1: "missed"}[over.sign]
    said = (
        f"expected, from {len(it.scores)} held-out problems: accuracy {_percent(accuracy)} %, "
        f"LLM forwards {_percent(share)} % a token: target {verdict}"
    )
    return {
        "n": len(it.scores),
        "accuracy": accuracy.value,
        "accuracy_interval": [accuracy.low, accuracy.high],
        "llm_forwards_per_token": share.value,
        "llm_forwards_interval": [share.low, share.high],
        "llm_accuracy": llm.figures["accuracy"],
        "verdict": verdict,
        "said": said,
    }


def _percent(estimate: Estimate) -> str:
    value, low, high = (100 * each for each in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def _told(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in found.items())


def _figures(found: Measured) -> str:
    figures = found.figures
    forwards = 100 * figures["llm_forwards_per_token"]
    return f"accuracy {100 * figures['accuracy']:.1f}%, LLM forwards {forwards:.1f}% a token"
