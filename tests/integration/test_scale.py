"""More than one process for one job: on Ray, by DDP, as jobs of a launcher."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from job import same_files

ROOT = Path(__file__).parents[2]
SMALL = ["labeler.prompts.limit=120", "labeler.shard_queries=10", "benchmark.limit=4",
         "trainer.max_epochs=3", "router.dropout=0"]  # fmt: skip

pytestmark = pytest.mark.slow


def start(outputs: Path, *overrides: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *overrides, *SMALL, f"outputs={outputs}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def run(outputs: Path, *overrides: str) -> str:
    process = start(outputs, *overrides)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Outputs of one process: labels, and a router trained on them."""
    outputs = tmp_path_factory.mktemp("alone")
    run(outputs, "stages=[label,train]")
    return outputs


def labels(outputs: Path) -> Path:
    (folder,) = (outputs / "artifacts" / "labels").iterdir()
    return folder


def offspring(pid: int, named: bytes) -> list[int]:
    """The processes that ``pid`` has started, and those have, whose command line says so."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child)] if named in Path(f"/proc/{child}/cmdline").read_bytes() else []
        found += offspring(int(child), named)
    return found


def finished_shards(outputs: Path) -> int:
    return len(list(outputs.glob("artifacts/labels/*/shard-*")))


def wait_until(process: subprocess.Popen, outputs: Path, shards: int) -> None:
    while finished_shards(outputs) < shards:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_labels_from_ray_are_the_serial_ones_whoever_is_killed(alone, tmp_path):
    pytest.importorskip("ray")
    on_ray = ["stages=[label]", "labeler.executor=ray", "labeler.ray.workers=2"]
    killed = start(tmp_path, *on_ray)
    wait_until(killed, tmp_path, 2)
    workers = offspring(killed.pid, b"ray::Worker")
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    wait_until(killed, tmp_path, 5)
    killed.kill()  # and now the whole run
    killed.communicate()
    left = finished_shards(tmp_path)
    assert 5 <= left < 12
    run(tmp_path, *on_ray)
    same_files(labels(tmp_path), labels(alone))


def test_labels_along_routed_answers_are_the_serial_ones(alone, tmp_path):
    pytest.importorskip("ray")
    (router,) = (alone / "artifacts" / "router").iterdir()
    asked = ["stages=[label]", "labeler.paths.routed=0.5", f"labeler.paths.router={router}"]
    run(tmp_path / "serial", *asked)
    run(tmp_path / "ray", *asked, "labeler.executor=ray", "labeler.ray.workers=2")
    same_files(labels(tmp_path / "ray"), labels(tmp_path / "serial"))


def curves(outputs: Path) -> list[dict[str, float]]:
    """What training logged, a row for each epoch."""
    (path,) = outputs.glob("artifacts/router/*/metrics.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    epochs: dict[str, dict[str, float]] = {}
    for row in rows:
        told = {key: float(value) for key, value in row.items() if value and "/" in key}
        epochs.setdefault(row["epoch"], {}).update(told)
    return list(epochs.values())


def test_two_processes_train_as_one_does(alone, tmp_path):
    """At one global batch; dropout, whose draws differ, is off."""
    shutil.copytree(alone / "artifacts" / "labels", tmp_path / "artifacts" / "labels")
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    screen = run(tmp_path, "stages=[train]", "force=true", *two)
    for stage in ("run", "import", "train"):  # the second process says nothing
        told = [line for line in screen.splitlines() if line.startswith(f"{stage:<9} ")]
        assert len([line for line in told if "warning" not in line]) == 1, stage
    one, both = curves(alone), curves(tmp_path)
    assert len(one) == len(both) == 3
    for row, other in zip(one, both, strict=True):
        assert row["train/loss"] == pytest.approx(other["train/loss"], rel=0.02)
        assert row["val/loss"] == pytest.approx(other["val/loss"], rel=0.02)
    same_files(labels(tmp_path), labels(alone))


def test_ddp_is_refused_in_a_sweep(tmp_path):
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    process = start(tmp_path, "-m", "threshold=0.1,0.5", *ddp)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.startswith("error: trainer.strategy must be auto in a sweep")


def test_a_launchers_jobs_run_beside_each_other_and_end_on_one_page(alone, tmp_path):
    """Submitit's, as on Slurm, in processes of this machine; they find labels and router."""
    shutil.copytree(alone / "artifacts", tmp_path / "artifacts")
    run(tmp_path, "-m", "hydra/launcher=submitit_local", "threshold=0.3,0.6", "systems=[routed]")
    sweep = (tmp_path / "latest").resolve()
    assert (sweep / "report.html").exists()
    found = [json.loads((sweep / job / "results.json").read_text()) for job in "01"]
    assert [each["threshold"] for each in found] == [0.3, 0.6]
    same_files(labels(tmp_path), labels(alone))
    assert len(list((tmp_path / "artifacts" / "evaluation").iterdir())) == 2


def test_a_launched_jobs_mistake_is_one_line(tmp_path):
    process = start(tmp_path, "-m", "hydra/launcher=submitit_local", "threshold=7,8")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith("error: threshold must be a number from 0 to 1")
    assert "Traceback" not in err
