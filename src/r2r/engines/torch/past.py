"""The signals of each answer's last positions, for routers that read several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch

from r2r.trace import TokenSignals


class Past:
    """Of each session the last ``window`` positions that a router was asked about, which follow
    one another: the SLM proposes a token at every position, whoever writes it."""

    def __init__(self, window: int):
        self.window = window
        self.rows: dict[int, deque[list[torch.Tensor]]] = {}

    def join(self, sessions: Sequence[int], signals: TokenSignals) -> TokenSignals:
        """``signals`` with each row's past in front of it, as ``Router.window`` describes.

        ``sessions`` [batch]: whose position a row is. Where an answer has fewer positions, its
        first stands for those before it.
        """
        logits, hidden = [], []
        for session, *row in zip(sessions, signals.logits, signals.hidden, strict=True):
            kept = self.rows.setdefault(session, deque([row] * self.window, maxlen=self.window))
            kept.append(row)
            ranked, states = zip(*kept, strict=True)
            logits.append(torch.cat(ranked))
            hidden.append(torch.cat(states))
        return TokenSignals(
            signals.token, torch.stack(logits), torch.stack(hidden), signals.position
        )

    def forget(self, session: int) -> None:
        self.rows.pop(session, None)
