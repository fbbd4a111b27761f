"""One run at a time makes an artifact; a run's folder is its own."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from r2r.errors import ConfigError
from r2r.records import MANIFEST, write_json
from r2r.stages.artifacts import LOCKS, MAKING, Key, artifact, begun, lock_of, made
from r2r.stages.inventory import artifacts
from r2r.stages.main import own_folder
from r2r.stages.provenance import timed_otherwise

HOLDER = """
import sys, time
from pathlib import Path
from r2r.stages.artifacts import artifact
from r2r.stages.artifacts import Key

def make(folder):
    (folder / ".half-written").write_text("x")
    (folder / "done-already").write_text("x")
    print("making", flush=True)
    time.sleep(60)

artifact("label", Key(Path(sys.argv[1]), "labels", "nano", "", {}), False, make)
"""


@pytest.fixture
def key(tmp_path):
    return Key(tmp_path / "artifacts", "labels", "nano", "some", {}, ("labels/x",))


@pytest.fixture
def folder(key):
    return key.folder


def make(to: Path, content: str = "new") -> None:
    (to / "content").write_text(content)
    write_json(to / MANIFEST, {})


def test_who_comes_second_waits_says_so_and_finds_it(key, folder, capsys):
    begun, go, done, found = threading.Event(), threading.Event(), [], []

    def slowly(to):
        begun.set()
        go.wait(30)
        done.append(to)
        make(to)

    def want():
        found.append(artifact("label", key, False, slowly))

    first, second = threading.Thread(target=want), threading.Thread(target=want)
    first.start()
    begun.wait(30)
    second.start()
    told = ""
    while "\n" not in told:
        told += capsys.readouterr().out
    go.set()
    first.join(30)
    second.join(30)
    assert told == f"label     another run is making labels/{folder.name}; waiting for it\n"
    assert done == [folder] and sorted(found) == [False, True]


def test_a_killed_runs_lock_ends_with_it_and_its_leftovers_go(key, folder):
    command = [sys.executable, "-c", HOLDER, str(key.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "making\n"
        holder.send_signal(signal.SIGKILL)
    left_beside = folder.with_name(f".{folder.name}.forced")
    left_beside.mkdir()
    assert artifact("label", key, False, make) is False
    assert sorted(os.listdir(folder)) == ["content", "done-already", MANIFEST]
    assert os.listdir(folder.parent) == [folder.name]
    assert os.listdir(folder.parents[1] / LOCKS) == [f"labels-{folder.name}"]


def test_forced_the_old_one_stays_until_the_new_one_is_whole(key, folder):
    artifact("label", key, False, lambda to: make(to, "old"))

    def fails(to):
        (to / "content").write_text("half")
        assert (folder / "content").read_text() == "old"
        raise KeyError

    with pytest.raises(KeyError):
        artifact("label", key, True, fails)
    assert artifact("label", key, False, make) is True
    assert (folder / "content").read_text() == "old"
    assert artifact("label", key, True, make) is False
    assert (folder / "content").read_text() == "new"
    assert os.listdir(folder.parent) == [folder.name]


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path):
    folders = [own_folder(tmp_path / "run" / "2026-01-01_00-00-00") for _ in range(3)]
    assert [f.name.removeprefix("2026-01-01_00-00-00") for f in folders] == ["", "_2", "_3"]


# What is kept, and what is removed.


def kept(outputs, kind, name, parents=(), pair="nano"):
    folder = outputs / "artifacts" / kind / name
    write_json(folder / "content", {"bytes": "x" * 2000})
    about = {"pair": pair, "what": "something", "parents": list(parents),
             "at": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    write_json(folder / MANIFEST, {"made": about})
    return folder


def run_of(outputs, time, artifacts):
    write_json(outputs / "nano_mlp" / time / MANIFEST, {"artifacts": artifacts})


@pytest.fixture
def outputs(tmp_path):
    """Labels and a router that a run's answers need, others that nobody does, and damaged ones."""
    kept(tmp_path, "labels", "a" * 16)
    kept(tmp_path, "labels", "b" * 16)
    kept(tmp_path, "router", "c" * 16, ["labels/" + "a" * 16])
    kept(tmp_path, "router", "d" * 16, ["labels/" + "b" * 16])
    kept(tmp_path, "evaluation", "e" * 16, ["router/" + "c" * 16])
    run_of(tmp_path, "2026-01-01_00-00-00", ["evaluation/" + "e" * 16])
    return tmp_path


