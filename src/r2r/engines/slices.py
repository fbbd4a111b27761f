"""Positions in slices, so that the logits of few are held at once."""

from __future__ import annotations

from collections.abc import Iterator

LOGIT_BYTES = 64 << 20  # of the float32 logits that are held at once


def slices(positions: int, vocabulary: int) -> Iterator[slice]:
    """Slices of about equal size that cover ``positions``, each of LOGIT_BYTES at most."""
    most = max(1, LOGIT_BYTES // (4 * vocabulary))
    count = -(-positions // most)
    for number in range(count):
        yield slice(positions * number // count, positions * (number + 1) // count)
