"""What every router of conf/router must do, whatever it computes."""

import copy
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import EOS, Words, engine, prompts, tiny

from r2r.config import TrainerConfig
from r2r.policies.r2r import R2R
from r2r.policies.routed import Routed
from r2r.routers import load_router
from r2r.routers.base import Router, routed
from r2r.routers.build import build_router
from r2r.routers.checkpoint import load_saved, save_router
from r2r.stages.compose import compose
from r2r.trace import TokenSignals
from r2r.training.fit import train_router

CONF = Path(__file__).parents[2] / "conf"
FINISHED = {"trained", "published"}  # they name a router's files, of any class
NO_ROUTER = {"oracle"}  # a generator of its own
NAMES = sorted({path.stem for path in (CONF / "router").glob("*.yaml")} - FINISHED - NO_ROUTER)
BATCH, HIDDEN, VOCAB, TOP_K = 33, 16, 300, 100
IDENTITY = {"slm": "aaaa", "llm": "bbbb"}


@pytest.fixture(params=NAMES)
def config(request: pytest.FixtureRequest) -> dict:
    """A shipped router config, as it is composed with a pair."""
    return copy.deepcopy(composed(request.param))


@functools.cache
def composed(name: str) -> dict:
    sizes = ["pair.router.hidden_dims=[24,8]", "pair.router.expansion=2"]
    return compose([f"router={name}", *sizes])[0].router


@pytest.fixture
def slm() -> dict:
    embeddings = torch.randn(VOCAB, HIDDEN, generator=torch.Generator().manual_seed(1))
    return {"hidden_size": HIDDEN, "vocab_size": VOCAB, "token_embeddings": embeddings}


@pytest.fixture
def router(config: dict, slm: dict) -> Router:
    return build_router(config, **slm, seed=3)


@pytest.fixture
def signals() -> TokenSignals:
    draw = torch.Generator().manual_seed(2)
    logits = torch.randn(BATCH, TOP_K, generator=draw) * 4
    return TokenSignals(
        token=torch.randint(VOCAB, (BATCH,), generator=draw),
        logits=logits.sort(descending=True).values,
        hidden=torch.randn(BATCH, HIDDEN, generator=draw),
        position=torch.arange(BATCH),
    )


def rows(signals: TokenSignals, index: slice) -> TokenSignals:
    return TokenSignals(
        signals.token[index], signals.logits[index], signals.hidden[index], signals.position[index]
    )


def test_there_are_configs() -> None:
    assert {"mlp", "linear", "entropy", "random", "always_slm", "always_llm"} <= set(NAMES)


def test_one_finite_float32_score_a_token(router: Router, signals: TokenSignals) -> None:
    scores = router.score(signals)
    assert scores.shape == (BATCH,)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    assert scores.isfinite().all()
    assert (scores >= 0).all()
    assert (scores <= router.max_score).all()


def test_threshold_zero_is_the_llm_alone(router: Router, signals: TokenSignals) -> None:
    assert routed(router.score(signals), 0.0).all()


def test_no_batch_at_all(router: Router, signals: TokenSignals) -> None:
    assert router.score(rows(signals, slice(0, 0))).shape == (0,)


def test_scores_do_not_depend_on_the_batch(router: Router, signals: TokenSignals) -> None:
    together = router.score(signals)
    alone = [router.score(rows(signals, slice(i, i + 1))) for i in range(BATCH)]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-6, rtol=1e-6)
    reversed_rows = TokenSignals(
        signals.token.flip(0), signals.logits.flip(0), signals.hidden.flip(0),
        signals.position.flip(0),
    )  # fmt: skip
    torch.testing.assert_close(router.score(reversed_rows).flip(0), together, atol=1e-6, rtol=1e-6)


def test_same_config_and_seed_same_scores(
    config: dict, slm: dict, router: Router, signals: TokenSignals
) -> None:
    torch.rand(5)  # the global random state is of no account
    again = build_router(config, **slm, seed=3)
    assert torch.equal(again.score(signals), router.score(signals))


def fit(router: Router, signals: TokenSignals, labels: torch.Tensor) -> list[float]:
    """A few steps of training, as ``training.module`` takes them; the loss before each."""
    optimizer = torch.optim.AdamW(router.parameters(), lr=1e-2)
    losses = []
    router.train()
    torch.manual_seed(4)  # of dropout
    for _ in range(60):
        logits = router(signals.hidden, signals.logits, signals.token)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    router.eval()
    return losses


