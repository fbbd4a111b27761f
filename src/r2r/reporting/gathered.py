"""Several runs in one table: every system once, named by what the runs have different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from r2r.reporting.controls import RANDOM, at_random
from r2r.reporting.runs import is_middle, policy_of, routed_by, what_differs
from r2r.reporting.statistics import PairedBootstrap, Scores, verdict
from r2r.reporting.tables import accuracy, params, shown, speed
from r2r.reporting.timed import together

LEGEND = (
    "At random: expected where each problem goes to the SLM or the LLM by chance, with as many LLM"
    " forwards a token. LLM forwards, LLM positions (read, prompt included), SLM steps, cut: per"
    " token. Params: activated per token, rejected drafts and router included; published: as the"
    " paper counts them. Billed: money for a thousand answers (prices). Cost: params x tokens,"
    " relative to the LLM. Cut answers: by the limit of their length. Tok/s: all problems at once,"
    " on the machine that ran them, in one run or the jobs of a sweep."
)


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run: its results.json, its own overrides, and each system's problem scores."""

    results: Mapping[str, Any]
    overrides: Sequence[str]
    scores: Mapping[str, Scores]


@dataclass(slots=True)
class Row:
    """A system as one or more runs evaluated it: the same answers are one row.

    ``name``: the system's, or what routed (``runs.routed_by``); ``policy``: of the routed system.
    ``points``: the operating points (``+point=``) whose routed answers these are.
    ``by_chance``: the accuracy of ``controls.RANDOM`` beside it.
    """

    name: str
    system: str
    policy: str | None
    figures: Mapping[str, Any]
    scores: Scores
    validation: Mapping[str, float]
    swept: str
    by_chance: float | None = None
    points: list[str] = field(default_factory=list)
    runs: set[int] = field(default_factory=set)
    label: str = ""


def gathered(runs: Sequence[Run]) -> list[Row]:
    """A row for each system and each of its answers, cheapest first.

    What would be called the same (query-level routing at the params of several routers) is shown
    as the first run has it.
    """
    found: dict[tuple[str, str], Row] = {}
    swept = what_differs([run.overrides for run in runs])
    for number, run in enumerate(runs):
        systems = {s: of for s, of in run.results["systems"].items() if s != RANDOM}
        control = at_random(systems)
        for system, figures in systems.items():
            routed = system == "routed"
            name = routed_by(run.results) if routed else shown(system)
            policy = policy_of(run.results) if routed else None
            validation = (run.results["validation"] or {}) if routed else {}
            row = Row(name, system, policy, figures, run.scores[system], validation, swept[number])
            row.by_chance = control["accuracy"] if routed and control else None
            row = found.setdefault((system, figures["answers"]), row)
            row.runs.add(number)
            row.points += _points(swept[number]) if routed else []
    names = Counter(row.name for row in found.values())
    rows: dict[str, Row] = {}
    for row in found.values():
        swept_here = f"point={' = '.join(row.points)}" if len(row.points) > 1 else row.swept
        row.label = f"{row.name}, {swept_here}" if names[row.name] > 1 and swept_here else row.name
        rows.setdefault(row.label, row)
    placed = sorted(rows.values(), key=lambda row: row.figures["avg_params_b"])
    figures = together([row.figures for row in placed], [str(min(row.runs)) for row in placed])
    return [replace(row, figures=f) for row, f in zip(placed, figures, strict=True)]


def _points(swept: str) -> list[str]:
    """The operating point among a run's own overrides."""
    parts = (part.partition("=") for part in swept.split(", "))
    return [name for key, _, name in parts if key == "point"]


Cell = Callable[[Row], str]


