"""router=oracle in a run: no threshold, nothing to train, its own results."""

import json
from pathlib import Path

import pytest

from r2r.errors import ConfigError
from r2r.reporting.tables import title
from r2r.stages.compose import compose
from r2r.stages.main import run
from r2r.stages.preflight import preflight
from r2r.stages.workbench import Workbench


def test_a_threshold_means_nothing_to_the_oracle() -> None:
    config, name = compose(["router=oracle", "threshold=0.3"])
    with pytest.raises(ConfigError, match=r"threshold must be auto with router=oracle"):
        preflight(Workbench(config, name))


@pytest.mark.slow
def test_the_oracle_follows_the_llm_with_few_of_its_tokens(tmp_path: Path) -> None:
    told = ["router=oracle", "benchmark.limit=4", "systems=[llm,routed]", f"outputs={tmp_path}"]
    config, name = compose(told)
    run(config, tmp_path / "run", name, [])
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    oracle, llm = found["systems"]["routed"], found["systems"]["llm"]
    assert found["threshold"] is None
    assert oracle["accuracy"] >= llm["accuracy"] - 0.1
    assert 0 < oracle["llm_share"] < 0.15
    assert oracle["avg_params_b"] < llm["avg_params_b"] / 4
    assert "oracle (counts the tokens kept, not the LLM's other calls)" in title(found)
