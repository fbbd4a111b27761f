"""A rule that waits for the end: does the final answer change with the SLM's token?"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from typing import Protocol

from r2r.engines.base import Request
from r2r.labeling.concurrent import map_bounded
from r2r.labeling.continuations import CONTINUATIONS_AT_ONCE, Fork
from r2r.labeling.respond import Query
from r2r.labeling.rules import Held
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Verdict
from r2r.records import fingerprint

OUTCOME_VERSION = 2  # which mismatches are followed to the end, and what is made of the answers


class Finals(Protocol):
    """The final answers that a query's task compares."""

    def read(self, query: Query, text: str) -> str | None:
        """The final answer of an answer's whole text, None where it has none."""
        ...

    def same(self, query: Query, one: str, other: str) -> bool:
        """Whether two of them are equal. Thread-safe: it may take seconds."""
        ...


class Outcome:
    """Divergent where the LLM, going on from the SLM's token to the end, comes to another final
    answer than in its own (AutoJudge, arXiv 2504.20039, but each token by itself and not
    on top of those that were found unimportant).

    Neutral without being followed is a token whose probability, for the LLM, is at least ``bound``
    times that of its own. Of the others ``per_query`` of an answer are followed, drawn by ``seed``;
    the rest is ``unsampled``. ``max_new_tokens``: of a whole answer. What is cut off there, or
    stands against an answer that has no final one, is ``unverified``.
    """

    def __init__(
        self,
        *,
        finals: Finals,
        sentences: Sentences,
        bound: float,
        per_query: int,
        seed: int,
        max_new_tokens: int,
    ):
        self.finals, self.sentences, self.bound = finals, sentences, bound
        self.per_query, self.seed, self.max_new_tokens = per_query, seed, max_new_tokens

    async def prove(self) -> None:
        return None

    async def verdicts(self, forks: Sequence[Fork], held: Held) -> list[Verdict]:
        for fork in forks:
            fork.tail = [fork.token]
        response = forks[0].response
        own = self.finals.read(response.query, self.sentences.text(response.tokens))
        found: dict[int, Verdict] = {f.position: "neutral" for f in forks if f.ratio >= self.bound}
        unlikely = [fork for fork in forks if fork.position not in found]
        if own is None:
            return [found.get(fork.position, "unverified") for fork in forks]
        chosen = self._chosen(response.query.tokens, unlikely)

        async def one(fork: Fork) -> Verdict:
            return await self._verdict(fork, own, held)

        judged = await map_bounded(CONTINUATIONS_AT_ONCE, chosen, one)
        for fork, verdict in zip(chosen, judged, strict=True):
            found[fork.position] = verdict
        return [found.get(fork.position, "unsampled") for fork in forks]

    def _chosen(self, tokens: Sequence[int], forks: Sequence[Fork]) -> list[Fork]:
        """Those whose hashes are lowest: a sample that depends on prompt and seed alone."""
        prompt = fingerprint(tokens)

        def rank(fork: Fork) -> str:
            return fingerprint([self.seed, prompt, fork.position])

        return heapq.nsmallest(self.per_query, forks, key=rank)

    async def _verdict(self, fork: Fork, own: str, held: Held) -> Verdict:
        query, at = fork.response.query, fork.position
        answer = [*fork.response.tokens[:at], fork.token]
        if fork.token not in self.sentences.eos_ids:
            longest = min(self.max_new_tokens, held.context - len(query.tokens))
            if len(answer) >= longest:
                return "unverified"
            request = Request(
                query.tokens,
                answer,
                longest - len(answer),
                parent=held.session,
                on_tokens=held.on_tokens,
            )
            async with held.turn():
                decoded = await held.llm.decode(request)
            answer = [*answer, *decoded.tokens]
            fork.tail = answer[at : self.sentences.end(answer, fork.start, at)]
            if decoded.reason != "eos":
                return "unverified"
        final = self.finals.read(query, self.sentences.text(answer))
        if final is None:
            return "divergent"
        same = await asyncio.to_thread(self.finals.same, query, own, final)
        return "neutral" if same else "divergent"
