"""The code that decides each artifact's content, for its fingerprint."""

from __future__ import annotations

from pathlib import Path

import r2r
from r2r.records import file_hash, fingerprint

# By artifact: files and folders of the package.
GENERATION = ("trace.py", "pairs.py", "engines", "generators", "routers/base.py")
CODE = {
    "labels": (*GENERATION, "labeling"),
    "router": (*GENERATION, "labeling", "routers", "training"),
    "calibration": (*GENERATION, "labeling", "routers", "training"),
    "evaluation": (*GENERATION, "routers", "evaluation", "labeling/judge.py", "costs.py"),
    "traces": (*GENERATION, "stages/readable.py", "stages/report.py"),
    "query": ("generators/query", "stages/query_level.py"),
}


def code_hash(artifact: str) -> str:
    """Of all files that ``CODE`` names for a kind of artifact."""
    root = Path(r2r.__file__).parent
    hashes = []
    for name in CODE[artifact]:
        path = root / name
        files = (
            [path] if path.is_file() else sorted(path.rglob("*.py")) + sorted(path.rglob("*.yaml"))
        )
        hashes += [[str(file.relative_to(root)), file_hash(file)] for file in files]
    return fingerprint(hashes)
