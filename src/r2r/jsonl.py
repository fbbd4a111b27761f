"""Reading the user's JSONL files; a broken line is named by its number."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r2r.errors import ConfigError, must_be


def read_jsonl(path: str | Path, key: str) -> list[dict[str, Any]]:
    """All objects of a JSONL file, as ``iter_jsonl`` gives them."""
    return [row for _, row in iter_jsonl(path, key)]


def iter_jsonl(path: str | Path, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file (gzipped where its name ends in .gz), blank lines left out, each
    with the number of its line, from 1.

    Raises ConfigError naming ``key`` (the config key that holds the path) where the file is
    missing or unreadable, or a line is not a JSON object.
    """
    opened = gzip.open if str(path).endswith(".gz") else open
    try:
        with opened(Path(path).expanduser(), "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _object(line, f"{key}: {path}, line {number}")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise must_be(key, f"a readable JSONL file ({reason})", str(path)) from None


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: must be a JSON object, got {type(row).__name__}")
    return row
