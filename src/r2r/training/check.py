"""What of the trainer's config can be refused before anything expensive."""

from __future__ import annotations

from r2r.config import TrainerConfig
from r2r.errors import must_be

ACCELERATORS = ("cpu", "gpu")
STRATEGIES = ("auto", "ddp")
POSITIVES = ("divergent", "different")
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


def check_trainer(config: TrainerConfig, *, machine: bool = True) -> None:
    """Raise ConfigError for values that training would stumble over, and for a GPU that this
    ``machine`` lacks."""
    for key, value, choices in (
        ("positive", config.positive, POSITIVES),
        ("accelerator", config.accelerator, ACCELERATORS),
        ("strategy", config.strategy, STRATEGIES),
        ("precision", config.precision, PRECISIONS),
    ):
        if value not in choices:
            raise must_be(f"trainer.{key}", "one of the choices", value, choices)
    for key in ("batch_size", "max_epochs", "patience"):
        value = getattr(config, key)
        if value is not None and value < 1:
            raise must_be(f"trainer.{key}", "1 or more", value)
    if config.lr is not None and config.lr <= 0:
        raise must_be("trainer.lr", "above 0", config.lr)
    if config.weight_decay < 0:
        raise must_be("trainer.weight_decay", "0 or more", config.weight_decay)
    if len(config.betas) != 2 or not all(0 <= beta < 1 for beta in config.betas):
        raise must_be("trainer.betas", "two numbers of at least 0 and below 1", config.betas)
    if not 0 < config.min_recall <= 1:
        raise must_be("trainer.min_recall", "above 0 and at most 1", config.min_recall)
    if config.target_share is not None and not 0 < config.target_share <= 1:
        raise must_be("trainer.target_share", "above 0 and at most 1", config.target_share)
    if config.num_workers < 0:
        raise must_be("trainer.num_workers", "0 or more", config.num_workers)
    if config.devices < 1 and config.devices != -1:
        raise must_be("trainer.devices", "1 or more, or -1 for every GPU", config.devices)
    if config.devices == -1 and config.accelerator == "cpu":
        raise must_be("trainer.devices", "1 or more with trainer.accelerator=cpu", -1)
    if machine and config.accelerator == "gpu":
        import torch

        found = torch.cuda.device_count()
        if not found:
            wanted = "cpu where there is no usable GPU (try trainer=cpu)"
            raise must_be("trainer.accelerator", wanted, "gpu")
        if config.devices > found:
            raise must_be("trainer.devices", f"at most the {found} GPUs found", config.devices)
