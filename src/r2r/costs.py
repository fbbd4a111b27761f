"""What traces cost: activated parameters per token, tokens, time and money. Pure arithmetic.

Two accountings of the average activated parameters per output token (billions):

``published``  (slm n_slm + llm f_llm) / n: a token costs the model that wrote it, as the paper
               reports it; where the LLM verifies, each of its forwards f_llm counts once, whatever
               it verifies and whether it wrote a token.
``inclusive``  every SLM forward, rejected and cut tokens too, the router for each token it scored,
               and the LLM for each token it wrote or verified, over n.

A verified position counts as inclusive because its output is computed in order to decide: the LLM
so decides on more positions than it would have written alone, and inclusive params may exceed its
own. Neither counts prefill: the prompt (a query-level router reads nothing else), and the SLM's
tokens that the LLM reads before a handoff without being asked about them.

``llm_forwards_per_token`` says what costs time where a forward reads the weights once and does
little else (small batches), ``llm_positions_per_token``, prefill included, where arithmetic counts
(large batches, long prompts). Both are as one request sees it, whatever engines batch or reread.

``billed`` is what the same work costs at prices per million tokens: each model's input is what it
read and had not written itself, each token once while its KV cache is kept, and again where what
was read had been cut; its output is a token for each of its forwards, those that only proposed or
verified too.

Over several traces n counts the tokens of all of them, so that LLM share, params and cost agree
with each other; the paper's released script takes the mean of the per-problem values instead, which
is the mean of ``trace_stats`` (what lm-eval reports).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields, replace

from r2r.trace import Source, Spent, Trace

COSTS_VERSION = 2  # params, share, cost and tokens of traces


@dataclass(frozen=True, slots=True)
class Params:
    """Activated parameters in billions. A single model's trace costs the model that wrote it."""

    slm_b: float
    llm_b: float
    router_b: float = 0.0


@dataclass(frozen=True, slots=True)
class Price:
    """Money per million tokens that a model reads (``input``) and writes (``output``)."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class Forwards:
    """What some traces took, together."""

    slm_tokens: int
    llm_tokens: int
    slm_forwards: int  # tokens the SLM wrote or only proposed
    llm_forwards: int
    llm_positions: int  # that the LLM read, the prompts included
    cut: int  # SLM tokens lost behind one that was refused
    scored: int  # tokens the router was asked about
    verified: int  # SLM tokens that the LLM judged
    answers: int

    @classmethod
    def of(cls, traces: Iterable[Trace]) -> Forwards:
        total = [0] * len(fields(cls))
        for trace in traces:  # one at a time: they may come from a file
            steps, spent, by_slm = trace.steps, trace.taken(), trace.count("slm")
            cut = sum(len(step.cut) for step in steps)
            found = (
                by_slm, len(steps) - by_slm, spent.slm.forwards, spent.llm.forwards,
                spent.llm.positions, cut, spent.scored, spent.verified, 1,
            )  # fmt: skip
            total = [a + b for a, b in zip(total, found, strict=True)]
        return cls(*total)

    def __add__(self, other: Forwards) -> Forwards:
        both = zip(astuple(self), astuple(other), strict=True)
        return Forwards(*(mine + its for mine, its in both))

    def at_least(self, spent: Spent) -> Forwards:
        """These, and what else ``spent`` knows of: it hears of a request once it has ended."""
        known = {
            "slm_forwards": spent.slm.forwards,
            "llm_forwards": spent.llm.forwards,
            "llm_positions": spent.llm.positions,
            "scored": spent.scored,
            "verified": spent.verified,
        }
        return replace(self, **{name: max(getattr(self, name), n) for name, n in known.items()})

    @property
    def tokens(self) -> int:
        return self.slm_tokens + self.llm_tokens

    def per_token(self, amount: float) -> float:
        """``amount`` over the number of tokens; 0 where nothing was written."""
        return amount / self.tokens if self.tokens else 0.0

    def shares(self, params: Params) -> dict[str, float]:
        """LLM share (0 to 1) and average activated params (billions) in both accountings."""
        written = params.slm_b * self.slm_tokens + params.llm_b * self.llm_forwards
        computed = (
            params.slm_b * self.slm_forwards
            + params.llm_b * (self.llm_tokens + self.verified)
            + params.router_b * self.scored
        )
        return {
            "llm_share": self.per_token(self.llm_tokens),
            "avg_params_b": self.per_token(computed),
            "avg_params_published_b": self.per_token(written),
        }

    def work(self) -> dict[str, float]:
        """What the models did for each token of the answers."""
        return {
            "llm_forwards_per_token": self.per_token(self.llm_forwards),
            "llm_positions_per_token": self.per_token(self.llm_positions),
            "slm_steps_per_token": self.per_token(self.slm_forwards),
            "cut_per_token": self.per_token(self.cut),
        }


def billed(traces: Iterable[Trace], prices: Mapping[Source, Price]) -> float | None:
    """Money for a thousand such answers; None where a model that worked for them has no price."""
    money, answers = 0.0, 0
    for trace in traces:
        spent, answers = trace.taken(), answers + 1
        for source in ("slm", "llm"):
            usage = spent.of(source)
            if not usage.forwards:
                continue
            if source not in prices:
                return None
            read = usage.positions - usage.forwards + usage.requests
            money += prices[source].input * read + prices[source].output * usage.forwards
    return money / 1e6 * 1000 / answers if answers else 0.0


def trace_stats(trace: Trace, params: Params) -> dict[str, float]:
    """One answer's share, params (billions) and token counts: lm-eval's per-sample statistics."""
    forwards = Forwards.of([trace])
    return forwards.shares(params) | {
        "slm_tokens": forwards.slm_tokens,
        "llm_tokens": forwards.llm_tokens,
        "output_tokens": forwards.tokens,
    }


def summary(traces: Iterable[Trace], params: Params, wall_seconds: float) -> dict[str, float]:
    """The cost of answering a benchmark.

    ``output_tokens`` is the mean per answer. ``cost`` is inclusive average params x mean output
    tokens, in billions x tokens per answer (the paper's total cost C; it prints thousands of
    tokens). ``tokens_per_s`` is all tokens over ``wall_seconds``, the wall time of the whole run.
    ``acceptance``, where the LLM verified drafts: the share of them that it kept. The rest is what
    ``Forwards.shares`` and ``Forwards.work`` tell.
    """
    forwards = Forwards.of(traces)
    shares = forwards.shares(params)
    output_tokens = forwards.tokens / forwards.answers if forwards.answers else 0.0
    kept = {"acceptance": forwards.slm_tokens / forwards.verified} if forwards.verified else {}
    return (
        shares
        | forwards.work()
        | kept
        | {
            "cost": shares["avg_params_b"] * output_tokens,
            "output_tokens": output_tokens,
            "seconds": wall_seconds,
            "tokens_per_s": forwards.tokens / wall_seconds if wall_seconds > 0 else 0.0,
        }
    )
