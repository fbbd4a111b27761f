"""In which order systems write their answers."""

import pytest

from r2r.stages import evaluate as stage
from r2r.stages.compose import compose


class Bench:
    def __init__(self, *overrides):
        self.config, _ = compose(["systems=[slm,routed,llm]", *overrides])


@pytest.fixture
def done(monkeypatch, tmp_path):
    """What was asked for, in order, of 512 prompts; systems in ``scored`` are there already."""
    told = []

    def graded(bench, system, make=None):
        told.append(system)

    monkeypatch.setattr(stage, "begin", lambda bench, system: told.append(f"half {system}"))
    monkeypatch.setattr(stage, "graded", graded)
    monkeypatch.setattr(stage, "asked", lambda bench: [[1]] * 512)
    monkeypatch.setattr(stage, "_foretell", lambda bench, prompts, parts: told.append(parts))
    monkeypatch.setattr(stage, "evaluation_folder", lambda bench, system: tmp_path / system)
    return told


def test_systems_take_turns_there_and_back(done):
    assert stage.evaluate(Bench()) == []
    assert done == [2, "half slm", "half routed", "half llm", "llm", "routed", "slm"]


@pytest.mark.parametrize(
    "more", ["force=true", "engine.compile=true", "engine.max_batch=65", "hold_share=0.05"]
)
def test_they_do_not_where_halves_would_cost_too_much(done, more):
    stage.evaluate(Bench(more))
    assert [each for each in done if each != 1] == ["slm", "routed", "llm"]


def test_those_that_are_there_take_no_turn(done, tmp_path):
    (tmp_path / "slm").mkdir()
    (tmp_path / "slm" / "manifest.json").touch()
    assert stage.evaluate(Bench("systems=[slm,routed,llm,query_sw]")) == ["slm"]
    assert done == [2, "half routed", "half llm", "llm", "routed", "slm", "query_sw"]
