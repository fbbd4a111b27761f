"""The engine contract: one model, asynchronous requests, batching is the engine's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from r2r.trace import TokenSignals

ENGINE_VERSION = 1  # what a model's greedy tokens and its readings are, whichever engine runs it
EndReason = Literal["divergent", "certain", "eos", "stop", "budget"]


class StopCheck(Protocol):
    """Whether a generation ends after its last token, beside EOS and budget."""

    def __call__(self, tokens: list[int]) -> bool:
        """``tokens``: the answer so far, the newest last."""
        ...


@dataclass(slots=True)
class Sampling:
    """How one answer is drawn. ``temperature`` 0 is greedy; ``seed`` fixes every other draw."""

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(slots=True)
class Request:
    """Ask an engine to continue ``prompt + answer``.

    ``answer`` holds what has been written so far (positions and seeds count from its start).
    Of a ``session`` the engine keeps the KV cache until ``release``, as far as its next request has
    the same text: what was read behind that is cut. ``parent`` names a live session whose cache may
    be copied for a common prefix.
    ``threshold`` is None where no router is to be asked. ``above`` and ``below`` are bounds of the
    model's own entropy, relative to that of a uniform distribution (0 to 1), in place of a router:
    above the one a token is divergent, below the other it is the last. ``budget``: tokens to write
    at most.
    With ``ignore_eos`` an end token is one as any other.
    ``on_tokens(tokens, scores)`` hears of every token that ``decode`` will return, once and in
    order, as soon as it is written; ``scores`` align with ``tokens``, or are empty where no router
    was asked. It is called in the event loop of ``decode``, and neither waits nor raises.
    ``signals``: ``verify`` is to tell the model's signals too.
    ``stays``: what ``decode`` writes is never taken back, and it ends at a divergent token unless
    the answer ends. An engine that can't cut a text may keep that of such requests all the same.
    """

    prompt: list[int]
    answer: list[int]
    budget: int
    sampling: Sampling = field(default_factory=Sampling)
    session: int = -1
    parent: int | None = None
    threshold: float | None = None
    above: float | None = None
    below: float | None = None
    stop: StopCheck | None = None
    ignore_eos: bool = False
    on_tokens: Callable[[list[int], list[float]], None] | None = None
    signals: bool = False
    stays: bool = False

    @property
    def unsure(self) -> bool:
        """Whether the model's own entropy decides anything."""
        return self.above is not None or self.below is not None

    @property
    def scored(self) -> bool:
        """Whether tokens get scores."""
        return self.threshold is not None or self.unsure


@dataclass(slots=True)
class Decoded:
    """What a request wrote. With reason ``divergent``, ``draft`` is the rejected token and
    ``draft_score`` its score; ``scores`` align with ``tokens`` where a router was asked. Entropies
    are scores too."""

    tokens: list[int]
    reason: EndReason
    scores: list[float] = field(default_factory=list)
    draft: int | None = None
    draft_score: float | None = None


@dataclass(slots=True)
class Prefill:
    """An engine's reading of a given text: signals and argmax for the token after each position.

    ``signals.token`` is the model's argmax at that position [positions]; ``indices``
    [positions, k] the token ids of ``signals.logits``.
    """

    signals: TokenSignals
    indices: torch.Tensor


@dataclass(slots=True)
class Verified:
    """What a model thinks of the given tokens of a text.

    ``ratios`` [given]: each token's probability relative to the most probable one's, 0 to 1, before
    temperature. ``logprobs`` [given]: its log-probability, in nats. ``choices`` [given + 1]: the
    token that ``next_token`` would write in the place of each, and behind the last. ``read``: the
    model's signals in the place of each [given], where the request wants them.
    """

    ratios: list[float]
    logprobs: list[float]
    choices: list[int]
    read: Prefill | None = None


class Engine(Protocol):
    """One model. All methods are safe to await from many tasks of one event loop at once."""

    async def decode(self, request: Request) -> Decoded:
        """Write tokens until the router finds one divergent, EOS, stop or the budget.

        With ``threshold`` None no router is asked: this is plain generation.
        """
        ...

    async def next_token(self, request: Request) -> int:
        """The one token this model writes next (``budget`` and ``threshold`` are ignored)."""
        ...

    async def verify(self, request: Request, start: int) -> Verified:
        """What this model thinks of ``request.answer[start:]``, in one reading of what is new.

        ``budget``, ``threshold`` and ``stop`` are ignored.
        """
        ...

    async def prefill(self, tokens: list[int], start: int, session: int = -1) -> Prefill:
        """Signals at positions ``start .. len(tokens) - 2``: those that predict a given token."""
        ...

    def release(self, session: int) -> None:
        """Forget a session's KV cache."""
        ...

    def new_session(self) -> int:
        """A session id no other request uses."""
        ...

    def live(self) -> int:
        """Requests it runs or has waiting, and idle sessions it keeps a cache for."""
        ...
