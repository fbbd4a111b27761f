"""What the LLM would not have gone along with, learned from labels."""

from __future__ import annotations

from typing import Any

import torch

from r2r.engines.base import Verified
from r2r.errors import must_be
from r2r.policies.acceptance import Acceptance
from r2r.routers.base import Router, routed
from r2r.routers.mlp import CalibratedRouter, check_blocks
from r2r.trace import TokenSignals


def about(given: torch.Tensor, heard: TokenSignals, indices: torch.Tensor) -> TokenSignals:
    """What the LLM knows of ``given`` tokens [batch] in places where it was ``heard``.

    ``indices`` [batch, k] are the token ids of its logits. In the signals that come back the logit
    of the given token comes first, the lowest where it is not among them; the others follow.
    """
    logits = heard.logits
    own = logits.masked_fill(indices != given[:, None], -torch.inf).amax(-1)
    own = torch.where(own.isinf(), logits[:, -1], own)
    both = torch.cat([own[:, None], logits[:, :-1]], dim=-1)
    return TokenSignals(given, both, heard.hidden, heard.position)


class Learned(Acceptance):
    """A network that reads what the LLM knows of the token's place does not find it divergent.

    The train stage fits it to the labels of the tokens at which the two models differ: neutral or
    divergent (as AutoJudge, arXiv 2504.20039, with labels from outcomes). It sees the LLM's hidden
    state, its logits, and that of the SLM's token among them; none of the SLM's. A token that the
    LLM would have written itself passes unseen.

    ``bound``: a token whose probability of being divergent is as high is refused. The rest as in
    ``MLPRouter``.
    """

    reads = True

    def __init__(self, *, bound: float, hidden_dims: list[int], expansion: int, dropout: float):
        if not 0 <= bound <= 1:
            raise must_be("policy.accept.bound", "between 0 and 1", bound)
        if hidden_dims:  # else they are chosen when there are labels
            check_blocks("policy.accept", hidden_dims, expansion, dropout)
        self.bound = bound
        self.scorer: dict[str, Any] = {
            "_target_": f"{CalibratedRouter.__module__}.{CalibratedRouter.__name__}",
            "inputs": ["hidden", "logits"],
            "normalize_input": False,
            "hidden_dims": hidden_dims,
            "expansion": expansion,
            "dropout": dropout,
            "top_k": 100,
        }
        self.router: Router | None = None

    @property
    def steps(self) -> dict[str, int]:
        """Versions of what decides its network's scores."""
        return {"accept": self.version, "router": CalibratedRouter.version}

    def attach(self, router: Router) -> None:
        """Use a trained network."""
        self.router = router

    def accepts(self, tokens: list[int], read: Verified) -> list[bool]:
        assert self.router is not None, "attach() what was trained first"
        assert read.read is not None
        given = torch.tensor(tokens, dtype=torch.long)
        scores = self.router.score(about(given, read.read.signals, read.read.indices))
        refused = routed(scores, self.bound).tolist()
        own = zip(tokens, read.choices, refused, strict=False)
        return [token == choice or not bad for token, choice, bad in own]
