"""Accuracy against average activated parameters: routers as lines, models as points."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from r2r.reporting.runs import Point, is_middle
from r2r.reporting.style import GREY, LLM, OTHER, SLM, Look, figure, lay_out, legend_below, looks
from r2r.reporting.tables import params, shown

MOST_NAMES = 8  # of operating points in one plot: more would cover each other
POINT = re.compile(r", point=([^,@]+)")  # in a series: the operating point
CHORD = "SLM or LLM, drawn at random for each problem"
BOUNDS = {"random": "random (a bound)", "oracle": "oracle (a bound)"}
# Where a label may stand, in points from its marker, the nearest first.
OFFSETS = [
    (dx * r, dy * r)
    for r in (9, 16, 26, 40)
    for dx, dy in ((1, 0), (-1, 0), (1, -1), (-1, 1), (1, 1), (-1, -1), (0, 1), (0, -1))
]
FAR = 0.03  # things covered that a label is moved away a point for


@dataclass(frozen=True, slots=True)
class Spot:
    """A point on the plot, in the axes' units; ``low`` and ``high``: its interval."""

    label: str
    x: float
    y: float
    low: float
    high: float
    color: str


@dataclass(frozen=True, slots=True)
class Axis:
    """What lies to the right: the name, and of a point's figures a number, times ``scale``.

    ``linear``: up to here, in the axis' units, it is not logarithmic, so that 0 has a place.
    """

    name: str
    of: Callable[[Mapping[str, Any]], float | None]
    text: Callable[[float], str]
    scale: float = 1.0
    linear: float = 0.0


def _params_axis(points: Sequence[Point], key: str, counted: str) -> Axis:
    unit, scale = unit_of(max(p.figures[key] for p in points if key in p.figures))
    name = f"Activated params per token ({unit}; {counted})"
    return Axis(name, lambda figures: figures.get(key), params, scale)


def _axis(points: Sequence[Point], accounting: str) -> Axis:
    if accounting == "forwards":
        return Axis(
            "LLM forwards per token (%)", lambda figures: figures.get("llm_forwards_per_token"),
            lambda share: f"{100 * share:.1f}%", 100.0, linear=1.0,
        )  # fmt: skip
    if accounting == "time":
        return Axis("Time per token (ms, of all answers together)", _seconds,
                    lambda seconds: f"{1000 * seconds:.2f} ms", 1000.0)  # fmt: skip
    if accounting == "published":
        return _params_axis(points, "avg_params_published_b", "as the paper counts")
    return _params_axis(points, "avg_params_b", "drafts and router included")


def _seconds(figures: Mapping[str, Any]) -> float | None:
    rate = figures.get("tokens_per_s")
    return 1 / rate if rate else None


def pareto_figure(
    points: Sequence[Point],
    accounting: str = "inclusive",
    styles: Mapping[str, Look] | None = None,
) -> Figure:
    """Draw the systems of one pair on one benchmark.

    x: average activated params per token (``accounting`` inclusive or published), LLM forwards per
    token (forwards), or the measured time of a token (time), in which the systems that have it are
    shown; y: accuracy in percent with its 95% interval. A router measured at several thresholds is
    a line with each threshold beside its point; so is a policy at several operating points
    (``+point=``), each with its name where there are few. The dashed line is what answering each
    problem with the SLM or the LLM at random would reach. ``styles``: the look of each router, by
    its series.
    """
    axis = _axis(points, accounting)
    if accounting == "forwards":  # a model between the two is never the LLM
        points = [p for p in points if not is_middle(p.system)]
    at = {id(p): x * axis.scale for p in points if (x := axis.of(p.figures)) is not None}
    points = [p for p in points if id(p) in at]
    made, (axes,) = figure(height=4.0)
    spots: list[Spot] = []
    lines = {id(p): POINT.sub("", p.series) for p in points}
    routed_lines = [lines[id(p)] for p in points if p.system == "routed"]
    if styles is None or not styles.keys() >= set(routed_lines):
        styles = looks(routed_lines)
    crowded = sum(POINT.search(p.series) is not None for p in points) > MOST_NAMES
    for name in dict.fromkeys(lines.values()):
        group = sorted((p for p in points if lines[id(p)] == name), key=lambda p: at[id(p)])
        routed = group[0].system == "routed"
        color, marker = styles[name] if routed else _single(group[0])
        here = [_spot(p, at[id(p)], axis, color) for p in group]
        if crowded and routed:
            here = [replace(spot, label="") for spot in here]
        elif not routed and len(here) > 1:  # a line too, named once
            first = replace(here[0], label=here[0].label.partition("\n")[0])
            here = [first, *(replace(spot, label="") for spot in here[1:])]
        errors = np.array([[s.y - s.low for s in here], [s.high - s.y for s in here]])
        label = BOUNDS.get(name, name if len(here) > 1 else POINT.sub("", group[0].label))
        drawn = axes.errorbar(
            [s.x for s in here], [s.y for s in here], errors, color=color, marker=marker, ms=6,
            capsize=2.5, lw=1.2, elinewidth=1, ls=":" if name in BOUNDS else "-", zorder=3,
            label=label if routed else None,
        )  # fmt: skip
        for part in drawn.get_children():
            part.set_gid(f"series:{name}")
        spots += here
    if axis.linear:
        axes.set_xscale("symlog", linthresh=axis.linear)
        axes.set_xticks([0, 1, 2, 5, 10, 20, 50, 100])
    else:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(axis.name)
    axes.set_ylabel("Accuracy (%)")
    axes.set_title(f"{points[0].pair} on {points[0].benchmark}", fontsize=11)
    axes.margins(x=0.16, y=0.14)
    ends = {p.system: p for p in points if p.system in ("slm", "llm")}
    if len(ends) == 2:
        (x, y), (right, top) = ((at[id(p)], 100 * p.figures["accuracy"]) for p in ends.values())
        along = np.linspace(0, 1, 80)
        axes.plot(x + (right - x) * along, y + (top - y) * along, color="0.6", ls="--", lw=1,
                  zorder=1, label=CHORD)  # fmt: skip
    legend_below(made)
    lay_out(made)
    place_labels(axes, spots)
    return made


