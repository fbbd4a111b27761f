"""Routers that learn nothing: uncertainty of the SLM, chance, a schedule, the two extremes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from r2r.errors import must_be
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


class MarginRouter(Router):
    """1 minus the lead of the SLM's first token over its second, in probability: 1 is a tie."""

    @torch.no_grad()
    def score(self, signals: TokenSignals) -> Tensor:
        probabilities = signals.logits.float().softmax(-1)
        return 1 - (probabilities[:, 0] - probabilities[:, 1])


class AleatoricRouter(Router):
    """LogU's aleatoric uncertainty in nats (Ma et al. 2025): the mean entropy of a Dirichlet.

    The raw logits x of the top K = 10 tokens are its evidence, S their sum:
    ``-sum (x/S) (digamma(x + 1) - digamma(S + 1))``, at most ln K. Negative logits are no
    evidence.
    """

    top_k = 10
    max_score = math.log(top_k)

    @torch.no_grad()
    def score(self, signals: TokenSignals) -> Tensor:
        x = signals.logits[:, : self.top_k].float().clamp_min(1e-6)  # 0/0 where none is positive
        total = x.sum(-1, keepdim=True)
        spread = torch.special.digamma(x + 1) - torch.special.digamma(total + 1)
        return -(x / total * spread).sum(-1)


class ScheduleRouter(Router):
    """Score 1 for the first ``tokens`` tokens of an answer, which the LLM writes, then 0."""

    def __init__(self, *, tokens: int) -> None:
        super().__init__()
        if tokens < 0:
            raise must_be("router.tokens", "0 or more", tokens)
        self.tokens = tokens

    @torch.no_grad()
    def score(self, signals: TokenSignals) -> Tensor:
        return (signals.position < self.tokens).float()


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
