"""From a policy's config to the policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r2r.classes import build
from r2r.policies.routed import Policy


def build_policy(config: Mapping[str, Any]) -> Policy:
    """The policy of ``config``: its ``name``, ``_target_`` and options.

    Raises ConfigError for an unknown class, and for an option that is unknown, missing, of a wrong
    type or out of its bounds.
    """
    return build("policy", {key: value for key, value in config.items() if key != "name"}, Policy)
