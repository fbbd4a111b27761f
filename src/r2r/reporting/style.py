"""How every figure looks: colours for any eye, sizes for print and for a phone, files written."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r2r.records import whole_file

# Okabe and Ito's colours: told apart with any colour vision, and by marker without colour.
LLM, SLM, GREY = "#D55E00", "#0072B2", "0.45"
Look = tuple[str, str]  # colour and marker
ROUTERS: tuple[Look, ...] = (
    ("#009E73", "D"), ("#CC79A7", "s"), ("#E69F00", "^"), ("#56B4E9", "v"), ("#8B6A00", "P"),
    ("#5B3A8E", "X"), ("#000000", "*"),
)  # fmt: skip
OTHER: Look = ("#000000", "h")  # systems that share an answer without a router
KINDS = {"identical": ("#0072B2", "-"), "neutral": ("#E69F00", "--"), "divergent": ("#D55E00", ":")}
WIDTH = 5.2  # inches: a column in print; on a phone a point is about a pixel
LEGENDS = (
    (2, 100),
    (1, 100),
    (1, 60),
    (1, 40),
)  # columns, and letters in a line: the first that fits
FORMATS = ("png", "pdf")


def figure(height: float = 3.4, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A new figure and its axes, side by side, without frames and with a light grid."""
    made = Figure(figsize=(WIDTH, height), dpi=180, layout="constrained")
    FigureCanvasAgg(made)
    axes = list(made.subplots(1, columns, squeeze=False)[0])
    for each in axes:
        each.grid(color="0.92", lw=0.8)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return made, axes


def looks(routers: Iterable[str]) -> dict[str, Look]:
    """Colour and marker of each router, the same in every figure of a page; ``routers`` in any
    order, repeated or not."""
    ordered = sorted(set(routers))
    return {name: ROUTERS[index % len(ROUTERS)] for index, name in enumerate(ordered)}


def legend_below(made: Figure, axes: Axes | None = None) -> None:
    """What lines mean, below the axes: there it hides nothing. ``axes``: whose lines, if not all
    axes'."""
    found = [each.get_legend_handles_labels() for each in ([axes] if axes else made.axes)]
    named = {
        label: handle
        for handles, labels in found
        for handle, label in zip(handles, labels, strict=True)
    }
    if not named:
        return
    for way in LEGENDS:
        columns, letters = way
        legend = made.legend(
            named.values(), [textwrap.fill(name, letters) for name in named],
            loc="outside lower center", frameon=False, fontsize=8, ncols=columns,
        )  # fmt: skip
        if legend.get_window_extent().width <= made.bbox.width or way == LEGENDS[-1]:
            return
        legend.remove()


def save(made: Figure, folder: Path, name: str) -> None:
    """``name``.png and ``name``.pdf, each whole."""
    _settle(made)
    for kind in FORMATS:
        with whole_file(folder / f"{name}.{kind}") as temporary:
            made.savefig(temporary, format=kind)


def lay_out(made: Figure) -> None:
    """Give everything that is on it its place."""
    if (engine := made.get_layout_engine()) is not None:
        engine.execute(made)


def _settle(made: Figure) -> None:
    """Lay it out once for all formats: each would do it again, and draw twice for that."""
    lay_out(made)
    made.set_layout_engine(None)  # "none" would leave one behind, and each format draw twice


def inline_svg(made: Figure, name: str, alt: str) -> str:
    """The figure as an <svg> element that fills its container, in the page's colours of text and
    ground; ids are its own on the page. What has a gid stays findable by it (data-series)."""
    _settle(made)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        made.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    svg = _in_page_colours(svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt, quote=True)}" ', 1)


def _in_page_colours(svg: str) -> str:
    """Black becomes the page's text, white its ground, light grey lines a trace of the text."""
    svg = re.sub(r"\b(fill|stroke): #000000", r"\1: currentColor", svg)
    svg = re.sub(r"\bfill: #ffffff", "fill: none", svg)
    svg = re.sub(r"\bstroke: #ebebeb", "stroke: currentColor; stroke-opacity: 0.12", svg)
    svg = re.sub(r'<g id="series:([^"]*)"', r'<g data-series="\1"', svg)
    return svg.replace("<svg ", '<svg fill="currentColor" ', 1)
