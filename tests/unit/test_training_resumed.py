"""Training that is killed, or finds the disk full, ends as an undisturbed one."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from test_training import CONFIG, Labels, same_weights, train

from r2r.training import fit
from r2r.training.module import RouterModule


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    return Labels(tmp_path / "labels", (150, 0, 331))


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def ends_as_undisturbed(
    labels: Labels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    replaced: tuple[Any, str, Any],
    error: type[BaseException],
) -> None:
    """Training that ``replaced`` ends with ``error`` leaves no half of a file, and goes on to what
    it would have come to."""
    undisturbed, expected = train(labels, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(*replaced)
        with pytest.raises(error) as raised:
            train(labels, tmp_path / "disturbed")
    assert error is Killed or getattr(raised.value, "errno", None) == errno.ENOSPC
    assert not list((tmp_path / "disturbed").glob(".*"))
    resumed, result = train(labels, tmp_path / "disturbed")
    assert result == expected
    assert same_weights(resumed, undisturbed)


@pytest.mark.parametrize("step", [0, 5, 14])  # in the first, second and fourth of four epochs
def test_a_killed_run_ends_as_an_undisturbed_one(
    labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole = RouterModule.training_step

    def dies(self: RouterModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            raise Killed
        return whole(self, batch, batch_idx)

    ends_as_undisturbed(
        labels, tmp_path, monkeypatch, (RouterModule, "training_step", dies), Killed
    )


def test_killed_between_its_two_checkpoints(
    labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = pl.Trainer.save_checkpoint

    def dies(self: pl.Trainer, filepath: Any, *args: Any, **kwargs: Any) -> None:
        if self.current_epoch == 1 and Path(filepath).stem == fit.LAST:
            raise Killed
        save(self, filepath, *args, **kwargs)

    ends_as_undisturbed(
        labels, tmp_path, monkeypatch, (pl.Trainer, "save_checkpoint", dies), Killed
    )


@pytest.mark.parametrize("full_at", [3, 4])  # the second epoch's best.ckpt, its last.ckpt
def test_a_disk_that_fills_up_leaves_whole_checkpoints(
    labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    write, written = Path.write_bytes, iter(range(1, 100))

    def fills_up(self: Path, content: memoryview) -> int:
        if next(written) < full_at:
            return write(self, content)
        write(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    ends_as_undisturbed(labels, tmp_path, monkeypatch, (Path, "write_bytes", fills_up), OSError)


def test_a_finished_run_trains_no_further(
    labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_early = replace(CONFIG, lr=0.1, max_epochs=12, patience=1)
    for name, config in (("whole", CONFIG), ("stopped", stopped_early)):
        first, expected = train(labels, tmp_path / name, config)

        def dies(self: RouterModule, batch: Any, batch_idx: int) -> torch.Tensor:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(RouterModule, "training_step", dies)
            again, result = train(labels, tmp_path / name, config)
        assert result == expected
        assert same_weights(again, first)
