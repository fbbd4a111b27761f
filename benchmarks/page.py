"""Puts the tables of results/ between the marks of README.md.

    python benchmarks/page.py

A place for ``results/decode_nano_1_cpu.json`` is the line ``<!-- decode_nano_1_cpu -->`` and, after
it, ``<!-- / -->``.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

from harness import RESULTS, Shown, Target
from rich.console import Console

from r2r.records import read_json, whole_file

PAGE = Path(__file__).parent / "README.md"
PLACE = re.compile(r"<!-- (\w+) -->\n.*?<!-- / -->", re.DOTALL)


def drawn(record: dict[str, Any]) -> str:
    """A record's tables as text, and where its figures come from."""
    console = Console(width=80, file=(written := io.StringIO()))
    console.print(Shown(**record["shown"]).table())
    targets = [{key: t[key] for key in ("what", "found", "wanted", "most")}
               for t in record["targets"]]  # fmt: skip
    if targets:
        lines = [Target(**target).cells() for target in targets]
        console.print(Shown("", "", ("target", "wanted", "found", "met"), lines).table())
    text = "\n".join(line.rstrip() for line in written.getvalue().splitlines())
    origin = (
        f"Commit {record['commit']}, {record['hardware']}, {record['threads']} of"
        f" {record['machine']['cpus']} cores, {record['clock']} time, {record['repeats']} rounds,"
        f" load {record['load_average']}."
    )
    return f"{origin}\n\n```text\n{text}\n```"


def filled(page: str, results: Path) -> str:
    """The page with the tables of ``results``. Raises FileNotFoundError for a record not there."""

    def place(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- {name} -->\n{drawn(read_json(results / f'{name}.json'))}\n<!-- / -->"

    return PLACE.sub(place, page)


def main() -> int:
    with whole_file(PAGE) as path:
        path.write_text(filled(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
