import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from r2r.errors import ConfigError
from r2r.routers.base import Router, routed
from r2r.routers.build import build_router
from r2r.routers.checkpoint import load_saved, save_router
from r2r.routers.heuristics import (
    AleatoricRouter,
    EntropyRouter,
    MarginRouter,
    RandomRouter,
    ScheduleRouter,
)
from r2r.routers.mlp import MLPRouter
from r2r.trace import TokenSignals

MLP: dict[str, Any] = {
    "_target_": "r2r.routers.mlp.MLPRouter",
    "inputs": ["hidden", "token", "logits"],
    "normalize_input": False,
    "hidden_dims": [12, 6],
    "expansion": 2,
    "dropout": 0.1,
    "top_k": 100,
}
SLM: dict[str, Any] = {
    "hidden_size": 8,
    "vocab_size": 40,
    "token_embeddings": torch.arange(320.0).reshape(40, 8) / 320,
}
IDENTITY = {"slm": "aaaa", "llm": "bbbb"}


def signals(count: int, logits: torch.Tensor | None = None) -> TokenSignals:
    draw = torch.Generator().manual_seed(0)
    return TokenSignals(
        token=torch.randint(40, (count,), generator=draw),
        logits=torch.randn(count, 40, generator=draw) * 5 if logits is None else logits,
        hidden=torch.randn(count, 8, generator=draw),
        position=torch.arange(count),
    )


def test_the_papers_size() -> None:
    router = MLPRouter(
        inputs=["hidden", "token", "logits"],
        normalize_input=False,
        hidden_size=1536,
        top_k=100,
        hidden_dims=[1024] * 6,
        expansion=4,
        dropout=0.1,
    )
    assert sum(p.numel() for p in router.parameters()) == 56_302_081


def test_token_embeddings_are_neither_trained_nor_saved() -> None:
    router = build_router(MLP, **SLM)
    names = {name for name, _ in router.named_parameters()}
    assert "token_embeddings" not in names | set(router.state_dict())
    assert names == set(router.state_dict())


def test_a_small_vocabulary_has_fewer_logits() -> None:
    router = build_router(MLP, **SLM)
    assert isinstance(router, MLPRouter)
    assert router.top_k == 40
    assert router.score(signals(5)).shape == (5,)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "inputs",
    [["logits"], ["hidden"], ["token"], ["hidden", "token"], ["hidden", "logits"], MLP["inputs"]],
)
def test_the_mlp_reads_its_inputs_and_nothing_else(inputs: list[str], normalize: bool) -> None:
    router = build_router(MLP | {"inputs": inputs, "normalize_input": normalize}, **SLM)
    before = router.score(signals(5))
    for name in ("token", "logits", "hidden"):
        changed = signals(5)
        setattr(changed, name, getattr(changed, name).roll(1, 0))
        assert torch.equal(router.score(changed), before) == (name not in inputs), name


def test_dropout_never_reaches_a_score() -> None:
    router = build_router(MLP, **SLM).train()
    with pytest.raises(AssertionError, match="training mode"):
        router.score(signals(5))


def test_the_seed_decides_the_weights() -> None:
    one, same, other = (build_router(MLP, **SLM, seed=seed).score(signals(5)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_entropy_is_in_nats() -> None:
    flat, sharp = torch.zeros(1, 40), torch.tensor([[100.0] + [0.0] * 39])
    scores = EntropyRouter().score(signals(2, torch.cat([flat, sharp])))
    assert scores[0].item() == pytest.approx(math.log(40), rel=1e-5)
    assert scores[1].item() == pytest.approx(0, abs=1e-6)


def test_margin_is_what_the_first_leads_by() -> None:
    tie, sharp = [0.0, 0.0, -60.0], [math.log(3), 0.0, -60.0]
    scores = MarginRouter().score(signals(2, torch.tensor([tie, sharp])))
    assert scores.tolist() == pytest.approx([1, 0.5])


def test_aleatoric_is_the_mean_entropy_of_the_dirichlet() -> None:
    x = torch.tensor([[9.0, 7.5, 6, 5, 4, 3, 2, 1, 0.5, 0.25, 0.2], [3.0] * 11])
    drawn = torch.distributions.Dirichlet(x[:, :10]).sample(torch.Size([20_000]))
    entropy = torch.special.entr(drawn).sum(-1).mean(0)
    scores = AleatoricRouter().score(signals(2, x))
    torch.testing.assert_close(scores, entropy, atol=1e-2, rtol=0)
    assert AleatoricRouter().score(signals(1, -x[:1])).isfinite().all()


def test_schedule_gives_the_llm_the_first_tokens() -> None:
    assert ScheduleRouter(tokens=3).score(signals(5)).tolist() == [1, 1, 1, 0, 0]
    with pytest.raises(ConfigError, match=r"router\.tokens must be 0 or more, got -1"):
        ScheduleRouter(tokens=-1)


def test_random_gives_the_llm_its_share() -> None:
    count = 40_000
    many = signals(count)
    for share in (0.1, 0.5):
        taken = routed(RandomRouter(seed=5).score(many), 1 - share).float().mean().item()
        assert taken == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / count))


