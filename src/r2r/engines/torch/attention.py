"""Attention of requests packed into one row, each over its own row of the KV cache.

Registered with transformers under its own name: a model that uses it feeds the tokens of all
requests as one sequence, so that its linear layers compute no padding, however many tokens each
request brings. Outside of a forward of ours the model attends as it always does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from r2r.engines.torch.cache import Pool, SlotCache

NAME = "r2r_slots"
NARROW = 64  # tokens that are attended to together in any case
MASKED = 1 << 21  # queries x keys that are attended to at once under a mask
KEPT = 1 << 20  # numbers of a mask that is kept from layer to layer


def width_class(width: int) -> int:
    """Requests of one class are padded to each other: widths of 1, to 8, to 64, and so on."""
    return -(-(width - 1).bit_length() // 3)


class Segment:
    """Pieces of requests of one width class, whose texts lie in one pool, attended to together as
    [rows, width].

    ``tokens``: theirs among all of the forward; ``pieces`` are in order of their rows, which are
    read in place where few others lie between them (theirs is computed and dropped), and copied
    together where many do.
    """

    def __init__(self, pool: Pool, tokens: slice, pieces: Sequence[Piece], like: torch.Tensor):
        device = like.device
        pool.fit()
        self.pool, self.tokens, self.width = pool, tokens, max(piece.width for piece in pieces)
        held, starts = [piece.row for piece in pieces], [piece.start for piece in pieces]
        low, span = held[0], held[-1] - held[0] + 1
        near = span <= 2 * len(held)
        self.read = slice(low, low + span) if near else torch.tensor(held, device=device)
        rows = [row - low for row in held] if near else list(range(len(held)))
        self.rows = span if near else len(held)
        self.length = max(piece.start + piece.width for piece in pieces)
        # Where in the pool each token belongs.
        self.where: tuple[torch.Tensor, torch.Tensor] | tuple[int, slice]
        if len(pieces) == 1:
            self.where = held[0], slice(starts[0], self.length)
            self.positions = torch.arange(starts[0], self.length, device=device)
        else:
            each = [(p.row, p.start + at) for p in pieces for at in range(p.width)]
            at, self.positions = torch.tensor(each, device=device).T
            self.where = at, self.positions
        # Where each token lies in [rows, width]; None: exactly there already.
        self.place = None
        if self.width > 1 or self.rows > len(held):
            flat = [
                row * self.width + at
                for row, piece in zip(rows, pieces, strict=True)
                for at in range(piece.width)
            ]
            self.place = torch.tensor(flat, device=device)
        # Of each row the first position it brings.
        self.first = torch.zeros(self.rows, dtype=torch.long, device=device)
        self.first[rows] = torch.tensor(starts, device=device)
        self.alone = self.width == 1 and min(starts) + 1 == self.length  # one token, that sees all
        self.kept: dict[tuple[int | None, int], torch.Tensor] = {}

    def mask(self, window: int | None, groups: int, like: torch.Tensor) -> torch.Tensor | None:
        """Additive [rows, 1, width, length], ``groups`` times over where tokens are several; None:
        every row's one token sees all. Of a ``window`` a token sees the last ones, itself included.
        """
        if window is not None and window >= self.length:
            window = None
        if window is None and self.alone:
            return None
        kind = window, groups  # layers may differ in both
        if kind in self.kept:
            return self.kept[kind]
        last = (self.first[:, None] + torch.arange(self.width, device=like.device))[:, :, None]
        at = torch.arange(self.length, device=like.device)
        unseen = at > last
        if window is not None:
            unseen |= at <= last - window
        mask = torch.zeros(unseen.shape, dtype=like.dtype, device=like.device)
        mask = mask.masked_fill_(unseen, -torch.inf)[:, None]
        if self.width > 1 and groups > 1:
            mask = mask.repeat(1, 1, groups, 1)
        if mask.numel() <= KEPT:
            self.kept[kind] = mask
        return mask

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
        softcap: float | None,
        sinks: torch.Tensor | None,
    ) -> torch.Tensor:
        """The output [its tokens, heads, head_dim] of a forward's query [tokens, heads, head_dim],
        key and value [kv_heads, tokens, head_dim], of which its own are kept first."""
        tokens = self.tokens
        keys, values = self.pool.store(layer, key[:, tokens], value[:, tokens], self.where)
        query = query[tokens]
        given, heads, size = query.shape
        groups = heads // keys.shape[1]
        if self.place is not None:
            padded = query.new_zeros(self.rows * self.width, heads, size)
            query = padded.index_copy_(0, self.place, query)
        # Heads that share keys are further queries to them: keys are not repeated.
        query = query.view(self.rows, self.width, -1, groups, size)
        query = query.permute(0, 2, 3, 1, 4).reshape(self.rows, -1, groups * self.width, size)
        keys, values = keys[self.read, :, : self.length], values[self.read, :, : self.length]
        mask = self.mask(window, groups, query)
        if softcap is None and sinks is None:
            out = scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
        else:
            if sinks is not None:
                each = sinks.view(-1, groups, 1).expand(-1, -1, self.width)
                sinks = each.reshape(keys.shape[1], -1, 1)
            out = explicit(query, keys, values, mask, scale, softcap, sinks)
        size = out.shape[-1]
        out = out.view(self.rows, -1, groups, self.width, size).permute(0, 3, 1, 2, 4)
        out = out.reshape(self.rows * self.width, heads, size)
        return out[:given] if self.place is None else out[self.place]


def explicit(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Attention over [rows, heads, length, head_dim] with what PyTorch's knows not: scores that are
    capped, and sinks [heads, queries, 1], which take their part of a softmax and give nothing."""
    scores = (query @ keys.transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    if sinks is not None:
        beside = sinks.float().expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, beside], dim=-1)
    shares = scores.softmax(dim=-1)[..., : keys.shape[-2]]
    return shares.to(values.dtype) @ values


