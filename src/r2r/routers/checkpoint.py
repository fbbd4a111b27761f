"""A trained router on disk: router.safetensors and router.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from r2r.errors import ConfigError, must_be
from r2r.records import file_hash, read_json, whole_file, write_json
from r2r.routers.base import Router
from r2r.routers.build import build_router, checked_router

WEIGHTS = "router.safetensors"
DESCRIPTION = "router.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is known of a saved router: its threshold (None: never calibrated), config, metrics.

    ``digest``: sha256 of the file that holds its weights.
    """

    threshold: float | None
    config: dict[str, Any]
    metrics: dict[str, Any]
    digest: str

    @property
    def max_score(self) -> float:
        return checked_router(self.config)[0].max_score

    @property
    def version(self) -> int:
        """Of the router's class."""
        return checked_router(self.config)[0].version


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRouter(Description):
    """A router as it was saved."""

    router: Router


def save_router(
    folder: Path,
    router: Router,
    *,
    config: Mapping[str, Any],
    pair: str,
    identity: Mapping[str, str],
    hidden_size: int,
    vocab_size: int,
    threshold: float | None,
    metrics: Mapping[str, Any],
) -> None:
    """Write the router into ``folder``; complete once router.json is there, which comes last.

    ``config`` is what built it; ``pair`` names the pair it was trained for, and ``identity``
    (``ModelPair.identity``) tells that pair's models from others; the sizes are its SLM's.
    """
    with whole_file(folder / WEIGHTS) as path:
        save_file({k: v.contiguous() for k, v in router.state_dict().items()}, path)
    description = {
        "config": dict(config),
        "pair": pair,
        "identity": dict(identity),
        "hidden_size": hidden_size,
        "vocab_size": vocab_size,
        "threshold": threshold,
        "metrics": dict(metrics),
        "weights_sha256": file_hash(folder / WEIGHTS),
    }
    write_json(folder / DESCRIPTION, description)


def load_saved(
    folder: Path,
    *,
    token_embeddings: torch.Tensor | None,
    pair: str | None = None,
    identity: Mapping[str, str] | None = None,
) -> SavedRouter:
    """Read what ``save_router`` wrote, in eval mode, on the CPU.

    ``token_embeddings`` [vocab, hidden]: the SLM's. The rest, and what is raised, as in
    ``describe``.
    """
    known = describe(folder, pair=pair, identity=identity)
    saved = read_json(folder / DESCRIPTION)
    router = build_router(
        known.config,
        hidden_size=saved["hidden_size"],
        vocab_size=saved["vocab_size"],
        token_embeddings=token_embeddings,
    )
    router.load_state_dict(load_file(folder / WEIGHTS))
    return SavedRouter(router=router, **{f.name: getattr(known, f.name) for f in fields(known)})


def describe(
    folder: Path, *, pair: str | None = None, identity: Mapping[str, str] | None = None
) -> Description:
    """What is known of the router in ``folder``, without building it.

    ``identity``, where given, must equal the saved one (``pair`` names it in the error).
    Raises ConfigError for a router of another pair, and for missing or damaged files.
    """
    try:
        saved = read_json(folder / DESCRIPTION)
        digest = file_hash(folder / WEIGHTS)
        config, threshold, metrics = saved["config"], saved["threshold"], saved["metrics"]
        trained_for, models = saved["pair"], saved["identity"]
        _ = saved["hidden_size"], saved["vocab_size"]
        expected = saved["weights_sha256"]
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        wanted = f"a folder with a whole {DESCRIPTION} and {WEIGHTS}"
        raise must_be("router.path", wanted, str(folder)) from error
    wanted_models = models if identity is None else identity
    names = {*models, *wanted_models}
    differing = sorted(k for k in names if models.get(k) != wanted_models.get(k))
    if differing:
        line = f"router.path must be a router trained for pair {pair}, got one for {trained_for}"
        raise ConfigError(f"{line} (differing: {', '.join(differing)})")
    if digest != expected:
        wanted = f"a folder whose {WEIGHTS} is whole (this one is truncated or damaged)"
        raise must_be("router.path", wanted, str(folder))
    return Description(threshold=threshold, config=config, metrics=metrics, digest=digest)
