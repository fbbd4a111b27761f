"""The wheel holds all that a run needs: outside the repository, from its files alone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built by way of the sdist, with the tools that are installed."""
    source, built = tmp_path_factory.mktemp("source") / "r2r", tmp_path_factory.mktemp("dist")
    left_out = shutil.ignore_patterns(".*", "outputs", "wandb", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=left_out)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(built.glob("*.tar.gz"))
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def command(unpacked: Path, cwd: Path, *arguments: str) -> str:
    inherited = {key: os.environ[key] for key in os.environ if key != "PROJECT_ROOT"}
    done = subprocess.run(
        [sys.executable, "-m", "r2r", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300,
        env=inherited | {"PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_config_and_all_data_of_the_package_are_in_it(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"r2r/assets/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    for folder in ("experiments/experiment", "sweeps/launcher", "sweeps/sweep"):
        wanted |= {f"r2r/assets/{folder}/{p.name}" for p in (ROOT / folder).glob("*.yaml")}
    source = ROOT / "src"
    for name in ("assets/nano", "evaluation/tasks", "reporting", "serving/page"):
        files = [p for p in (source / "r2r" / name).rglob("*") if p.is_file()]
        wanted |= {str(p.relative_to(source)) for p in files if "__pycache__" not in p.parts}
    assert len(wanted) > 100 and wanted <= held, wanted - held
    assert not any(
        name.startswith(("tests", "conf", "r2r/assets/experiments/nano")) for name in held
    )


def test_outside_the_repository_it_is_the_same_command(unpacked, tmp_path):
    told = command(unpacked, tmp_path, "--help")
    assert "[group=option]" in told and "qwen3_0.6b_8b" in told
    here = command(unpacked, tmp_path, "+experiment=main_table", "--cfg", "job")
    by_run_py = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "+experiment=main_table", "--cfg", "job"],
        capture_output=True, text=True, timeout=300, check=True,
    ).stdout  # fmt: skip
    assert here == by_run_py and "nano/slm" in here


def test_outside_the_repository_a_job_runs(unpacked, tmp_path):
    small = ["router=entropy", "threshold=0.8", "systems=[routed]", "benchmark.limit=2",
             "stages=[train,evaluate,report]"]  # fmt: skip
    command(unpacked, tmp_path, *small)
    assert (tmp_path / "outputs" / "latest" / "report.html").exists()
    assert os.listdir(tmp_path) == ["outputs"]
