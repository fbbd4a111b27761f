import errno
import os
from pathlib import Path

import numpy as np
import pytest
from test_labeling import label, plan

from r2r.errors import ConfigError
from r2r.labeling.dataset import Labels, ShardWriter
from r2r.records import MANIFEST


@pytest.fixture
def folder(tmp_path):
    label(tmp_path / "labels")
    return tmp_path / "labels"


def test_a_column_is_read_back_as_it_was_appended(tmp_path):
    logits = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float16)
    with ShardWriter(tmp_path, 7) as writer:
        writer.append({"small_logits": logits[:4], "mask": np.ones(4, bool)})
        writer.append({"small_logits": logits[4:], "mask": np.zeros(3, bool)})
    read = np.load(tmp_path / "small_logits.npy", mmap_mode="r")
    assert isinstance(read, np.memmap)
    assert np.array_equal(read, logits)
    assert np.load(tmp_path / "mask.npy").tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert writer.files()["mask.npy"]["bytes"] == (tmp_path / "mask.npy").stat().st_size


def test_columns_are_memory_mapped_and_rows_are_usable(folder):
    labels = Labels.open(folder)
    assert all(isinstance(c, np.memmap) for shard in labels.shards for c in shard.values())
    seen = []
    for number, split in enumerate(("train", "validation", "test")):
        rows = labels.rows(split)
        assert len(rows) == len(labels.shards) == 3
        for shard, found in zip(labels.shards, rows, strict=True):
            assert (shard["mask"][found] == 1).all()
            assert (shard["divergent"][found] >= 0).all()
            assert (shard["split"][found] == number).all()
        used = [s["data_id"][r] for s, r in zip(labels.shards, rows, strict=True)]
        seen.append(set(np.concatenate(used).tolist()))
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert set.union(*seen) == set(range(10))


def test_an_unfinished_dataset_is_not_opened(folder):
    (folder / MANIFEST).unlink()
    with pytest.raises(ConfigError, match="a finished label dataset"):
        Labels.open(folder)


@pytest.mark.parametrize("name", ["small_logits.npy", "divergent.npy", MANIFEST])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_file_is_named_with_the_remedy(folder, name, damage):
    path = folder / "shard-00001" / name
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    with pytest.raises(ConfigError) as error:
        Labels.open(folder)
    told = str(error.value)
    assert str(path) in told and f"delete {folder} or use force=true" in told and "\n" not in told


def test_labels_without_a_divergent_token_cannot_be_trained_on(tmp_path):
    label(tmp_path, slm=plan)
    with pytest.raises(ConfigError, match="no divergent token in the labels"):
        Labels.open(tmp_path)


def test_a_split_without_rows_cannot_be_trained_on(tmp_path):
    label(tmp_path, max_new_tokens=5)
    with pytest.raises(ConfigError, match=r"in the train split, got none .*10 unfinished"):
        Labels.open(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_keeps_the_finished_shards(tmp_path, monkeypatch, code):
    append, written = ShardWriter.append, []

    def full(self, columns):
        written.append(self)
        if len(written) > 12:  # two of each query: the SLM's columns, and the LLM's
            raise OSError(code, os.strerror(code))
        append(self, columns)

    monkeypatch.setattr(ShardWriter, "append", full)
    with pytest.raises(ConfigError, match="got a full disk") as error:
        label(tmp_path)
    assert "\n" not in str(error.value)
    left = {path.name for path in tmp_path.iterdir()}
    assert "shard-00000" in left and not [name for name in left if name.startswith(".")]
    monkeypatch.undo()
    assert label(tmp_path)["counts"]["rows"] == 200


def test_other_write_errors_stay_what_they_are(tmp_path, monkeypatch):
    def denied(self, columns):
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(ShardWriter, "append", denied)
    with pytest.raises(PermissionError):
        label(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_really_full_disk_raises_what_is_caught(tmp_path):
    (tmp_path / "mask.npy").symlink_to("/dev/full")
    with pytest.raises(OSError) as error, ShardWriter(tmp_path, 5) as writer:
        writer.append({"mask": np.ones(5)})
    assert error.value.errno == errno.ENOSPC
