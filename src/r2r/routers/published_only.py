"""Networks of published router files that are no case of ``MLPRouter``; they share its backbone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from r2r.errors import must_be
from r2r.routers.learned import LearnedRouter
from r2r.routers.mlp import Backbone
from r2r.trace import TOP_K, TokenSignals


class LMHeadRouter(LearnedRouter):
    """Hidden state -> its own copy of an LM head -> residual MLP -> one logit.

    ``vocab_size``: outputs of the head; ``kept``: how many of them are read, highest first, or
    None for all, in the vocabulary's order; ``normalize_input``: layer norm on the hidden state.
    The rest as in ``MLPRouter``.
    """

    def __init__(
        self,
        *,
        normalize_input: bool,
        hidden_size: int,
        vocab_size: int,
        kept: int | None,
        hidden_dims: list[int],
        expansion: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.kept = kept
        self.layer_norm = nn.LayerNorm(hidden_size) if normalize_input else nn.Identity()
        self.lm_head = nn.Linear(hidden_size, vocab_size)
        self.post_lm_projection = nn.Linear(kept or vocab_size, hidden_dims[0])
        self.backbone = Backbone(hidden_dims, expansion, dropout)

    def forward(self, hidden: Tensor, logits: Tensor, token: Tensor) -> Tensor:
        """``hidden`` [batch, hidden] -> logits [batch]; the other signals are not read."""
        out = self.lm_head(self.layer_norm(hidden))
        if self.kept is not None:
            out = out.topk(self.kept, dim=-1).values
        return self.backbone(self.post_lm_projection(out)).squeeze(-1)


class WindowRouter(LearnedRouter):
    """One kind of signal at the last ``window`` positions, the oldest first, in one row.

    ``reads``: which field of ``TokenSignals`` holds them (``Router.window``); ``width``: how many
    values of each position are read; ``normalize_input``: softmax over each position's logits.
    Until an answer has ``window`` positions the score is 1: the LLM writes.
    """

    def __init__(
        self,
        *,
        reads: Literal["hidden", "logits"],
        window: int,
        width: int,
        normalize_input: bool,
        hidden_dims: list[int],
        expansion: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if normalize_input and reads == "hidden":  # the published forward fails on its own shapes
            raise must_be("router.normalize_input", "false for windows of hidden states", True)
        if reads == "logits" and not 1 <= width <= TOP_K:
            raise must_be("router.width", f"between 1 and {TOP_K}", width)
        self.reads, self.window, self.width = reads, window, width
        self.normalize_input = normalize_input
        self.projection = nn.Linear(window * width, hidden_dims[0])
        self.backbone = Backbone(hidden_dims, expansion, dropout)

    def forward(self, hidden: Tensor, logits: Tensor, token: Tensor) -> Tensor:
        """``hidden`` [batch, window x hidden] or ``logits`` [batch, window x k] -> [batch]."""
        rows = hidden if self.reads == "hidden" else logits
        rows = rows.unflatten(-1, (self.window, -1))[..., : self.width]
        if self.normalize_input:
            rows = torch.softmax(rows, dim=-1)
        return self.backbone(self.projection(rows.flatten(-2))).squeeze(-1)

    def score(self, signals: TokenSignals) -> Tensor:
        """As of every learned router, and 1 where ``position`` has too few before it."""
        return super().score(signals).masked_fill(signals.position < self.window - 1, 1.0)
