"""The figures beside the Pareto plot: a function each, from plain data, units on the axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from r2r.reporting.runs import Point
from r2r.reporting.style import GREY, KINDS, LLM, SLM, Look, figure, legend_below
from r2r.reporting.tables import shown

PARTS = 20  # an answer is cut into so many equal parts


def llm_share_figure(
    traces: Mapping[str, Iterable[Sequence[int]]], looks: Mapping[str, Look]
) -> Figure:
    """LLM share along the answer. ``traces``: by system, for each answer who wrote each token
    (1 = the LLM). A part's share is over all answers' tokens in it (paper, usage analysis)."""
    made, (axes,) = figure()
    middle = (np.arange(PARTS) + 0.5) * 100 / PARTS
    for name, answers in traces.items():
        color, marker = looks[name]
        share = along_answer(answers)
        axes.plot(middle, 100 * share, color=color, marker=marker, ms=4, lw=1.2, label=name)
    axes.set_xlabel("Position in the answer (% of its tokens)")
    axes.set_ylabel("Tokens by the LLM (%)")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 100)
    legend_below(made)
    return made


def along_answer(answers: Iterable[Sequence[int]]) -> np.ndarray:
    """Share of 1s in each of ``PARTS`` equal parts, over all answers [PARTS]; nan: no tokens."""
    ones, tokens = np.zeros(PARTS), np.zeros(PARTS)
    for answer in answers:
        part = np.arange(len(answer)) * PARTS // max(1, len(answer))
        tokens += np.bincount(part, minlength=PARTS)
        ones += np.bincount(part, weights=answer, minlength=PARTS)
    return np.divide(ones, tokens, out=np.full(PARTS, np.nan), where=tokens > 0)


def histogram_figure(calibration: Mapping[str, Any]) -> Figure:
    """Scores by label: how many tokens of each kind fall into each bin, as shares of the kind."""
    made, (axes,) = figure()
    edges = np.array(calibration["histogram"]["edges"])
    for kind, (color, style) in KINDS.items():
        counts = np.array(calibration["histogram"][kind])
        if counts.sum():
            label = f"{kind} ({counts.sum():,} tokens)"
            heights = 100 * counts / counts.sum()
            axes.stairs(heights, edges, color=color, ls=style, lw=1.6, label=label)
    axes.set_yscale("log")
    axes.set_xlabel(f"Score of the {calibration['router']} router{_unit(calibration)}")
    axes.set_ylabel("Tokens of the kind (%, log scale)")
    legend_below(made)
    return made


def _unit(calibration: Mapping[str, Any]) -> str:
    return "" if calibration["reliability"] is None else " (probability)"


def quality_figure(calibrations: Sequence[Mapping[str, Any]], looks: Mapping[str, Look]) -> Figure:
    """Precision against recall of each router; and, where scores are probabilities, how often a
    token with that score is divergent."""
    reliable = [c for c in calibrations if c["reliability"] is not None]
    made, axes = figure(columns=2 if reliable else 1, height=2.9 if reliable else 3.4)
    for found in calibrations:
        color, marker = looks[found["router"]]
        curve = found["curve"]
        axes[0].plot(
            100 * np.array(curve["recall"]), 100 * np.array(curve["precision"]),
            color=color, marker=marker, ms=4, markevery=0.15, lw=1.2, label=found["router"],
        )  # fmt: skip
        if found["reliability"] is not None:
            score, share = found["reliability"]["score"], found["reliability"]["divergent"]
            axes[1].plot(score, 100 * np.array(share), color=color, marker=marker, ms=4, lw=1.2)
    axes[0].set_xlabel("Recall (%)")
    axes[0].set_ylabel("Precision (%)")
    axes[0].set_ylim(0, 103)
    legend_below(made)
    if reliable:
        axes[1].plot([0, 1], [0, 100], color=GREY, ls="--", lw=1)
        axes[1].set_xlabel("Score")
        axes[1].set_ylabel("Divergent (%)")
    return made


def threshold_figure(calibration: Mapping[str, Any], measured: Sequence[Point]) -> Figure:
    """What each threshold does: recall and expected LLM share (off-policy, from recorded scores),
    beside the LLM share that runs of the same router measured."""
    made, (axes,) = figure()
    curve = calibration["curve"]
    threshold = curve["threshold"]
    axes.plot(threshold, 100 * np.array(curve["recall"]), color=SLM, lw=1.4, label="recall")
    axes.plot(
        threshold, 100 * np.array(curve["llm_share"]), color=LLM, ls="--", lw=1.4,
        label="expected LLM share (off-policy)",
    )  # fmt: skip
    if measured:
        x = [point.threshold or 0.0 for point in measured]
        y = [100 * point.figures["llm_share"] for point in measured]
        axes.plot(x, y, "D", color=LLM, ms=6, label="measured LLM share")
    axes.set_xlabel(f"Threshold of the {calibration['router']} router")
    axes.set_ylabel("Tokens (%)")
    axes.set_ylim(0, 103)
    legend_below(made)
    return made


def training_figure(
    trainings: Mapping[str, Sequence[Mapping[str, float]]], looks: Mapping[str, Look]
) -> Figure:
    """Loss of both splits, and validation average precision, by epoch, of each router by name."""
    made, (loss, quality) = figure(height=2.9, columns=2)
    for name, rows in trainings.items():
        color, marker = looks[name]
        epochs = [row["epoch"] + 1 for row in rows]
        columns = {
            key: [row.get(key, np.nan) for row in rows]
            for key in ("train/loss", "val/loss", "val/average_precision")
        }
        loss.plot(epochs, columns["train/loss"], color=color, ls="--", lw=1)
        loss.plot(epochs, columns["val/loss"], color=color, lw=1.4)
        quality.plot(
            epochs, columns["val/average_precision"], color=color, marker=marker,
            ms=4, lw=1.2, label=name,
        )  # fmt: skip
    loss.set_ylabel("Loss (weighted cross-entropy)")
    quality.set_ylabel("Average precision (validation)")
    for axes in (loss, quality):
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(made)
    return made


def bars_figure(points: Sequence[Point], looks: Mapping[str, Look]) -> Figure:
    """Cost (params x tokens) and wall time of each system, the cheapest at the top; all timed."""
    measured = points[::-1]
    made, (cost, time) = figure(height=1.1 + 0.24 * len(measured), columns=2)
    names = [shown(p.label) for p in measured]
    ends = {"slm": SLM, "llm": LLM}
    colors = [
        looks[p.series][0] if p.system == "routed" else ends.get(p.system, GREY) for p in measured
    ]
    llm = next((p.figures["cost"] for p in measured if p.system == "llm"), None)
    unit = "billion params x tokens" if llm is None else "relative to the LLM"
    cost.barh(names, [p.figures["cost"] / (llm or 1) for p in measured], color=colors)
    cost.set_xlabel(f"Cost per answer\n({unit})")
    seconds = [p.figures["seconds"] / p.figures["n"] * 1000 for p in measured]
    time.barh(names, seconds, color=colors)
    time.set_xlabel("Wall time per answer\n(ms, batched)")
    time.set_yticklabels([])
    for axes in (cost, time):
        axes.grid(axis="y", visible=False)
    return made
