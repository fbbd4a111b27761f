"""From a router's config to the router: the class it names, with options checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from r2r.classes import TARGET, checked_options, parameters, target_class
from r2r.routers.base import Router
from r2r.trace import TOP_K

STAND_IN = 16  # width of an SLM that a router is tried for
OF_THE_SLM = ("hidden_size", "token_embeddings")  # constructor options that no config gives


def build_router(
    config: Mapping[str, Any],
    *,
    hidden_size: int,
    vocab_size: int,
    token_embeddings: torch.Tensor | None,
    seed: int = 0,
) -> Router:
    """The router of ``config`` (``_target_`` and its options), in eval mode.

    ``hidden_size``, ``vocab_size`` and ``token_embeddings`` [vocab, hidden] are the SLM's;
    ``seed`` fixes the initial weights. Raises ConfigError for an unknown class, and for an
    option that is unknown, missing or of a wrong type.
    """
    kind, options = checked_router(config)
    slm = {"hidden_size": hidden_size, "token_embeddings": token_embeddings}
    if "top_k" in options:  # a smaller vocabulary has fewer logits to read
        options["top_k"] = min(options["top_k"], vocab_size)
    options |= {name: value for name, value in slm.items() if name in parameters(kind)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(**options).eval()


def try_out(config: Mapping[str, Any]) -> None:
    """Build the router of ``config`` for a narrow SLM, and forget it. Raises ConfigError as
    ``build_router`` does, and for a value that the router's class refuses."""
    embeddings = torch.zeros(TOP_K, STAND_IN)
    build_router(config, hidden_size=STAND_IN, vocab_size=TOP_K, token_embeddings=embeddings)


def checked_router(config: Mapping[str, Any]) -> tuple[type[Router], dict[str, Any]]:
    """The class of a router config and its options, checked without building anything."""
    kind = target_class("router", config.get(TARGET), Router)
    given = {name: value for name, value in config.items() if name != TARGET}
    own = {name: p for name, p in parameters(kind).items() if name not in OF_THE_SLM}
    return kind, checked_options("router", kind, given, own)
