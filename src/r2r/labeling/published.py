"""The published training set: read as labels of ours, and ours written in its format."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from r2r.config import LabelerConfig
from r2r.errors import ConfigError, must_be
from r2r.hub import offline_without_hub
from r2r.labeling.dataset import SPLITS, Labels, ShardWriter, Split, room_on_disk
from r2r.labeling.finished import tally
from r2r.labeling.prefill import Reading, entropy, float16
from r2r.labeling.sentences import Sentences
from r2r.labeling.summary import write_summary
from r2r.records import MANIFEST, fingerprint, whole_folder, write_json

if TYPE_CHECKING:
    import pyarrow as pa

PUBLISHED_VERSION = 1  # a published training set as labels of ours
KEY = "labeler.path"
SCALARS = ("token_id", "data_id", "divergent", "small_token", "real_token", "mismatch", "mask")
LISTS = {"small_logits": "float32", "small_indices": "int64", "small_last_hidden_states": "float32"}
SHARD_ROWS = 16384


def read_published(
    config: LabelerConfig, folder: Path, sentences: Sentences, *, hidden_size: int
) -> None:
    """Copy the training set at ``config.path`` into ``folder``, as labels of ours.

    The path is a folder of parquet files, one that ``datasets`` saved, or a hub id. Its splits
    are kept; in place of a missing one, that share of the train split's queries is taken (by a
    hash of data_id). A killed copy goes on after its last whole shard. ``hidden_size``: the SLM's.
    Raises ConfigError where the set cannot be read, lacks a column or belongs to another SLM.
    """
    for leftover in folder.glob(".shard-*"):  # of a killed run
        shutil.rmtree(leftover)
    sources = _open(str(config.path))
    shares = {"validation": config.validation_share, "test": config.test_share}
    shares = {split: share for split, share in shares.items() if split not in sources}
    names: list[str] = []
    with room_on_disk(folder):
        for split, rows in sources.items():
            place = _Place()
            known: set[int] = set()
            for table in rows.with_format("arrow").iter(batch_size=SHARD_ROWS):
                columns = _columns(table)
                width = columns["small_last_hidden_states"].shape[1]
                if width != hidden_size:
                    raise must_be(KEY, f"labels of an SLM of width {hidden_size}", width)
                columns["position"] = place.positions(columns["data_id"], columns["mask"])
                ids = [int(i) for i in np.unique(columns["data_id"])]
                chosen: dict[int, Split] = {i: _split(i, split, shares) for i in ids}
                columns["split"] = np.array(
                    [SPLITS.index(chosen[i]) for i in columns["data_id"].tolist()]
                )
                shard = folder / f"shard-{len(names):05d}"
                if not shard.exists():
                    new: dict[int, Split] = {i: chosen[i] for i in ids if i not in known}
                    with whole_folder(shard) as temporary:
                        _write_shard(temporary, columns, new)
                known.update(ids)
                names.append(shard.name)
        write_summary(folder, names, sentences, "published")


def source_identity(path: str) -> list[Any]:
    """What tells one training set from another: the files' sizes and times, or the hub id."""
    here = Path(path).expanduser()
    files = sorted(file for file in here.rglob("*") if file.is_file())
    stats = [(str(file.relative_to(here)), file.stat()) for file in files]
    return [path, [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]]


