"""With what something was made: commit, packages, machine, settings. None of it decides content."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2r.stages.fingerprints import WHERE

if TYPE_CHECKING:
    from r2r.stages.workbench import Workbench

PACKAGES = ("torch", "transformers", "tokenizers", "pytorch-lightning", "lm-eval", "hydra-core")
# Of a run's entry, what its speed may depend on; and what of that does not show in it.
TIMED = ("run", "engine", "machine", "versions")
UNTIMED = ("platform", "python", "start_s", "silence_s", "down_s")
UNTIMED_PACKAGES = ("tokenizers", "pytorch-lightning", "lm-eval", "hydra-core")


def provenance() -> dict[str, Any]:
    """Commit, versions and machine."""
    return {
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "threads": int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))),
        },
    }


def made_with(bench: Workbench, kind: str) -> dict[str, Any]:
    """What of a run shows in an artifact's time, and in nothing else of it."""
    config, about = bench.config, provenance()
    if config.engine.device != "cpu":
        about["machine"]["gpus"] = gpus()
    if bench.fleet and bench.fleet.version:
        about["versions"]["sglang"] = bench.fleet.version
    about["engine"] = asdict(config.engine)
    if kind == "evaluation":
        about["run"] = bench.session
    if kind == "labels":
        labeler = config.labeler
        about["labeler"] = {"executor": labeler.executor, "shard_queries": labeler.shard_queries}
    if kind in ("router", "judge"):
        trainer = asdict(config.trainer)
        about["trainer"] = {key: trainer[key] for key in WHERE}
    return about


def gpus() -> list[str]:
    """Names of this machine's GPUs."""
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def timed_otherwise(made: Mapping[str, Any] | None, here: Mapping[str, Any]) -> dict[str, Any]:
    """Why the speed of what ``made`` tells of does not compare with that of a run with ``here``:
    the settings that differ, as they were then; ``run``: it was another one. Empty where it does;
    ``made`` None: unknown.
    """
    if made is None:
        return {"made": "by an earlier version"}
    ours, found = dict(_settings(here)), {}
    for run in made["runs"]:
        theirs = dict(_settings(run))
        keys = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
        found |= {key: theirs.get(key) for key in keys}
    return found


def _settings(run: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every setting that may show in speed, by its name (``engine.max_batch``)."""

    def walk(name: str, value: Any) -> list[tuple[str, Any]]:
        if not isinstance(value, Mapping):
            return [(name, value)]
        inner = [(key, each) for key, each in value.items() if key not in UNTIMED]
        return [pair for key, each in inner for pair in walk(f"{name}.{key}", each)]

    told = [pair for part in TIMED for pair in walk(part, run.get(part))]
    return [(name, value) for name, value in told if not name.endswith(UNTIMED_PACKAGES)]


@functools.cache
def _commit() -> str | None:
    root = Path(__file__).resolve().parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    ).stdout.strip()
    return commit or None


@functools.cache
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