def test_random_depends_on_seed_and_position() -> None:
    many = signals(1000)
    scores = RandomRouter(seed=5).score(many)
    reseeded = RandomRouter(seed=6).score(many)
    many.position = many.position + 1
    for other in (reseeded, RandomRouter(seed=5).score(many)):
        assert abs(torch.corrcoef(torch.stack([scores, other]))[0, 1].item()) < 0.15


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_target_": "r2r.routers.mlp.Missing"}, "router._target_ must be the dotted path"),
        ({"_target_": "os.system"}, "router._target_ must be the dotted path"),
        ({"_target_": "r2r.routers.base.Router"}, "router._target_ must be the dotted path"),
        ({"_target_": None}, "router._target_ must be the dotted path"),
        ({"dropuot": 0.1}, "got 'dropuot'; did you mean 'dropout'? (choices: dropout, expansion, "),
        ({"hidden_size": 8}, "router must be options of MLPRouter, got 'hidden_size'"),
        ({"dropout": "high"}, "router.dropout must be a valid number, got 'high'"),
        ({"hidden_dims": 1024}, "router.hidden_dims must be a valid list, got 1024"),
        ({"hidden_dims": []}, "router.hidden_dims must be one or more positive widths, got []"),
        ({"top_k": 500, "hidden_dims": [4]}, "router.top_k must be between 1 and 100, got 500"),
        ({"dropout": 1.0}, "router.dropout must be at least 0 and below 1, got 1.0"),
        ({"expansion": 0}, "router.expansion must be 1 or more, got 0"),
        ({"inputs": ["hiden"]}, "router.inputs must be 'hidden', 'token' or 'logits', got"),
        ({"inputs": []}, "router.inputs must be one or more of hidden, token, logits, once"),
        ({"inputs": ["token", "token"]}, "router.inputs must be one or more of hidden, token"),
    ],
)
def test_a_wrong_config_is_refused(change: dict, said: str) -> None:
    large: dict[str, Any] = SLM | {"vocab_size": 1000}
    with pytest.raises(ConfigError) as refused:
        build_router(MLP | change, **large)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_option_is_refused() -> None:
    config = {name: value for name, value in MLP.items() if name != "dropout"}
    with pytest.raises(ConfigError, match=r"router\.dropout must be given"):
        build_router(config, **SLM)


def test_a_router_without_options_refuses_any() -> None:
    config = {"_target_": "r2r.routers.heuristics.EntropyRouter", "top_k": 10}
    with pytest.raises(ConfigError, match="options of EntropyRouter, got 'top_k'"):
        build_router(config, **SLM)


def test_embeddings_of_another_width_are_refused() -> None:
    wider: dict[str, Any] = SLM | {"token_embeddings": torch.zeros(40, 9)}
    with pytest.raises(ConfigError, match=r"pair\.slm must be .*\[vocab, 8\], got \[40, 9\]"):
        build_router(MLP, **wider)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "router"
    save(folder, build_router(MLP, **SLM))
    return folder


def save(folder: Path, router: Router) -> None:
    save_router(
        folder,
        router,
        config=MLP,
        pair="nano",
        identity=IDENTITY,
        hidden_size=8,
        vocab_size=40,
        threshold=0.3,
        metrics={},
    )


def load(folder: Path, pair: str = "nano", identity: dict[str, str] = IDENTITY) -> None:
    embeddings = SLM["token_embeddings"]
    load_saved(folder, token_embeddings=embeddings, pair=pair, identity=identity)


def test_a_router_of_another_pair_is_refused(saved: Path) -> None:
    wanted = "router.path must be a router trained for pair big, got one for nano"
    with pytest.raises(ConfigError, match=wanted):
        load(saved, "big", {"slm": "aaaa", "llm": "cccc"})


def test_a_renamed_pair_is_the_same_pair(saved: Path) -> None:
    load(saved, "renamed")


@pytest.mark.parametrize("name", ["router.safetensors", "router.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_router_is_refused(saved: Path, name: str, damage: str) -> None:
    path = saved / name
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(bytes([content[0] ^ 0xFF]) + content[1:])
    else:
        path.unlink()
    with pytest.raises(ConfigError, match=r"router\.path must be a folder") as refused:
        load(saved)
    assert "\n" not in str(refused.value)


def test_saving_again_replaces(saved: Path) -> None:
    save(saved, build_router(MLP, **SLM, seed=9))
    load(saved)
    assert json.loads((saved / "router.json").read_text())["threshold"] == 0.3
