"""A query that is labelled: its columns, and what a report says of it, as bytes for the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from r2r.labeling.dataset import TYPES
from r2r.labeling.prefill import Reading
from r2r.labeling.respond import LeftOut
from r2r.labeling.verify import Verdict

KINDS = ("identical", "neutral", "divergent")
COUNTED = ("rows", "masked", *KINDS, "unverified", "unsampled", "disputed")
LABELS: dict[Verdict, int] = {
    "neutral": 0,
    "divergent": 1,
    "disputed": 1,
    "unverified": -1,
    "unsampled": -1,
}
EXAMPLES = 10  # of each kind that a report shows: twenty in all
FACTS = "facts"  # among the tensors: the rest, as JSON


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a query's rows without reading them.

    ``tokens``: that the LLM wrote for it. ``left_out``: why it has no rows. ``counts``: rows by
    kind (COUNTED; disputed rows are divergent too); ``entropy``: their sum by kind, in nats.
    ``examples``: of neutral and divergent tokens, those that rank lowest, so that a sample of all
    queries can be drawn from each one's.
    """

    tokens: int
    left_out: LeftOut | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    entropy: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    examples: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"neutral": [], "divergent": []}
    )

    @property
    def differing(self) -> int:
        """Its rows at which both models were heard (dataset.LARGE)."""
        return self.counts["rows"] - self.counts["masked"] - self.counts["identical"]


@dataclass(frozen=True, slots=True)
class Finished:
    """A labelled query. ``data_id``: its place in the run; ``columns``: those of the dataset but
    for its split, [rows, ...] in their types (dataset.TYPES), none where it is left out."""

    data_id: int
    facts: Facts
    columns: dict[str, np.ndarray]

    def to_bytes(self) -> bytes:
        told = json.dumps(asdict(self.facts)).encode()
        return save(self.columns | {FACTS: np.frombuffer(told, np.uint8)})

    @staticmethod
    def from_bytes(data_id: int, value: bytes) -> Finished:
        columns = load(value)
        facts = Facts(**json.loads(columns.pop(FACTS).tobytes()))
        return Finished(data_id, facts, columns)


def columns_of(
    features: Mapping[str, np.ndarray], reading: Reading, verdicts: Sequence[Verdict]
) -> dict[str, np.ndarray]:
    """A query's columns: what was read, and what was judged, identical tokens 0, judged ones as
    judged, masked ones -1."""
    divergent = np.where(reading.mask, 0, -1)
    divergent[reading.mismatch] = [LABELS[verdict] for verdict in verdicts]
    judged = {"divergent": divergent, "mismatch": reading.mismatch, "mask": reading.mask}
    return {
        name: np.ascontiguousarray(values, TYPES[name])
        for name, values in (*features.items(), *judged.items())
    }


def tally(
    reading: Reading, divergent: np.ndarray, verdicts: Sequence[Verdict]
) -> tuple[dict[str, int], dict[str, float]]:
    """Rows by kind (COUNTED), and the sum of their entropies by kind."""
    kinds = {
        "masked": ~reading.mask,
        "identical": reading.mask & ~reading.mismatch,
        "neutral": reading.mismatch & (divergent == 0),
        "divergent": reading.mismatch & (divergent == 1),
        "unverified": reading.mismatch & (divergent == -1),
    }
    counts = {"rows": len(divergent)} | {kind: int(rows.sum()) for kind, rows in kinds.items()}
    counts["unsampled"] = verdicts.count("unsampled")
    counts["unverified"] -= counts["unsampled"]
    counts["disputed"] = verdicts.count("disputed")
    entropy = {kind: float(reading.entropy[kinds[kind]].sum()) for kind in KINDS}
    return {name: counts[name] for name in COUNTED}, entropy
