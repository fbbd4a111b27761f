"""Speculative decoding with the SLM as its draft: exact, or with a looser test."""

from __future__ import annotations

from r2r.errors import must_be
from r2r.policies.acceptance import Acceptance
from r2r.policies.answer import Answer
from r2r.policies.routed import Policy
from r2r.trace import Step


class Speculative(Policy):
    """The SLM drafts at most ``draft_tokens`` tokens; one LLM forward reads them all.

    Drafts stay up to the first that ``accept`` refuses, and the LLM's own token comes behind them
    (Leviathan et al., arXiv 2211.17192, Algorithm 1 at temperature 0). With ``Exact`` the answer is
    the LLM's own, token for token, drawn ones too: both models draw by the same random numbers.
    With ``Ratio`` it is lossy: other tokens pass where the LLM finds them likely enough.
    """

    accept: Acceptance

    def __init__(self, *, draft_tokens: int, accept: Acceptance):
        if draft_tokens < 1:
            raise must_be("policy.draft_tokens", "at least 1", draft_tokens)
        self.draft_tokens, self.accept = draft_tokens, accept

    async def write(self, answer: Answer) -> None:
        while answer.ended is None:
            drafted = await answer.slm.draft(min(self.draft_tokens, answer.left - 1))
            read = await answer.llm.verify(drafted.tokens, signals=self.accept.reads)
            steps = self.accept.settled(drafted, read)
            if all(step.source == "slm" for step in steps):
                steps.append(Step(read.choices[-1], "llm"))
            answer.add(*steps)
