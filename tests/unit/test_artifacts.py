"""One run at a time makes an artifact; a run's folder is its own."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from r2r.records import MANIFEST, write_json
from r2r.stages.artifacts import LOCKS, artifact
from r2r.stages.main import own_folder

HOLDER = """
import sys, time
from pathlib import Path
from r2r.stages.artifacts import artifact

def make(folder):
    (folder / ".half-written").write_text("x")
    (folder / "done-already").write_text("x")
    print("making", flush=True)
    time.sleep(60)

artifact("label", Path(sys.argv[1]), False, make)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "artifacts" / "labels" / "abc"


def make(to: Path, content: str = "new") -> None:
    (to / "content").write_text(content)
    write_json(to / MANIFEST, {})


def test_who_comes_second_waits_says_so_and_finds_it(folder, capsys):
    begun, go, made, found = threading.Event(), threading.Event(), [], []

    def slowly(to):
        begun.set()
        go.wait(30)
        made.append(to)
        make(to)

    def want():
        found.append(artifact("label", folder, False, slowly))

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
    assert told == "label     another run is making labels/abc; waiting for it\n"
    assert made == [folder] and sorted(found) == [False, True]


def test_a_killed_runs_lock_ends_with_it_and_its_leftovers_go(folder):
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "making\n"
        holder.send_signal(signal.SIGKILL)
    left_beside = folder.with_name(".abc.forced")
    left_beside.mkdir()
    assert artifact("label", folder, False, make) is False
    assert sorted(os.listdir(folder)) == ["content", "done-already", MANIFEST]
    assert os.listdir(folder.parent) == ["abc"]
    assert os.listdir(folder.parents[1] / LOCKS) == ["labels-abc"]


def test_forced_the_old_one_stays_until_the_new_one_is_whole(folder):
    artifact("label", folder, False, lambda to: make(to, "old"))

    def fails(to):
        (to / "content").write_text("half")
        assert (folder / "content").read_text() == "old"
        raise KeyError

    with pytest.raises(KeyError):
        artifact("label", folder, True, fails)
    assert artifact("label", folder, False, make) is True
    assert (folder / "content").read_text() == "old"
    assert artifact("label", folder, True, make) is False
    assert (folder / "content").read_text() == "new"
    assert os.listdir(folder.parent) == ["abc"]


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path):
    folders = [own_folder(tmp_path / "run" / "2026-01-01_00-00-00") for _ in range(3)]
    assert [f.name.removeprefix("2026-01-01_00-00-00") for f in folders] == ["", "_2", "_3"]
