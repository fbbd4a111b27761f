"""How long texts of earlier runs got that are like those to come: an ETA begins with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2r.records import MANIFEST, read_json
from r2r.stages.artifacts import Key, described

FREE = "queries", "splits"  # of what decides labels: how many there are, and of what
UNREADABLE = OSError, ValueError, KeyError, TypeError, AttributeError  # it can be done without
MOST = 64  # lengths that an evaluation's manifest keeps, where it has more answers


def spread(lengths: Sequence[int]) -> list[int]:
    """As they are distributed, in MOST of them."""
    if len(lengths) <= MOST:
        return sorted(lengths)
    return np.quantile(lengths, (np.arange(MOST) + 0.5) / MOST, method="nearest").tolist()


def answers_like(key: Key) -> list[int]:
    """Tokens of answers that systems of the pair gave to the same problems with the same budget, as
    they are distributed; where there are none, of the answers that the pair's labels are of."""
    wanted = key.decides
    found: list[int] = []
    for _, holds, decides in _others(key, "evaluation"):
        if all(decides.get(each) == wanted[each] for each in ("text", "data")):
            found += holds.get("lengths", []) if _asked(decides) == _asked(wanted) else []
    if found:
        return found
    for folder, _, decides in _others(key, "labels"):
        most = decides.get("max_new_tokens")
        if decides.get("text") == wanted["text"] and most == _asked(wanted)[1]:
            for numbers in folder.glob("shard-*/data_id.npy"):
                with contextlib.suppress(*UNREADABLE):
                    rows = np.bincount(np.load(numbers, mmap_mode="r"))
                    found += rows[rows > 0].tolist()
    return found


def labelled_like(key: Key) -> tuple[list[int], float]:
    """Tokens that were written for each query labelled by the same rule, whichever it is; and the
    share of them that are answers, and not what followed their tokens side by side."""
    wanted = _but_for(key.decides)
    found: list[int] = []
    rows = 0
    for folder, _, decides in _others(key, "labels"):
        if _but_for(decides) == wanted:
            for shard in folder.glob(f"shard-*/{MANIFEST}"):
                with contextlib.suppress(*UNREADABLE):
                    told = read_json(shard)
                    found, rows = found + told["tokens"], rows + told["counts"]["rows"]
    return found, min(1.0, rows / sum(found)) if found else 1.0


def _others(key: Key, kind: str) -> Iterator[tuple[Path, Mapping[str, Any], Mapping[str, Any]]]:
    """The pair's artifacts of a kind, also those that are not whole; what each holds, and what
    decides it."""
    for folder in sorted((key.root / kind).glob("[!.]*")):
        if folder == key.folder:
            continue
        with contextlib.suppress(*UNREADABLE):
            holds, about = described(folder)
            if about.get("pair") == key.pair and "decides" in about:
                yield folder, holds, about["decides"]


def _asked(decides: Mapping[str, Any]) -> tuple[Any, Any]:
    benchmark = decides.get("benchmark", {})
    return benchmark.get("tasks"), benchmark.get("max_new_tokens")


def _but_for(decides: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in decides.items() if name not in FREE}
