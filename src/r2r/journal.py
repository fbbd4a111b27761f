"""Finished items on disk within moments of being finished: one writer, many readers.

An SQLite database in WAL mode. What a process has put is there after its death at any moment; what
it was doing is not. Shards, samples and reports are views that are made from it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from r2r.errors import ConfigError

FORMAT = 1  # of the tables below
APPLICATION = 0x52325221  # "R2R!": what SQLite calls the kind of file
TABLES = """
CREATE TABLE IF NOT EXISTS items (
    key INTEGER PRIMARY KEY,  -- the item's place in the run
    tokens INTEGER NOT NULL,  -- made for it
    seconds REAL NOT NULL,    -- since the item before it, or since the work began
    digest BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
"""
SHARED = 64 * 1024  # bytes: without room for its index of the log, SQLite tells of no full disk
DISK = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
}


class Journal:
    """Items by their place in a run, each whole or not there. Use as a context manager.

    Raises ConfigError where the file is damaged, no journal, or one of another version's format;
    OSError where the disk is full or cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self.since = time.perf_counter()
        with self._told():
            # One writer, which may change threads between two items.
            self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._open()

    def _open(self) -> None:
        fresh = not self._number("SELECT count(*) FROM sqlite_master")
        found = self._number("PRAGMA application_id"), self._number("PRAGMA user_version")
        if not fresh and found != (APPLICATION, FORMAT):
            self.database.close()
            raise ConfigError(
                f"outputs must hold journals of this version (format {FORMAT}), got format"
                f" {found[1]} in {self.path}; delete it, or use the version that wrote it"
            )
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = NORMAL")  # whole after a kill or a power cut
        if fresh:
            self.database.execute(f"PRAGMA application_id = {APPLICATION}")
            self.database.execute(f"PRAGMA user_version = {FORMAT}")
            self.database.execute(TABLES)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.database.close()

    def begin(self) -> None:
        """Work begins now: ``seconds`` does not count what came before."""
        self.since = time.perf_counter()

    def put(self, key: int, value: bytes, *, tokens: int) -> None:
        """Keep an item, on disk when this returns. ``tokens``: what was made for it."""
        now = time.perf_counter()
        row = (key, tokens, now - self.since, _digest(value), value)
        with self._told():
            self.database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)", row)
        self.since = now

    def get(self, key: int) -> bytes:
        """An item's value. Raises KeyError where there is none, ConfigError where it is damaged."""
        with self._told():
            query = "SELECT digest, value FROM items WHERE key = ?"
            row = self.database.execute(query, (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        digest, value = row
        if digest != _digest(value):
            raise self._damaged(f"item {key} does not fit its checksum")
        return value

    def keys(self) -> list[int]:
        """Of all items, in order."""
        with self._told():
            rows = self.database.execute("SELECT key FROM items ORDER BY key").fetchall()
        return [key for (key,) in rows]

    def drop(self, keys: Iterable[int]) -> None:
        """Forget items that are kept elsewhere by now, all or none of them."""
        with self._told():
            self.database.execute("BEGIN")
            self.database.executemany("DELETE FROM items WHERE key = ?", [(key,) for key in keys])
            self.database.execute("COMMIT")

    def lengths(self) -> list[int]:
        """Tokens made for each item, in the order of their keys."""
        with self._told():
            rows = self.database.execute("SELECT tokens FROM items ORDER BY key").fetchall()
        return [tokens for (tokens,) in rows]

    def seconds(self) -> float:
        """Wall time of all runs up to the last item that each finished."""
        with self._told():
            return float(self._number("SELECT coalesce(sum(seconds), 0.0) FROM items"))

    def remove(self) -> None:
        """Close the journal and take it away: what it held is kept elsewhere by now."""
        self.database.close()
        forget(self.path)

    def _number(self, query: str) -> int:
        return self.database.execute(query).fetchone()[0]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite finds wrong, in our words."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            kind = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte: without details
            if kind == sqlite3.SQLITE_IOERR and shutil.disk_usage(self.path.parent).free < SHARED:
                kind = sqlite3.SQLITE_FULL
            if kind in DISK:
                raise OSError(DISK[kind], str(error), str(self.path)) from error
            if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged(str(error)) from error
            raise

    def _damaged(self, problem: str) -> ConfigError:
        return ConfigError(
            f"outputs must hold whole journals, got {self.path}: {problem};"
            " delete it to make its items again"
        )


def forget(path: Path) -> None:
    """Take away a journal that nobody has open, if there is one."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()
