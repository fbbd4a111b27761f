"""Step 5: the labels on disk. One folder a shard, one .npy file a column, memory-mapped to read."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from r2r.errors import ConfigError, must_be
from r2r.records import MANIFEST, file_hash, read_json

DATASET_VERSION = 4  # columns, what a verdict's label is, splits
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")  # their numbers in the split column

# A row t stands for the input token at t; label, small_token and signals describe the token at
# t + 1, as in the published training set. Rows exist for the tokens of the answer only.
COLUMNS: dict[str, type[np.generic]] = {
    "token_id": np.int32,
    "data_id": np.int32,  # the query's place in the run
    "divergent": np.int8,  # 0, 1, or -1: no label
    "small_token": np.int32,  # what the SLM would write next
    "real_token": np.int32,  # what the LLM wrote next
    "mismatch": np.int8,  # they differ, and were judged
    "mask": np.int8,  # 0: outside of what is labelled
    "small_logits": np.float16,  # [k], raw, descending
    "small_indices": np.int32,  # [k]
    "small_last_hidden_states": np.float16,  # [hidden], after the final norm
    "split": np.int8,
    "position": np.int32,  # tokens of the answer before the token at t + 1
}
# What the LLM knows of the token at t + 1: rows for those that differ (mismatch 1), in their order.
# Labels of earlier versions have none, nor have published ones.
LARGE: dict[str, type[np.generic]] = {
    "large_logits": np.float16,  # [k], raw, descending
    "large_indices": np.int32,  # [k]
    "large_last_hidden_states": np.float16,  # [hidden], after the final norm
}
TYPES = COLUMNS | LARGE


class ShardWriter:
    """Appends rows to the columns of one shard; nothing but the current rows is in memory.

    ``rows``: how many there will be in all. Use as a context manager; ``files`` afterwards.
    """

    def __init__(self, folder: Path, rows: int):
        self.folder, self.rows = folder, rows
        self.open: dict[str, BinaryIO] = {}
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        with self.stack:
            if error[0] is None:
                for file in self.open.values():  # what the rows are made from may be dropped then
                    file.flush()
                    os.fsync(file.fileno())

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        for name, values in columns.items():
            values = np.ascontiguousarray(values, dtype=TYPES[name])
            if name not in self.open:
                file = self.stack.enter_context((self.folder / f"{name}.npy").open("wb"))
                self.open[name] = file
                header = {
                    "descr": np.lib.format.dtype_to_descr(values.dtype),
                    "fortran_order": False,
                    "shape": (self.rows, *values.shape[1:]),
                }
                np.lib.format.write_array_header_1_0(file, header)
            self.open[name].write(values.data)

    def files(self) -> dict[str, dict[str, Any]]:
        """Size and sha256 of each column's file, once it is written."""
        paths = sorted(self.folder.glob("*.npy"))
        return {p.name: {"bytes": p.stat().st_size, "sha256": file_hash(p)} for p in paths}


@contextlib.contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk into one line. Shards that are finished stay; the one being written goes."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(
            f"outputs must be a folder with room for the labels, got a full disk at {folder}"
            " (finished shards are kept; free some space and run again)"
        ) from error


