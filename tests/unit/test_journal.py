"""The journal: what was put is there after any death, and damage is told."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from r2r.errors import ConfigError
from r2r.journal import FORMAT, Journal


def test_what_was_put_is_read_back_in_order(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        for key in (3, 1, 2):
            journal.put(key, bytes([key] * 5), tokens=key)
        assert journal.keys() == [1, 2, 3]
        assert journal.lengths() == [1, 2, 3]
    with Journal(tmp_path / "journal") as journal:
        assert journal.get(2) == bytes([2] * 5)
        journal.drop([1, 3])
        assert journal.keys() == [2]
        with pytest.raises(KeyError):
            journal.get(1)
        journal.remove()
    assert not list(tmp_path.iterdir())


def test_seconds_leave_out_what_came_before_the_work(tmp_path, monkeypatch):
    clock = iter([0.0, 100.0, 101.0, 103.0])
    monkeypatch.setattr("r2r.journal.time.perf_counter", lambda: next(clock))
    with Journal(tmp_path / "journal") as journal:
        journal.begin()
        journal.put(0, b"", tokens=1)
        journal.put(1, b"", tokens=1)
        assert journal.seconds() == 3.0


def test_every_item_put_before_a_kill_is_there(tmp_path):
    script = (
        "import sys; from pathlib import Path; from r2r.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for key in range(10**6):\n"
        "    journal.put(key, str(key).encode() * 1000, tokens=1); print(key, flush=True)\n"
    )
    path = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 50:
            os.kill(process.pid, signal.SIGKILL)
            break
    told = [50, *map(int, process.stdout.read().split())]
    process.wait()
    with Journal(path) as journal:
        keys = journal.keys()
        assert keys == list(range(len(keys)))
        assert len(keys) > told[-1]
        assert all(journal.get(key) == str(key).encode() * 1000 for key in keys)


def test_readers_see_items_while_one_writes(tmp_path):
    with Journal(tmp_path / "journal") as journal, Journal(tmp_path / "journal") as reader:
        journal.put(0, b"first", tokens=1)
        assert reader.get(0) == b"first"


def test_a_changed_item_is_refused(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.put(0, b"seven", tokens=1)
    database = sqlite3.connect(path)
    database.execute("UPDATE items SET value = CAST('eight' AS BLOB)")
    database.commit()
    database.close()
    with Journal(path) as journal, pytest.raises(ConfigError, match=r"item 0 .* checksum"):
        journal.get(0)


def test_another_format_and_no_journal_are_refused(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.put(0, b"", tokens=1)
        journal.database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(ConfigError, match=f"got format {FORMAT + 1}"):
        Journal(path)
    (tmp_path / "other").write_text("some text of no database, for a while " * 200)
    with pytest.raises(ConfigError, match="whole journals"):
        Journal(tmp_path / "other")


@pytest.mark.parametrize(("free", "number"), [(0, errno.ENOSPC), (1 << 30, errno.EIO)])
def test_no_room_for_the_logs_index_is_a_full_disk(tmp_path, monkeypatch, free, number):
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    usage = shutil._ntuple_diskusage(1 << 30, (1 << 30) - free, free)
    with Journal(tmp_path / "items.sqlite") as journal:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OSError) as raised, journal._told():
            raise broken
    assert raised.value.errno == number
