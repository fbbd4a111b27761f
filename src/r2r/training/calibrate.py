"""Scores of any router over a split of the labels, and the threshold they lead to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from r2r.errors import must_be
from r2r.routers.base import Router
from r2r.routers.threshold import choose_threshold, curve, recall_curve, threshold_of_share
from r2r.trace import TokenSignals
from r2r.training import few, share_of_few
from r2r.training.data import LabelledTokens, Split, TokenRows

_BATCH = 4096  # rows scored at once
_RATES = ("positive_rate", "recall", "precision", "auroc", "average_precision")


def scores(
    router: Router, labels: LabelledTokens, split: Split, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Score [rows] float32 and label [rows] int8 (1 = divergent) of every usable row of a split.

    ``router`` is in eval mode, and is left on ``device``.
    """
    rows = TokenRows(labels, split, window=router.window)
    return score_rows(router, rows, device), rows.labels()


def score_rows(router: Router, rows: TokenRows, device: str = "cpu") -> np.ndarray:
    """Score of each row [rows] float32; ``router`` is left on ``device``."""
    router.to(device)
    parts = [np.zeros(0, np.float32)]
    for signals, _ in rows.batches(_BATCH):
        there = TokenSignals(
            token=signals.token.to(device),
            logits=signals.logits.to(device),
            hidden=signals.hidden.to(device),
            position=signals.position.to(device),
        )
        parts.append(router.score(there).cpu().numpy())
    return np.concatenate(parts)


def calibrate(
    every: np.ndarray, divergent: np.ndarray, min_recall: float, target_share: float | None
) -> float:
    """The threshold of the lowest positive rate whose recall is ``min_recall``; or, where it is
    given, the one that routes ``target_share`` of the tokens. Where divergent tokens are ``few``,
    one outlier among them decides the first: ``share_of_few`` is routed then.

    ``every``: validation scores [rows]; ``divergent`` [rows]. Raises ConfigError where no token is
    divergent, or where only threshold 0, which is the LLM alone, does it.
    """
    require_divergent(divergent, "validation")
    if target_share is None and few(int(divergent.sum())):
        target_share = share_of_few(float(divergent.mean()))
    if target_share is None:
        threshold, wanted = choose_threshold(every, divergent, min_recall), f"recall {min_recall}"
    else:
        threshold, wanted = threshold_of_share(every, target_share), f"share {target_share:.3g}"
    if threshold <= 0:
        only = f"a number, as this router reaches {wanted} only at 0 (the LLM alone)"
        raise must_be("threshold", only, "auto")
    return threshold


def require_divergent(divergent: np.ndarray, split: Split) -> None:
    """ConfigError unless the labels of a split hold divergent tokens and others."""
    count = int(divergent.sum())
    if not 0 < count < len(divergent):
        wanted = f"queries whose {split} labels hold divergent tokens and others"
        raise must_be("labeler.prompts", wanted, f"{count} divergent of {len(divergent)}")


def quality(every: np.ndarray, divergent: np.ndarray, threshold: float) -> dict[str, Any]:
    """Rows, divergent rows, positive rate, recall, precision, AUROC, average precision, and
    ``curve``, the threshold of each recall.

    ``every``: scores [rows]; ``divergent`` [rows]. Rates are None where a class has no rows.
    """
    count = int(divergent.sum())
    sizes = {"rows": len(every), "divergent": count}
    if not 0 < count < len(every):
        return sizes | dict.fromkeys(_RATES)
    at = curve(every, divergent, [threshold])
    target = torch.from_numpy(divergent).long()
    # Ranks, because torchmetrics squashes scores outside [0, 1] (entropies), which can tie them.
    ranks = torch.from_numpy(np.unique(every, return_inverse=True)[1] / len(every))
    rates = (
        at.positive_rate[0],
        at.recall[0],
        at.precision[0],
        binary_auroc(ranks, target),
        binary_average_precision(ranks, target),
    )
    found = {name: float(rate) for name, rate in zip(_RATES, rates, strict=True)}
    return sizes | found | {"curve": recall_curve(every, divergent)}
