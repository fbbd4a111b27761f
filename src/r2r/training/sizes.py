"""The router and training that fit some labels, where a pair's config gives none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from r2r.config import TrainerConfig

SIZES_VERSION = 1  # what is chosen

NARROWEST, WIDEST = 16, 1024  # the paper's router has the latter
INPUT_WEIGHTS = 16  # of the first layer, for each label, at most
DEPTHS = ((50_000, 1), (1_000_000, 2))  # up to so many labels, so many blocks; the paper's 6 beyond
PAPER_DEPTH = 6
BATCHES = 100  # of an epoch, within the bounds below
SMALLEST, LARGEST = 32, 1024  # batch; the latter is the paper's
LR, LR_WIDTH = 1e-3, 64  # wider routers get less in proportion: 6e-5 at the paper's width
EPOCHS = 50  # at most: training ends where validation has got no better for ``patience``


def hidden_dims(labels: int, slm_width: int) -> list[int]:
    """Widths of the blocks: a power of two, no wider than the SLM, whose first layer (three inputs,
    each as wide as the SLM) has at most ``INPUT_WEIGHTS`` weights a label."""
    most = min(WIDEST, slm_width, INPUT_WEIGHTS * labels // (3 * slm_width))
    width = NARROWEST
    while 2 * width <= most:
        width *= 2
    return [width] * next((depth for upto, depth in DEPTHS if labels < upto), PAPER_DEPTH)


def sized_router(config: Mapping[str, Any], labels: int, slm_width: int) -> dict[str, Any]:
    """A router's config with the widths that its pair left open."""
    open_widths = config.get("hidden_dims") == []
    chosen = {"hidden_dims": hidden_dims(labels, slm_width)} if open_widths else {}
    return {**config, **chosen}


def sized_trainer(config: TrainerConfig, labels: int, width: int) -> TrainerConfig:
    """A trainer's config with what its pair left open. ``width``: of the router's first block."""
    batch = SMALLEST
    while batch < LARGEST and 2 * batch * BATCHES <= labels:
        batch *= 2
    chosen = {"lr": LR * min(1.0, LR_WIDTH / width), "batch_size": batch, "max_epochs": EPOCHS}
    return replace(config, **{k: v for k, v in chosen.items() if getattr(config, k) is None})


def is_open(router: Mapping[str, Any], trainer: TrainerConfig) -> bool:
    """Whether anything is left to be chosen."""
    return router.get("hidden_dims") == [] or None in (
        trainer.lr, trainer.batch_size, trainer.max_epochs,
    )  # fmt: skip
