"""Tables: a run's results on the terminal, and any rows as Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from r2r.reporting.controls import RANDOM, best_single
from r2r.reporting.runs import Point, routed_by
from r2r.reporting.statistics import Estimate, verdict

COLUMNS = ("System", "Accuracy % (95%)", "LLM %", "Params", "Cost", "Tokens", "Cut", "Tok/s")
WORK = ("LLM fwd %", "LLM pos", "SLM steps", "Cut %", "Billed")
SHOWN = {"slm": "SLM", "llm": "LLM", RANDOM: "at random"}  # other systems go by their own name
LEGEND = (
    "Params: activated per token, rejected drafts and router included. "
    "Cost: params x tokens, relative to the LLM. Tokens: mean per answer. "
    "Cut: answers that the limit of their length has ended."
)
WORK_LEGEND = (
    "For each token of the answers: LLM forwards, positions that the LLM read (prompt included), "
    "SLM steps, tokens that were cut. Billed: money for a thousand answers (prices)."
)
RANDOM_LEGEND = (
    "At random: each problem to the SLM or the LLM, with as many LLM forwards a token as routed; "
    "expected values."
)
MANY_CUT = 0.1  # of a system's answers: more are worth a warning
ELSEWHERE = (
    "* answered in another run, with other settings or on another machine: its speed does not "
    "compare (force=true with the stages evaluate and report times all anew)."
)


def speed(figures: Mapping[str, Any]) -> str:
    """Tokens per second; a star where they were not timed in one run with the others
    (``ELSEWHERE``)."""
    if figures.get("tokens_per_s") is None:
        return "*" if "timed_with" in figures else "-"
    return f"{figures['tokens_per_s']:.0f}"


def cut(figures: Mapping[str, Any]) -> str:
    """How many answers their length has cut; a dash in results of before it was counted."""
    return f"{figures['cut_answers']:,.0f}" if "cut_answers" in figures else "-"


def cut_warning(system: str, figures: Mapping[str, Any]) -> str | None:
    """What is to be said where more than one answer in ten was cut by its length."""
    share = figures.get("cut_share", 0.0)
    if share <= MANY_CUT:
        return None
    return (
        f"warning: {100 * share:.0f}% of the answers of {shown(system)} were cut by their length, "
        "and count by what they had (benchmark.max_new_tokens)"
    )


def footnotes(every: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """What is to be said below the figures of some systems, each with its label: what stars mean,
    where there are any, how busy the machine was while it was timed, whose answers were cut too
    often."""
    every = list(every)
    figures = [of for _, of in every]
    found = [ELSEWHERE] if any(speed(each) == "*" for each in figures) else []
    loads = [f["load"] for f in figures if "load" in f and f.get("tokens_per_s") is not None]
    if loads:
        busy = " to ".join(dict.fromkeys(f"{load:.1f}" for load in (min(loads), max(loads))))
        found.append(f"Tok/s: at a load average of {busy}.")
    return [*found, *filter(None, (cut_warning(label, of) for label, of in every))]


def shown(system: str) -> str:
    """A system's name, or a point's label, as tables, plots and traces print it."""
    name, comma, own = system.partition(", ")
    return SHOWN.get(name, name) + comma + own


def params(billions: float) -> str:
    """Parameters with three digits and the unit that suits them: ``72.0K``, ``5.60B``."""
    for unit, factor in (("B", 1.0), ("M", 1e3), ("K", 1e6)):
        value = billions * factor
        if float(f"{value:.3g}") >= 1:
            return f"{value:.0f}{unit}" if value >= 99.95 else f"{value:#.3g}{unit}"
    return f"{billions * 1e9:.0f}"


def accuracy(mean: float, interval: Sequence[float]) -> str:
    """Percent with the 95% interval: ``90.1 (87.4–92.6)``."""
    low, high = (100 * end for end in interval)
    return f"{100 * mean:.1f} ({low:.1f}–{high:.1f})"


def verdicts(results: dict[str, Any]) -> list[str]:
    """What the paired intervals of ``results.json`` let one say, a line each."""
    return [
        verdict(shown(d["system"]), shown(d["other"]), Estimate(d["difference"], *d["interval"]))
        for d in results["differences"]
    ]


def by_params(results: dict[str, Any]) -> list[str]:
    """The systems of ``results.json``, cheapest first."""
    systems = results["systems"]
    return sorted(systems, key=lambda name: systems[name]["avg_params_b"])


def rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row of ``COLUMNS`` for each system of ``results.json``, cheapest first."""
    llm = results["systems"].get("llm")

    def row(name: str) -> tuple[str, ...]:
        system = results["systems"][name]
        relative = f"{system['cost'] / llm['cost']:.2f}x" if llm and llm["cost"] else "-"
        return (
            shown(name),
            accuracy(system["accuracy"], system["accuracy_interval"]),
            f"{100 * system['llm_share']:.1f}",
            params(system["avg_params_b"]),
            relative,
            f"{system['output_tokens']:.0f}",
            cut(system),
            speed(system),
        )

    return [row(name) for name in by_params(results)]