def _spot(point: Point, x: float, axis: Axis, color: str) -> Spot:
    low, high = point.interval
    routed = point.system == "routed"
    named = shown(POINT.sub("", point.label))
    label = _threshold(point) if routed else f"{named}\n{axis.text(x / axis.scale)}"
    return Spot(label, x, 100 * point.figures["accuracy"], 100 * low, 100 * high, color)


def _threshold(point: Point) -> str:
    """What tells a point from the others of its line: its threshold, or its name."""
    if named := POINT.search(point.series):
        return named[1]
    return "" if point.threshold is None else f"{point.threshold:.3g}"


def _single(point: Point) -> tuple[str, str]:
    """Colour and marker of a system without a threshold."""
    if point.system in ("slm", "llm"):
        return (SLM if point.system == "slm" else LLM), "o"
    return OTHER if 0 < point.figures["llm_share"] < 1 else (GREY, "o")


def unit_of(billions: float) -> tuple[str, float]:
    """The unit in which the largest value reads best, and how many of it a billion holds."""
    for unit, factor in (("B", 1.0), ("M", 1e3)):
        if billions * factor >= 1:
            return unit, factor
    return "K", 1e6


def spaced(corners: np.ndarray, each: float = 8.0) -> np.ndarray:
    """Points [n, 2] of a line through ``corners`` [m, 2], at most ``each`` pixels apart."""
    parts = [
        np.linspace(one, other, 2 + int(np.hypot(*(other - one)) / each))
        for one, other in pairwise(corners)
    ]
    return np.concatenate(parts) if parts else corners


def place_labels(axes: Axes, spots: Sequence[Spot]) -> None:
    """Put each label beside its point, where it covers least of what is drawn already."""
    pixel = axes.figure.dpi / 72
    taken = []
    for line in axes.get_lines():
        if line.get_linestyle() != "None":  # else the ends of intervals
            drawn = spaced(axes.transData.transform(line.get_xydata()))
            taken += [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in drawn]
    for bars in axes.containers:
        interval: Any = bars
        for segment in interval.lines[2][0].get_segments():
            (x, low), (_, high) = axes.transData.transform(segment)
            taken.append(Bbox.from_extents(x, low, x, high).padded(6 * pixel))

    for p in spots:
        if not p.label:
            continue

        def label(offset: tuple[float, float], p: Spot = p) -> Annotation:
            dx, dy = offset
            return axes.annotate(
                p.label,
                (p.x, p.y),
                offset,
                textcoords="offset points",
                ha="center" if dx == 0 else "left" if dx > 0 else "right",
                va="center" if dy == 0 else "bottom" if dy > 0 else "top",
                color=p.color,
                fontsize=9 if "\n" in p.label else 7.5,
                linespacing=1.1,
            )

        def crowded(offset: tuple[float, float]) -> float:
            trial = label(offset)
            box = trial.get_window_extent()
            trial.remove()
            inside = axes.bbox.count_contains(box.corners()) == 4
            return box.count_overlaps(taken) + FAR * math.hypot(*offset) + (0 if inside else 100)

        best = label(min(OFFSETS, key=crowded))
        taken.append(best.get_window_extent())
