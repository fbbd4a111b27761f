"""Reading the user's JSONL files; a broken line is named by its number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from r2r.errors import ConfigError, must_be


def read_jsonl(path: str | Path, key: str) -> list[dict[str, Any]]:
    """The objects of a JSONL file, blank lines left out.

    Raises ConfigError naming ``key`` (the config key that holds the path) where the file is
    missing or unreadable, or a line is not a JSON object.
    """
    rows = []
    try:
        with Path(path).expanduser().open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append(_object(line, f"{key}: {path}, line {number}"))
    except OSError as error:
        raise must_be(key, f"a readable JSONL file ({error.strerror})", str(path)) from None
    return rows


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: must be a JSON object, got {type(row).__name__}")
    return row
