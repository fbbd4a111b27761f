"""Routers that learn nothing: the paper's entropy baseline, a random one, and the two extremes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from r2r.routers.base import Router
from r2r.trace import TokenSignals

# The two multipliers and the increment of splitmix64, as signed 64-bit integers.
_INCREMENT = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


class EntropyRouter(Router):
    """Entropy in nats of the SLM's next-token distribution, over the logits it reports."""

    max_score = math.inf

    @torch.no_grad()
    def score(self, signals: TokenSignals) -> Tensor:
        return torch.special.entr(signals.logits.float().softmax(-1)).sum(-1)


class RandomRouter(Router):
    """Uniform scores in [0, 1): threshold ``1 - share`` gives the LLM that share of the tokens.

    A score is a hash of the seed and of the token's own signals, so that it depends neither on
    the other requests of a batch nor on the order in which they come.
    """

    def __init__(self, *, seed: int) -> None:
        super().__init__()
        self.seed = seed

    @torch.no_grad()
    def score(self, signals: TokenSignals) -> Tensor:
        # Coarse, because logits differ in their last bits from one batch size to another.
        top = (signals.logits[:, 0].float() * 4).round().long()
        mixed = torch.full_like(top, self.seed)
        for part in (signals.position, signals.token, top):
            mixed = _splitmix(mixed ^ part)
        return (_shift(mixed, 40)).float() / (1 << 24)


class AlwaysSLM(Router):
    """Score 0: the SLM writes every token at every threshold above 0 (which means: LLM only)."""

    @torch.no_grad()
    def score(self, signals: TokenSignals) -> Tensor:
        return torch.zeros(len(signals.token), device=signals.token.device)


class AlwaysLLM(Router):
    """Score 1: the LLM writes every token at every threshold up to 1."""

    @torch.no_grad()
    def score(self, signals: TokenSignals) -> Tensor:
        return torch.ones(len(signals.token), device=signals.token.device)


def _splitmix(x: Tensor) -> Tensor:
    """splitmix64 [batch] int64 -> [batch] int64: neighbouring inputs, unrelated outputs."""
    x = x + _INCREMENT
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; that of int64 tensors copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
