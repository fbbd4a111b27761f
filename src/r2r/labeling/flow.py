"""From queries to a dataset: each is kept the moment it is done, a shard is made of those kept."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from r2r.config import LabelerConfig
from r2r.journal import Journal
from r2r.labeling.controls import Proof
from r2r.labeling.dataset import room_on_disk
from r2r.labeling.finished import Facts, Finished
from r2r.labeling.respond import Query
from r2r.labeling.sentences import Sentences
from r2r.labeling.shards import Shard, cut, write_shard
from r2r.labeling.summary import write_summary
from r2r.records import MANIFEST, read_json

JOURNAL = "labels.sqlite"  # what shards are made from

Counts = Mapping[str, int]
Asked = tuple[int, Query]  # with its data_id
Keep = Callable[[Finished], Awaitable[None]]


class Progress:
    """Hears how far a run is; this one tells nobody."""

    def found(self, tokens: Sequence[int], counts: Counts, dropped: Counts) -> None:
        """An earlier run has made a shard: tokens that the LLM wrote for each query, rows by kind,
        and how many answers were left out, by reason."""

    def begin(self, data_id: int) -> None:
        """A query is under way."""

    def move(self, data_id: int, tokens: int) -> None:
        """So many more tokens were written for it."""

    def split(self, data_id: int, parts: Sequence[float]) -> None:
        """Its answer is read: what is left are these continuations, of about so many tokens."""

    def finished(self, data_id: int, query: Query, facts: Facts) -> None:
        """It is done and kept; by an earlier run where it was never begun."""


# Labels queries, and awaits keep(finished) for each as it is done, in any order.
Execute = Callable[[Sequence[Asked], Keep, Progress], Awaitable[None]]
SILENT = Progress()


async def label_queries(
    queries: Sequence[Query],
    folder: Path,
    execute: Execute,
    config: LabelerConfig,
    sentences: Sentences,
    progress: Progress = SILENT,
    proof: Proof | None = None,
) -> None:
    """Have ``execute`` label the queries that ``folder`` lacks; its manifest is written last.

    A query that is done lies in the folder's journal until its shard is; whatever ends a run, the
    next one goes on with what was under way, and ends with the same dataset, as does any executor.
    ``proof``: how the rule did on the control pairs, for the manifest.
    Raises ConfigError where the disk is full, or the judge fails.
    """
    shards = cut(queries, config)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".shard-*"):
        shutil.rmtree(leftover)
    with room_on_disk(folder):
        with Journal(folder / JOURNAL) as journal:
            flow = _Flow(shards, folder, journal, progress)
            await execute(await flow.resume(), flow.keep, progress)
            journal.remove()
        write_summary(folder, [shard.name for shard in shards], sentences, config.verifier, proof)


class _Flow:
    """How far a dataset is. ``sizes``: rows of each query that waits in the journal for its shard,
    and those where the models differ; ``left``: queries of each shard that are not done."""

    def __init__(self, shards: Sequence[Shard], folder: Path, journal: Journal, progress: Progress):
        self.shards, self.folder, self.journal, self.progress = shards, folder, journal, progress
        self.size = len(shards[0].queries)
        self.sizes: dict[int, tuple[int, int]] = {}
        self.left = [len(shard.queries) for shard in shards]

    async def resume(self) -> list[Asked]:
        """Find what earlier runs have done, and make the shards that can be made; the rest."""
        kept = set(self.journal.keys())
        for number, shard in enumerate(self.shards):
            if (self.folder / shard.name).exists():
                self.journal.drop(kept.intersection(shard.data_ids))
                kept.difference_update(shard.data_ids)
                self.left[number] = 0
                told = read_json(self.folder / shard.name / MANIFEST)
                self.progress.found(told["tokens"], told["counts"], told["dropped"])
        for data_id in sorted(kept):
            await self._count(Finished.from_bytes(data_id, self.journal.get(data_id)))
        return [
            (data_id, query)
            for left, shard in zip(self.left, self.shards, strict=True)
            for data_id, query in zip(shard.data_ids, shard.queries, strict=True)
            if left and data_id not in kept
        ]

    async def keep(self, finished: Finished) -> None:
        """Keep a query that is done; the last of a shard makes it."""
        value = finished.to_bytes()
        self.journal.put(finished.data_id, value, tokens=finished.facts.tokens)
        await self._count(finished)

    async def _count(self, finished: Finished) -> None:
        facts = finished.facts
        self.sizes[finished.data_id] = facts.counts["rows"], facts.differing
        number = finished.data_id // self.size
        shard = self.shards[number]
        self.left[number] -= 1
        query = shard.queries[finished.data_id - shard.first]
        self.progress.finished(finished.data_id, query, facts)
        if not self.left[number]:
            rows, differing = zip(*(self.sizes.pop(i) for i in shard.data_ids), strict=True)
            # Queries go on meanwhile.
            await asyncio.to_thread(self._make, shard, sum(rows), sum(differing))
            self.journal.drop(shard.data_ids)

    def _make(self, shard: Shard, rows: int, differing: int) -> None:
        with Journal(self.journal.path) as journal:
            kept = (Finished.from_bytes(key, journal.get(key)) for key in shard.data_ids)
            write_shard(shard, kept, rows, differing, self.folder)
