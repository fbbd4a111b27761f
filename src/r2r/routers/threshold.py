"""Choosing the threshold from scores and labels: pure numpy, the same for every router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Curve:
    """What each threshold does [thresholds]; ``precision`` is 0 where nothing is routed."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    positive_rate: NDArray[np.float64]


def choose_threshold(scores: ArrayLike, labels: ArrayLike, min_recall: float) -> float:
    """The threshold of the lowest positive rate whose recall is at least ``min_recall``.

    ``scores`` [n]; ``labels`` [n], 1 = divergent. Recall and positive rate both fall as the
    threshold rises, so it is the highest one that keeps the recall: the score of one of the
    divergent tokens (paper, sec. 4.3, which tries a grid of 100 values; this is exact).
    Raises ValueError where no token is divergent.
    """
    if not 0 < min_recall <= 1:
        raise ValueError(f"min_recall must be above 0 and at most 1, got {min_recall!r}")
    positives = np.sort(np.asarray(scores)[np.asarray(labels) == 1])[::-1]
    if not len(positives):
        raise ValueError("labels must contain at least one divergent token, got none")
    recalls = np.arange(1, len(positives) + 1) / len(positives)
    return float(positives[np.searchsorted(recalls, min_recall)])


def threshold_of_share(scores: ArrayLike, share: float) -> float:
    """The highest threshold that routes at least ``share`` (above 0, at most 1) of ``scores``."""
    falling = np.sort(np.asarray(scores))[::-1]
    return float(falling[int(np.ceil(share * len(falling))) - 1])


def recall_curve(scores: ArrayLike, labels: ArrayLike) -> dict[str, list[float]]:
    """For each recall of 0.01 .. 1.00 its threshold, in JSON's types; read by ``recall_at``."""
    recall = [percent / 100 for percent in range(1, 101)]
    return {"recall": recall, "threshold": [choose_threshold(scores, labels, r) for r in recall]}


def recall_at(found: Mapping[str, list[float]], threshold: float) -> float:
    """The recall of a threshold to 0.01, from what ``recall_curve`` found."""
    pairs = zip(found["recall"], found["threshold"], strict=True)
    return max((recall for recall, at in pairs if at >= threshold), default=0.0)


def threshold_at(found: Mapping[str, list[float]], recall: float) -> float:
    """The highest threshold of at least this recall, from what ``recall_curve`` found."""
    pairs = zip(found["recall"], found["threshold"], strict=True)
    return max(at for each, at in pairs if each >= recall)


def curve(scores: ArrayLike, labels: ArrayLike, thresholds: ArrayLike) -> Curve:
    """Recall, precision and positive rate of ``score >= threshold`` at each threshold.

    ``scores`` [n], ``labels`` [n] with at least one 1, ``thresholds`` [thresholds].
    """
    scores, divergent = np.asarray(scores), np.asarray(labels) == 1
    thresholds = np.asarray(thresholds)
    routed = len(scores) - np.searchsorted(np.sort(scores), thresholds)
    positives = np.sort(scores[divergent])
    hits = len(positives) - np.searchsorted(positives, thresholds)
    return Curve(hits / len(positives), hits / np.maximum(routed, 1), routed / len(scores))
