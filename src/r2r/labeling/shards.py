"""What a dataset is cut into: shards of queries, each a folder that is made when all are done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2r.config import LabelerConfig
from r2r.errors import must_be
from r2r.labeling.dataset import LARGE, SPLITS, ShardWriter, Split
from r2r.labeling.finished import COUNTED, EXAMPLES, KINDS, Finished
from r2r.labeling.respond import LEFT_OUT, Query
from r2r.records import MANIFEST, fingerprint, whole_folder, write_json


@dataclass(frozen=True, slots=True)
class Shard:
    """Queries whose labels lie together. ``first``: data_id of the first of them; ``splits``: the
    split of each."""

    name: str
    first: int
    queries: Sequence[Query]
    splits: Sequence[Split]

    @property
    def data_ids(self) -> range:
        return range(self.first, self.first + len(self.queries))


def cut(queries: Sequence[Query], config: LabelerConfig) -> list[Shard]:
    """The queries in shards of ``shard_queries``. Raises ConfigError as ``assign_splits`` does."""
    splits, size = assign_splits(queries, config), config.shard_queries
    return [
        Shard(
            f"shard-{first // size:05d}",
            first,
            queries[first : first + size],
            splits[first : first + size],
        )
        for first in range(0, len(queries), size)
    ]


def write_shard(
    shard: Shard, finished: Iterable[Finished], rows: int, differing: int, folder: Path
) -> None:
    """Make the shard's own folder in ``folder``, whole or not at all.

    ``finished``: all its queries, in their order; one is in memory at a time. ``rows``: of all,
    and those where the models differ.
    """
    counts, dropped = dict.fromkeys(COUNTED, 0), dict.fromkeys(LEFT_OUT, 0)
    entropy = dict.fromkeys(KINDS, 0.0)
    tokens: list[int] = []
    kept: list[dict[str, Any]] = []
    examples: dict[str, list[dict[str, Any]]] = {"neutral": [], "divergent": []}
    with whole_folder(folder / shard.name) as temporary:
        small, large = ShardWriter(temporary, rows), ShardWriter(temporary, differing)
        with small, large:
            for query, split, one in zip(shard.queries, shard.splits, finished, strict=True):
                tokens.append(one.facts.tokens)
                for kind in COUNTED:
                    counts[kind] += one.facts.counts[kind]
                for kind in KINDS:
                    entropy[kind] += one.facts.entropy[kind]
                for kind, found in one.facts.examples.items():
                    examples[kind] = lowest([*examples[kind], *found])
                if one.facts.left_out:
                    dropped[one.facts.left_out] += 1
                    continue
                kept.append({"id": query.id, "data_id": one.data_id, "split": split})
                number = np.full(one.facts.counts["rows"], SPLITS.index(split))
                own = {name: one.columns[name] for name in LARGE if name in one.columns}
                large.append(own)
                rest = {name: values for name, values in one.columns.items() if name not in own}
                small.append(rest | {"split": number})
        manifest = {
            "counts": counts,
            "dropped": dropped,
            "entropy": entropy,
            "queries": kept,
            "tokens": tokens,
            "examples": examples,
            "files": small.files(),
        }
        write_json(temporary / MANIFEST, manifest)


def lowest(examples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that a report shows: the ones that rank lowest."""
    return sorted(examples, key=lambda example: example["rank"])[:EXAMPLES]


def assign_splits(queries: Sequence[Query], config: LabelerConfig) -> list[Split]:
    """The split of each query, by the rank of its prompt's hash; equal prompts share a split.

    Raises ConfigError where a split would be left without a query.
    """
    prompts = [fingerprint(query.tokens) for query in queries]
    ranked = sorted(set(prompts))
    test = max(1, round(config.test_share * len(ranked)))
    validation = max(1, round(config.validation_share * len(ranked)))
    if test + validation >= len(ranked):
        wanted = f"queries for three splits (at least {test + validation + 1})"
        raise must_be("labeler.prompts", wanted, f"{len(ranked)} different ones")
    held_out: dict[str, Split] = dict.fromkeys(ranked[:test], "test")
    held_out |= dict.fromkeys(ranked[test : test + validation], "validation")
    return [held_out.get(prompt, "train") for prompt in prompts]
