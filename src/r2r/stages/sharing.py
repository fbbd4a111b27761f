"""What a policy needs of engine and router, and what SGLang does by itself."""

from __future__ import annotations

from typing import Any

from r2r.config import Config
from r2r.errors import must_be
from r2r.policies.acceptance import Exact
from r2r.policies.r2r import R2R
from r2r.policies.routed import Policy
from r2r.policies.speculative import Speculative


def check_policy(config: Config, policy: Policy, oracle: bool) -> None:
    """Raises ConfigError where the policy cannot be run exactly as the config has it."""
    name = config.policy["name"]
    if oracle and not isinstance(policy, R2R):
        raise must_be("policy", "r2r with router=oracle, which is a policy of its own", name)
    if config.hold_share is not None:
        _check_held(config, policy.routes and not oracle)
    if not policy.routes and "serve" in config.stages:
        raise must_be("policy", "one that asks a router, to be served", name)
    if config.target is not None and drafts_in_server(config, policy) is not None:
        wanted = "null with SGLang's own speculative decoding, which does not tell its drafts"
        raise must_be("target", wanted, config.target)


def _check_held(config: Config, asks_router: bool) -> None:
    share = config.hold_share
    assert share is not None
    if not 0 < share <= 1:
        raise must_be("hold_share", "a share, above 0 and at most 1, or null", share)
    if not asks_router:
        raise must_be("hold_share", "null where no router is asked", share)
    if config.target is not None:
        raise must_be("target", "null where hold_share moves the threshold", config.target)


def held(config: Config) -> dict[str, Any]:
    """What decides answers to which the threshold is moved as others are written: their company."""
    if config.hold_share is None:
        return {}
    return {"held": [config.hold_share, config.engine.name, config.engine.max_batch]}


def drafts_in_server(config: Config, policy: Policy) -> int | None:
    """How many tokens SGLang's own speculative decoding drafts, where it does what ``policy`` says:
    on a GPU, greedily, in servers that the run starts. Else None, and ``policy`` does it itself.
    """
    engine = config.engine
    own = engine.name == "sglang" and engine.device != "cpu" and not config.benchmark.temperature
    if not own or not isinstance(policy, Speculative):
        return None
    return policy.draft_tokens if isinstance(policy.accept, Exact) else None
