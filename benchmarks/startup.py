"""Seconds until something is there: --help, the imports, a job that is done already.

    python benchmarks/startup.py [--repeats 5]

The job is the default one in the small, in a folder of its own: run once, then timed again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import finish, interleaved, middle, options, parsed, spread, table

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("labeler.prompts.limit=60", "benchmark.limit=8", "trainer.max_epochs=1")


def seconds(*command: str) -> float:
    """Wall time of a Python process."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return time.perf_counter() - began


def main() -> int:
    given = parsed(options(__doc__, repeats=3))
    with tempfile.TemporaryDirectory() as folder:
        job = ("run.py", f"outputs={folder}", *SMALL)
        first = seconds(*job)
        systems = {
            "python -c pass": ("-c", "pass"),
            "import r2r": ("-c", "import r2r"),
            "import torch": ("-c", "import torch"),
            "import transformers models": ("-c", "from transformers import AutoModelForCausalLM"),
            "import lm_eval": ("-c", "import lm_eval"),
            "run.py --help": ("run.py", "--help"),
            "run.py, all cached": job,
        }
        runs = interleaved(
            {name: lambda command=command: seconds(*command) for name, command in systems.items()},
            given.repeats,
        )
    rows = [{"command": "run.py, nothing cached (small)", "seconds": first, "spread": 0.0}]
    rows += [{"command": name, "seconds": middle(times), "spread": spread(times)}
             for name, times in runs.items()]  # fmt: skip
    lines = [[r["command"], f"{r['seconds']:.2f}", f"{100 * r['spread']:.0f}"] for r in rows]
    shown = table("Start-up", "", ("command", "seconds", "± %"), lines)
    finish("startup", rows, {"repeats": given.repeats}, shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
