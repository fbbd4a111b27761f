"""KV cache in slots: a slot holds one text, in a row of the pool whose capacity the text needs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch

SMALLEST = 256  # tokens of a row of the smallest pool; the next has rows of twice as many


class Pool:
    """Rows of one capacity: keys and values [rows, kv_heads, capacity, head_dim] of each layer.

    ``rows``: slot -> its row. There is memory for ``room`` rows: for at most half as many again as
    were ever needed at once, and never for twice those that are taken. What lies behind the length
    of a row's text is masked, and zero: were it NaN, nothing times it were NaN too.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.rows: dict[int, int] = {}
        self.room, self.fits = 0, True
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def take(self, slot: int, slots: int) -> None:
        """Give a slot the lowest free row. ``slots``: how many rows can be wanted at all."""
        taken = set(self.rows.values())
        row = self.rows[slot] = next(row for row in itertools.count() if row not in taken)
        if row >= self.room:
            self.room, self.fits = min(max(row + 1, self.room * 3 // 2), slots), False

    def fit(self) -> None:
        """Give the layers memory for ``room`` rows. Rows that are taken one after the other, and
        hold nothing yet, cost one move of the others."""
        if self.fits:
            return
        for index, (keys, values) in self.layers.items():
            self.layers[index] = (self._grown(keys), self._grown(values))
        self.fits = True

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = old.new_zeros(self.room, *old.shape[1:])
        new[: len(old)] = old
        return new

    def free(self, slot: int) -> None:
        """Give a row back. The others move together where they leave half of the room empty."""
        row = self.rows.pop(slot)
        if 2 * len(self.rows) > self.room:
            self.wipe(row, slice(None))
            return
        self.fit()
        kept = sorted(self.rows, key=self.rows.__getitem__)
        rows = [self.rows[slot] for slot in kept]
        self.rows, self.room = {slot: row for row, slot in enumerate(kept)}, len(kept)
        if not kept:
            self.layers.clear()
        for index, (keys, values) in self.layers.items():
            self.layers[index] = (keys[rows], values[rows])

    @torch.inference_mode()
    def wipe(self, row: int, positions: slice) -> None:
        """Forget what a row holds there; there may be no memory for it yet."""
        for both in self.layers.values():
            for kept in both:
                kept[row : row + 1, :, positions] = 0

    def store(
        self,
        layer: int,
        keys: torch.Tensor,
        values: torch.Tensor,
        where: tuple[torch.Tensor, torch.Tensor] | tuple[int, slice],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep [kv_heads, tokens, head_dim]; all rows. ``where``: rows and positions [tokens]; of
        one text its row and a slice, which costs a small model's step less."""
        if layer not in self.layers:
            self.layers[layer] = (self._empty(keys), self._empty(values))
        kept, (rows, positions) = self.layers[layer], where
        if isinstance(rows, int):
            kept[0][rows, :, positions] = keys
            kept[1][rows, :, positions] = values
        else:
            kept[0][rows, :, positions] = keys.transpose(0, 1)
            kept[1][rows, :, positions] = values.transpose(0, 1)
        return kept

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros(self.room, like.shape[0], self.capacity, like.shape[2])

    def copy(self, row: int, source: Pool, other: int, length: int) -> None:
        """Give ``row`` the first ``length`` tokens of a pool's ``other`` row."""
        self.fit()
        for index, both in source.layers.items():
            if other >= len(both[0]):
                continue  # a row that holds nothing yet
            if index not in self.layers:
                self.layers[index] = (self._empty(both[0][0]), self._empty(both[1][0]))
            for mine, its in zip(self.layers[index], both, strict=True):
                mine[row, :, :length] = its[other, :, :length]


class SlotCache:
    """The slots of at most ``slots`` texts, each in a pool of rows that are long enough for it."""

    def __init__(self, slots: int):
        self.slots = slots
        self.pools: dict[int, Pool] = {}  # by capacity
        self.homes: dict[int, Pool] = {}  # of the slots that have a row

    def reserve(self, needs: Mapping[int, int]) -> None:
        """Make room in slots for as many tokens as each is to hold: a text that outgrows its row
        moves. That, and ``free``, may change the rows of others."""
        moving: list[tuple[int, Pool]] = []
        for slot, tokens in needs.items():
            home = self.homes.get(slot)
            if home is not None and tokens <= home.capacity:
                continue
            capacity = SMALLEST << ((tokens - 1) // SMALLEST).bit_length()
            pool = self.homes[slot] = self.pools.setdefault(capacity, Pool(capacity))
            pool.take(slot, self.slots)
            if home is not None:
                moving.append((slot, home))
        for slot, home in moving:
            pool = self.homes[slot]
            pool.copy(pool.rows[slot], home, home.rows[slot], home.capacity)
        for slot, home in moving:
            home.free(slot)

    def free(self, slot: int) -> None:
        """Forget a slot's text, if it holds one."""
        home = self.homes.pop(slot, None)
        if home is not None:
            home.free(slot)

    def cut(self, slot: int, start: int, end: int | None = None) -> None:
        """Forget a part of a slot's text: up to ``end``, or all there may be."""
        home = self.homes.get(slot)
        if home is not None:
            home.wipe(home.rows[slot], slice(start, end))

    def copy(self, source: int, target: int, length: int) -> None:
        """Give ``target``, which has room for them, the first ``length`` tokens of ``source``."""
        home, its = self.homes[target], self.homes[source]
        home.copy(home.rows[target], its, its.rows[source], length)

    def place(self, slot: int) -> tuple[int, int]:
        """Where a slot's text lies: the capacity of its pool, and its row there."""
        home = self.homes[slot]
        return home.capacity, home.rows[slot]

    @property
    def nbytes(self) -> int:
        """What keys and values take now."""
        layers = (both for pool in self.pools.values() for both in pool.layers.values())
        return sum(kept.nbytes for both in layers for kept in both)
