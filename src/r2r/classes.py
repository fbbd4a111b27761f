"""Classes that a config names by ``_target_``, with options checked against their constructors."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from r2r.errors import must_be

TARGET = "_target_"
Kind = TypeVar("Kind")


def target_class(key: str, target: object, base: type[Kind]) -> type[Kind]:
    """The class of a dotted path, below ``base``. Raises ConfigError where there is none."""
    wanted = f"the dotted path of a {base.__name__} class"
    if not isinstance(target, str) or "." not in target:
        raise must_be(f"{key}.{TARGET}", wanted, target)
    module, _, name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise must_be(f"{key}.{TARGET}", wanted, target) from error
    if not (isinstance(kind, type) and issubclass(kind, base) and kind is not base):
        raise must_be(f"{key}.{TARGET}", wanted, target)
    return kind


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of the constructor: the only ones a config can set."""
    every = inspect.signature(kind).parameters
    return {name: p for name, p in every.items() if p.kind is p.KEYWORD_ONLY}


def checked_options(
    key: str, kind: type, options: Mapping[str, Any], accepted: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """``options`` once each is known to ``kind``, of the right type, and none is missing.

    An option whose type is an abstract class is described by a ``_target_`` of its own, and made.
    """
    for name in options:
        if name not in accepted:
            raise must_be(key, f"options of {kind.__name__}", name, accepted)
    for name, parameter in accepted.items():
        if name not in options and parameter.default is parameter.empty:
            raise must_be(f"{key}.{name}", "given", None)
    hints = get_type_hints(kind.__init__)
    made: dict[str, Any] = {}
    for name, value in options.items():
        if inspect.isabstract(hints[name]):
            own = value if isinstance(value, Mapping) else {TARGET: value}
            made[name] = build(f"{key}.{name}", own, hints[name])
            continue
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Input should be ")
            raise must_be(f"{key}.{name}", problem, value) from error
        made[name] = value
    return made


def build(key: str, config: Mapping[str, Any], base: type[Kind]) -> Kind:
    """The object that ``config`` (``_target_`` and its options) describes."""
    kind = target_class(key, config.get(TARGET), base)
    given = {name: value for name, value in config.items() if name != TARGET}
    return kind(**checked_options(key, kind, given, parameters(kind)))