def export_published(labels: str | Path, folder: str | Path) -> None:
    """Write a finished label dataset as ``folder``/<split>.parquet, in the published format.

    Raises ConfigError where the labels are not whole, or ``folder`` is there already.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened, out = Labels.open(Path(labels)), Path(folder)
    if out.exists():
        raise must_be("folder", "one that is not there yet", str(out))
    kinds: dict[str, Any] = dict.fromkeys(SCALARS, pa.int64())
    kinds |= {name: pa.list_(pa.type_for_alias(kind)) for name, kind in LISTS.items()}
    schema = pa.schema(list(kinds.items()))
    with whole_folder(out) as temporary:
        for number, split in enumerate(SPLITS):
            with pq.ParquetWriter(temporary / f"{split}.parquet", schema) as writer:
                for shard in opened.shards:
                    rows = np.flatnonzero(shard["split"] == number)
                    if not len(rows):  # readers stumble over an empty row group
                        continue
                    columns = [pa.array(shard[n][rows].astype(np.int64)) for n in SCALARS]
                    columns += [_lists(shard[n][rows], kind) for n, kind in LISTS.items()]
                    writer.write_table(pa.table(columns, schema=schema))


def _open(path: str) -> dict[Split, Any]:
    """The splits of a training set, each a ``datasets`` dataset; train comes first."""
    import datasets

    here = Path(path).expanduser()
    saved = (here / "dataset_dict.json").exists() or (here / "state.json").exists()
    try:
        if saved:
            found: Any = datasets.load_from_disk(str(here))
        else:
            with contextlib.nullcontext() if here.exists() else offline_without_hub():
                found = datasets.load_dataset(str(here) if here.exists() else path, streaming=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        wanted = "a folder of parquet or arrow files, or a dataset on the hub"
        raise ConfigError(f"{KEY} must be {wanted}, got {path!r}: {reason}") from error
    if not isinstance(found, dict):
        found = {"train": found}
    if "train" not in found or not {*found} <= {*SPLITS}:
        raise must_be(KEY, "a dataset with a train split", ", ".join(found), SPLITS)
    return {split: found[split] for split in SPLITS if split in found}


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    """Our columns of some rows; what is no label becomes -1, and what is missing its default."""
    needed = {*SCALARS, *LISTS} - {"mismatch", "mask"}
    absent = sorted(needed - {*table.column_names})
    if absent:
        raise must_be(KEY, f"a training set with {', '.join(absent)}", table.column_names)
    columns = {name: table[name].to_numpy() for name in SCALARS if name in table.column_names}
    divergent = columns["divergent"]
    labelled = (divergent == 0) | (divergent == 1)  # float32 in some sets, and then NaN is none
    columns["divergent"] = np.where(labelled, divergent, -1)
    differs = columns.get("mismatch", columns["divergent"]) == 1
    mask = columns.get("mask", np.ones(len(table))) == 1
    columns |= {"mismatch": differs, "mask": mask & (labelled | differs)}
    for name in LISTS:
        flat = table[name].combine_chunks().flatten().to_numpy()
        if not len(flat) or len(flat) % len(table):
            raise must_be(KEY, f"a training set whose {name} have one length", len(flat))
        columns[name] = flat.reshape(len(table), -1)
    for name in ("small_logits", "small_last_hidden_states"):
        columns[name] = float16(columns[name], KEY)
    return columns


def _lists(rows: np.ndarray, kind: str) -> pa.Array:
    import pyarrow as pa

    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(rows.astype(kind).ravel()))


def _split(data_id: int, given: Split, shares: Mapping[str, float]) -> Split:
    """Our split of a query from ``given``: the train split gives others their shares."""
    draw = int(fingerprint(["split", data_id]), 16) / 16**16
    for split in SPLITS[1:] if given == "train" else ():
        draw -= shares.get(split, 0.0)
        if draw < 0:
            return split
    return given


class _Place:
    """Where in its answer a row lies: rows of a query follow each other, across shards too.

    The answer is taken to begin with the query's first row that is not masked.
    """

    def __init__(self) -> None:
        self.data_id, self.written = -1, 0

    def positions(self, data_ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        found = np.zeros(len(mask), np.int32)
        for row, (data_id, counts) in enumerate(zip(data_ids.tolist(), mask.tolist(), strict=True)):
            if data_id != self.data_id:
                self.data_id, self.written = data_id, 0
            found[row] = self.written
            self.written += bool(counts or self.written)
        return found


def _write_shard(folder: Path, columns: dict[str, np.ndarray], new: Mapping[int, Split]) -> None:
    logits = columns["small_logits"].astype(np.float32)
    differs, mask = columns["mismatch"] & columns["mask"], columns["mask"]
    counts, sums = tally(Reading(entropy(logits), differs, mask), columns["divergent"], [])
    with ShardWriter(folder, len(mask)) as writer:
        writer.append(columns)
    manifest = {
        "counts": counts,
        "dropped": {},
        "entropy": sums,
        "queries": [{"id": str(i), "data_id": i, "split": split} for i, split in new.items()],
        "examples": {"neutral": [], "divergent": []},
        "files": writer.files(),
    }
    write_json(folder / MANIFEST, manifest)
