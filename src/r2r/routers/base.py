"""The router contract: signals in, one score a token out. The threshold lives elsewhere."""

from __future__ import annotations

import torch

from r2r.trace import TokenSignals


class Router(torch.nn.Module):
    """Scores every token the SLM writes: how likely it leaves the LLM's path.

    Subclasses implement ``score`` and, where they learn, ``forward`` (the logits that training
    fits). ``max_score`` bounds the scores: 1 for probabilities, infinity for e.g. an entropy.
    ``balanced``: training weights divergent tokens by their inverse frequency, as the paper does.
    ``window``: positions whose ``logits`` and ``hidden`` one row holds, side by side, the oldest
    first; ``token`` and ``position`` are the newest's.
    """

    max_score: float = 1.0
    learns: bool = False
    balanced: bool = True
    window: int = 1
    version: int = 1  # raised when a class gives other scores, or another start to train from

    def score(self, signals: TokenSignals) -> torch.Tensor:
        """Score of each position [batch] float32, higher = more likely divergent."""
        raise NotImplementedError


def routed(scores: torch.Tensor, thresholds: torch.Tensor | float) -> torch.Tensor:
    """Which tokens the LLM writes [batch] bool. The only place where this is decided."""
    return scores >= thresholds
