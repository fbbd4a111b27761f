"""Algorithm 1 of the R2R paper: label the SLM's tokens by following the LLM's path."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2r.config import LabelerConfig
from r2r.engines.base import Engine
from r2r.labeling.continuations import Fork, compare, follow, forks_of
from r2r.labeling.dataset import SPLITS, ShardWriter
from r2r.labeling.prefill import Reading, read
from r2r.labeling.respond import Query, respond
from r2r.labeling.sentences import Sentences
from r2r.labeling.shards import Progress, Shard, cut, label_shards
from r2r.labeling.summary import EXAMPLES, KINDS
from r2r.labeling.verify import Verdict, Verifier
from r2r.records import MANIFEST, fingerprint, whole_folder, write_json

LABELS: dict[Verdict, int] = {"neutral": 0, "divergent": 1, "disputed": 1, "unverified": -1}


class PathFollowingLabeler:
    """Queries in, a label dataset out (dataset.COLUMNS), shard by shard, in this process.

    ``context``: tokens that prompt and answer may take together. ``think_start`` and
    ``think_end``: token ids, None where the pair has none.
    """

    def __init__(
        self,
        *,
        slm: Engine,
        llm: Engine,
        verifier: Verifier,
        sentences: Sentences,
        config: LabelerConfig,
        context: int,
        think_start: int | None,
        think_end: int | None,
    ):
        self.slm, self.llm, self.verifier, self.sentences = slm, llm, verifier, sentences
        self.config, self.context = config, context
        self.think_start, self.think_end = think_start, think_end

    async def run(
        self, queries: Sequence[Query], folder: Path, progress: Progress | None = None
    ) -> None:
        """Label ``queries`` into ``folder``, as ``shards.label_shards`` says."""
        shards = cut(queries, self.config)
        named = self.config.verifier
        await label_shards(shards, folder, self.each, self.sentences, named, progress)

    async def each(self, shards: Sequence[Shard], folder: Path) -> AsyncGenerator[Shard, None]:
        """Label one shard after the other (``shards.Execute``)."""
        for shard in shards:
            await self.label(shard, folder)
            yield shard

    async def label(self, shard: Shard, folder: Path) -> None:
        """Make the shard's own folder in ``folder``, whole or not at all."""
        with whole_folder(folder / shard.name) as temporary:
            await self._label(shard, temporary)

    async def _label(self, shard: Shard, folder: Path) -> None:
        responses, dropped = await respond(
            self.llm,
            shard.queries,
            first=shard.first,
            max_new_tokens=self.config.max_new_tokens,
            context=self.context,
            think_end=self.think_end,
        )
        readings: list[Reading] = []
        forks: list[list[Fork]] = []
        with ShardWriter(folder, sum(len(r.tokens) for r in responses)) as writer:
            for response in responses:
                reading, features = await read(
                    self.slm, response, think_start=self.think_start, think_end=self.think_end
                )
                writer.append(features)
                readings.append(reading)
                small = features["small_token"]
                forks.append(forks_of(response, reading.mismatch, small, self.sentences))
            await follow(self.llm, forks, self.sentences, context=self.context)
            flat = [fork for group in forks for fork in group]
            verdicts = await self.verifier.verify(compare(fork, self.sentences) for fork in flat)
            tally, used = Tally(), 0
            for response, reading, group in zip(responses, readings, forks, strict=True):
                found = verdicts[used : used + len(group)]
                used += len(group)
                divergent = labels_of(reading, found)
                tally.add(reading, divergent, found)
                split = SPLITS.index(shard.split(response))
                writer.append(
                    {
                        "divergent": divergent,
                        "mismatch": reading.mismatch,
                        "mask": reading.mask,
                        "split": np.full(len(divergent), split),
                    }
                )
        manifest = {
            "counts": tally.counts,
            "dropped": dict(dropped),
            "entropy": tally.entropy,
            "queries": [
                {"id": r.query.id, "data_id": r.data_id, "split": shard.split(r)} for r in responses
            ],
            "examples": {
                kind: self._examples([f for f, v in zip(flat, verdicts, strict=True) if v == kind])
                for kind in ("neutral", "divergent")
            },
            "files": writer.files(),
        }
        write_json(folder / MANIFEST, manifest)

    def _examples(self, forks: Sequence[Fork]) -> list[dict[str, Any]]:
        """A sample that does not depend on the shards: the forks whose hashes are lowest."""
        ranked = ((fingerprint([f.response.data_id, f.position]), f) for f in forks)
        chosen = heapq.nsmallest(EXAMPLES, ranked, key=lambda item: item[0])
        examples = []
        for rank, fork in chosen:
            both = compare(fork, self.sentences)
            where = {"rank": rank, "query": fork.response.query.id, "position": fork.position}
            told = {"question": both.question, "slm": both.slm_marked, "llm": both.llm_marked}
            examples.append(where | told)
        return examples


def labels_of(reading: Reading, verdicts: Sequence[Verdict]) -> np.ndarray:
    """The divergent column [rows]: identical tokens 0, judged ones as judged, masked ones -1."""
    divergent = np.where(reading.mask, 0, -1)
    divergent[reading.mismatch] = [LABELS[verdict] for verdict in verdicts]
    return divergent


class Tally:
    """A shard's rows by kind, and the sum of their entropies. Disputed rows are divergent too."""

    def __init__(self) -> None:
        kinds = ("rows", "masked", *KINDS, "unverified", "disputed")
        self.counts: dict[str, int] = dict.fromkeys(kinds, 0)
        self.entropy: dict[str, float] = dict.fromkeys(KINDS, 0.0)

    def add(self, reading: Reading, divergent: np.ndarray, verdicts: Sequence[Verdict]) -> None:
        kinds = {
            "masked": ~reading.mask,
            "identical": reading.mask & ~reading.mismatch,
            "neutral": reading.mismatch & (divergent == 0),
            "divergent": reading.mismatch & (divergent == 1),
            "unverified": reading.mismatch & (divergent == -1),
        }
        self.counts["rows"] += len(divergent)
        self.counts["disputed"] += verdicts.count("disputed")
        for kind, rows in kinds.items():
            self.counts[kind] += int(rows.sum())
            if kind in KINDS:
                self.entropy[kind] += float(reading.entropy[rows].sum())