class Labels:
    """A finished label dataset.

    ``shards``: one dict of memory-mapped columns each (COLUMNS), [rows, ...]; ``large``: of each of
    them the LLM's (LARGE), empty where there are none; ``manifest``: its counts and report.
    """

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        shards: list[dict[str, np.ndarray]],
        large: list[dict[str, np.ndarray]],
    ):
        self.folder, self.manifest, self.shards, self.large = folder, manifest, shards, large

    @classmethod
    def open(cls, folder: Path, *, given: bool = False) -> Labels:
        """``given``: made elsewhere, so that no run here makes them again.

        Raises ConfigError where a file is missing or changed, a split is empty, or the labels
        name no token divergent: nothing could be trained on them.
        """
        remedy = f"delete {folder} or use force=true"
        if given:
            remedy = "copy it again from where it was made"
        path = folder / MANIFEST
        if not path.exists():
            wanted = "a finished label dataset (run stages=[label] first)"
            raise must_be("labels", wanted, str(folder))
        manifest = read_json(path)
        shards, large = [], []
        for entry in manifest["shards"]:
            _check(folder / entry["name"] / MANIFEST, remedy, entry["sha256"])
            shard = folder / entry["name"]
            files = read_json(shard / MANIFEST)["files"]
            for name, file in files.items():
                _check(shard / name, remedy, file["sha256"], file["bytes"])
            if files:
                mapped = partial(_mapped, shard)
                shards.append({name: mapped(name) for name in COLUMNS})
                large.append({name: mapped(name) for name in LARGE if f"{name}.npy" in files})
        labels = cls(folder, manifest, shards, large)
        labels._check_classes()
        return labels

    def _check_classes(self) -> None:
        splits, dropped = self.manifest["splits"], self.manifest["dropped"]
        for split in SPLITS:
            if not splits[split]["rows"]:
                left_out = ", ".join(f"{count} {why}" for why, count in dropped.items())
                raise ConfigError(
                    f"labeler must leave labelled tokens in the {split} split, got none"
                    f" (responses left out: {left_out}; raise labeler.max_new_tokens or"
                    " labeler.prompts.limit)"
                )
        divergent, rows = splits["train"]["divergent"], splits["train"]["rows"]
        if divergent in (0, rows):
            found = "no divergent token" if divergent == 0 else "divergent tokens only"
            raise ConfigError(
                f"labeler must find neutral and divergent tokens, got {found} in the labels of"
                f" {rows} training tokens (other pair.slm, labeler.prompts or labeler.verifier?)"
            )

    def counting(self, positive: str) -> Labels:
        """The same rows with ``divergent`` as it is, or where ``positive`` is ``different``, 1 at
        every token that differs from the LLM's (the paper's ablation of the routing objective)."""
        if positive == "divergent":
            return self
        targets = [np.where(s["divergent"] < 0, -1, s["mismatch"]) for s in self.shards]
        shards = [
            shard | {"divergent": target.astype(COLUMNS["divergent"])}
            for shard, target in zip(self.shards, targets, strict=True)
        ]
        return Labels(self.folder, self.manifest, shards, self.large)

    def rows(self, split: Split, *, labelled: bool = True) -> list[np.ndarray]:
        """Row indexes for each shard: the usable rows of a split (mask 1, divergent 0 or 1), or
        with ``labelled`` false all of them."""
        if labelled:
            return [usable_rows(shard, split) for shard in self.shards]
        return [np.flatnonzero(shard["split"] == SPLITS.index(split)) for shard in self.shards]


def _mapped(shard: Path, name: str) -> np.ndarray:
    return np.load(shard / f"{name}.npy", mmap_mode="r")


def answer_lengths(folder: Path) -> list[int]:
    """Tokens of each labelled answer, read unchecked: for an estimate."""
    lengths: list[int] = []
    for shard in read_json(folder / MANIFEST)["shards"]:
        if (folder / shard["name"] / "data_id.npy").exists():
            _, rows = np.unique(_mapped(folder / shard["name"], "data_id"), return_counts=True)
            lengths += rows.tolist()
    return lengths


def usable_rows(shard: Mapping[str, np.ndarray], split: Split) -> np.ndarray:
    labelled = (shard["mask"] == 1) & (shard["divergent"] >= 0)
    return np.flatnonzero(labelled & (shard["split"] == SPLITS.index(split)))


def _check(path: Path, remedy: str, sha256: str, size: int | None = None) -> None:
    if not path.exists():
        raise ConfigError(f"labels: {path} is missing; {remedy}")
    if size is not None and path.stat().st_size != size:
        raise ConfigError(f"labels: {path} has {path.stat().st_size} bytes, not {size}; {remedy}")
    if file_hash(path) != sha256:
        raise ConfigError(f"labels: {path} has changed since it was written; {remedy}")
