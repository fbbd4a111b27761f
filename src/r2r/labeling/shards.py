"""What is labelled at a time: shards of queries, which any process may make, in any order."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2r.config import LabelerConfig
from r2r.errors import must_be
from r2r.labeling.dataset import Split, room_on_disk
from r2r.labeling.respond import Query, Response
from r2r.labeling.sentences import Sentences
from r2r.labeling.summary import write_summary
from r2r.records import MANIFEST, fingerprint, read_json

Progress = Callable[[int, int, dict[str, int]], None]


@dataclass(frozen=True, slots=True)
class Shard:
    """Queries that are labelled together, and depend on no others.

    ``first``: data_id of the first of them; ``splits``: the split of each.
    """

    name: str
    first: int
    queries: Sequence[Query]
    splits: Sequence[Split]

    def split(self, response: Response) -> Split:
        return self.splits[response.data_id - self.first]


# Makes the folder of each shard in a folder, and yields the shard once it is there.
Execute = Callable[[Sequence[Shard], Path], AsyncGenerator[Shard, None]]


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


async def label_shards(
    shards: Sequence[Shard],
    folder: Path,
    execute: Execute,
    sentences: Sentences,
    verifier: str,
    progress: Progress | None = None,
) -> None:
    """Have ``execute`` make the shards that ``folder`` lacks; its manifest is written last.

    A shard counts once it is complete: a killed run goes on with those that are missing and ends
    with the same dataset, as does any number of workers. ``verifier``: its name, for the manifest.
    ``progress(queries done, of how many, counts so far)`` is called after each shard, those found
    complete included. Raises ConfigError where the disk is full, or the judge fails.
    """
    counts: Counter[str] = Counter()
    done, total = 0, sum(len(shard.queries) for shard in shards)

    def count(shard: Shard) -> None:
        nonlocal done
        counts.update(read_json(folder / shard.name / MANIFEST)["counts"])
        done += len(shard.queries)
        if progress:
            progress(done, total, dict(counts))

    clean(folder)
    missing = []
    for shard in shards:
        if (folder / shard.name).exists():
            count(shard)
        else:
            missing.append(shard)
    with room_on_disk(folder):
        async with contextlib.aclosing(execute(missing, folder)) as made:
            async for shard in made:
                count(shard)
        clean(folder)
        write_summary(folder, [shard.name for shard in shards], sentences, verifier)


def clean(folder: Path) -> None:
    """Take away what a killed run, or a lost worker, left half-made."""
    for leftover in folder.glob(".shard-*"):
        shutil.rmtree(leftover)


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
