"""The labels as the LLM saw them: its signals where the SLM's token differs from its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from r2r.errors import must_be
from r2r.labeling.dataset import Labels, Split, usable_rows
from r2r.policies.learned import about
from r2r.trace import TokenSignals


class JudgedTokens:
    """``LabelledTokens`` of the rows at which the models differ, with what the LLM knew of the
    SLM's token (``about``) in the columns of the SLM's own signals.

    Raises ConfigError where the labels hold nothing of the LLM.
    """

    def __init__(self, labels: Labels):
        pairs = [
            (small, large)
            for small, large in zip(labels.shards, labels.large, strict=True)
            if large or (small["mismatch"] == 1).any()
        ]
        if not all(large for _, large in pairs):
            wanted = "made anew for policy/accept=learned (these hold nothing of the LLM)"
            raise must_be("labels", wanted, str(labels.folder))
        self.shards = [_heard(small, large) for small, large in pairs]

    def rows(self, split: Split, *, labelled: bool = True) -> list[np.ndarray]:
        assert labelled, "who asks for all rows wants the labels themselves"
        return [usable_rows(shard, split) for shard in self.shards]


def log_ratios(tokens: JudgedTokens, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """What the test ``ratio`` goes by, in nats [rows] float32: the logit of the SLM's token less
    the LLM's highest, as far down as the labels know; and whether it is divergent [rows] int8."""
    found = []
    for shard, rows in zip(tokens.shards, tokens.rows(split), strict=True):
        logits = shard["small_logits"][rows].astype(np.float32)
        found.append((logits[:, 0] - logits.max(axis=1), shard["divergent"][rows]))
    ratios, divergent = zip(*found, strict=True)
    return np.concatenate(ratios), np.concatenate(divergent)


def _heard(
    small: Mapping[str, np.ndarray], large: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    at = np.flatnonzero(small["mismatch"] == 1)
    names = ("divergent", "mismatch", "mask", "split", "position", "small_token")
    columns = {name: small[name][at] for name in names}
    logits, indices = (torch.tensor(large[f"large_{name}"]) for name in ("logits", "indices"))
    given = torch.from_numpy(columns["small_token"])
    unread = torch.zeros(len(at), 0)
    seen = about(given, TokenSignals(given, logits.float(), unread, given), indices)
    return columns | {
        "small_logits": seen.logits.half().numpy(),
        "small_last_hidden_states": large["large_last_hidden_states"],
    }
