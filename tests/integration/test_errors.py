"""A user's mistakes, to the command as a process of its own: one line on stderr, exit code 2. All
kinds of mistakes are in test_wrong_inputs.py."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NANO = ROOT / "src" / "r2r" / "assets" / "nano"


def refused(tmp_path: Path, *overrides: str) -> str:
    """The one line that the command prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *overrides, f"outputs={tmp_path / 'outputs'}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("router=foo", ["router must be", "'foo'", "entropy", "mlp"]),
        ("treshold=0.1", ["'treshold'", "did you mean 'threshold'"]),
        ("threshold=-1", ["threshold must be", "-1"]),
        ("run=../evil", ["run must be", "'../evil'"]),
        ("pair.slm.path=/no/where", ["pair.slm.path must be", "/no/where"]),
    ],
)
def test_a_mistake_is_one_line(tmp_path, override, told):
    line = refused(tmp_path, override)
    assert all(part in line for part in told), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_labels_without_a_divergent_token(tmp_path):
    """A model paired with itself never diverges."""
    line = refused(
        tmp_path,
        "pair=local",
        f"pair.slm.path={NANO / 'slm'}",
        f"pair.llm.path={NANO / 'slm'}",
        "pair.max_new_tokens=120",
        "labeler.prompts.limit=20",
        "stages=[label,train]",
    )
    assert "no divergent token" in line


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_goes_away_is_no_error(reader):
    command = f"'{sys.executable}' '{ROOT / 'run.py'}' --help | {reader}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
