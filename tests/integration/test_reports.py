"""Sweeps, replayed thresholds, traces and W&B, as a user runs them on the nano pair."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SMALL = ["labeler.prompts.limit=120", "labeler.shard_queries=40", "benchmark.limit=4",
         "trainer.max_epochs=3"]  # fmt: skip

pytestmark = pytest.mark.slow


def run(outputs: Path, *arguments: str, command: tuple[str, ...] = (), **env: str) -> str:
    start = command or (sys.executable, str(ROOT / "run.py"))
    done = subprocess.run(
        [*start, *arguments, *SMALL, f"outputs={outputs}"], cwd=ROOT,
        capture_output=True, text=True, timeout=500, env=os.environ | env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "study" not in done.stderr  # Optuna's name of it
    return done.stdout


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """Outputs with one finished run, which imported nothing of W&B."""
    folder = tmp_path_factory.mktemp("outputs")
    code = (
        "import runpy, sys; sys.argv[0] = 'run.py'; runpy.run_path('run.py', run_name='__main__');"
        "assert 'wandb' not in sys.modules, 'logger=csv imported wandb'"
    )
    run(folder, "router=mlp", "threshold=0.3", command=(sys.executable, "-c", code))
    return folder


def test_a_runs_folder_holds_what_the_page_is_made_of(outputs):
    folder = outputs / "latest"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"report.html", "results.json", "training.csv", "calibration.json",
                     "traces.jsonl", "table.csv", "figures"}  # fmt: skip
    rows = [json.loads(line) for line in (folder / "traces.jsonl").open()]
    assert {row["system"] for row in rows} == {"slm", "mid", "llm", "routed"}
    assert {row["task"] for row in rows} == {"nano_math", "nano_qa", "nano_code"}
    routed = [row for row in rows if row["system"] == "routed"]
    for row in routed:
        for by_llm, draft, others in zip(
            row["llm"], row["drafts"], row["alternatives"], strict=True
        ):
            assert bool(by_llm) == (others is not None)
            if draft is not None:  # greedy: the SLM's draft is its likeliest token
                assert others[0][0] == draft
    assert any(draft is not None for row in routed for draft in row["drafts"])


def test_thresholds_are_replayed_beside_what_was_measured(outputs):
    out = run(outputs, "router=mlp", "threshold=0.3", "stages=[calibrate]")
    assert "off-policy" in out
    assert any("0.3" in line and "measured" in line for line in out.splitlines())
    found = json.loads((outputs / "latest" / "calibration.json").read_text())
    for column in ("recall", "positive_rate", "llm_share"):
        values = found["curve"][column]
        assert values == sorted(values, reverse=True) and 0 <= min(values) <= max(values) <= 1
    assert (outputs / "latest" / "figures" / "thresholds.pdf").exists()


def test_a_trace_is_plain_where_there_is_no_terminal(outputs):
    out = run(outputs, "router=mlp", "threshold=0.3", "stages=[trace]", "trace.problem=1")
    assert "routed: " in out and "tokens" in out and "\x1b" not in out


def test_a_sweep_does_only_what_is_new_and_ends_in_one_page(outputs):
    out = run(outputs, "-m", "+sweep=threshold", "threshold=0.1,0.3", "run=two")
    told = [line for line in out.splitlines() if line.startswith("evaluate") and "accuracy" in line]
    fresh = [line for line in told if "(reused)" not in line]
    assert len(told) == 8 and len(fresh) == 1 and "routed" in fresh[0]
    assert "2 runs in" in out
    page = outputs / "latest" / "report.html"
    assert "mlp @ 0.1" in page.read_text() and "mlp @ 0.3" in page.read_text()
    assert {p.name for p in page.parent.iterdir() if p.is_dir()} == {"0", "1", "figures"}


def test_optuna_weighs_two_objectives(outputs):
    out = run(outputs, "-m", "+sweep=tradeoff", "hydra.sweeper.n_trials=2", "run=optuna",
              "hydra.sweeper.params={threshold: 'choice(0.3,0.1)'}")  # fmt: skip
    (found,) = (outputs / "optuna").rglob("optimization_results.yaml")
    for solution in yaml.safe_load(found.read_text())["solutions"]:
        accuracy, params_b = solution["values"]
        assert 0 <= accuracy <= 1 and 0 < params_b < 2e-3
    assert "threshold" in out and f"best      {found}" in out


def test_a_figure_that_no_stage_makes_is_no_objective(outputs):
    command = [sys.executable, str(ROOT / "run.py"), *SMALL, "stages=[label]",
               "objective=[val/auroc]", f"outputs={outputs}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("error: objective must be figures of this run, got 'val/auroc'")


def test_wandbs_command_runs_and_logs_its_metric(outputs):
    """The first run of sweeps/threshold.yaml, as W&B's agent would start it, offline."""
    sys.path.insert(0, str(ROOT / "tests" / "unit"))
    from test_sweeps import corners, expanded

    sweep = yaml.safe_load((ROOT / "sweeps" / "threshold.yaml").read_text())
    command = expanded(sweep, corners(sweep)[0])
    assert command[1] == "python"
    command[1] = sys.executable
    run(outputs, command=tuple(command), WANDB_MODE="offline")
    (logged,) = (outputs / "latest" / "wandb").glob("offline-run-*")
    media = {path.name.split("_")[0] for path in (logged / "files" / "media").rglob("*.*")}
    assert media >= {"results", "traces", "thresholds", "pareto", "costs", "training"}
    (stored,) = logged.glob("*.wandb")
    names = (sweep["metric"]["name"], "val/average_precision", "run/router", "made_from")
    assert [name for name in names if name.encode() not in stored.read_bytes()] == []
