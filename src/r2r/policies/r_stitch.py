"""Switching by entropy, both ways."""

from __future__ import annotations

from r2r.policies.answer import Answer, Drafted
from r2r.policies.routed import Policy


class RStitch(Policy):
    """The SLM hands over above an entropy, the LLM hands back below one.

    R-Stitch (arXiv 2507.17307, section 3): entropies are relative to ln(vocabulary); the SLM's
    uncertain token is dropped, the LLM's certain one stays. There is one bound in the paper; here
    ``hand_over`` and ``hand_back`` may differ. R-Stitch+, which learns when, is not built.
    """

    def __init__(self, *, hand_over: float, hand_back: float):
        self.hand_over, self.hand_back = hand_over, hand_back

    async def write(self, answer: Answer) -> None:
        while answer.ended is None:
            away = await answer.slm.write(above=self.hand_over)
            if away.draft is not None:
                dropped = Drafted([away.draft], [away.draft_score])
                await answer.llm.write(below=self.hand_back, instead=dropped)
