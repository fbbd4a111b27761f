"""policy/accept=learned in a run: trained once, used, told; refused where there is nothing."""

from pathlib import Path

import pytest
from job import results, run

from r2r.errors import ConfigError
from r2r.stages.compose import compose
from r2r.stages.preflight import preflight
from r2r.stages.workbench import Workbench

LEARNED = ["policy=check", "policy/accept=learned", "router=entropy", "threshold=2"]  # rarely


def test_without_a_trained_network_there_is_one_line(tmp_path: Path) -> None:
    told = ["policy=lossy", "policy/accept=learned", "stages=[evaluate]", f"outputs={tmp_path}"]
    with pytest.raises(ConfigError, match="no network of policy/accept=learned yet"):
        preflight(Workbench(*compose(told)))


def test_published_labels_are_refused_at_the_start() -> None:
    told = ["policy=lossy", "policy/accept=learned", "labeler.path=somewhere"]
    with pytest.raises(ConfigError, match=r"labeler\.path must be null, for labels made by this"):
        preflight(Workbench(*compose(told)))


@pytest.mark.slow
def test_it_is_trained_once_and_keeps_the_llms_answers(tmp_path: Path) -> None:
    asked = [*LEARNED, "systems=[llm,routed]"]
    screen = run(tmp_path, *asked)
    assert "learned test of the LLM's side, on" in screen and "average precision" in screen
    found = results(tmp_path)["systems"]
    assert found["routed"]["accuracy"] >= found["llm"]["accuracy"] - 0.15
    assert 0 < found["routed"]["llm_forwards_per_token"] < 0.5
    assert found["routed"]["cut_per_token"] > 0
    (judge,) = (tmp_path / "artifacts" / "judge").iterdir()
    before = (judge / "router.safetensors").read_bytes()
    run(tmp_path, *asked, "policy.every=8")
    assert [p.name for p in (tmp_path / "artifacts" / "judge").iterdir()] == [judge.name]
    assert (judge / "router.safetensors").read_bytes() == before
