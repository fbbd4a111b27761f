"""A model's logits from its final hidden states, as the model's own forward makes them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class Output(tuple[torch.Tensor]):
    """A decoder's: its final hidden states, and None for all else that one may have."""

    @property
    def last_hidden_state(self) -> torch.Tensor:
        return self[0]

    def __getattr__(self, _: str) -> None:
        return None


class Given(nn.Module):
    """In a decoder's place: its final hidden states are what it is given."""

    def forward(self, *given: Any, inputs_embeds: Any = None, **_: Any) -> Output:
        return Output(given if inputs_embeds is None else (inputs_embeds,))


class OwnHead:
    """What a model makes of hidden states [n, hidden] behind its decoder: most scale or cap what
    ``lm_head`` gives. ``weight``: of ``lm_head``."""

    def __init__(self, model: Any):
        self.weight: torch.Tensor = model.get_output_embeddings().weight
        self.model = _without(model, model.get_decoder())

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model(inputs_embeds=hidden[None], use_cache=False).logits[0]


def head_of(model: Any) -> Any:
    """The model's ``lm_head`` where that is all there is: it takes less time than an OwnHead."""
    plain, own = model.get_output_embeddings(), OwnHead(model)
    with torch.inference_mode():
        seen = torch.linspace(-4, 4, 2 * plain.weight.shape[1], device=plain.weight.device)
        seen = seen.view(2, -1).to(plain.weight.dtype)
        return plain if torch.equal(plain(seen), own(seen)) else own


def _without(module: nn.Module, decoder: nn.Module) -> nn.Module:
    """The module with ``decoder`` replaced by Given; all else is shared."""
    if module is decoder:
        return Given()
    made = copy.copy(module)
    made._modules = {
        name: _without(child, decoder)
        if child is not None and any(part is decoder for part in child.modules())
        else child
        for name, child in module._modules.items()
    }
    return made
