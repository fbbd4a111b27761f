"""router=published in a run: the file's threshold, and mistakes found before the work starts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from job import samples
from reference import next_logits

from r2r.errors import ConfigError
from r2r.pairs import load_model
from r2r.routers.build import build_router
from r2r.routers.mlp import MLPRouter
from r2r.routers.published import export_published, load_published
from r2r.stages.compose import compose
from r2r.stages.main import run
from r2r.stages.preflight import preflight
from r2r.stages.workbench import Workbench
from r2r.trace import TokenSignals, Trace

pytestmark = pytest.mark.slow


def published(folder: Path, threshold: float | None, width: int | None = None) -> Path:
    """A router file for nano's SLM, or for one of another ``width``."""
    slm: Any = load_model(compose([])[0].pair.slm, "pair.slm", dtype="float32", device="cpu")
    embeddings = slm.get_input_embeddings().weight
    router = build_router(
        compose(["router=mlp"])[0].router,
        hidden_size=width or embeddings.shape[1],
        vocab_size=embeddings.shape[0],
        token_embeddings=None if width else embeddings,
    )
    assert isinstance(router, MLPRouter)
    path = folder / "router.pt"
    export_published(router, path, threshold=threshold, pretrained_model_name="nano")
    return path


def bench(path: Path, *overrides: str) -> Workbench:
    told = ["router=published", f"router.path={path}", f"outputs={path.parent}", *overrides]
    return Workbench(compose(told)[0], "published")


def test_the_files_threshold_is_the_runs(tmp_path: Path) -> None:
    path = published(tmp_path, 0.25)
    auto = bench(path)
    preflight(auto)
    assert auto.threshold == 0.25
    assert not auto.learns and not auto.needs_labels
    assert bench(path, "threshold=0.75").threshold == 0.75


def test_a_file_without_threshold_wants_a_number(tmp_path: Path) -> None:
    path = published(tmp_path, None)
    with pytest.raises(ConfigError, match=r"threshold must be a number .*got 'auto'"):
        preflight(bench(path))
    preflight(bench(path, "threshold=0.5"))


def test_a_router_of_another_slm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"router\.path must be a router for an SLM of width"):
        preflight(bench(published(tmp_path, 0.25, width=40)))


def several(folder: Path) -> Path:
    """A router file for nano's SLM that reads the hidden states of three positions."""
    path = published(folder, 0.5)
    content = torch.load(path, weights_only=True)
    weights = {k: v for k, v in content["state_dict"].items() if k.startswith("backbone.")}
    width = content["init_args"]["hidden_states_size"]
    torch.manual_seed(4)
    projection = torch.nn.Linear(3 * width, len(weights["backbone.input_projection.bias"]))
    for name, value in projection.state_dict().items():
        weights[f"hidden_states_projection.{name}"] = value
    weights["backbone.output_layer.1.weight"] *= 9  # scores far apart
    torch.save(content | {"model_type": "MultiHiddenStatesClassifier", "state_dict": weights}, path)
    return path


def test_a_router_of_several_positions_routes(tmp_path: Path) -> None:
    path = several(tmp_path)
    told = [
        *("router=published", f"router.path={path}", f"outputs={tmp_path}"),
        *("systems=[routed]", "benchmark.limit=6", "engine.max_batch=3"),
    ]
    config, name = compose(told)
    run(config, tmp_path / "run", name, [])
    rows = samples(tmp_path / "run" / "samples" / "routed.jsonl")
    slm: Any = load_model(config.pair.slm, "pair.slm", dtype="float32", device="cpu")
    router = load_published(path, slm.get_input_embeddings().weight).router
    sources = set()
    for row in rows:
        trace = Trace.from_json(row["trace"])
        answer = [step.token for step in trace.steps]
        states = [next_logits(slm, trace.prompt + answer[:at])[1] for at in range(len(answer))]
        assert [step.score for step in trace.steps[:2]] == [1.0, 1.0]
        for at in range(2, len(answer)):
            hidden = torch.cat(states[at - 2 : at + 1])[None]
            unread = torch.zeros(1, dtype=torch.long), torch.zeros(1, 300)
            signals = TokenSignals(*unread, hidden, torch.tensor([at]))
            assert trace.steps[at].score == pytest.approx(float(router.score(signals)), abs=1e-3)
        sources |= {step.source for step in trace.steps[2:]}
    assert sources == {"slm", "llm"}


def test_a_router_of_several_positions_is_refused_on_sglang(tmp_path: Path) -> None:
    said = r"router\.path must be a router that reads one position, or engine=torch.*got '?3 pos"
    with pytest.raises(ConfigError, match=said):
        _ = bench(several(tmp_path), "engine=sglang").saved_router
