"""Training on made-up labels: what is read, what is learned, what is refused."""

import logging.handlers
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import average_precision_score

from r2r.config import TrainerConfig
from r2r.errors import ConfigError
from r2r.routers.base import Router
from r2r.routers.build import build_router
from r2r.training import data
from r2r.training.calibrate import calibrate, quality, scores
from r2r.training.check import check_trainer
from r2r.training.data import RouterDataModule, TokenRows
from r2r.training.fit import TrainResult, train_router
from r2r.training.module import RouterModule

HIDDEN, VOCAB, TOP_K = 6, 30, 30
CONF = Path(__file__).parents[2] / "conf"
CONFIG = TrainerConfig(
    positive="divergent",
    lr=0.003,
    betas=[0.9, 0.999],
    weight_decay=0.0005,
    batch_size=32,
    max_epochs=4,
    patience=10,
    min_recall=0.95,
    precision="32-true",
    accelerator="cpu",
    devices=1,
    strategy="auto",
    num_workers=0,
)


class Labels:
    """Memory-mapped shards whose divergent tokens are those with a large first hidden value."""

    def __init__(self, folder: Path, sizes: tuple[int, ...], above: float = 0.8) -> None:
        folder.mkdir()
        draw = np.random.default_rng(0)
        self.shards: list[dict[str, np.ndarray]] = []
        self.split: list[np.ndarray] = []
        for number, size in enumerate(sizes):
            hidden = draw.normal(size=(size, HIDDEN))
            noise = draw.normal(size=size) * 0.5
            columns = {
                "small_logits": -np.sort(-draw.normal(size=(size, TOP_K))).astype(np.float16),
                "small_last_hidden_states": hidden.astype(np.float16),
                "small_token": draw.integers(0, VOCAB, size, dtype=np.int32),
                "position": np.arange(size, dtype=np.int32),
                "divergent": (hidden[:, 0] + noise > above).astype(np.int8),
            }
            self.shards.append(
                {name: mapped(folder / f"{number}.{name}.npy", c) for name, c in columns.items()}
            )
            self.split.append(draw.choice(["train", "validation", "test", "unused"], size))

    def rows(self, split: str, *, labelled: bool = True) -> list[np.ndarray]:
        return [np.flatnonzero(shard == split) for shard in self.split]


def mapped(path: Path, column: np.ndarray) -> np.ndarray:
    np.save(path, column)
    return np.load(path, mmap_mode="r")


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    return Labels(tmp_path / "labels", (150, 0, 331))


def new_router(name: str = "MLPRouter") -> Router:
    mlp = {"hidden_dims": [8, 8], "expansion": 2, "dropout": 0.2, "top_k": 100}
    mlp |= {"inputs": ["hidden", "token", "logits"], "normalize_input": False}
    config = {"_target_": f"r2r.routers.mlp.{name}", **mlp}
    if name != "MLPRouter":
        config = {"_target_": f"r2r.routers.heuristics.{name}"}
    embeddings = torch.linspace(-1, 1, VOCAB * HIDDEN).reshape(VOCAB, HIDDEN)
    return build_router(
        config, hidden_size=HIDDEN, vocab_size=VOCAB, token_embeddings=embeddings, seed=0
    )


def train(
    labels: Labels, folder: Path, config: TrainerConfig = CONFIG, seed: int = 0
) -> tuple[Router, TrainResult]:
    router = new_router()
    return router, train_router(
        router, labels, config, folder, seed=seed, loggers=[], progress=lambda *told: None
    )


def same_weights(one: Router, other: Router) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_batch_holds_the_rows_asked_for(labels: Labels) -> None:
    rows = TokenRows(labels, "train")
    first, last = labels.rows("train")[0], labels.rows("train")[2]
    assert len(rows) == len(first) + len(last)
    signals, divergent = rows.__getitems__([len(rows) - 1, 0])
    for index, (shard, row) in enumerate([(2, last[-1]), (0, first[0])]):
        columns = {name: torch.tensor(c[row]) for name, c in labels.shards[shard].items()}
        assert torch.equal(signals.hidden[index], columns["small_last_hidden_states"].float())
        assert torch.equal(signals.logits[index], columns["small_logits"].float())
        assert signals.token[index] == columns["small_token"]
        assert signals.position[index] == columns["position"]
        assert divergent[index] == columns["divergent"]


