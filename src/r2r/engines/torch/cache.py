"""KV cache in slots: every session owns a row, rows grow at their own pace."""

from __future__ import annotations

import torch

GROWTH = 256  # tokens by which all slots grow


class SlotCache:
    """Keys and values [slots, kv_heads, capacity, head_dim] of each layer.

    What lies behind a row's length is never attended to.
    """

    def __init__(self, slots: int):
        self.slots = slots
        self.capacity = 0
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def reserve(self, tokens: int) -> None:
        """Make room for ``tokens`` in every slot."""
        if tokens <= self.capacity:
            return
        self.capacity = -(-max(tokens, self.capacity * 3 // 2) // GROWTH) * GROWTH
        for index, (keys, values) in self.layers.items():
            self.layers[index] = (self._grown(keys), self._grown(values))

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = old.new_zeros(self.slots, old.shape[1], self.capacity, old.shape[3])
        new[:, :, : old.shape[2]] = old
        return new

    def store(
        self,
        layer: int,
        keys: torch.Tensor,
        values: torch.Tensor,
        where: tuple[torch.Tensor, torch.Tensor] | tuple[int, slice],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep [kv_heads, tokens, head_dim]; all rows. ``where``: slots and positions [tokens]; of
        one request its slot and a slice, which costs a small model's step less."""
        if layer not in self.layers:
            self.layers[layer] = (self._empty(keys), self._empty(values))
        kept, (slots, positions) = self.layers[layer], where
        if isinstance(slots, int):
            kept[0][slots, :, positions] = keys
            kept[1][slots, :, positions] = values
        else:
            kept[0][slots, :, positions] = keys.transpose(0, 1)
            kept[1][slots, :, positions] = values.transpose(0, 1)
        return kept

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros(self.slots, like.shape[0], self.capacity, like.shape[2])

    def copy(self, source: int, target: int, length: int) -> None:
        """Give ``target`` the first ``length`` tokens of ``source``."""
        for both in self.layers.values():
            for kept in both:
                kept[target, :, :length] = kept[source, :, :length]
