"""Checking at the handoff: the LLM says what it thinks of all that it has to read anyway."""

from __future__ import annotations

from r2r.errors import must_be
from r2r.policies.acceptance import Acceptance
from r2r.policies.answer import Answer
from r2r.policies.routed import Policy


class Check(Policy):
    """Where the router fires, the LLM reads what is new and cuts it where it would not have gone
    along.

    The SLM writes until the router finds its token divergent, for ``every`` tokens at most, or to
    what would end the answer. Then the LLM reads all of it, that last token included. Up to the
    first token that ``accept`` refuses it stays; there the LLM writes its own, and what the SLM
    wrote behind it is lost. Where none is refused all stays. A token is streamed once it is
    accepted: what may still be cut, at most ``every`` tokens, is held back.
    """

    routes = cuts = True
    accept: Acceptance

    def __init__(self, *, every: int, accept: Acceptance):
        if every < 1:
            raise must_be("policy.every", "at least 1", every)
        self.every, self.accept = every, accept

    async def write(self, answer: Answer) -> None:
        while answer.ended is None:
            drafted = await answer.slm.draft(self.every, threshold=answer.threshold)
            read = await answer.llm.verify(drafted.tokens, signals=self.accept.reads)
            answer.add(*self.accept.settled(drafted, read))
