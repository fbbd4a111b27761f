"""What a label dataset holds: counts, and a report to judge the labels' quality by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2r.labeling.controls import Proof
from r2r.labeling.dataset import SPLITS, usable_rows
from r2r.labeling.finished import EXAMPLES, KINDS
from r2r.labeling.sentences import Sentences
from r2r.labeling.shards import lowest
from r2r.records import MANIFEST, file_hash, read_json, write_json


def write_summary(
    folder: Path,
    shards: Sequence[str],
    sentences: Sentences,
    verifier: str,
    proof: Proof | None = None,
) -> None:
    """Write the dataset's manifest, from the finished shards of ``folder``; one in memory a time.

    ``proof``: how the verifier did on the control pairs. Entropies are in nats, over the top-k
    logits. The examples are a fixed random sample.
    """
    entries: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    entropy: Counter[str] = Counter()
    divergent: Counter[int] = Counter()  # by the SLM's token
    seen: Counter[int] = Counter()
    splits = {split: Counter(queries=0, rows=0, divergent=0) for split in SPLITS}
    examples: dict[str, list[dict[str, Any]]] = {"neutral": [], "divergent": []}
    for name in shards:
        path = folder / name / MANIFEST
        shard = read_json(path)
        entries.append({"name": name, "rows": shard["counts"]["rows"], "sha256": file_hash(path)})
        counts.update(shard["counts"])
        dropped.update(shard["dropped"])
        entropy.update(shard["entropy"])
        for query in shard["queries"]:
            splits[query["split"]]["queries"] += 1
        for kind, found in examples.items():
            examples[kind] = lowest([*found, *shard["examples"][kind]])
        if not shard["files"]:
            continue
        names = ("divergent", "mask", "split", "small_token")
        columns = {n: np.load(folder / name / f"{n}.npy", mmap_mode="r") for n in names}
        for split in SPLITS:
            rows = usable_rows(columns, split)
            splits[split]["rows"] += len(rows)
            splits[split]["divergent"] += int((columns["divergent"][rows] == 1).sum())
        written, label = columns["small_token"], columns["divergent"]
        divergent.update(_frequencies(written[label == 1]))
        seen.update(_frequencies(written[label >= 0]))
    common = sorted(divergent.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES]
    manifest = {
        "verifier": verifier,
        "controls": proof and proof.to_json(),
        "queries": sum(split["queries"] for split in splits.values()),
        "dropped": dict(dropped),
        "counts": dict(counts),
        "splits": {name: dict(split) for name, split in splits.items()},
        "report": {
            "mean_entropy": {
                kind: entropy[kind] / counts[kind] if counts[kind] else None for kind in KINDS
            },
            "divergent_tokens": [
                {
                    "token": token,
                    "text": sentences.text([token]),
                    "count": count,
                    "seen": seen[token],
                }
                for token, count in common
            ],
            "examples": examples,
        },
        "shards": entries,
    }
    write_json(folder / MANIFEST, manifest)


def _frequencies(tokens: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(tokens, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