def columns(rows: Sequence[Row]) -> dict[str, Cell]:
    """Title and content of each column; those that no row could fill are left out."""
    costs = [row.figures["cost"] for row in rows if row.system == "llm"]

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    def per_token(row: Row, name: str) -> str:
        return f"{row.figures[name]:.2f}" if name in row.figures else ""

    every: dict[str, Cell] = {
        "System": lambda row: row.label,
        "Accuracy % (95%)": lambda row: accuracy(
            row.figures["accuracy"], row.figures["accuracy_interval"]
        ),
        "At random %": lambda row: percent(row.by_chance),
        "LLM %": lambda row: percent(row.figures["llm_share"]),
        "LLM forwards %": lambda row: percent(row.figures.get("llm_forwards_per_token")),
        "LLM positions": lambda row: per_token(row, "llm_positions_per_token"),
        "SLM steps": lambda row: per_token(row, "slm_steps_per_token"),
        "Cut %": lambda row: percent(row.figures.get("cut_per_token")),
        "Params": lambda row: params(row.figures["avg_params_b"]),
        "Published": lambda row: params(row.figures["avg_params_published_b"]),
        "Billed": lambda row: f"{row.figures['billed']:.3g}" if "billed" in row.figures else "",
        "Cost": lambda row: f"{row.figures['cost'] / costs[0]:.2f}x" if len(costs) == 1 else "",
        "Tokens": lambda row: f"{row.figures['output_tokens']:.0f}",
        "Cut answers": lambda row: str(row.figures.get("cut_answers", "")),
        "Tok/s": lambda row: speed(row.figures),
        "Accepted %": lambda row: percent(row.figures.get("acceptance")),
        "Recall %": lambda row: percent(row.validation.get("recall")),
        "AUROC": lambda row: f"{row.validation['auroc']:.3f}" if row.validation else "",
    }
    return {title: cell for title, cell in every.items() if any(map(cell, rows))}


def table(rows: Sequence[Row]) -> str:
    """The rows in GitHub's Markdown."""
    cells = columns(rows)
    aligned = ["---"] + ["---:"] * (len(cells) - 1)
    lines = [list(cells), aligned, *([cell(row) for cell in cells.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def claims(rows: Sequence[Row], claimed: Iterable[Sequence[str]], seed: int) -> list[str]:
    """A verdict for each two rows of the ``claimed`` names: ``[better, worse]``.

    A name is a router's, a policy's, an operating point's, a system's, ``routed`` for every router
    and policy or ``middle`` for every middle model. Rows of one run are compared where there are
    such; else each with all of the name.
    """
    lines = []
    for better, worse in claimed:
        seen: set[frozenset[str]] = set()
        for row in _named(rows, better):
            others = [other for other in _named(rows, worse) if other is not row]
            together = [other for other in others if other.runs & row.runs]
            for other in together or others:
                both = frozenset((row.label, other.label))
                if both not in seen and row.scores.keys() == other.scores.keys():
                    seen.add(both)
                    scores = {"a": row.scores, "b": other.scores}
                    difference = PairedBootstrap(scores, seed=seed).difference("a", "b")
                    lines.append(verdict(row.label, other.label, difference))
    return lines


def _named(rows: Iterable[Row], name: str) -> list[Row]:
    if name == "middle":
        return [row for row in rows if is_middle(row.system)]
    return [row for row in rows if name in (row.name, row.policy, row.system, *row.points)]


def correlation(rows: Sequence[Row]) -> str:
    """Spearman's rank correlation of validation recall and accuracy, over the routers."""
    from scipy.stats import spearmanr

    tried = [row for row in rows if row.validation]
    if len(tried) < 3:
        return "Too few routers with a validation recall for a correlation."
    recalls = [row.validation["recall"] for row in tried]
    found: Any = spearmanr(recalls, [row.figures["accuracy"] for row in tried])
    return (
        f"Spearman's rank correlation of recall and accuracy over {len(tried)} routers:"
        f" {found.statistic:.2f} (p = {found.pvalue:.2g})."
    )


def tenths(samples: Iterable[Mapping[str, Any]]) -> list[float]:
    """The LLM's share of each tenth of the answers [10], weighted by their tokens."""
    by_llm, tokens = [0] * 10, [0] * 10
    for sample in samples:
        written = sample["trace"]["llm"]
        for position, llm in enumerate(written):
            tenth = 10 * position // len(written)
            by_llm[tenth] += llm
            tokens[tenth] += 1
    return [llm / max(1, count) for llm, count in zip(by_llm, tokens, strict=True)]


def tenths_table(shares: Mapping[str, Sequence[float]]) -> str:
    """A row for each label of ``shares``, in percent."""
    head = ["LLM % in tenth", *map(str, range(1, 11))]
    aligned = ["---"] + ["---:"] * 10
    rows = [[label, *(f"{100 * share:.1f}" for share in of)] for label, of in shares.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, aligned, *rows])
