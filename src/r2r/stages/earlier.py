"""How long texts of earlier runs got that are like those to come: an ETA begins with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r2r.records import MANIFEST, read_json
from r2r.stages.artifacts import MAKING, Key
from r2r.stages.samples import SAMPLES, read_samples

FREE = "queries", "splits"  # of what decides labels: how many there are, and of what


def answers_like(key: Key) -> list[int]:
    """Tokens of each answer that systems of the pair gave to the same problems with the same
    budget; where there are none, of each answer that the pair's labels are of."""
    wanted = key.decides
    found: list[int] = []
    for folder, decides in _others(key, "evaluation"):
        alike = all(decides.get(each) == wanted[each] for each in ("text", "data"))
        if alike and _asked(decides) == _asked(wanted) and (folder / SAMPLES).exists():
            found += [row["stats"]["output_tokens"] for row in read_samples(folder)]
    if found:
        return found
    for folder, decides in _others(key, "labels"):
        most = decides.get("max_new_tokens")
        if decides.get("text") != wanted["text"] or most != _asked(wanted)[1]:
            continue
        for numbers in folder.glob("shard-*/data_id.npy"):
            found += np.unique(np.load(numbers, mmap_mode="r"), return_counts=True)[1].tolist()
    return found


def labelled_like(key: Key) -> list[int]:
    """Tokens that were written for each query labelled by the same rule, whichever it is."""
    wanted = _but_for(key.decides)
    found: list[int] = []
    for folder, decides in _others(key, "labels"):
        if _but_for(decides) == wanted:
            for shard in folder.glob(f"shard-*/{MANIFEST}"):
                found += read_json(shard)["tokens"]
    return found


def _others(key: Key, kind: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The pair's artifacts of a kind, also those that are not whole; and what decides each."""
    for folder in sorted((key.root / kind).glob("[!.]*")):
        if folder == key.folder:
            continue
        try:
            whole = (folder / MANIFEST).exists()
            told = read_json(folder / (MANIFEST if whole else MAKING))
        except (OSError, json.JSONDecodeError):  # nothing of it is needed
            continue
        about = told.get("made", {}) if whole else told
        if about.get("pair") == key.pair:
            yield folder, about["decides"]


def _asked(decides: Mapping[str, Any]) -> tuple[Any, Any]:
    benchmark = decides.get("benchmark", {})
    return benchmark.get("tasks"), benchmark.get("max_new_tokens")


def _but_for(decides: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in decides.items() if name not in FREE}
