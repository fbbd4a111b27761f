"""The paper's policy."""

from __future__ import annotations

from r2r.policies.answer import Answer
from r2r.policies.routed import Policy
from r2r.trace import Step


class R2R(Policy):
    """The SLM writes until the router finds its token divergent; the LLM writes that one token.

    Algorithm 2 of R2R (arXiv 2505.21600, section 3). Both engines keep the request's KV cache, so a
    handoff costs the LLM the tokens since its last call and the SLM nothing but the one token it
    did not write. A routed EOS is overridden by whatever the LLM writes instead.
    """

    routes = True

    async def write(self, answer: Answer) -> None:
        while answer.ended is None:
            away = await answer.slm.write(threshold=answer.threshold)
            if answer.ended is None:
                token = await answer.llm.next_token()
                answer.add(Step(token, "llm", away.draft_score, away.draft))
