"""Generation by two models that share each answer as a policy says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from r2r.engines.base import Engine
from r2r.policies.acceptance import Acceptance
from r2r.policies.answer import Answer
from r2r.policies.base import Generator, Prompt
from r2r.policies.pace import Pace
from r2r.trace import FinishReason, Spent, Step

ROUTED_VERSION = 1  # what a policy sees of an answer, and what an answer takes


class Policy(ABC):
    """How two models share an answer, from one request's point of view; engines batch.

    ``routes``: it asks the run's router, by the threshold. ``cuts``: tokens that the router has
    scored may be taken back. ``accept``: its test, if any. An instance serves all answers at once:
    what belongs to one of them stays in ``write``.
    """

    version: ClassVar[int] = 1  # raised whenever it writes something else than before
    routes: ClassVar[bool] = False
    cuts: ClassVar[bool] = False
    accept: Acceptance | None = None

    @abstractmethod
    async def write(self, answer: Answer) -> None:
        """Write until ``answer.ended``."""


class Routed(Generator):
    """Two engines and a policy. ``threshold`` is read by policies that route; ``share``: LLM
    forwards a token that moving it is to hold over all answers that bring none of their own.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        slm: Engine,
        llm: Engine,
        threshold: float,
        tokenizer: Any,
        context: int,
        concurrency: int,
        eos_ids: frozenset[int],
        share: float | None = None,
    ):
        super().__init__(tokenizer=tokenizer, context=context, concurrency=concurrency)
        self.policy, self.slm, self.llm = policy, slm, llm
        self.threshold, self.eos_ids = threshold, eos_ids
        self.pace: Pace | None = None
        if share is not None:
            self.pace = Pace(share=share, start=threshold, answers=concurrency)

    async def write(
        self, prompt: Prompt, budget: int, add: Callable[[Step], None], spent: Spent
    ) -> FinishReason:
        answer = Answer(
            prompt,
            slm=self.slm,
            llm=self.llm,
            threshold=self.threshold if prompt.threshold is None else prompt.threshold,
            budget=budget,
            eos_ids=self.eos_ids,
            tokenizer=self.tokenizer,
            stop=self.stop_check(prompt),
            add=add,
            spent=spent,
            pace=self.pace if prompt.threshold is None else None,
        )
        try:
            await self.policy.write(answer)
        finally:
            answer.release()
        assert answer.ended is not None, f"{type(self.policy).__name__} left an answer unfinished"
        return answer.ended
