"""Speeds that may stand in one table: those that one run has timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def untimed(otherwise: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a system whose speed does not compare with the others': what was different."""
    return {"seconds": None, "tokens_per_s": None, "timed_with": dict(otherwise)}


def together(every: Sequence[Mapping[str, Any]], runs: Sequence[str]) -> list[dict[str, Any]]:
    """The figures of one table's systems, which these ``runs`` have told: the speeds stay that one
    run has timed, the one that timed most; the others are ``untimed``."""
    timed = [
        None if figures.get("tokens_per_s") is None else figures.get("timed_in", run)
        for figures, run in zip(every, runs, strict=True)
    ]
    counts = Counter(filter(None, timed))
    most = max(counts, key=lambda run: counts[run], default=None)
    return [
        dict(figures) | ({} if run in (None, most) else untimed({"run": run}))
        for figures, run in zip(every, timed, strict=True)
    ]
