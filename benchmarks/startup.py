"""Seconds until something is there: --help, the imports, a whole job, and the same job again.

    python benchmarks/startup.py [--repeats 5] [key=value ...]

The job is ``make run``'s, or that of the keys given, in a folder of its own: once from nothing, by
stage (the wall time until its last line), then again with everything cached; of that also the
time until its first line. With ``--clock cpu``: what processes took of the processor.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from harness import Shown, Target, clock, finish, interleaved, middle, options, parsed, spread

ROOT = Path(__file__).resolve().parents[1]
JOB = ("router=mlp", "threshold=0.1")  # what `make run` runs
STAGES = ("label", "train", "calibrate", "evaluate", "report")


def spent() -> float:
    """Seconds on the clock; by the processor's, those of ended processes."""
    if clock.kind == "wall":
        return time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(*command: str) -> float:
    """What a Python process takes."""
    began = spent()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return spent() - began


def to_first_line(*command: str) -> float:
    """What a Python process takes until it says something; it is killed then."""
    began = spent()
    job = subprocess.Popen([sys.executable, "-u", *command], cwd=ROOT, stdout=subprocess.PIPE)
    assert job.stdout is not None
    job.stdout.readline()
    job.kill()
    job.wait()
    return spent() - began


def by_stage(*command: str) -> dict[str, float]:
    """Wall time of a job by stage, ``rest`` last."""
    began = last = time.perf_counter()
    found = dict.fromkeys(STAGES, 0.0)
    job = subprocess.Popen([sys.executable, "-u", *command], cwd=ROOT, text=True,
                           stdout=subprocess.PIPE)  # fmt: skip
    assert job.stdout is not None
    for line in job.stdout:
        stage, now = line.split(" ", 1)[0].strip(), time.perf_counter()
        if stage in found:
            found[stage] += now - last
            last = now
    if job.wait():
        raise RuntimeError(f"{' '.join(command)} ended with {job.returncode}")
    ended = time.perf_counter()
    return found | {"rest": ended - last, "whole": ended - began}


def main() -> int:
    parser = options(__doc__, repeats=3)
    parser.add_argument("overrides", nargs="*", default=JOB)
    given = parsed(parser)
    with tempfile.TemporaryDirectory() as folder:
        job = ("run.py", f"outputs={folder}", *given.overrides)
        print("the whole job, some minutes", file=sys.stderr, flush=True)
        first = by_stage(*job)
        systems = {
            "python -c pass": ("-c", "pass"),
            "import r2r": ("-c", "import r2r"),
            "import torch": ("-c", "import torch"),
            "import transformers models": ("-c", "from transformers import AutoModelForCausalLM"),
            "import lm_eval": ("-c", "import lm_eval"),
            "run.py --help": ("run.py", "--help"),
            "run.py, all cached": job,
        }
        timed = {name: partial(seconds, *command) for name, command in systems.items()}
        timed["run.py, its first line"] = partial(to_first_line, *job)
        runs = interleaved(timed, given.repeats)
    rows = [{"command": name, "seconds": middle(times), "spread": spread(times)}
            for name, times in runs.items()]  # fmt: skip
    lines = [[r["command"], f"{r['seconds']:.2f}", f"{100 * r['spread']:.0f}"] for r in rows]
    rows += [{"command": f"run.py, from nothing: {part}", "seconds": taken}
             for part, taken in first.items()]  # fmt: skip
    lines += [[f"run.py, from nothing: {part}", f"{taken:.1f}", ""]
              for part, taken in first.items()]  # fmt: skip
    targets = [
        Target("run.py --help, s", middle(runs["run.py --help"]), 2.0, most=True),
        Target("run.py, first line, s", middle(runs["run.py, its first line"]), 1.0, most=True),
        Target("run.py, all cached, s", middle(runs["run.py, all cached"]), 6.0, most=True),
        Target("run.py, from nothing, s", first["whole"], 300.0, most=True),
    ]
    shown = Shown("Start-up", "", ("command", "seconds", "± %"), lines)
    finish(given, "startup", rows, {"job": list(given.overrides)}, shown, targets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