def names(outputs):
    return {path.name[0] for path in outputs.glob("artifacts/*/*") if path.parent.name != LOCKS}


def test_what_is_kept_is_listed_in_80_columns(outputs, capsys):
    artifacts(outputs, None)
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    for line in ("from labels/aaaaaaaa", "used by nano_mlp/2026-01-01_00-00-00",
                 "used by another artifact", "unused"):  # fmt: skip
        assert line in told
    assert "artifacts.remove=unused removes 2 that no run uses" in told
    assert names(outputs) == set("abcde")


def test_unused_ones_are_removed_and_what_a_kept_one_depends_on_is_not(outputs, capsys):
    artifacts(outputs, "unused")
    assert names(outputs) == set("ace")
    told = capsys.readouterr().out
    assert "removed   labels/" + "b" * 16 in told and "of 2 artifacts" in told


def test_what_another_process_makes_stays_with_its_parents(outputs):
    folder = outputs / "artifacts" / "router" / ("f" * 16)
    write_json(folder / MAKING, {"parents": ["labels/" + "b" * 16]})
    with lock_of(folder):
        artifacts(outputs, "unused")
    assert names(outputs) == set("abcef")
    artifacts(outputs, "unused")
    assert names(outputs) == set("ace")


def test_damaged_manifests_are_told_of(outputs, capsys):
    (outputs / "artifacts" / "labels" / ("b" * 16) / MANIFEST).write_text("{")
    run = outputs / "nano_mlp" / "2026-01-02_00-00-00" / MANIFEST
    run.parent.mkdir()
    run.write_text("[]")
    artifacts(outputs, None)
    told = capsys.readouterr().out.replace("\n", "")
    assert "damaged" in told and "what that run uses is not known" in told


def test_a_run_that_cannot_be_read_keeps_everything(outputs, capsys):
    run = outputs / "nano_mlp" / "2026-01-02_00-00-00" / MANIFEST
    run.parent.mkdir()
    run.write_text("{")
    with pytest.raises(ConfigError, match=r"outputs must be .* that run uses"):
        artifacts(outputs, "unused")
    assert names(outputs) == set("abcde")


def test_the_manifest_says_with_what_it_was_made(key):
    artifact("label", key, False, make, lambda: {"engine": {"max_batch": 4}})
    told = made(key.folder)
    assert told and told["parents"] == ["labels/x"] and told["pair"] == "nano"
    (run,) = told["runs"]
    assert run["engine"] == {"max_batch": 4} and run["seconds"] >= 0
    assert sorted(os.listdir(key.folder)) == ["content", MANIFEST]


def test_what_came_to_nothing_leaves_nothing(key):
    def fails(to):
        raise KeyError

    with pytest.raises(KeyError):
        artifact("label", key, False, fails)
    assert not key.folder.exists()


def test_what_is_made_by_halves_stays_and_is_gone_on_with(key, folder):
    def half(to):
        (to / "half").touch()

    assert artifact("label", key, False, half) is False
    (first,) = begun(folder)["runs"]
    assert first["seconds"] is not None and len(first["load"]) == 2
    assert artifact("label", key, False, make) is False
    assert (folder / "half").exists() and artifact("label", key, False, make) is True
    assert [run["seconds"] is None for run in made(folder)["runs"]] == [False, False]


def test_each_run_that_worked_on_it_is_told_of(key):
    def fails(to):
        (to / "half").write_text("content")
        raise KeyError

    with pytest.raises(KeyError):
        artifact("label", key, False, fails, lambda: {"engine": 1})
    artifact("label", key, False, make, lambda: {"engine": 2})
    told = made(key.folder)
    assert told and [run["engine"] for run in told["runs"]] == [1, 2]
    assert [run["seconds"] is None for run in told["runs"]] == [True, False]


def test_speed_compares_only_where_every_run_had_this_ones_settings():
    here = {"engine": {"max_batch": 4, "sglang": None}, "machine": {"cpus": 2, "platform": "a"},
            "versions": {"torch": "1", "lm-eval": "1"}}  # fmt: skip
    same = here | {"machine": {"cpus": 2, "platform": "b"}, "versions": {"torch": "1"}}
    other = here | {"engine": {"max_batch": 8, "sglang": None}}
    assert timed_otherwise({"runs": [here, same]}, here) == {}
    assert timed_otherwise({"runs": [here, other]}, here) == {"engine.max_batch": 8}
    assert timed_otherwise(None, here)
