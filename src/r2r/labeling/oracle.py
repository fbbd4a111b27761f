"""The path-following rule as a generator: what a router that never errs would write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from r2r.engines.base import Engine, Request
from r2r.labeling.continuations import Fork, compare, follow_one
from r2r.labeling.respond import Query, Response
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Verdict, Verifier
from r2r.policies.base import Generator, Prompt, ended
from r2r.trace import FinishReason, Spent, Step

ORACLE_VERSION = 1  # what the labelling rule writes, token by token


class Oracle(Generator):
    """At each position both models write a token; where they differ, the labelling rule decides.

    The LLM follows both tokens to the end of their sentence and the verifier compares the two, as
    in labelling: neutral keeps the SLM's token, any other verdict takes the LLM's. An upper bound
    and no system to use: the LLM is asked at every position and writes two sentences at every
    difference, of which a trace, and so share, params and cost, shows the tokens kept alone.
    """

    def __init__(
        self,
        *,
        slm: Engine,
        llm: Engine,
        verifier: Verifier,
        sentences: Sentences,
        tokenizer: Any,
        context: int,
        concurrency: int,
        eos_ids: frozenset[int],
    ):
        super().__init__(tokenizer=tokenizer, context=context, concurrency=concurrency)
        self.slm, self.llm, self.eos_ids = slm, llm, eos_ids
        self.verifier, self.sentences = verifier, sentences

    async def write(
        self, prompt: Prompt, budget: int, add: Callable[[Step], None], spent: Spent
    ) -> FinishReason:
        small, large = self.slm.new_session(), self.llm.new_session()
        stop = self.stop_check(prompt)
        answer: list[int] = []
        start = 0  # of the sentence being written
        try:
            while len(answer) < budget:
                draft, token = await asyncio.gather(
                    self.slm.next_token(Request(prompt.tokens, answer, 1, prompt.sampling, small)),
                    self.llm.next_token(Request(prompt.tokens, answer, 1, prompt.sampling, large)),
                )
                if answer[start:] and self.sentences.complete(answer[start:], token):
                    start = len(answer)
                step = Step(draft, "slm")
                if draft != token:
                    verdict = await self._verdict(prompt, answer, start, draft, token, large)
                    step = step if verdict == "neutral" else Step(token, "llm", draft=draft)
                spent.slm.forwards += 1
                spent.llm.forwards += step.source == "llm"
                spent.slm.positions = spent.llm.positions = len(prompt.tokens) + len(answer)
                answer.append(step.token)
                add(step)
                if end := ended(answer, self.eos_ids, stop):
                    return end
            return "length"
        finally:
            self.slm.release(small)
            self.llm.release(large)

    async def _verdict(
        self, prompt: Prompt, answer: list[int], start: int, draft: int, token: int, session: int
    ) -> Verdict:
        question = self.tokenizer.decode(prompt.tokens, skip_special_tokens=True)
        query = Query("", prompt.tokens, question)
        forks = [
            Fork(Response(query, 0, answer), len(answer), first, start) for first in (draft, token)
        ]
        await asyncio.gather(
            *(
                follow_one(self.llm, fork, self.sentences, context=self.context, parent=session)
                for fork in forks
            )
        )
        small, large = forks
        small.response = Response(query, 0, [*answer, *large.tail])
        (verdict,) = await self.verifier.verify([compare(small, self.sentences)])
        return verdict