def test_a_window_holds_the_signals_of_the_rows_before(labels: Labels) -> None:
    alone, several = TokenRows(labels, "train"), TokenRows(labels, "train", window=3)
    signals = several.__getitems__(list(range(len(several))))[0]
    newest = alone.__getitems__(list(range(len(alone))))[0]
    assert torch.equal(signals.hidden[:, -HIDDEN:], newest.hidden)
    assert torch.equal(signals.token, newest.token)
    at = 0
    for shard, rows in zip(labels.shards, labels.rows("train"), strict=True):
        for row in rows:
            if row >= 2:
                for name, found in (
                    ("small_last_hidden_states", signals.hidden[at]),
                    ("small_logits", signals.logits[at]),
                ):
                    past = shard[name][row - 2 : row + 1].reshape(-1)
                    assert found.tolist() == past.astype(np.float32).tolist()
            at += 1
    assert at == len(several)


def test_a_router_of_several_positions_learns_from_them(tmp_path: Path) -> None:
    """What decides lies one position back: only a window sees it."""
    labels = Labels(tmp_path / "labels", (900,))
    shard = labels.shards[0]
    shard["divergent"] = np.roll(shard["divergent"], 1)
    found = {}
    for window in (1, 2):
        config = {
            "_target_": "r2r.routers.published_only.WindowRouter",
            **{"reads": "hidden", "window": window, "width": HIDDEN, "normalize_input": False},
            **{"hidden_dims": [8, 8], "expansion": 2, "dropout": 0.0},
        }
        router = build_router(config, hidden_size=HIDDEN, vocab_size=VOCAB, token_embeddings=None)
        train_router(
            router, labels, replace(CONFIG, max_epochs=8), tmp_path / str(window),
            seed=0, loggers=[], progress=lambda *told: None,
        )  # fmt: skip
        scored, divergent = scores(router, labels, "test")
        found[window] = average_precision_score(divergent, scored)
    assert found[2] > found[1] + 0.3, found


def test_a_split_without_rows_is_empty(labels: Labels) -> None:
    labels.split = [np.full(len(shard), "train") for shard in labels.split]
    every, divergent = scores(new_router(), labels, "test")
    assert (len(every), len(divergent)) == (0, 0)
    assert quality(every, divergent, 0.5)["recall"] is None


def test_training_learns_and_reports_the_test_split(labels: Labels, tmp_path: Path) -> None:
    router, result = train(labels, tmp_path / "run", replace(CONFIG, max_epochs=20))
    assert not router.training
    validation, test = result.metrics["validation"], result.metrics["test"]
    assert validation["recall"] >= 0.95
    assert test["auroc"] > 0.85
    assert test == quality(*scores(router, labels, "test"), result.threshold)
    assert result.threshold == calibrate(
        *scores(router, labels, "validation"), CONFIG.min_recall, None
    )
    assert result.metrics["best_epoch"] < result.metrics["epochs"] <= 20
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_the_test_split_decides_nothing(labels: Labels, tmp_path: Path) -> None:
    router, result = train(labels, tmp_path / "one")
    labels.split = [np.where(shard == "test", "unused", shard) for shard in labels.split]
    without, other = train(labels, tmp_path / "two")
    assert same_weights(router, without)
    assert (result.threshold, other.metrics["test"]["rows"]) == (other.threshold, 0)


def test_the_best_epoch_is_kept(labels: Labels, tmp_path: Path) -> None:
    config = replace(CONFIG, lr=0.1, max_epochs=12, patience=4)
    router, result = train(labels, tmp_path / "run", config)
    best = result.metrics["best_epoch"]
    assert result.metrics["epochs"] == best + 1 + config.patience  # stopped early
    shorter, _ = train(labels, tmp_path / "short", replace(config, max_epochs=best + 1))
    assert same_weights(router, shorter)