def test_what_learns_learns(router: Router, signals: TokenSignals) -> None:
    if not router.learns:
        assert not list(router.parameters())
        return
    labels = (torch.arange(BATCH) % 2).float()
    losses = fit(router, signals, labels)
    assert sum(losses[-10:]) / 10 < 0.7 * losses[0]  # dropout makes one of them any


def test_saved_and_loaded_scores_the_same(
    config: dict, slm: dict, router: Router, signals: TokenSignals, tmp_path: Path
) -> None:
    if router.learns:
        fit(router, signals, torch.ones(BATCH))
    save_router(
        tmp_path / "router",
        router,
        config=config,
        pair="nano",
        identity=IDENTITY,
        hidden_size=HIDDEN,
        vocab_size=VOCAB,
        threshold=0.25,
        metrics={"epochs": 3},
    )
    embeddings = slm["token_embeddings"]
    loaded = load_saved(
        tmp_path / "router", token_embeddings=embeddings, pair="nano", identity=IDENTITY
    )
    assert torch.equal(loaded.router.score(signals), router.score(signals))
    assert (loaded.threshold, loaded.config, loaded.metrics) == (0.25, config, {"epochs": 3})
    by_path = load_router(tmp_path / "router", embeddings)
    assert torch.equal(by_path.score(signals), router.score(signals))
    assert sorted(p.name for p in (tmp_path / "router").iterdir()) == [
        "router.json",
        "router.safetensors",
    ]


class SomeLabels:
    """Labels of random signals; divergent where the first value of the hidden state is large."""

    def __init__(self, hidden: int, vocab: int) -> None:
        draw = np.random.default_rng(0)
        states = draw.normal(size=(240, hidden)).astype(np.float16)
        columns = {
            "small_logits": -np.sort(-draw.normal(size=(240, TOP_K))).astype(np.float16),
            "small_last_hidden_states": states,
            "small_token": draw.integers(0, vocab, 240, dtype=np.int32),
            "position": np.arange(240, dtype=np.int32),
            "divergent": (states[:, 0] > 0.5).astype(np.int8),
        }
        self.shards = [columns]

    def rows(self, split: str, labelled: bool = True) -> list[np.ndarray]:
        return [np.arange(("train", "validation", "test").index(split), 240, 3)]


TRAINER = TrainerConfig(
    positive="divergent", lr=1e-3, betas=[0.9, 0.999], weight_decay=0.0, batch_size=64,
    max_epochs=1, patience=1, min_recall=0.95, precision="32-true", accelerator="cpu", devices=1,
    strategy="auto", num_workers=0,
)  # fmt: skip


def test_trained_saved_and_loaded_it_routes(config: dict, tmp_path: Path) -> None:
    slm, llm = tiny("qwen3", 32, 2, 0), tiny("qwen3", 48, 3, 1)
    embeddings = slm.get_input_embeddings().weight
    shape = {"hidden_size": 32, "vocab_size": len(embeddings)}
    router = build_router(config, **shape, token_embeddings=embeddings, seed=3)
    threshold = None
    if router.learns:
        labels = SomeLabels(32, len(embeddings))
        fitted = train_router(
            router, labels, TRAINER, tmp_path, seed=0, loggers=[], progress=lambda *_: None
        )
        threshold = fitted.threshold
    save_router(
        tmp_path, router, config=config, pair="tiny", identity=IDENTITY, threshold=threshold,
        metrics={}, **shape,
    )  # fmt: skip
    loaded = load_saved(tmp_path, token_embeddings=embeddings)
    assert loaded.threshold == threshold

    def answers(scorer: Router, at: float) -> list:
        both = {"slm": engine(slm, router=scorer), "llm": engine(llm)}
        generator = Routed(
            policy=R2R(), **both, threshold=at, tokenizer=Words(), context=256, concurrency=32,
            eos_ids=frozenset(EOS),
        )  # fmt: skip
        return [trace.steps for trace in generator.generate(prompts(6))]

    alone = [step.score for steps in answers(router, float("inf")) for step in steps]
    middle = float(np.median(alone)) or 0.5
    written = answers(loaded.router, middle)
    assert written == answers(router, middle)
    assert all((s.score >= middle) == (s.source == "llm") for steps in written for s in steps)
