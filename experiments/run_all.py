"""Every experiment on the nano pair, and its figures into its page."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SMOKE = [
    "labeler.prompts.limit=150",
    "labeler.shard_queries=75",
    "benchmark.limit=8",
    "trainer.max_epochs=2",
]
BEGIN, END = "<!-- nano: written by experiments/run_all.py -->", "<!-- /nano -->"


def main() -> None:
    known = sorted(path.stem for path in (HERE / "experiment").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help=f"{', '.join(known)}; without a name: all")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="only show that they run: a few problems and epochs, and no page is touched",
    )
    given = parser.parse_args()
    if unknown := sorted(set(given.name) - set(known)):
        parser.error(f"name must be one of {', '.join(known)}, got {', '.join(unknown)}")
    ran: dict[str, Path] = {}
    for name in given.name or known:
        began = time.monotonic()
        command = [sys.executable, str(ROOT / "run.py"), f"+experiment={name}"]
        code = subprocess.run([*command, *(SMOKE if given.smoke else [])]).returncode
        if code:  # it has said why
            sys.exit(code)
        ran[name] = (ROOT / "outputs" / "latest").resolve()
        print(f"{name}: {time.monotonic() - began:.0f} s\n", flush=True)
    for name, sweep in ran.items():  # at last: a page that is written makes the commit a dirty one
        if not given.smoke:
            refresh(HERE / name, sweep)


def refresh(page: Path, sweep: Path) -> None:
    """Put what a sweep gathered between the page's marks, and its plot beside it."""
    manifest = json.loads((sweep / "0" / "manifest.json").read_text())
    origin = f"Commit {manifest['commit']}, {manifest['machine']['cpus']} CPU cores."
    text = (page / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{page / 'README.md'} has no place for the figures"
    figures = (sweep / "gathered.md").read_text(encoding="utf-8")
    body = f"{BEGIN}\n\n{origin} {figures}\n{END}"
    (page / "README.md").write_text(before + body + after, encoding="utf-8")
    for plot in (sweep / "figures").glob("*.png"):
        if f"({plot.name})" in text:
            (page / plot.name).write_bytes(plot.read_bytes())


if __name__ == "__main__":
    main()