def test_the_seed_decides_the_weights(labels: Labels, tmp_path: Path) -> None:
    one, _ = train(labels, tmp_path / "one")
    torch.rand(3)
    same, _ = train(labels, tmp_path / "same")
    other, _ = train(labels, tmp_path / "other", seed=1)
    assert same_weights(one, same)
    assert not same_weights(one, other)


def test_a_last_batch_of_one_row(labels: Labels, tmp_path: Path) -> None:
    rows = len(TokenRows(labels, "train"))
    config = replace(CONFIG, batch_size=rows - 1, max_epochs=2)
    assert train(labels, tmp_path / "run", config)[1].metrics["epochs"] == 2


def test_every_row_once_an_epoch_in_another_order(labels: Labels) -> None:
    class Alone:
        world_size, global_rank = 1, 0

    data = RouterDataModule(labels=labels, batch_size=7, num_workers=0, seed=0)
    data.trainer = Alone()  # type: ignore[assignment]
    loader = data.train_dataloader()

    def epoch(number: int) -> list[float]:
        loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
        return [float(x) for signals, _ in loader for x in signals.hidden[:, 0]]

    assert epoch(0) == epoch(0) != epoch(1)
    every = TokenRows(labels, "train").__getitems__(list(range(len(data.train_rows))))[0]
    assert sorted(epoch(1)) == sorted(every.hidden[:, 0].tolist())


