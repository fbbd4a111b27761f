"""What a pair without values of its own gets: a router and a training that fit its labels."""

from types import SimpleNamespace

import numpy as np
import pytest

from r2r.config import TrainerConfig
from r2r.stages import train
from r2r.stages.compose import compose
from r2r.stages.workbench import Workbench
from r2r.training import FEW, LEAST_OF_FEW, SHARE_OF_FEW
from r2r.training.calibrate import calibrate
from r2r.training.sizes import hidden_dims, sized_trainer


@pytest.mark.parametrize(
    ("labels", "slm_width", "widths"),
    [
        (100, 896, [16]),  # nearly none
        (10_000, 896, [32]),
        (60_000, 896, [256, 256]),
        (130_000, 64, [64, 64]),  # no wider than the SLM
        (7_600_000, 1536, [1024] * 6),  # the paper's
    ],
)
def test_widths_grow_with_labels(labels, slm_width, widths):
    assert hidden_dims(labels, slm_width) == widths


@pytest.mark.parametrize(
    ("labels", "width", "chosen"),
    [(1_000, 16, (1e-3, 32)), (10_000, 32, (1e-3, 64)), (7_600_000, 1024, (6.25e-5, 1024))],
)
def test_training_follows_labels_and_width(labels, width, chosen):
    found = sized_trainer(TrainerConfig(lr=None, batch_size=None, max_epochs=None), labels, width)
    assert (found.lr, found.batch_size, found.max_epochs) == (*chosen, 50)


def test_what_is_given_is_kept():
    found = sized_trainer(TrainerConfig(lr=0.5, batch_size=7, max_epochs=3), 10_000, 32)
    assert (found.lr, found.batch_size, found.max_epochs) == (0.5, 7, 3)


def local(tmp_path, *overrides):
    paths = [f"pair.{name}.path=${{assets:nano/{name}}}" for name in ("slm", "llm")]
    bench = Workbench(*compose(["pair=local", f"outputs={tmp_path}", *paths, *overrides]))
    return bench


def test_a_local_pair_is_told_what_is_chosen_for_it(tmp_path, monkeypatch, capsys):
    labels = SimpleNamespace(manifest={"splits": {"train": {"rows": 20_000}}})
    monkeypatch.setattr(train, "open_labels", lambda bench: labels)
    bench = local(tmp_path, "trainer.max_epochs=4")
    router, trainer = train.sized(bench)
    assert not capsys.readouterr().out  # further processes of a training choose it too
    train.tell_sized(bench, router, trainer)
    assert (router["hidden_dims"], router["expansion"]) == ([32], 2)
    assert (trainer.lr, trainer.batch_size, trainer.max_epochs) == (1e-3, 128, 4)
    told = " ".join(capsys.readouterr().out.split())
    assert told == (
        "train for 20,000 labels and an SLM 48 wide: hidden_dims [32], lr 0.001, batches of 128, at"
        " most 4 epochs"
    )


def test_a_pair_with_values_of_its_own_keeps_them(tmp_path, capsys):
    given = ["pair.router.hidden_dims=[8]", "trainer.lr=1", "trainer.batch_size=2"]
    bench = local(tmp_path, *given, "trainer.max_epochs=3")
    assert train.sized(bench) == (bench.config.router, bench.config.trainer)
    train.tell_sized(bench, bench.config.router, bench.config.trainer)
    assert not capsys.readouterr().out


def scored(divergent, rows=2_000):
    """Scores that find divergent tokens well, but for one."""
    labels = np.zeros(rows, int)
    labels[:divergent] = 1
    scores = np.linspace(0.5, 0.0, rows)
    scores[1] = 0.001
    return scores, labels


@pytest.mark.parametrize(("rows", "share"), [(2_000, LEAST_OF_FEW), (200, SHARE_OF_FEW * 0.1)])
def test_a_few_divergent_tokens_choose_no_recall(rows, share):
    scores, labels = scored(20, rows)
    threshold = calibrate(scores, labels, 1.0, None)
    assert (scores >= threshold).mean() == pytest.approx(share, abs=1 / rows)


def test_a_share_is_given_even_where_few_are_divergent():
    scores, labels = scored(20)
    assert calibrate(scores, labels, 1.0, 0.2) == pytest.approx(0.4, abs=0.001)


def test_enough_divergent_tokens_do():
    scores, labels = scored(FEW)
    assert calibrate(scores, labels, 1.0, None) == 0.001