@dataclass(frozen=True, slots=True)
class Piece:
    """``width`` tokens of a request, the first of which is the text's at ``start``; ``part``: how
    many of the request come before. They belong into a pool's row."""

    capacity: int
    row: int
    part: int
    start: int
    width: int

    @property
    def kind(self) -> tuple[int, int, int]:
        """Pieces of one kind, none of them of one text, may be attended to together."""
        return width_class(self.width), self.capacity, self.part


class Layout:
    """Where the tokens of one forward belong: request ``i`` feeds ``widths[i]`` tokens from
    position ``starts[i]`` on into slot ``slots[i]``. In order of width class, then the slots'
    places. ``like``: any tensor of the model's dtype and device.
    """

    def __init__(
        self,
        cache: SlotCache,
        slots: Sequence[int],
        starts: Sequence[int],
        widths: Sequence[int],
        like: torch.Tensor,
    ):
        ends = [start + width for start, width in zip(starts, widths, strict=True)]
        cache.reserve(dict(zip(slots, ends, strict=True)))
        self.length = max(ends)
        pieces: list[Piece] = []
        for slot, start, width in zip(slots, starts, widths, strict=True):
            capacity, row = cache.place(slot)
            step = max(NARROW, MASKED // (start + width))
            for part in range(0, width, step):
                most = min(step, width - part)
                pieces.append(Piece(capacity, row, part, start + part, most))
        self.segments: list[Segment] = []
        at = 0
        for (_, capacity, _), group in itertools.groupby(pieces, key=lambda piece: piece.kind):
            together = list(group)
            keys = max(piece.start + piece.width for piece in together)
            rows = max(1, MASKED // (keys * max(piece.width for piece in together)))
            for first in range(0, len(together), rows):
                some = together[first : first + rows]
                tokens = slice(at, at := at + sum(piece.width for piece in some))
                self.segments.append(Segment(cache.pools[capacity], tokens, some, like))
        every = [segment.positions for segment in self.segments]
        self.positions = every[0] if len(every) == 1 else torch.cat(every)


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
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: [1, heads, tokens, head_dim] -> [1, tokens, heads, ...].

    Within a forward of ours over ``Running.layout``. ``s_aux`` [heads]: attention sinks. Raises
    NotImplementedError for a kind of attention that slots do not have.
    """
    if options.get("position_bias") is not None:
        raise NotImplementedError("attention with a position bias is not supported")
    if Running.layout is None:
        if softcap is not None or s_aux is not None:  # PyTorch's would leave them out
            raise NotImplementedError("soft caps and sinks are supported in slots only")
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling,
            sliding_window=sliding_window, **options,
        )  # fmt: skip
    layer: Any = module.layer_idx
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = torch.ops.r2r.attend if torch.compiler.is_compiling() else _attend
    return attend(query, key, value, layer, scale, sliding_window, softcap, s_aux), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layer: int,
    scaling: float,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    layout = Running.layout
    assert layout is not None
    queries = query[0].transpose(0, 1)
    outs = [
        segment.attend(layer, queries, key[0], value[0], scaling, window, softcap, sinks)
        for segment in layout.segments
    ]
    return (outs[0] if len(outs) == 1 else torch.cat(outs))[None]


# To compiled code a black box. What it does to the cache nobody else sees. Not by custom_op, whose
# wrappers take longer than a small model's attention.
torch.library.define(
    "r2r::attend",
    "(Tensor query, Tensor key, Tensor value, int layer, float scaling, int? window,"
    " float? softcap, Tensor? sinks) -> Tensor",
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
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    return query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
