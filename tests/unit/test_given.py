"""Labels of another machine: used where they lie, or refused in a line that says why."""

import shutil

import pytest
from test_labeling import column, label

from r2r.errors import ConfigError
from r2r.labeling.dataset import Labels
from r2r.records import MANIFEST, folder_hash, read_json, write_json
from r2r.stages import fingerprints, given
from r2r.stages.compose import compose
from r2r.stages.label import label as label_stage
from r2r.stages.label import open_labels
from r2r.stages.preflight import preflight
from r2r.stages.workbench import Workbench


def bench(folder, outputs, *more):
    config, router = compose([f"labeler.labels={folder}", f"outputs={outputs}", *more])
    return Workbench(config, router)


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """Of the toy models, said to be the nano pair's."""
    monkeypatch.setattr(given, "_check_width", lambda *_: None)
    folder = tmp_path / "elsewhere" / "abc"
    label(folder)
    pair = bench(folder, tmp_path).pair.identity()
    made = {"pair": "nano", "decides": {"pair": pair}}
    write_json(folder / MANIFEST, read_json(folder / MANIFEST) | {"made": made})
    return folder


def test_they_are_read_where_they_lie_and_left_as_they_are(labels, tmp_path):
    before = folder_hash(labels)
    for path in [labels, *labels.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    made = bench(labels, tmp_path / "out")
    assert label_stage(made) is True
    assert len(column(open_labels(made), "mask")) == len(column(Labels.open(labels), "mask"))
    assert folder_hash(labels) == before and not (tmp_path / "out" / "artifacts").exists()
    for path in [labels, *labels.rglob("*")]:
        path.chmod(0o755)


def test_a_router_is_that_of_their_content_not_of_their_place(labels, tmp_path):
    one = fingerprints.router(bench(labels, tmp_path / "out"))
    copied = shutil.copytree(labels, tmp_path / "copied")
    assert fingerprints.router(bench(copied, tmp_path / "out")).name == one.name
    assert one.parents == ()
    label(tmp_path / "more", count=12)
    more = tmp_path / "more"
    about = {"made": read_json(labels / MANIFEST)["made"]}
    write_json(more / MANIFEST, read_json(more / MANIFEST) | about)
    assert fingerprints.router(bench(more, tmp_path / "out")).name != one.name


@pytest.mark.parametrize("part", ["slm", "llm", "chat", "dtype"])
def test_what_differs_is_named(labels, tmp_path, part):
    manifest = read_json(labels / MANIFEST)
    manifest["made"]["decides"]["pair"][part] = "other"
    write_json(labels / MANIFEST, manifest)
    with pytest.raises(ConfigError, match=rf"labels of pair nano, got .*\(differing: {part}\)$"):
        preflight(bench(labels, tmp_path))


def cut_off(folder):
    path = next(folder.glob("shard-*/mask.npy"))
    path.write_bytes(path.read_bytes()[:-1])


def unfinished(folder):
    (folder / MANIFEST).unlink()


def damaged(folder):
    (folder / MANIFEST).write_text("[]")


def nobodys(folder):
    manifest = read_json(folder / MANIFEST)
    del manifest["made"]
    write_json(folder / MANIFEST, manifest)


def published(folder):
    (folder / "train.parquet").touch()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (cut_off, "missing or cut off"),
        (unfinished, "whole labels"),
        (damaged, "whole labels"),
        (nobodys, "says of which pair"),
        (published, "a published training set is labeler.path"),
        (shutil.rmtree, "whole labels"),
    ],
)
def test_what_is_not_whole_is_refused(labels, tmp_path, spoil, why):
    spoil(labels)
    with pytest.raises(ConfigError, match=r"labeler\.labels must be") as refused:
        preflight(bench(labels, tmp_path))
    assert why in str(refused.value) and "\n" not in str(refused.value)


def test_a_changed_file_is_to_be_copied_again(labels, tmp_path):
    """No run makes given labels: to force one would help nobody."""
    made = bench(labels, tmp_path)
    preflight(made)
    column = next(labels.glob("*/mask.npy"))
    content = bytearray(column.read_bytes())
    content[-1] ^= 1
    column.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mask.npy has changed .*; copy it again from where"):
        open_labels(made)


def test_labels_of_another_width_are_refused(tmp_path):
    folder = tmp_path / "abc"
    label(folder)
    made = {"pair": "nano", "decides": {"pair": bench(folder, tmp_path).pair.identity()}}
    write_json(folder / MANIFEST, read_json(folder / MANIFEST) | {"made": made})
    with pytest.raises(ConfigError, match=r"labels of an SLM of width \d+, got 6"):
        preflight(bench(folder, tmp_path))


def test_two_sources_at_once_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"labeler\.labels must be null"):
        bench(tmp_path, tmp_path, "labeler.path=some/where")
