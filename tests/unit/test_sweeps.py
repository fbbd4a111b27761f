"""The sweep files: W&B's schema, W&B's own expansion into a command, and the Hydra twins."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from wrong import refused as refused_in_process

from r2r.stages.compose import compose

ROOT = Path(__file__).parents[2]
# The schema that wandb's server checks a sweep against: package "sweeps" 0.3.0 (MIT License,
# Copyright (c) 2021 Weights and Biases), sweeps/config/schema.json, as published.
SCHEMA = json.loads((ROOT / "tests" / "data" / "wandb_sweep_schema.json").read_text())
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"), key=lambda path: path.stem)
OURS = ("logger", "run", "stages")  # what a W&B file says of the run itself, not of the question


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def twin(path: Path) -> dict[str, Any]:
    return loaded(path.parent / "sweep" / path.name)


def corners(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters of runs W&B may ask for: every value where few are named, else the ends."""

    def values(parameter: dict[str, Any]) -> list[Any]:
        if "value" in parameter:
            return [parameter["value"]]
        return parameter.get("values") or [parameter["min"], parameter["max"]]

    names, columns = zip(*((n, values(p)) for n, p in sweep["parameters"].items()), strict=True)
    return [dict(zip(names, row, strict=True)) for row in product(*columns)]


def expanded(sweep: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    """The command that W&B's agent runs (wandb_agent.Agent._command_run)."""
    from wandb.sdk.launch.sweeps import utils

    given = {"args": {name: {"value": value} for name, value in parameters.items()}}
    known = utils.create_sweep_command_args(given)
    known |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    command: list[str] = []
    for part in utils.create_sweep_command(list(sweep["command"])):
        macro = part[2:-1] if part.startswith("${") else None
        command += known[macro] if macro else [part]
    return command


def test_there_are_sweeps():
    assert {path.stem for path in SWEEPS} >= {"threshold", "pareto", "router", "labels"}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_wandb_accepts_the_file(path):
    jsonschema.Draft7Validator(SCHEMA).validate(loaded(path))


def test_the_schema_refuses_what_is_wrong():
    broken = loaded(ROOT / "sweeps" / "threshold.yaml") | {"method": "guess"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate(broken)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_run_wandb_may_start_composes(path):
    sweep = loaded(path)
    for parameters in corners(sweep):
        command = expanded(sweep, parameters)
        assert command[:3] == ["/usr/bin/env", "python", "run.py"]
        overrides = [part for part in command[3:] if not part.startswith("run=")]
        config, _ = compose(overrides)
        assert config.logger.name == "wandb"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_twin_asks_the_same(path):
    sweep, other = loaded(path), twin(path)
    asked = {n: p for n, p in sweep["parameters"].items() if n not in OURS and len(p) > 0}
    varied = {name for name, parameter in asked.items() if "value" not in parameter}
    params = {name: str(value) for name, value in other["hydra"]["sweeper"]["params"].items()}
    assert set(params) == varied
    for name in varied:
        numbers = asked[name].get("values") or [asked[name]["min"], asked[name]["max"]]
        assert all(str(number) in params[name] for number in numbers), (name, params[name])
    assert other["run"] == sweep["parameters"]["run"]["value"] == path.stem
    objective = other.get("objective", [sweep["metric"]["name"]])
    assert sweep["metric"]["name"] in objective
    wanted = sweep["parameters"].get("stages", {}).get("value")
    assert (yaml.safe_load(wanted) if wanted else None) == other.get("stages")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_twin_composes(path, tmp_path):
    command = [sys.executable, str(ROOT / "run.py"), f"+sweep={path.stem}", "--cfg", "hydra",
               "-p", "hydra.sweeper"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    optuna = twin(path)["hydra"]["sweeper"].get("n_trials")
    assert ("OptunaSweeper" in done.stdout) == (optuna is not None)


def test_slurms_launcher_composes_with_a_sweep(tmp_path):
    pytest.importorskip("submitit")
    command = [sys.executable, str(ROOT / "run.py"), "+launcher=slurm", "+sweep=threshold",
               "hydra.launcher.partition=gpu", "--cfg", "hydra", "-p",
               "hydra.launcher"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    launcher = yaml.safe_load(done.stdout)
    assert launcher["_target_"].endswith("SlurmLauncher")
    assert (launcher["partition"], launcher["gpus_per_node"]) == ("gpu", 1)


def refused(tmp_path: Path, *arguments: str) -> str:
    line = refused_in_process(tmp_path / "outputs", *arguments)
    assert not (tmp_path / "outputs").exists()
    return line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("-m threshold=0.1,0.3,abc", ["threshold must be", "'abc' (job 3 of 3: threshold=abc)"]),
        ("+sweep=threshold threshold=0.1,0.2,1.5", ["0 to 1", "(job 3 of 3: threshold=1.5)"]),
        ("-m router=mlp,entropy benchmark.limit=3,0", ["(job 2 of 4: router=mlp, benchmark.l"]),
        ("-m benchmark.tasks=[nano_math],[nano_maths]", ["'nano_maths'", "(job 2 of 2: "]),
        ("-m router=mlp,oracle threshold=0.1", ["router=oracle", "(job 2 of 2: router=oracle)"]),
        ("+sweep=tradeoff labeler.prompts.limit=0", ["labeler.prompts.limit", "(job 1 of "]),
        ("+sweep=threshold pair=nano,nanno", ["pair must be", "did you mean 'nano'?"]),
        ("-m pair=nano,1", ["pair must be a file in conf/pair, got 1 ", "(job 2 of 2: pair=1)"]),
        ("+sweep=router hydra.sweeper.n_trials=0", ["hydra.sweeper.n_trials must be at least 1"]),
        ("+sweep=treshold", ["'treshold'; did you mean 'threshold'?"]),
    ],
)
def test_every_job_is_checked_before_the_first(tmp_path, arguments, told):
    line = refused(tmp_path, *arguments.split())
    assert all(part in line for part in told), line


def test_slurm_without_slurm(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    line = refused(tmp_path, "-m", "+launcher=slurm", "threshold=0.1,0.3")
    assert "hydra/launcher must be submitit_local, or submitit_slurm on a machine that" in line


@pytest.mark.slow
def test_a_sweep_counts_its_jobs_and_ends_with_its_table(tmp_path):
    command = [sys.executable, str(ROOT / "run.py"), "-m", "benchmark.limit=1,2", "systems=slm",
               "stages=[evaluate,report]", "benchmark.tasks=nano_qa", "objective=slm/output_tokens",
               f"outputs={tmp_path}"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    jobs = [line.split(maxsplit=1)[1] for line in lines if line.startswith("job ")]
    assert jobs == ["1 of 2: benchmark.limit=1", "2 of 2: benchmark.limit=2"]
    assert not any(line.startswith("next") for line in lines)
    end = lines[lines.index("The sweep's jobs") :]
    assert any("benchmark.limit=2" in line for line in end)
    assert any("slm/output_tokens" in line for line in end)
    for limit in (1, 2):  # other answers, other rows
        assert sum(f"SLM, limit={limit}" in line for line in end) == 2  # results, and work
    assert end[-1].startswith("report ") and "report.html" in end[-1]
    assert max(map(len, end[:-1])) <= 80
