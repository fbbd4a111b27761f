"""One kill; make drill has thirty."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_killed_evaluation_makes_again_only_what_was_under_way():
    script = Path(__file__).parents[1] / "kills.py"
    told = subprocess.run(
        [sys.executable, script, "--only", "evaluate", "--each", "1", "--items", "40"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "1/1 ended as undisturbed" in told.stdout
