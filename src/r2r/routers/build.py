"""From a router's config to the router: the class it names, with options checked against it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError

from r2r.errors import must_be
from r2r.routers.base import Router

_TARGET = "_target_"
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
    options |= {name: value for name, value in slm.items() if name in _parameters(kind)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(**options).eval()


def checked_router(config: Mapping[str, Any]) -> tuple[type[Router], dict[str, Any]]:
    """The class of a router config and its options, checked without building anything."""
    kind = _router_class(config.get(_TARGET))
    given = {name: value for name, value in config.items() if name != _TARGET}
    own = {name: p for name, p in _parameters(kind).items() if name not in OF_THE_SLM}
    return kind, _checked_options(kind, given, own)


def _router_class(target: object) -> type[Router]:
    """The Router class of a dotted path. Raises ConfigError where there is none."""
    wanted = "the dotted path of a Router class"
    if not isinstance(target, str) or "." not in target:
        raise must_be(f"router.{_TARGET}", wanted, target)
    module, _, name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise must_be(f"router.{_TARGET}", wanted, target) from error
    if not (isinstance(kind, type) and issubclass(kind, Router) and kind is not Router):
        raise must_be(f"router.{_TARGET}", wanted, target)
    return kind


def _parameters(kind: type[Router]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of the constructor: the only ones a config can set."""
    every = inspect.signature(kind).parameters
    return {name: p for name, p in every.items() if p.kind is p.KEYWORD_ONLY}


def _checked_options(
    kind: type[Router], options: dict[str, Any], accepted: dict[str, inspect.Parameter]
) -> dict[str, Any]:
    """``options`` once each is known to ``kind``, of the right type, and none is missing."""
    for name in options:
        if name not in accepted:
            raise must_be("router", f"options of {kind.__name__}", name, accepted)
    for name, parameter in accepted.items():
        if name not in options and parameter.default is parameter.empty:
            raise must_be(f"router.{name}", "given", None)
    hints = get_type_hints(kind.__init__)
    for name, value in options.items():
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Input should be ")
            raise must_be(f"router.{name}", problem, value) from error
    return options
