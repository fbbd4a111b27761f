"""Runner: a transformers model over KV slots, and what one forward of it gives."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Any

import torch

from r2r.engines.base import Request
from r2r.engines.sampling import choose, entropies
from r2r.engines.slices import slices
from r2r.engines.torch.attention import NAME, Layout, Running
from r2r.engines.torch.cache import SlotCache
from r2r.engines.torch.compiled import compiled, constants
from r2r.engines.torch.head import head_of
from r2r.engines.torch.packed import pack
from r2r.engines.torch.past import Past
from r2r.errors import must_be
from r2r.routers.base import Router, routed
from r2r.trace import TOP_K, TokenSignals


class NotExact(NotImplementedError):
    """A model that would not be run exactly."""


class Runner:
    """A model and the router that its tokens may ask.

    ``cache``: where its texts lie. The rest as in TorchEngine.
    """

    def __init__(
        self,
        *,
        model: Any,
        banned: Collection[int],
        cache: SlotCache,
        router: Router | None,
        compile: bool,
    ):
        self.model, self.router, self.cache = model, router, cache
        self.past = Past(router.window) if router is not None and router.window > 1 else None
        self.device = model.device
        if not compile:  # inductor can't read packed weights
            pack(model)
        self.decoder, self.head = model.get_decoder(), head_of(model)
        self.compiled = compiled(self.decoder, self.device) if compile else None
        self.vocabulary: int = model.get_output_embeddings().out_features
        self.known: int = model.get_input_embeddings().weight.shape[0]
        self.banned = torch.tensor(sorted(banned), dtype=torch.long, device=self.device)
        self.mask = torch.zeros(1, 1, 1, 1, device=self.device)  # a ready one: none is built
        try:
            with constants() if compile else contextlib.nullcontext():
                self._check()
        except RuntimeError as error:
            if self.compiled is None or type(error).__module__.partition(".")[0] != "torch":
                raise
            problem = str(error).partition("\n")[0]
            raise must_be("engine.compile", f"false here ({problem})", True) from error

    @torch.inference_mode()
    def _check(self) -> None:
        ids = list(range(1, 5))
        # transformers' others leave out soft caps; but eager rounds its scores, which with large
        # keys moves bfloat16 logits by a tenth (Qwen2.5-Coder-0.5B): there sdpa's do as well.
        half = self.model.dtype.itemsize == 2 and self.model._supports_sdpa
        expected = [self._own(ids, name) for name in ("eager", "sdpa")[: 1 + half]]
        self.model.set_attn_implementation(NAME)
        parts = [  # forwards of several tokens and of one: what is compiled is compiled here
            self.hidden(fed, Layout(self.cache, [0], [start], [len(fed)], self.head.weight))
            for start, fed in ((0, ids[:3]), (3, ids[3:]))
        ]
        self.cache.free(0)
        given = self.head(torch.cat(parts)).float()
        tolerance = torch.finfo(self.head.weight.dtype).eps ** 0.5
        if not any((given - own).norm() <= tolerance * own.norm() for own in expected):
            kind = type(self.model).__name__
            raise NotExact(f"{kind}: four tokens in slots differ from its own forward")

    def _own(self, ids: list[int], attention: str) -> torch.Tensor:
        """The model's own logits [len(ids), vocabulary] by one of transformers' attentions."""
        self.model.set_attn_implementation(attention)
        return self.model(input_ids=torch.tensor([ids], device=self.device)).logits[0].float()

    @torch.inference_mode()
    def write_one(self) -> None:
        """Write a token and drop it, before any request has come: to see what it takes."""
        asked = Request([1], [], 1, threshold=None if self.router is None else 0.0)
        layout = Layout(self.cache, [0], [0], [1], self.head.weight)
        self.pick([asked], [0], self.hidden([1], layout))
        self.cache.free(0)
        if self.past is not None:
            self.past.forget(asked.session)

    def hidden(self, ids: list[int], layout: Layout) -> torch.Tensor:
        """Final hidden states [tokens, hidden] of tokens that belong where ``layout`` says."""
        Running.layout = layout
        run = self.decoder if self.compiled is None else self.compiled
        try:
            return run(
                input_ids=torch.tensor([ids], device=self.device),
                attention_mask=self.mask,
                position_ids=layout.positions[None],
                use_cache=False,
            ).last_hidden_state[0]
        finally:
            Running.layout = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [n, vocab] of which none is of a banned token."""
        return self.head(hidden).float().index_fill_(1, self.banned, -torch.inf)

    def _top(self, logits: torch.Tensor) -> torch.return_types.topk:
        """The raw logits [n, k] that routers may see, and their ids."""
        return logits.topk(min(TOP_K, logits.shape[-1]), dim=-1)

    def read(self, hidden: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """Of hidden states [n, hidden], in slices: argmax [n], raw logits [n, k] and their ids,
        the hidden states."""
        parts = []
        for rows in slices(len(hidden), self.vocabulary):
            logits = self.head(hidden[rows]).float()
            values, indices = self._top(logits)
            logits.index_fill_(1, self.banned, -torch.inf)
            told = (logits.argmax(-1), values, indices, hidden[rows].float())
            parts.append(tuple(part.cpu() for part in told))
        return parts

    def pick(
        self, requests: Sequence[Request], positions: list[int], hidden: torch.Tensor
    ) -> tuple[list[int], dict[int, tuple[float, bool]]]:
        """The token of each request, at its position of the answer; of the rows that ask a router,
        or for an entropy, its score and whether that is divergent."""
        logits = self.head(hidden).float()
        asked = [row for row, request in enumerate(requests) if request.threshold is not None]
        every = len(asked) == len(requests)
        top = self._top(logits if every else logits[asked]).values if asked else None
        logits.index_fill_(1, self.banned, -torch.inf)
        chosen = choose(logits, [request.sampling for request in requests], positions)
        uncertain = _entropies(requests, logits)
        if top is None:
            return chosen.tolist(), uncertain
        assert self.router is not None
        rows = slice(None) if every else asked
        at = torch.tensor(positions, device=self.device)[rows]
        signals = TokenSignals(chosen[rows], top, hidden[rows].float(), at)
        if self.past is not None:
            signals = self.past.join([requests[row].session for row in asked], signals)
        found = self.router.score(signals)
        told = torch.cat([chosen.double(), found.double()]).tolist()  # waits for the device once
        tokens, scores = [int(token) for token in told[: len(chosen)]], told[len(chosen) :]
        limits = torch.tensor([requests[row].threshold for row in asked])
        away = routed(torch.tensor(scores), limits).tolist()
        return tokens, uncertain | dict(zip(asked, zip(scores, away, strict=True), strict=True))


def _entropies(requests: Sequence[Request], logits: torch.Tensor) -> dict[int, tuple[float, bool]]:
    """Of the rows that ask for it, the entropy over ln(vocabulary), and whether it is too high."""
    asked = [row for row, request in enumerate(requests) if request.unsure]
    if not asked:
        return {}
    found: dict[int, tuple[float, bool]] = {}
    for row, entropy in zip(asked, entropies(logits[asked]).tolist(), strict=True):
        bound = requests[row].above
        found[row] = (entropy, bound is not None and entropy > bound)
    return found
