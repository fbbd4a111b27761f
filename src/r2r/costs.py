"""What traces cost: activated parameters per token, tokens and time. Pure arithmetic.

Two accountings of the average activated parameters per output token (billions):

``published``  (slm n_slm + llm n_llm) / n, as the paper reports it: a token costs the model that
               wrote it.
``inclusive``  every SLM forward, the rejected drafts too, the router for each token it scored, and
               the LLM for each token it wrote, over n.

In speculative decoding a draft that the LLM accepts counts as the SLM's token. ``published`` then
takes each LLM forward once, whatever it verifies; ``inclusive`` takes it for every draft it
verified too, since it computes that position's output in order to decide. The LLM so decides on
more positions than it would have written alone, and inclusive params exceed its own.

Neither counts prefill: the prompt (a query-level router reads nothing else), and the SLM's tokens
that the LLM reads before a handoff without being asked about them. Over several traces n counts
the tokens of all of them, so that LLM share, params and cost agree with each other; the paper's
released script takes the mean of the per-problem values instead, which is the mean of
``trace_stats`` (what lm-eval reports).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from r2r.trace import Trace

COSTS_VERSION = 1  # params, share, cost and tokens of traces


@dataclass(frozen=True, slots=True)
class Params:
    """Activated parameters in billions. A single model's trace costs the model that wrote it."""

    slm_b: float
    llm_b: float
    router_b: float = 0.0


@dataclass(frozen=True, slots=True)
class Forwards:
    """How often each part ran to write some traces."""

    slm_tokens: int
    llm_tokens: int
    rejected: int  # SLM tokens that the LLM replaced, or never came to
    scored: int  # tokens the router was asked about
    drafted: int  # SLM tokens that the LLM verified (speculative decoding)
    answers: int

    @classmethod
    def of(cls, traces: Iterable[Trace]) -> Forwards:
        slm = llm = rejected = scored = drafted = answers = 0
        for trace in traces:  # one at a time: they may come from a file
            steps, by_slm, proposed = trace.steps, trace.count("slm"), trace.drafted
            slm, llm = slm + by_slm, llm + len(steps) - by_slm
            rejected += sum(step.draft is not None for step in steps)
            rejected += proposed - by_slm if proposed else 0
            scored += sum(step.score is not None or step.draft is not None for step in steps)
            drafted, answers = drafted + proposed, answers + 1
        return cls(slm, llm, rejected, scored, drafted, answers)

    def __add__(self, other: Forwards) -> Forwards:
        both = zip(astuple(self), astuple(other), strict=True)
        return Forwards(*(mine + its for mine, its in both))

    @property
    def tokens(self) -> int:
        return self.slm_tokens + self.llm_tokens

    def per_token(self, amount: float) -> float:
        """``amount`` over the number of tokens; 0 where nothing was written."""
        return amount / self.tokens if self.tokens else 0.0

    def shares(self, params: Params) -> dict[str, float]:
        """LLM share (0 to 1) and average activated params (billions) in both accountings."""
        written = params.slm_b * self.slm_tokens + params.llm_b * self.llm_tokens
        overhead = (
            params.slm_b * self.rejected
            + params.llm_b * self.drafted
            + params.router_b * self.scored
        )
        return {
            "llm_share": self.per_token(self.llm_tokens),
            "avg_params_b": self.per_token(written + overhead),
            "avg_params_published_b": self.per_token(written),
        }


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
    ``acceptance``, where the LLM verified drafts: the share of them that it kept.
    """
    forwards = Forwards.of(traces)
    shares = forwards.shares(params)
    output_tokens = forwards.tokens / forwards.answers if forwards.answers else 0.0
    kept = {"acceptance": forwards.slm_tokens / forwards.drafted} if forwards.drafted else {}
    return (
        shares
        | kept
        | {
            "cost": shares["avg_params_b"] * output_tokens,
            "output_tokens": output_tokens,
            "seconds": wall_seconds,
            "tokens_per_s": forwards.tokens / wall_seconds if wall_seconds > 0 else 0.0,
        }
    )
