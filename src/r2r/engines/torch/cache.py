"""KV cache in slots: every session owns a row, rows grow at their own pace."""

from __future__ import annotations

import torch

GROWTH = 256  # tokens by which all slots grow


class SlotCache:
    """Keys and values [slots, capacity, kv_heads, head_dim] per layer, for transformers models.

    Passed as ``past_key_values``: each attention layer hands in the new tokens' keys and values
    and gets back those of the whole rows. What lies behind a row's length is never attended to,
    so padding may be written there and is overwritten later.
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
        new = old.new_zeros(self.slots, self.capacity, *old.shape[2:])
        new[:, : old.shape[1]] = old
        return new

    def select(self, rows: list[int], positions: torch.Tensor, length: int) -> None:
        """The rows of the next forward, where their new tokens go [rows, new], and how far to read.

        Neighbouring rows are read in place, others are copied together.
        """
        neighbours = rows == list(range(rows[0], rows[0] + len(rows)))
        self.rows = torch.tensor(rows, device=positions.device)
        self.read = slice(rows[0], rows[0] + len(rows)) if neighbours else self.rows
        self.positions, self.length = positions, length

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store [rows, kv_heads, new, head_dim]; return [rows, kv_heads, length, head_dim]."""
        if layer_idx not in self.layers:
            shape = (self.slots, self.capacity, keys.shape[1])
            self.layers[layer_idx] = (
                keys.new_zeros(*shape, keys.shape[3]),
                values.new_zeros(*shape, values.shape[3]),
            )
        both = self.layers[layer_idx]
        for kept, new in zip(both, (keys, values), strict=True):
            kept[self.rows[:, None], self.positions] = new.transpose(1, 2)
        read = (kept[self.read, : self.length].transpose(1, 2) for kept in both)
        return next(read), next(read)

    def copy(self, source: int, target: int, length: int) -> None:
        """Give ``target`` the first ``length`` tokens of ``source``."""
        for both in self.layers.values():
            for kept in both:
                kept[target, :length] = kept[source, :length]
