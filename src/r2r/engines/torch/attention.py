"""Attention of requests packed into one row, each over its own slot of the KV cache.

Registered with transformers under its own name: a model that uses it feeds the tokens of all
requests as one sequence, so that its linear layers compute no padding, however many tokens each
request brings. Without ``packed`` the model attends as it always does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from r2r.engines.torch.cache import SlotCache

NAME = "r2r_slots"
UNSUPPORTED = ("softcap", "s_aux", "position_bias")  # of some models' attention


def width_class(width: int) -> int:
    """Requests of one class are padded to each other: widths of 1, to 8, to 64, and so on."""
    return -(-(width - 1).bit_length() // 3)


class Segment:
    """Requests of one width class [rows], attended to together as [rows or slots, width].

    Slots are read in place where few others lie between them (theirs is computed and dropped),
    and copied together where many do.
    """

    def __init__(
        self,
        tokens: slice,
        slots: list[int],
        starts: list[int],
        widths: list[int],
        like: torch.Tensor,
    ):
        device = like.device
        self.tokens, self.width = tokens, max(widths)
        low, span = slots[0], slots[-1] - slots[0] + 1
        near = span <= 2 * len(slots)
        self.read = slice(low, low + span) if near else torch.tensor(slots, device=device)
        rows = [slot - low for slot in slots] if near else list(range(len(slots)))
        self.rows = span if near else len(slots)
        self.length = max(start + width for start, width in zip(starts, widths, strict=True))
        # Where each token lies in [rows, width]; None: exactly there already.
        self.place = None
        if self.width > 1 or self.rows > len(slots):
            flat = [
                row * self.width + at
                for row, width in zip(rows, widths, strict=True)
                for at in range(width)
            ]
            self.place = torch.tensor(flat, device=device)
        # Additive [rows, 1, width, length]; None: every row's one token sees all.
        self.mask = None
        if self.width > 1 or min(starts) + 1 < self.length:
            first = torch.zeros(self.rows, dtype=torch.long, device=device)
            first[rows] = torch.tensor(starts, device=device)
            last = first[:, None] + torch.arange(self.width, device=device)
            unseen = torch.arange(self.length, device=device) > last[:, :, None]
            mask = torch.zeros(unseen.shape, dtype=like.dtype, device=device)
            self.mask = mask.masked_fill_(unseen, -torch.inf)[:, None]

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """[tokens, heads, head_dim], over keys and values [slots, kv_heads, capacity, head_dim]."""
        given, heads, size = query.shape
        groups = heads // keys.shape[1]
        if self.place is not None:
            padded = query.new_zeros(self.rows * self.width, heads, size)
            query = padded.index_copy_(0, self.place, query)
        # Heads that share keys are further queries to them: keys are not repeated.
        query = query.view(self.rows, self.width, -1, groups, size)
        query = query.permute(0, 2, 3, 1, 4).reshape(self.rows, -1, groups * self.width, size)
        if self.mask is not None and self.width > 1 and self.mask.shape[2] < query.shape[2]:
            self.mask = self.mask.repeat(1, 1, groups, 1)
        out = scaled_dot_product_attention(
            query,
            keys[self.read, :, : self.length],
            values[self.read, :, : self.length],
            attn_mask=self.mask,
            scale=scaling,
        )
        size = out.shape[-1]
        out = out.view(self.rows, -1, groups, self.width, size).permute(0, 3, 1, 2, 4)
        out = out.reshape(self.rows * self.width, heads, size)
        return out[:given] if self.place is None else out[self.place]


class Layout:
    """Where the tokens of one forward belong: request ``i`` feeds ``widths[i]`` tokens from
    position ``starts[i]`` on into slot ``slots[i]``. In order of width class, then slot.
    ``like``: any tensor of the model's dtype and device.
    """

    def __init__(
        self,
        cache: SlotCache,
        slots: Sequence[int],
        starts: Sequence[int],
        widths: Sequence[int],
        like: torch.Tensor,
    ):
        self.cache = cache
        requests = list(zip(slots, starts, widths, strict=True))
        self.length = max(start + width for _, start, width in requests)
        cache.reserve(self.length)
        self.where: tuple[torch.Tensor, torch.Tensor] | tuple[int, slice]
        if len(requests) == 1:
            [(slot, start, _)] = requests
            self.where = slot, slice(start, self.length)
            self.positions = torch.arange(start, self.length, device=like.device)
        else:
            each = [(slot, start + at) for slot, start, width in requests for at in range(width)]
            rows, self.positions = torch.tensor(each, device=like.device).T
            self.where = rows, self.positions
        self.segments: list[Segment] = []
        at = 0
        for _, group in itertools.groupby(requests, key=lambda request: width_class(request[2])):
            slots, starts, widths = (list(column) for column in zip(*group, strict=True))
            end = at + sum(widths)
            self.segments.append(Segment(slice(at, end), slots, starts, widths, like))
            at = end


class Running:
    """The layout of the forward under way: compiled code has no other way to it."""

    layout: Layout | None = None


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packed: bool = False,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: [1, heads, tokens, head_dim] -> [1, tokens, heads, ...].

    ``packed``: over ``Running.layout``. Raises NotImplementedError for a kind of attention that
    slots do not have.
    """
    if not packed:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling,
            sliding_window=sliding_window, **options,
        )  # fmt: skip
    given = [name for name in UNSUPPORTED if options.get(name) is not None]
    if given:
        raise NotImplementedError(f"attention with {', '.join(given)} is not supported")
    layer: Any = module.layer_idx
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = torch.ops.r2r.attend if torch.compiler.is_compiling() else _attend
    return attend(query, key, value, layer, scale, sliding_window), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layer: int,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    layout = Running.layout
    assert layout is not None
    if window is not None and layout.length > window:
        raise NotImplementedError(f"attention over more than the sliding window of {window} tokens")
    keys, values = layout.cache.store(layer, key[0], value[0], layout.where)
    queries = query[0].transpose(0, 1)
    outs = [
        segment.attend(queries[segment.tokens], keys, values, scaling)
        for segment in layout.segments
    ]
    return (outs[0] if len(outs) == 1 else torch.cat(outs))[None]


# To compiled code a black box. What it does to the cache nobody else sees. Not by custom_op, whose
# wrappers take longer than a small model's attention.
torch.library.define(
    "r2r::attend",
    "(Tensor query, Tensor key, Tensor value, int layer, float scaling, int? window) -> Tensor",
)
torch.library.impl("r2r::attend", "default", _attend)


@torch.library.register_fake("r2r::attend")
def _(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layer: int,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    return query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
