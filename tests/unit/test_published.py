"""Routers of the published format, against a forward written from its description alone."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from published_format import DIMS, HIDDEN, VOCAB, WINDOW, K, checkpoint, reference, windowed
from torch import Tensor

from r2r.errors import ConfigError
from r2r.routers import load_router
from r2r.routers.build import build_router
from r2r.routers.mlp import MLPRouter
from r2r.routers.published import CLASSES, WITHOUT_FORWARD, export_published, load_published
from r2r.trace import TokenSignals

SAMPLE = Path(__file__).parents[2] / ".." / "shared" / "interop" / "official_router_small"
BROKEN = ("MultiHiddenStatesClassifier", True)  # its published forward fails on its own shapes
CASES = [
    (name, normalize)
    for name in CLASSES
    for normalize in (False, True)
    if (name, normalize) != BROKEN
]
EXPORTED = [case for case in CASES if "Multi" not in case[0] and "WithLMHead" not in case[0]]


@pytest.fixture
def embeddings() -> Tensor:
    return torch.randn(VOCAB, HIDDEN, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def signals() -> TokenSignals:
    draw = torch.Generator().manual_seed(2)
    return TokenSignals(
        token=torch.randint(VOCAB, (9,), generator=draw),
        logits=(torch.randn(9, 30, generator=draw) * 5).sort(descending=True).values,
        hidden=torch.randn(9, HIDDEN, generator=draw),
        position=torch.arange(9),
    )


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "router.pt"
    torch.save(content, path)
    return path


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs the published sample router")
def test_a_file_of_the_published_code_gives_its_outputs() -> None:
    def read(name: str) -> Any:
        return torch.load(SAMPLE / f"{name}.pt", weights_only=True)

    inputs, outputs, table = read("inputs"), read("outputs"), read("token_embeddings")
    given = TokenSignals(
        inputs["token"].long(), inputs["logits"], inputs["hidden_states"], torch.arange(16)
    )
    scores = load_router(SAMPLE / "router.pt", table).score(given)
    torch.testing.assert_close(scores, outputs["probs"], atol=1e-5, rtol=0)
    assert load_published(SAMPLE / "router.pt", table).threshold == pytest.approx(0.40595959595)


@pytest.mark.parametrize(("kind", "normalize"), CASES)
def test_every_class_scores_as_described(kind, normalize, tmp_path, signals, embeddings) -> None:
    content = checkpoint(kind, normalize)
    signals = windowed(signals) if kind.startswith("Multi") else signals
    saved = load_published(written(tmp_path, content), embeddings)
    expected = reference(content, signals, embeddings)
    torch.testing.assert_close(saved.router.score(signals), expected, atol=1e-5, rtol=0)
    assert saved.threshold == 0.4
    assert expected.std() > 1e-3  # the inputs matter


def test_an_lm_head_may_keep_its_highest_outputs(tmp_path, signals, embeddings) -> None:
    content = checkpoint("HiddenStatesClassifierWithLMHead", normalize=True)
    content["init_args"]["topk"] = 7
    weights = content["state_dict"]
    weights["post_lm_projection.weight"] = weights["post_lm_projection.weight"][:, :7].clone()
    router = load_router(written(tmp_path, content), embeddings)
    expected = reference(content, signals, embeddings)
    torch.testing.assert_close(router.score(signals), expected, atol=1e-5, rtol=0)


def test_a_window_is_what_the_file_says(tmp_path, signals, embeddings) -> None:
    content = checkpoint("MultiLogitsClassifier", normalize=True)
    assert load_router(written(tmp_path, content), embeddings).window == WINDOW
    content["init_args"]["neural_window_size"] = 1
    content["state_dict"]["logits_projection.weight"] = torch.randn(DIMS[0], K)
    assert load_router(written(tmp_path, content), embeddings).window == 1


def test_the_llm_writes_until_a_window_is_full(tmp_path, signals, embeddings) -> None:
    router = load_router(written(tmp_path, checkpoint("MultiLogitsClassifier")), embeddings)
    full = windowed(signals)
    begun = TokenSignals(full.token, full.logits, full.hidden, signals.position)
    assert router.score(begun)[: WINDOW - 1].tolist() == [1.0] * (WINDOW - 1)
    assert torch.equal(router.score(begun)[WINDOW - 1 :], router.score(full)[WINDOW - 1 :])


@pytest.mark.parametrize(("kind", "normalize"), EXPORTED)
def test_what_we_export_is_the_published_format(
    kind, normalize, tmp_path, signals, embeddings
) -> None:
    config = {
        "_target_": "r2r.routers.mlp.MLPRouter",
        "inputs": CLASSES[kind].inputs,
        "normalize_input": normalize,
        "hidden_dims": DIMS,
        "expansion": 3,
        "dropout": 0.1,
        "top_k": K,
    }
    slm: Any = {"hidden_size": HIDDEN, "vocab_size": VOCAB, "token_embeddings": embeddings}
    router = build_router(config, **slm)
    assert isinstance(router, MLPRouter)
    path = tmp_path / "exported.pt"
    export_published(router, path, threshold=0.25, pretrained_model_name="owner/slm")
    content = torch.load(path, weights_only=True)
    like = checkpoint(kind, normalize)
    assert set(content) == set(like) and content["model_type"] == kind
    shapes = {name: weight.shape for name, weight in content["state_dict"].items()}
    assert shapes == {name: weight.shape for name, weight in like["state_dict"].items()}
    expected = reference(content, signals, embeddings)
    torch.testing.assert_close(router.score(signals), expected, atol=1e-5, rtol=0)
    again = load_published(path, embeddings)
    assert torch.equal(again.router.score(signals), router.score(signals))
    assert again.threshold == 0.25


def test_inputs_of_no_published_class_are_not_exported(tmp_path) -> None:
    router = MLPRouter(
        inputs=["token", "logits"],
        normalize_input=False,
        hidden_size=HIDDEN,
        top_k=K,
        hidden_dims=DIMS,
        expansion=3,
        dropout=0.1,
    )
    with pytest.raises(ConfigError, match=r"router\.inputs must be .*got 'token\+logits'"):
        export_published(router, tmp_path / "x.pt", threshold=None, pretrained_model_name="a/b")
    assert not list(tmp_path.iterdir())


def test_a_router_that_computes_something_else_is_not_exported(tmp_path, embeddings) -> None:
    config = {
        "_target_": "r2r.routers.mlp.CalibratedRouter",
        "inputs": ["hidden", "token", "logits"],
        "normalize_input": False,
        "hidden_dims": DIMS,
        "expansion": 3,
        "dropout": 0.1,
        "top_k": K,
    }
    router: Any = build_router(
        config, hidden_size=HIDDEN, vocab_size=VOCAB, token_embeddings=embeddings
    )
    with pytest.raises(ConfigError, match=r"router must be an mlp router .*CalibratedRouter"):
        export_published(router, tmp_path / "x.pt", threshold=None, pretrained_model_name="a/b")


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.trap,))


@pytest.mark.parametrize("where", ["extra key", "in place of weights", "raw pickle", "old format"])
def test_a_malicious_pickle_is_refused_and_runs_nothing(where, tmp_path, embeddings) -> None:
    trap, path = tmp_path / "trap", tmp_path / "router.pt"
    content: dict[str, Any] = checkpoint("HiddenStatesClassifier")
    content["state_dict" if where == "in place of weights" else "extra"] = Malicious(trap)
    if where == "raw pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=where != "old format")
    for load in (load_published, load_router):
        with pytest.raises(ConfigError, match=r"router\.path must be .*plain values only") as no:
            load(path, embeddings)
        assert "\n" not in str(no.value)
    assert not trap.exists()
    if where != "old format":  # the trap is a real one
        torch.load(path, weights_only=False) if where != "raw pickle" else pickle.loads(
            path.read_bytes()
        )
        assert trap.exists()


def changed(**change: Any) -> dict:
    return checkpoint("HiddenStatesTokenLMHeadLogitsClassifier") | change


def without_last_weight() -> dict:
    content = changed()
    content["state_dict"].popitem()
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed(model_type="OtherClassifier"), "known class, got 'OtherClassifier'"),
        *(
            (changed(model_type=name), f"class that has a forward, got '{name}'")
            for name in sorted(WITHOUT_FORWARD)
        ),
        (checkpoint(*BROKEN), "false for windows of hidden states"),
        (changed(model_type="MultiLogitsClassifier"), "its weights those of"),
        (changed(model_type="HiddenStatesClassifierWithLMHead"), "router file of the published"),
        (changed(model_type=None), "a router of a known class, got None"),
        (changed(init_args={"use_position_embedding": True}), "without position embeddings"),
        (changed(init_args={"normalize_input": "yes"}), "router.normalize_input must be a valid"),
        (changed(init_args={"normalize_input": True}), "its weights those of"),
        (changed(common_args={"threshold": "high"}), "its threshold a number or None"),
        (changed(common_args={}), "a router file of the published format"),
        (changed(state_dict={}), "a router file of the published format"),
        (without_last_weight(), "its weights those of"),
        (changed(state_dict={"token_embeddings.weight": 1}), "a router file of the published"),
        ([1, 2], "a router file of the published format"),
    ],
)
def test_a_strange_file_is_refused(content, said, tmp_path, embeddings) -> None:
    with pytest.raises(ConfigError) as refused:
        load_published(written(tmp_path, content), embeddings)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kept", [0, 10, 2000])
def test_a_truncated_file_is_refused(kept, tmp_path, embeddings) -> None:
    path = written(tmp_path, changed())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"router\.path must be a whole router file"):
        load_published(path, embeddings)


def test_another_slm_is_refused(tmp_path) -> None:
    path = written(tmp_path, changed())
    with pytest.raises(ConfigError, match="a router for an SLM of width 7, got 6"):
        load_published(path, torch.zeros(VOCAB, 7))
    with pytest.raises(ConfigError, match="a router for an SLM of 19 tokens, got 20"):
        load_published(path, torch.zeros(19, HIDDEN))


def test_a_file_with_its_own_embeddings_keeps_them(tmp_path, signals, embeddings) -> None:
    content = changed()
    content["state_dict"]["token_embeddings.weight"] = embeddings
    path = written(tmp_path, content)
    expected = reference(content, signals, embeddings)
    for others in (None, torch.zeros(VOCAB, HIDDEN)):
        scores = load_router(path, others).score(signals)
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="a router for an SLM of 51 tokens, got 50"):
        load_router(path, torch.zeros(VOCAB + 1, HIDDEN))


def test_without_embeddings_the_named_slm_is_wanted(tmp_path, signals, embeddings) -> None:
    path = written(tmp_path, changed(init_args={"pretrained_model_name": "/no/such/slm"}))
    with pytest.raises(ConfigError, match=r"pretrained_model_name.*/no/such/slm"):
        load_router(path)
    logits_only = written(tmp_path, checkpoint("LogitsClassifier"))
    assert load_router(logits_only).score(signals).shape == (9,)


def test_a_local_file_comes_before_the_hub(tmp_path, monkeypatch, embeddings) -> None:
    import huggingface_hub

    asked = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        return str(written(tmp_path, changed()))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.chdir(tmp_path)
    named = "owner/name/SLM+LLM/router.pt"
    assert load_published(named, embeddings).threshold == 0.4
    assert asked == [("owner/name", "SLM+LLM/router.pt")]
    here = tmp_path / named
    here.parent.mkdir(parents=True)
    torch.save(changed(common_args={"threshold": 0.7}), here)
    assert load_published(named, embeddings).threshold == 0.7
    for missing in ("missing.pt", "/no/where/router.pt", "./a/b/router.pt", "owner/name/router"):
        with pytest.raises(ConfigError, match=r"router\.path must be a router folder, a \.pt file"):
            load_published(missing, embeddings)
    assert len(asked) == 1
