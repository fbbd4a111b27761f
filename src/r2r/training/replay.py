"""Recorded scores replayed over thresholds: what each would do, without generating a token.

Off-policy: the scores are those along the LLM's own answers, while a routed generation leaves
that path wherever a divergent token was missed. Measured runs say what really happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from r2r.routers.base import Router
from r2r.routers.threshold import choose_threshold, curve
from r2r.training.calibrate import require_divergent, score_rows
from r2r.training.data import LabelledTokens, Split, TokenRows

KINDS = ("identical", "neutral", "divergent")
RECALLS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)  # where a person reads the curve
_POINTS = 120  # thresholds of the whole curve
_BINS = 40


@dataclass(frozen=True, slots=True)
class Recorded:
    """Scores of every row of a split [rows] float32, and its kind (``TokenRows.kinds``) [rows]."""

    scores: np.ndarray
    kinds: np.ndarray


def record(router: Router, labels: LabelledTokens, split: Split, device: str = "cpu") -> Recorded:
    """Score every row of ``split``, the unlabelled ones too: at generation they are routed alike.

    Raises ConfigError where the split has no divergent token, or nothing else.
    """
    rows = TokenRows(labels, split, labelled=False, window=router.window)
    kinds = rows.kinds()
    require_divergent(kinds[kinds >= 0] == 2, split)
    return Recorded(score_rows(router, rows, device), kinds)


def replay(recorded: Recorded, max_score: float) -> dict[str, Any]:
    """Plain data for tables and figures.

    ``curve`` and ``at`` (the thresholds of ``RECALLS``) hold columns: threshold, recall,
    precision, positive_rate (of the labelled tokens) and llm_share (of all tokens, each in [0, 1]).
    ``histogram``: bin ``edges`` and, for each kind, the tokens of each bin.
    ``reliability``, for scores that are probabilities (``max_score`` 1) else None: of each bin
    with tokens their mean ``score``, the ``divergent`` share and the number of ``tokens``.
    """
    labelled = recorded.kinds >= 0
    scores, divergent = recorded.scores[labelled], recorded.kinds[labelled] == 2
    rates = np.geomspace(1 / len(scores), 1, _POINTS)
    whole = np.unique(np.quantile(scores, 1 - rates, method="higher"))
    at = np.array(sorted({choose_threshold(scores, divergent, recall) for recall in RECALLS}))
    top = max_score if np.isfinite(max_score) else float(scores.max())
    edges = np.linspace(min(0.0, float(scores.min())), top, _BINS + 1)
    return {
        "rows": len(scores),
        "divergent": int(divergent.sum()),
        "curve": _columns(recorded, scores, divergent, whole),
        "at": _columns(recorded, scores, divergent, at),
        "histogram": {"edges": edges.tolist()}
        | {
            kind: np.histogram(recorded.scores[recorded.kinds == number], edges)[0].tolist()
            for number, kind in enumerate(KINDS)
        },
        "reliability": _reliability(scores, divergent) if max_score == 1 else None,
    }


def _columns(
    recorded: Recorded, scores: np.ndarray, divergent: np.ndarray, thresholds: np.ndarray
) -> dict[str, list[float]]:
    labelled = curve(scores, divergent, thresholds)
    every = curve(recorded.scores, recorded.kinds == 2, thresholds)
    return {
        "threshold": thresholds.tolist(),
        "recall": labelled.recall.tolist(),
        "precision": labelled.precision.tolist(),
        "positive_rate": labelled.positive_rate.tolist(),
        "llm_share": every.positive_rate.tolist(),
    }


def _reliability(scores: np.ndarray, divergent: np.ndarray) -> dict[str, list[float]]:
    bins = np.minimum((scores * 10).astype(int), 9)
    filled = [bins == number for number in np.unique(bins)]
    return {
        "score": [float(scores[here].mean()) for here in filled],
        "divergent": [float(divergent[here].mean()) for here in filled],
        "tokens": [int(here.sum()) for here in filled],
    }
