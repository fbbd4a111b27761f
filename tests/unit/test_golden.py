"""No step gives something else without its version being raised; no fingerprint changes unseen."""

import importlib
import json
from pathlib import Path

import golden_base
import golden_steps
import pytest
from golden_base import COMMAND, FOLDER, STEPS

from r2r.errors import ConfigError
from r2r.labeling import sentences

SLOW = ("training", *(name for name in STEPS if name.startswith("task_")))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in STEPS]
)
def test_a_step_gives_what_its_version_gave(name):
    try:
        fault = STEPS[name].fault()
    except ConfigError as error:
        pytest.skip(str(error))
    assert fault is None, fault


def test_every_version_has_a_golden():
    known = {(each.module, each.constant) for each in STEPS.values()}
    root = FOLDER.parents[1] / "src" / "r2r"
    for path in root.rglob("*.py"):
        module = ".".join(["r2r", *path.relative_to(root).with_suffix("").parts])
        module = module.removesuffix(".__init__")
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(" = ")
            if name.endswith("_VERSION") and value[:2].strip().isdigit() and name.isupper():
                assert (module, name) in known, f"{name} in {path} has no golden step"


def test_a_changed_rule_is_named(monkeypatch):
    monkeypatch.setattr(sentences, "ENDINGS", frozenset("!"))
    fault = STEPS["sentences"].fault()
    assert fault and fault.startswith(
        "sentences gives something else than before: raise SENTENCES_VERSION in"
        " src/r2r/labeling/sentences.py"
    )
    assert fault.endswith(COMMAND)


def test_a_raised_version_asks_for_its_golden(monkeypatch):
    version = sentences.SENTENCES_VERSION
    monkeypatch.setattr(sentences, "SENTENCES_VERSION", version + 1)
    same = STEPS["sentences"].fault()
    assert same and f"is {version + 1}, and gives what {version} gave" in same
    monkeypatch.setattr(sentences, "ENDINGS", frozenset("!"))
    fault = STEPS["sentences"].fault()
    assert fault and f"is {version + 1}, the golden of {version}: {COMMAND}" in fault


def test_the_command_refuses_what_was_not_raised(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(golden_base, "FOLDER", tmp_path)
    only = {"sentences": STEPS["sentences"]}
    monkeypatch.setattr(golden_base, "STEPS", only)
    monkeypatch.setattr(golden_steps, "fingerprint_parts", dict)
    assert golden_steps.main([]) == 0
    monkeypatch.setattr(sentences, "ENDINGS", frozenset("!"))
    assert golden_steps.main([]) == 1
    assert "raise SENTENCES_VERSION" in capsys.readouterr().out
    assert golden_steps.main(["sentences"]) == 0


def test_what_composes_a_fingerprint_changes_on_purpose_only():
    """A name more or less makes everybody's artifacts anew."""
    kept = json.loads((FOLDER / "fingerprints.json").read_text())
    now = golden_steps.fingerprint_parts()
    for kind in kept | now:
        assert now.get(kind) == kept.get(kind), (
            f"the fingerprint of {kind} is composed of other names: all that was kept is made"
            f" again; where that is wanted, {COMMAND} fingerprints"
        )


def test_no_fingerprint_reads_a_source_file():
    source = importlib.import_module("r2r.stages.fingerprints").__file__
    assert source
    text = Path(source).read_text(encoding="utf-8")
    assert "__file__" not in text and "file_hash" not in text
