"""Step 2: the SLM reads a response: what it would have written at every position, and why. Where
that differs the LLM tells what it knew."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from r2r.engines.base import Engine, Prefill
from r2r.errors import must_be
from r2r.labeling.respond import Response

READ_VERSION = 1  # the columns of a reading, what is judged and what masked


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a response's rows before they are judged; a row for each of its tokens.

    ``entropy`` [rows] nats, of the top-k logits. ``mismatch`` [rows] bool: the SLM's token
    differs and is to be judged. ``mask`` [rows] bool: the row may get a label at all.
    """

    entropy: np.ndarray
    mismatch: np.ndarray
    mask: np.ndarray


async def read(
    slm: Engine, response: Response, *, think_start: int | None, think_end: int | None
) -> tuple[Reading, dict[str, np.ndarray]]:
    """The reading, and the dataset's feature columns (large: to be written at once).

    Raises ConfigError where the SLM's signals do not fit float16.

    Masked out are the rows before ``think_start`` (where the text holds it), and those where the
    LLM stops thinking and the SLM would not: such a token is not judged, so it is no label.
    """
    prompt = response.query.tokens
    text = [*prompt, *response.tokens]
    prefill = await slm.prefill(text, start=len(prompt) - 1)
    logits = prefill.signals.logits.float().numpy()
    small = prefill.signals.token.numpy().astype(np.int32)
    real = np.array(response.own, dtype=np.int32)
    thinks_from = text.index(think_start) if think_start in text else 0
    differs = small != real
    closes = np.full(len(real), False) if think_end is None else real == think_end
    mask = (np.arange(len(real)) + len(prompt) > thinks_from) & ~(differs & closes)
    features = {
        "token_id": np.array(text[len(prompt) - 1 : -1], dtype=np.int32),
        "data_id": np.full(len(real), response.data_id, dtype=np.int32),
        "small_token": small,
        "real_token": real,
        "position": np.arange(len(real), dtype=np.int32),
        "small_logits": float16(logits, "pair.slm"),
        "small_indices": prefill.indices.numpy().astype(np.int32),
        "small_last_hidden_states": float16(prefill.signals.hidden.float().numpy(), "pair.slm"),
    }
    return Reading(entropy(logits), differs & mask, mask), features


async def read_large(
    llm: Engine, response: Response, mismatch: np.ndarray, small: np.ndarray
) -> tuple[dict[str, np.ndarray], list[float]]:
    """What the LLM makes of the SLM's tokens ``small`` [rows] at the rows of ``mismatch`` [rows]
    bool: its feature columns there (dataset.LARGE; none where no row is one), and each token's
    probability over that of its own. What is beyond float16's range is brought to its end.

    All of the answer is read anew, and alone: what is found is the same to the byte in any batch.
    """
    at = np.flatnonzero(mismatch)
    if not len(at):
        return {}, []
    prompt, first = response.query.tokens, int(at[0])
    found = await llm.prefill([*prompt, *response.tokens], start=len(prompt) - 1 + first)
    rows, limit = at - first, np.finfo(np.float16).max
    logits, hidden = (
        np.clip(column.float().numpy()[rows], -limit, limit).astype(np.float16)
        for column in (found.signals.logits, found.signals.hidden)
    )
    indices = found.indices.numpy()[rows].astype(np.int32)
    columns = {
        "large_logits": logits,
        "large_indices": indices,
        "large_last_hidden_states": hidden,
    }
    return columns, [relative(found, row, int(small[first + row])) for row in rows.tolist()]


def relative(read: Prefill, row: int, token: int) -> float:
    """The probability of ``token`` over that of the model's own, 0 to 1, in a row of a reading; 0
    for a token that is not among its likeliest (``Prefill.indices``)."""
    indices, logits = read.indices[row].tolist(), read.signals.logits[row].tolist()
    if token not in indices:
        return 0.0
    best = indices.index(int(read.signals.token[row]))
    return math.exp(min(0.0, logits[indices.index(token)] - logits[best]))


def float16(values: np.ndarray, key: str) -> np.ndarray:
    """``values`` as float16; ConfigError naming ``key`` where they do not fit."""
    with np.errstate(over="ignore"):
        small = values.astype(np.float16)
    if not np.isfinite(small).all():
        raise must_be(key, "a model whose signals fit float16", float(np.abs(values).max()))
    return small


def entropy(logits: np.ndarray) -> np.ndarray:
    """Entropy in nats [rows] of the softmax over logits [rows, k]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1)
    return np.log(total) - (np.exp(shifted) * shifted).sum(axis=1) / total