@pytest.mark.parametrize("processes", [1, 3])
def test_large_datasets_are_shuffled_in_windows(monkeypatch, processes: int) -> None:
    monkeypatch.setattr(data, "RUN", 4)
    monkeypatch.setattr(data, "WINDOW", 16)
    rows = list(range(100))

    def order(epoch: int) -> list[int]:
        """What all processes read, in the order in which they do."""
        samplers = [data.BlockShuffle(rows, processes, rank, seed=5) for rank in range(processes)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        assert {len(list(sampler)) for sampler in samplers} == {len(samplers[0])}
        return [row for together in zip(*samplers, strict=True) for row in together]

    first = order(0)
    assert first == order(0) != order(1)
    assert sorted(first[: len(rows)]) == rows and set(first) == set(rows)
    for at in range(0, 96, 16):  # four whole runs
        assert len({row // 4 for row in first[at : at + 16]}) == 4
    assert sorted({row // 4 for row in first[:16]}) != [0, 1, 2, 3]
    monkeypatch.setattr(data, "WINDOW", 100)
    draw = torch.Generator().manual_seed(5)
    assert order(0)[: len(rows)] == torch.randperm(len(rows), generator=draw).tolist()


def test_curves_reach_the_loggers(labels: Labels, tmp_path: Path) -> None:
    from pytorch_lightning.loggers import CSVLogger

    logger = CSVLogger(tmp_path / "curves", name="", version="")
    train_router(
        new_router(),
        labels,
        CONFIG,
        tmp_path / "run",
        seed=0,
        loggers=[logger],
        progress=lambda *told: None,
    )
    header = (tmp_path / "curves" / "metrics.csv").read_text().splitlines()[0].split(",")
    measured = {"loss", "recall", "precision", "positive_rate", "auroc", "average_precision"}
    assert {f"val/{name}" for name in measured} | {"train/loss"} <= set(header)


def test_lightning_says_nothing(
    labels: Labels, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = logging.handlers.BufferingHandler(1000)
    chatty = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    for logger in chatty:
        logger.addHandler(heard)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        train(labels, tmp_path / "run")
    for logger in chatty:
        logger.removeHandler(heard)
    assert (heard.buffer, warned, "".join(capfd.readouterr())) == ([], [], "")


def test_dropout_is_on_while_training_and_off_while_validating(
    labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: dict[str, set[bool]] = {"training_step": set(), "validation_step": set()}
    for name, seen in modes.items():
        whole = getattr(RouterModule, name)

        def step(
            self: RouterModule, batch: Any, batch_idx: int, whole: Any = whole, seen: Any = seen
        ) -> Any:
            seen |= {module.training for module in self.router.modules()}
            return whole(self, batch, batch_idx)

        monkeypatch.setattr(RouterModule, name, step)
    train(labels, tmp_path / "run", replace(CONFIG, max_epochs=2))
    train(labels, tmp_path / "run")  # goes on from there
    assert modes == {"training_step": {True}, "validation_step": {False}}


def test_heuristics_are_calibrated_too(labels: Labels) -> None:
    router = new_router("EntropyRouter")
    found_scores = scores(router, labels, "validation")
    threshold = calibrate(*found_scores, 0.95, None)
    found = quality(*found_scores, threshold)
    assert 0.95 <= found["recall"] < 1
    assert 0.4 < found["auroc"] < 0.6  # entropy knows nothing of these labels
    assert calibrate(*scores(new_router("AlwaysLLM"), labels, "validation"), 0.95, None) == 1


def test_a_share_of_the_tokens_instead_of_a_recall(labels: Labels) -> None:
    found_scores = scores(new_router("EntropyRouter"), labels, "validation")
    threshold = calibrate(*found_scores, 0.95, target_share=0.2)
    assert quality(*found_scores, threshold)["positive_rate"] == pytest.approx(0.2, abs=0.01)


def test_a_threshold_that_means_the_llm_alone_is_refused(labels: Labels) -> None:
    with pytest.raises(ConfigError, match=r"threshold must be a number.*got 'auto'"):
        calibrate(*scores(new_router("AlwaysSLM"), labels, "validation"), 0.95, None)


def test_labels_without_divergent_tokens_are_refused(tmp_path: Path) -> None:
    none = Labels(tmp_path / "labels", (200,), above=100)
    with pytest.raises(ConfigError, match=r"labeler\.prompts must be .*0 divergent of"):
        train(none, tmp_path / "run")


def test_a_loss_that_explodes_is_refused(labels: Labels, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.lr must be low enough"):
        train(labels, tmp_path / "run", replace(CONFIG, lr=1e30))


@pytest.mark.parametrize(
    "change",
    [
        {"accelerator": "tpu"},
        {"strategy": "fsdp"},
        {"precision": "8"},
        {"batch_size": 0},
        {"max_epochs": 0},
        {"patience": 0},
        {"lr": 0.0},
        {"weight_decay": -1.0},
        {"betas": [0.9]},
        {"betas": [0.9, 1.0]},
        {"min_recall": 1.5},
        {"num_workers": -1},
        {"devices": 0},
        {"devices": -1},
    ],
    ids=str,
)
def test_a_trainer_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    check_trainer(CONFIG)
    (key,) = change
    with pytest.raises(ConfigError, match=rf"trainer\.{key} must be"):
        check_trainer(replace(CONFIG, **change))


def test_a_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator must be cpu.*trainer=cpu"):
        check_trainer(replace(CONFIG, accelerator="gpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_trainer(replace(CONFIG, accelerator="gpu", devices=-1, strategy="ddp"))
    with pytest.raises(ConfigError, match=r"trainer\.devices must be at most the 2 GPUs"):
        check_trainer(replace(CONFIG, accelerator="gpu", devices=3))


@pytest.mark.parametrize("path", sorted((CONF / "trainer").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_trainers_fit_the_schema(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"training": {"lr": 5e-5, "batch_size": 1024, "max_epochs": 50}}
    whole = OmegaConf.create({"pair": pair, "trainer": OmegaConf.structured(TrainerConfig)})
    whole.trainer = OmegaConf.merge(whole.trainer, OmegaConf.load(path))
    config = OmegaConf.to_object(whole.trainer)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert isinstance(config, TrainerConfig)
    check_trainer(config)
