"""Linear layers whose weights lie as the CPU's bfloat16 products read them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Packed(nn.Module):
    """A linear layer whose weight was laid out once. As PyTorch keeps it, every call lays it out
    anew, which takes longer than the product of a few rows."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.weight: Any = torch.ops.mkldnn._reorder_linear_weight(linear.weight)  # opaque

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(given, self.weight, self.bias, "none", [], "")


def pack(model: Any) -> None:
    """Replace the linear layers of a transformers model in bfloat16 by packed ones, where its CPU
    has such products. Single precision is left alone: a small model's products take longer packed.
    """
    if model.device.type != "cpu" or model.dtype != torch.bfloat16:
        return
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return
    # Not a list of all: each old weight goes once its layer is packed.
    for module in [module for module in model.modules() if type(module) is not nn.Linear]:
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, Packed(child))
