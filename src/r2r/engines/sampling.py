"""The next token from logits, and how sure it is, the same way in every engine and batch."""

from __future__ import annotations

import hashlib
import math

import torch

from r2r.engines.base import Sampling

SAMPLING_VERSION = 1  # the tokens that a seed draws


def uniform(seed: int, position: int) -> float:
    """A draw in [0, 1) that depends on nothing but the answer's seed and the token's position,

    so that a handoff, a restart or another batch does not change it."""
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)


def choose(logits: torch.Tensor, samplings: list[Sampling], positions: list[int]) -> torch.Tensor:
    """Next tokens [batch] int64 for logits [batch, vocab]; greedy where the temperature is 0."""
    tokens = logits.argmax(dim=-1)
    for row, (sampling, position) in enumerate(zip(samplings, positions, strict=True)):
        if sampling.temperature > 0:
            tokens[row] = _draw(logits[row], sampling, position)
    return tokens


def _draw(logits: torch.Tensor, sampling: Sampling, position: int) -> torch.Tensor:
    """Nucleus sampling by inverse transform over tokens in falling order of probability."""
    # Below a highest of 0 the smallest temperature makes no infinity but -inf.
    scores = logits.double() - logits.max().double()
    probs = (scores / sampling.temperature).softmax(dim=-1)
    probs, order = probs.sort(descending=True, stable=True)
    total = probs.cumsum(dim=-1)
    kept = total - probs < sampling.top_p
    mass = total[kept][-1]
    index = int((total[kept] <= uniform(sampling.seed, position) * mass).sum())
    return order[min(index, int(kept.sum()) - 1)]


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """Entropies [batch] of the next token for logits [batch, vocab], before temperature, relative
    to that of a uniform distribution: 0 to 1."""
    return torch.special.entr(logits.softmax(-1)).sum(-1) / math.log(logits.shape[-1])
