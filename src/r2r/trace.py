"""The shared words: what a router sees (TokenSignals) and what a generation leaves (Trace)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Source = Literal["slm", "llm"]
FinishReason = Literal["eos", "stop", "length"]

TOP_K = 100  # logits a router may read at each position, as in the published training set


@dataclass(slots=True)
class TokenSignals:
    """What the SLM knows of each token it is about to write; all that a router may see.

    ``token``  [batch] int64: the token the SLM itself chose.
    ``logits`` [batch, k] float32: its raw top-k logits, before temperature, descending.
    ``hidden`` [batch, hidden] float32: its last hidden state, after the final norm.
    ``position`` [batch] int64: how many tokens of the answer come before this one.
    """

    token: torch.Tensor
    logits: torch.Tensor
    hidden: torch.Tensor
    position: torch.Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """One token of a generation: who wrote it, the router's score, the SLM's rejected token.

    ``cut``: what the SLM had written behind the rejected token, lost with it.
    """

    token: int
    source: Source
    score: float | None = None
    draft: int | None = None
    cut: tuple[int, ...] = ()


@dataclass(slots=True)
class Usage:
    """What one model did for an answer.

    ``requests``: how often it was asked. ``forwards``: how often it ran; each time it could write
    one token, so that they are the tokens it wrote, those it only proposed, and one for each text
    it verified. ``positions``: tokens it read, the prompt's included, each once, and again where
    what was read had been cut. A session's KV cache is taken to be kept from request to request.
    """

    requests: int = 0
    forwards: int = 0
    positions: int = 0


@dataclass(slots=True)
class Spent:
    """What an answer took: of each model, the SLM's tokens that the LLM judged, and the tokens the
    router was asked about."""

    slm: Usage = field(default_factory=Usage)
    llm: Usage = field(default_factory=Usage)
    verified: int = 0
    scored: int = 0

    def of(self, source: Source) -> Usage:
        return self.slm if source == "slm" else self.llm

    def copy(self) -> Spent:
        """As it is now."""
        return replace(self, slm=replace(self.slm), llm=replace(self.llm))


@dataclass(slots=True)
class Trace:
    """One generation: its tokens with who wrote each, its text, how it ended, what it took.

    ``text`` is the decoded answer without special tokens, cut before a stop string.
    ``seconds`` is wall time from submission to the last token (requests overlap, so the sum
    exceeds the run's wall time). ``spent`` None: not known, but for what the steps tell.
    """

    prompt: list[int]
    steps: list[Step] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason = "length"
    seconds: float = 0.0
    spent: Spent | None = None

    def count(self, source: Source) -> int:
        return sum(step.source == source for step in self.steps)

    def taken(self) -> Spent:
        """What it took; where nothing else is known, what handoffs of one token take."""
        if self.spent is not None:
            return self.spent
        refused = sum((s.draft is not None) + len(s.cut) for s in self.steps)
        scored = sum(s.score is not None or s.draft is not None for s in self.steps)
        slm = Usage(forwards=self.count("slm") + refused)
        return Spent(slm, Usage(forwards=self.count("llm")), scored=scored)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, a column each, for JSONL."""
        return {
            "prompt": self.prompt,
            "tokens": [step.token for step in self.steps],
            "llm": [int(step.source == "llm") for step in self.steps],
            "scores": [None if s.score is None else round(s.score, 6) for s in self.steps],
            "drafts": [step.draft for step in self.steps],
            "cuts": [list(step.cut) for step in self.steps],
            "text": self.text,
            "finish_reason": self.finish_reason,
            "seconds": round(self.seconds, 4),
            "spent": asdict(self.taken()),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Trace:
        names = ("tokens", "llm", "scores", "drafts", "cuts")
        columns = zip(*(row[name] for name in names), strict=True)
        steps = [
            Step(token, "llm" if llm else "slm", score, draft, tuple(cut))
            for token, llm, score, draft, cut in columns
        ]
        told = row["spent"]
        spent = told | {source: Usage(**told[source]) for source in ("slm", "llm")}
        ending = row["text"], row["finish_reason"], row["seconds"]
        return cls(row["prompt"], steps, *ending, Spent(**spent))
