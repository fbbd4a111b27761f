"""Imports run one way, the package itself is light, and no link leads out of the repository."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "sglang", "lm_eval", "pytorch_lightning", "matplotlib", "wandb"}


def test_import_r2r_pulls_in_nothing_heavy():
    code = f"import r2r, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_a_pair_without_room_is_refused_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import os, sys; os.sysconf = lambda name: 1  # a byte of memory\n"
        f"sys.argv[1:] = ['pair=r1_1.5b_32b', 'outputs={tmp_path}']\n"
        "from r2r.stages.command import main\n"
        "try: main()\n"
        f"finally: print(*sorted({HEAVY!r} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2 and "one that holds pair=r1_1.5b_32b" in ran.stderr
    assert ran.stdout.splitlines()[-1] == ""


def test_layers_hold():
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 broken" in ran.stdout


def test_no_link_leads_out_of_the_repository():
    """As one of a machine's own .venv would: whoever checks it out loses theirs to it."""
    told = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True)
    if told.returncode:
        pytest.skip("no repository")
    links = [line.split("\t")[1] for line in told.stdout.splitlines() if line.startswith("120000")]
    assert links  # of the package to conf, experiments and sweeps
    assert [link for link in links if not (ROOT / link).resolve().is_relative_to(ROOT)] == []
