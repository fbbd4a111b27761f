"""Batches of labelled tokens, read straight from the memory-mapped label shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, Literal, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from r2r.trace import TokenSignals

RUN = 256  # rows that lie together, of which training reads whole ones
WINDOW = 1024 * RUN  # rows that are shuffled among each other

Split = Literal["train", "validation", "test"]
Batch = tuple[TokenSignals, Tensor]  # signals, and 1.0 where the token is divergent [batch] float32


class LabelledTokens(Protocol):
    """What training needs of labels: columns by shard, and the usable rows of a split.

    Columns of a shard of n rows: ``small_logits`` [n, k] and ``small_last_hidden_states``
    [n, hidden] float16, ``small_token`` and ``position`` [n] int32, ``divergent``, ``mismatch``
    and ``mask`` [n] int8. ``rows`` gives row indexes, one array per shard, in the order of
    ``shards``: those with a usable label, or with ``labelled`` false every row of the split.
    """

    @property
    def shards(self) -> list[dict[str, np.ndarray]]: ...

    def rows(self, split: Split, *, labelled: bool = True) -> list[np.ndarray]: ...


class TokenRows(Dataset[Batch]):
    """The rows of one split; a list of indexes gives one batch, read column by column.

    ``window``: positions whose signals each row holds (``Router.window``). The rows of an answer
    lie one after the other in their shard; what stands for those before its first is undefined.
    """

    def __init__(
        self, labels: LabelledTokens, split: Split, *, labelled: bool = True, window: int = 1
    ) -> None:
        self.window = window
        # Plain views of the same mapped memory: indexing a memmap object itself is far slower.
        self.shards = [
            {name: np.asarray(column) for name, column in shard.items()} for shard in labels.shards
        ]
        rows = labels.rows(split, labelled=labelled)
        self.row = np.concatenate([np.zeros(0, np.int32), *(r.astype(np.int32) for r in rows)])
        self.ends = np.cumsum([len(r) for r in rows])  # of each shard's rows

    def __len__(self) -> int:
        return len(self.row)

    def __getitems__(self, indexes: list[int]) -> Batch:
        """Signals and labels of ``indexes``, in their order."""
        read, *before = (self._reader(np.asarray(indexes), back) for back in range(self.window))
        past = before[::-1]

        def joined(name: str) -> Tensor:
            newest = read(name).float()
            return torch.cat([*(r(name).float() for r in past), newest], -1) if past else newest

        signals = TokenSignals(
            token=read("small_token").long(),
            logits=joined("small_logits"),
            hidden=joined("small_last_hidden_states"),
            position=read("position").long(),
        )
        return signals, read("divergent").float()

    def _reader(self, indexes: np.ndarray, back: int = 0) -> Callable[[str], Tensor]:
        """Gathers a column ``back`` rows before those of ``indexes``, shard by shard."""
        shard = np.searchsorted(self.ends, indexes, side="right")
        row = np.maximum(self.row[indexes] - back, 0)
        order = np.argsort(shard, kind="stable")
        places = np.split(order, np.flatnonzero(np.diff(shard[order])) + 1)

        def read(name: str) -> Tensor:
            first = self.shards[0][name]
            out = np.empty((len(row), *first.shape[1:]), first.dtype)
            for place in places:
                if len(place):
                    out[place] = self.shards[shard[place[0]]][name][row[place]]
            return torch.from_numpy(out)

        return read

    def labels(self) -> np.ndarray:
        """1 where the token is divergent [rows] int8."""
        return self._reader(np.arange(len(self)))("divergent").numpy()

    def kinds(self) -> np.ndarray:
        """0 identical, 1 neutral, 2 divergent, -1 without a usable label [rows] int8."""
        read = self._reader(np.arange(len(self)))
        divergent, mismatch, mask = (
            read(name).numpy() for name in ("divergent", "mismatch", "mask")
        )
        kinds = np.where(divergent == 1, 2, mismatch)
        return np.where((mask == 1) & (divergent >= 0), kinds, -1).astype(np.int8)

    def batches(self, size: int) -> Iterator[Batch]:
        """Every row once, in order."""
        for start in range(0, len(self), size):
            yield self.__getitems__(list(range(start, min(start + size, len(self)))))


class BlockShuffle(DistributedSampler[Batch]):
    """A process's rows of an epoch, in an order that depends on (seed, epoch) only.

    Runs of RUN rows are drawn at random until they make WINDOW rows, and these are shuffled: what
    is held and read at once does not grow with the dataset. Up to WINDOW rows every order is as
    likely, as in a full shuffle.
    """

    def __iter__(self) -> Iterator[int]:
        padded = islice(self._order(), self.total_size - len(self.dataset))  # type: ignore[arg-type]
        return islice(chain(self._order(), padded), self.rank, None, self.num_replicas)

    def _order(self) -> Iterator[int]:
        count = len(self.dataset)  # type: ignore[arg-type]
        draw = torch.Generator().manual_seed(self.seed + self.epoch)
        runs = torch.arange(-(-count // RUN))
        if count > WINDOW:
            runs = runs[torch.randperm(len(runs), generator=draw)]
        for some in runs.split(WINDOW // RUN):
            rows = (some[:, None] * RUN + torch.arange(RUN)).flatten()
            rows = rows[rows < count]
            yield from rows[torch.randperm(len(rows), generator=draw)].tolist()


class RouterDataModule(pl.LightningDataModule):
    """Training rows in the order of BlockShuffle, and validation rows in order.

    Nothing is copied: a batch is gathered from the memory-mapped shards when it is wanted.
    ``batch_size`` counts tokens per process; ``window`` as in ``TokenRows``.
    """

    def __init__(
        self,
        *,
        labels: LabelledTokens,
        batch_size: int,
        num_workers: int,
        seed: int,
        window: int = 1,
    ) -> None:
        super().__init__()
        self.train_rows = TokenRows(labels, "train", window=window)
        self.validation_rows = TokenRows(labels, "validation", window=window)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        # Its order depends on (seed, epoch) only, so a resumed run sees what the first would have.
        sampler = BlockShuffle(
            self.train_rows,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            seed=self.seed,
        )
        return self._loader(self.train_rows, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.validation_rows, None)

    def _loader(self, rows: TokenRows, sampler: BlockShuffle | None) -> DataLoader:
        return DataLoader(
            rows,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=_as_it_is,
            persistent_workers=self.num_workers > 0,
        )


def _as_it_is(batch: Any) -> Any:
    return batch