def title(results: dict[str, Any]) -> str:
    """What was measured, on one line."""
    problems = max(system["n"] for system in results["systems"].values())
    measured = f"{results['pair']} on {results['benchmark']} ({problems} problems)"
    if "routed" not in results["systems"]:
        return measured
    if results["threshold"] is not None:
        by = routed_by(results)
        by = by if by != results["router"] else f"{by} router"
        return f"{measured}, {by} at threshold {results['threshold']:.4g}"
    if results["router"] == "oracle":
        return f"{measured}, oracle (counts the tokens kept, not the LLM's other calls)"
    return f"{measured}, {routed_by(results)}"


def work(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of ``WORK``; a dash for what is not known."""
    percent, plain = "{:.1f}", "{:.2f}"
    columns = (
        ("llm_forwards_per_token", percent, 100),
        ("llm_positions_per_token", plain, 1),
        ("slm_steps_per_token", plain, 1),
        ("cut_per_token", percent, 100),
        ("billed", "{:.3g}", 1),
    )
    return tuple(
        form.format(scale * figures[name]) if name in figures else "-"
        for name, form, scale in columns
    )


def controls(systems: Mapping[str, Any]) -> list[str]:
    """What is to be said of the controls: which model is the best one alone, what random is."""
    best = best_single(systems)
    found = [f"Best single model: {shown(best)}."] if best else []
    return [*found, RANDOM_LEGEND] if RANDOM in systems else found


def work_table(results: dict[str, Any]) -> Table:
    """What the models did, for a terminal; fits 80 columns."""
    systems = results["systems"]
    table = Table(caption="\n".join([WORK_LEGEND, *controls(systems)]), caption_justify="left")
    names = by_params(results)
    for column in ("System", *WORK):
        table.add_column(column, justify="left" if column == "System" else "right")
    for name in names:
        style = "bold" if name == "routed" else None
        table.add_row(shown(name), *work(systems[name]), style=style)
    return table


def results_table(results: dict[str, Any]) -> Table:
    """The table for a terminal; fits 80 columns."""
    table = Table(
        title=title(results),
        caption="\n".join([LEGEND, *footnotes(results["systems"].items()), *verdicts(results)]),
        title_justify="left",
        caption_justify="left",
        padding=(0, 1, 0, 0),  # nine columns in 80
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "System" else "right")
    for row in rows(results):
        table.add_row(*row, style="bold" if row[0] == "routed" else None)
    return table


def thresholds_table(calibration: Mapping[str, Any], measured: Sequence[Point]) -> Table:
    """What each threshold does, for a terminal: replayed scores, and below them measured runs."""
    table = Table(
        title=f"{calibration['pair']}, {calibration['router']} router, on test labels",
        caption="off-policy: scores recorded on the LLM's own answers, no token generated. "
        "measured: a run with this router.",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("Threshold", "Recall %", "Routed %", "LLM %", "Accuracy %", "Source"):
        table.add_column(column, justify="left" if column == "Source" else "right")
    at = calibration["at"]
    columns = (at[name] for name in ("threshold", "recall", "positive_rate", "llm_share"))
    for threshold, *shares in zip(*columns, strict=True):
        cells = [f"{100 * share:.1f}" for share in shares]
        table.add_row(f"{threshold:.4g}", *cells, "-", "off-policy")
    table.add_section()
    for point in sorted(measured, key=lambda p: p.threshold or 0.0):
        accuracy = f"{100 * point.figures['accuracy']:.1f} ({point.benchmark})"
        share = f"{100 * point.figures['llm_share']:.1f}"
        table.add_row(f"{point.threshold:.4g}", "-", "-", share, accuracy, "measured")
    return table


def objectives_table(
    names: Sequence[str], jobs: Sequence[tuple[str, float | tuple[float, ...]]]
) -> Table:
    """A sweep's jobs, by their overrides, and what it optimises, for a terminal."""
    table = Table(title="The sweep's jobs", title_justify="left")
    table.add_column("Job")
    for name in names:
        table.add_column(name, justify="right")
    for job, value in jobs:
        values = value if isinstance(value, tuple) else (value,)
        table.add_row(job, *(f"{each:.4g}" for each in values))
    return table


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in GitHub's Markdown; the first column is text, the others are numbers."""
    aligned = ["---"] + ["---:"] * (len(header) - 1)
    lines = [
        " | ".join(cell.replace("|", "\\|") for cell in row) for row in (header, aligned, *rows)
    ]
    return "\n".join(f"| {line} |" for line in lines)


def latex(header: Sequence[str], blocks: Sequence[Sequence[Sequence[str]]], caption: str) -> str:
    """A table in LaTeX (needs ``booktabs``), a rule between the blocks of rows."""

    def line(row: Sequence[str]) -> str:
        return "    " + " & ".join(map(escaped, row)) + r" \\"

    lines = [line(header)]
    for block in blocks:
        lines += [r"    \midrule", *map(line, block)]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escaped(caption)}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"    \toprule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
}


def escaped(text: str) -> str:
    """Plain text as LaTeX prints it."""
    return "".join(LATEX.get(character, character) for character in text)
