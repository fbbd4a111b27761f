"""What a run can be asked to choose its threshold and its policy's options for."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from r2r.config import Config
from r2r.errors import ConfigError, must_be
from r2r.policies.build import build_policy

AIMS = "share:0.05, quality:0.98 or speed"
RECALL = "recall"  # of ``tried``: gives the threshold; all others are the policy's own


@dataclass(frozen=True, slots=True)
class Target:
    """``aim``: share, quality or speed; ``bound``: of the first two, 0 to 1."""

    aim: str
    bound: float = 0.0

    @classmethod
    def read(cls, text: str) -> Target:
        """Raises ConfigError unless it is one of the three."""
        aim, _, number = text.partition(":")
        if text == "speed":
            return cls(aim)
        try:
            bound = float(number)
        except ValueError:
            bound = -1.0
        if aim not in ("share", "quality") or not 0 < bound <= 1:
            raise must_be("target", f"{AIMS} (numbers above 0, at most 1)", text)
        return cls(aim, bound)


def check_target(config: Config, asks_router: bool) -> None:
    """Raises ConfigError where the run cannot choose anything for its target."""
    Target.read(str(config.target))
    if config.threshold != "auto":
        raise must_be("threshold", "auto where target chooses it", config.threshold)
    if not tried(config, asks_router):
        wanted = f"options of policy={config.policy['name']}, or a router that has a threshold"
        raise must_be("tried", wanted, list(config.tried))
    for name, values in config.tried.items():
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if not values or numbers != list(values):
            raise must_be(f"tried.{name}", "a list of numbers", values)
    for name, values in tried(config, asks_router).items():
        if name == RECALL and not all(0 <= value <= 1 for value in values):
            raise must_be("tried.recall", "a list of shares from 0 to 1", values)
        for value in values if name != RECALL else ():
            try:
                build_policy(with_option(config.policy, name, value))
            except ConfigError as error:
                raise ConfigError(f"tried.{name}: {error}") from error


def tried(config: Config, asks_router: bool) -> dict[str, list[Any]]:
    """Of ``config.tried`` what the run's router and policy have."""
    return {
        name: list(values)
        for name, values in config.tried.items()
        if (asks_router if name == RECALL else holder(config.policy, name))
    }


def with_option(policy: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A policy's config with one of its options, or of its test's, at ``value``."""
    changed = copy.deepcopy(policy)
    holder(changed, name)[name] = value
    return changed


def holder(policy: dict[str, Any], name: str) -> dict[str, Any]:
    """The part of a policy's config that has an option: itself, or its test; empty where none."""
    accept = policy.get("accept")
    parts = [policy, accept if isinstance(accept, dict) else {}]
    return next((part for part in parts if name in part), {})
