"""Step by step: who writes the next line, or paragraph, is decided once for all of it."""

from __future__ import annotations

from r2r.errors import must_be
from r2r.policies.answer import Answer, Drafted
from r2r.policies.routed import Policy
from r2r.trace import Step


class Glimpse(Policy):
    """The SLM's entropy at the first token of a step decides who writes the step.

    GlimpRouter (arXiv 2601.05110): above ``entropy`` (relative to ln(vocabulary)) the LLM writes it
    to its end. A step ends with the token behind which stands ``ends``.
    """

    def __init__(self, *, entropy: float, ends: str):
        self.entropy, self.ends = entropy, _some(ends)

    async def write(self, answer: Answer) -> None:
        while answer.ended is None:
            end = answer.step(self.ends)
            first = await answer.slm.write(above=self.entropy, most=1, until=end)
            if first.draft is not None:
                dropped = Drafted([first.draft], [first.draft_score])
                await answer.llm.write(until=end, instead=dropped)
            elif answer.ended is None and not end.closed:
                await answer.slm.write(until=end)


class SpecReason(Policy):
    """The SLM writes a step, the LLM scores it and writes it anew where it thinks little of it.

    SpecReason (arXiv 2504.07891). There the LLM is asked for a mark from 0 to 9; here the score is
    the mean log-probability (nats) that it gives the step's tokens, from one reading of them: the
    step stays where that is at least ``least``. A step ends with the token behind which stands
    ``ends``; none is streamed before it is scored.
    """

    version = 2

    def __init__(self, *, least: float, ends: str):
        self.least, self.ends = least, _some(ends)

    async def write(self, answer: Answer) -> None:
        while answer.ended is None:
            end = answer.step(self.ends)
            drafted = await answer.slm.draft(answer.left, until=end)
            read = await answer.llm.verify(drafted.tokens)
            if sum(read.logprobs) / len(read.logprobs) >= self.least:
                answer.add(*(Step(token, "slm") for token in drafted.tokens))
            else:
                await answer.llm.write(until=end, instead=drafted)


def _some(ends: str) -> str:
    if not ends:
        raise must_be("policy.ends", "a text, such as a line's end", ends)
    return ends
