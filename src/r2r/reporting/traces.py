"""Readable traces: who wrote which token, what the SLM wanted to write there, and the grade.

A row is a plain dict: ``question``, ``gold``, ``correct`` (bool), ``system`` and, a value for each
token, ``pieces`` (its text), ``llm`` (1 where the LLM wrote it), ``scores`` (the router's, or
None), ``drafts`` (the text of the SLM's rejected token and, behind ``CUT``, of what was lost with
it; or None). ``id`` and ``task`` name the problem; ``alternatives`` holds, for each token of a
routed answer, the SLM's likeliest as (text, probability) where the LLM wrote it, else None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.text import Text

from r2r.records import whole_file
from r2r.reporting.tables import shown

CUT = "✂"
LEGEND = (
    "【…】 was written by the LLM; behind ⟵ stands the token of the SLM that it replaced, behind"
    f" {CUT} what the SLM had written after that, and lost."
)

LLM_STYLE, DRAFT_STYLE = "bold black on yellow", "dim strike"
COLOURS = Text.assemble(
    ("highlighted", LLM_STYLE), " was written by the LLM; before it, ", ("struck", DRAFT_STYLE),
    f", stands the token of the SLM that it replaced, behind {CUT} what the SLM had written after "
    "that, and lost.",
)  # fmt: skip


def spans(row: dict[str, Any]) -> Iterator[tuple[str, bool, str | None]]:
    """(text, written by the LLM, the SLM's token where it was another) of neighbouring tokens.

    A token that replaced another one stands alone; the others are joined.
    """
    tokens = zip(row["pieces"], row["llm"], row["drafts"], strict=True)
    replaced = [(p, bool(llm), d if llm and d != p else None) for p, llm, d in tokens]

    def alike(item: tuple[int, tuple[str, bool, str | None]]) -> tuple[bool, int]:
        index, (_, llm, draft) = item
        return llm, -1 if draft is None else index

    for _, group in groupby(enumerate(replaced), key=alike):
        members = [member for _, member in group]
        yield "".join(piece for piece, _, _ in members), members[0][1], members[0][2]


def colored(row: dict[str, Any]) -> Text:
    """The answer for a terminal, the LLM's tokens highlighted, the SLM's rejected ones struck."""
    text = Text()
    for piece, llm, draft in spans(row):
        if draft is not None:
            text.append(draft.replace("\n", "⏎"), style=DRAFT_STYLE)
        text.append(piece, style=LLM_STYLE if llm else "")
    return text


def marked(row: dict[str, Any]) -> str:
    """The answer as plain text, the LLM's tokens in 【…】."""

    def mark(piece: str, llm: bool, draft: str | None) -> str:
        if not llm:
            return piece
        rejected = "" if draft is None else "⟵" + draft.replace("\n", "⏎")
        return f"【{piece}{rejected}】"

    return "".join(mark(*span) for span in spans(row))


def fenced(text: str) -> str:
    """A Markdown block that shows ``text`` as it is, whatever fences it holds itself."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}text\n{text}\n{fence}"


def page(row: dict[str, Any]) -> str:
    """One answer in Markdown: question, trace, grade."""
    tokens, by_llm = len(row["llm"]), sum(row["llm"])
    grade = "correct" if row["correct"] else "wrong"
    share = f"{100 * by_llm / tokens:.0f}%" if tokens else "none"
    return "\n\n".join(
        [
            fenced(row["question"]),
            f"**{shown(row['system'])}**: {grade} (gold: `{row['gold']}`), "
            f"{tokens} tokens, {share} by the LLM",
            fenced(marked(row)),
        ]
    )


def write_traces(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The answers as one Markdown file."""
    pages = [f"## {i}\n\n{page(row)}" for i, row in enumerate(rows, start=1)]
    with whole_file(path) as temporary:
        temporary.write_text("\n\n".join(["# Traces", LEGEND, *pages]) + "\n", encoding="utf-8")
