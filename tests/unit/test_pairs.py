"""A pair is checked once: what was found is kept until one of its files changes."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2 import modeling_qwen2

from r2r import pairs
from r2r.engines.torch.attention import Segment
from r2r.engines.torch.engine import TorchEngine
from r2r.engines.torch.exact import check_exact
from r2r.engines.torch.runner import NotExact
from r2r.errors import ConfigError
from r2r.pairs import ModelPair
from r2r.stages.compose import compose
from r2r.stages.preflight import preflight
from r2r.stages.workbench import Workbench

NANO = Path(pairs.__file__).parent / "assets" / "nano"
FOUND = ("route_id", "context_length", "eos_ids", "chat_template")


@pytest.fixture
def config(tmp_path):
    folder = shutil.copytree(NANO, tmp_path / "nano")
    paths = [f"pair.{name}.path={folder / name}" for name in ("slm", "llm")]
    return compose(["pair=local", *paths])[0].pair


def refuse(*_):
    raise AssertionError("a pair that is known was checked again")


def test_a_known_pair_is_not_checked_again(config, tmp_path, monkeypatch):
    first = ModelPair(config, tmp_path / "known")
    first.remember()
    monkeypatch.setattr(pairs, "load_config", refuse)
    with monkeypatch.context() as patched:
        patched.setattr(pairs, "load_tokenizer", refuse)
        again = ModelPair(config, tmp_path / "known")
    assert [getattr(again, name) for name in FOUND] == [getattr(first, name) for name in FOUND]
    assert again.identity() == first.identity()
    assert again.encode("1+1?") == first.encode("1+1?")


def test_a_changed_file_or_option_is_seen(config, tmp_path):
    ModelPair(config, tmp_path / "known").remember()
    config.context_length = 10**6
    with pytest.raises(ConfigError, match=r"pair\.context_length must be at most"):
        ModelPair(config, tmp_path / "known")
    config.context_length = None
    file = Path(config.slm.path) / "tokenizer.json"
    content = json.loads(file.read_text())
    vocab = content["model"]["vocab"]
    one, other = list(vocab)[-2:]
    vocab[one], vocab[other] = vocab[other], vocab[one]
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"must be models of one tokenizer"):
        ModelPair(config, tmp_path / "known")


def rewritten(config, which, **changes):
    """The pair with something else in a model's config.json; its weights are gone."""
    folder = Path(getattr(config, which).path)
    file = folder / "config.json"
    own = {} if "model_type" in changes else json.loads(file.read_text())
    file.write_text(json.dumps(own | {"vocab_size": 512, "eos_token_id": 4} | changes))
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    return config


@pytest.mark.parametrize("which", ["slm", "llm"])
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "mamba"}, r"exactly .*, got MambaForCausalLM: keeps a state"),
        ({"model_type": "falcon"}, r"exactly .*, got FalconForCausalLM: its attention"),
        ({"model_type": "t5"}, r"a causal language model, got 't5'"),
        (
            {"layer_types": ["full_attention", "chunked_attention"], "num_hidden_layers": 2},
            "layers of chunked",
        ),
        (
            {"rope_parameters": {
                "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8,
                "long_factor": [2.0] * 8, "original_max_position_embeddings": 300,
            }},
            r"pair\.context_length must be at most 300 tokens for pair\.\w+ .*longrope.*got 1024",
        ),
    ],
)  # fmt: skip
def test_a_model_that_would_not_run_exactly_is_refused_before_it_is_loaded(
    config, which, changes, message, tmp_path
):
    rewritten(config, which, **changes)
    paths = [f"pair.{name}.path={getattr(config, name).path}" for name in ("slm", "llm")]
    made = compose(["pair=local", f"outputs={tmp_path / 'out'}", *paths])
    with pytest.raises(ConfigError, match=message) as caught:
        preflight(Workbench(*made))
    assert f"pair.{which}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dynamic_rope_is_taken_as_far_as_it_is_constant(config, tmp_path):
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    rewritten(config, "slm", rope_parameters=rope)
    pair = ModelPair(config, tmp_path / "known")
    assert pair.shapes["slm"]["ropes"] == {"dynamic": pair.context_length}
    check_exact(pair.shapes["slm"], "pair.slm", pair.context_length)


def test_a_model_whose_slots_differ_from_its_forward_is_refused(config, tmp_path, monkeypatch):
    paths = [f"pair.{name}.path={getattr(config, name).path}" for name in ("slm", "llm")]
    bench = Workbench(*compose(["pair=local", f"outputs={tmp_path / 'out'}", *paths]))
    attend = Segment.attend
    monkeypatch.setattr(Segment, "attend", lambda *given: attend(*given) * 2)
    with pytest.raises(ConfigError, match=r"^pair\.llm must be a model .*four tokens in slots"):
        bench.engine("llm")


@pytest.mark.parametrize(("dtype", "taken"), [(torch.bfloat16, True), (torch.float32, False)])
def test_in_half_precision_eager_attention_may_round_more_than_slots(monkeypatch, dtype, taken):
    """As with large keys: a real pair of 0.5 B was refused."""
    shape = Qwen2Config(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model = Qwen2ForCausalLM(shape).to(dtype).eval().requires_grad_(False)
    eager = modeling_qwen2.eager_attention_forward
    monkeypatch.setattr(
        modeling_qwen2, "eager_attention_forward", lambda *a, **k: (eager(*a, **k)[0] * 9, None)
    )
    made = partial(
        TorchEngine, model=model, eos_ids=[0], banned=[], max_batch=1, max_prefill_tokens=64
    )
    if taken:
        made()
    else:
        with pytest.raises(NotExact):
            made()
