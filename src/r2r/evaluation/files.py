"""Reading a benchmark's local file, in whatever format its authors publish it."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from r2r.errors import ConfigError, must_be
from r2r.jsonl import iter_jsonl

FORMATS = ".jsonl, .jsonl.gz, .json, .csv, .parquet or .zip"


def read_rows(
    path: Path, key: str, *, member: str | None = None, password_env: str | None = None
) -> Iterable[tuple[str, dict[str, Any]]]:
    """The rows of a table, each with its place in the file (``line 3``, or ``row 2`` of what has no
    lines), from 1; JSONL is read as it is asked for, so that large files are never whole.

    ``member``: the file to read where ``path`` is a zip archive; ``password_env``: the environment
    variable that holds the archive's password. Raises ConfigError naming ``key`` (the config key
    that holds the path) where the file is missing, unreadable or of another format.
    """
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return ((f"line {number}", row) for number, row in iter_jsonl(path, key))
    try:
        content, name = path.read_bytes(), path.name
    except OSError as error:
        raise must_be(key, f"a readable file ({error.strerror})", str(path)) from None
    if path.suffix == ".zip" and member:
        content, name = _unzipped(content, member, password_env, f"{key}: {path}"), member
    parse = PARSERS.get(Path(name).suffix)
    if not parse:
        raise must_be(key, f"a {FORMATS} file", str(path))
    try:
        rows = parse(content)
    except (ValueError, csv.Error, RecursionError) as error:
        reason = f"{Path(name).suffix}: {' '.join(str(error).split())[:200]}"
        raise ConfigError(f"{key}: {path}: cannot be read as {reason}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{key}: {path}: must be a list of JSON objects")
    return ((f"row {number}", row) for number, row in enumerate(rows, start=1))


def _csv(content: bytes) -> list[dict[str, Any]]:
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has more or fewer fields than the header")
    return rows


def _parquet(content: bytes) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    return parquet.read_table(pyarrow.BufferReader(content)).to_pylist()


PARSERS: dict[str, Callable[[bytes], Any]] = {
    ".json": json.loads,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _unzipped(content: bytes, member: str, password_env: str | None, where: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                if Path(entry.filename).name != member:
                    continue
                password = os.environ.get(password_env or "")
                if entry.flag_bits & 1 and not password:
                    wanted = f"set to the password of {where}"
                    raise must_be(f"environment variable {password_env}", wanted, password)
                return archive.read(entry, (password or "").encode())
            raise ConfigError(f"{where}: no {member} in the archive")
    except (RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        hint = f" (environment variable {password_env})" if "password" in str(error) else ""
        raise ConfigError(f"{where}: cannot be unpacked: {error}{hint}") from error
