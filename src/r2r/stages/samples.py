"""An evaluation's rows as it keeps them: one for each graded answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from r2r.records import whole_file

SAMPLES = "samples.jsonl"


def write_samples(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    with whole_file(folder / SAMPLES) as path, path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_samples(folder: Path) -> Iterator[dict[str, Any]]:
    with (folder / SAMPLES).open(encoding="utf-8") as file:
        yield from map(json.loads, file)
