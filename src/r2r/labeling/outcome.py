"""A rule that waits for the end: does the final answer change with the SLM's token?"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from typing import Protocol

from r2r.engines.base import Request, Sampling
from r2r.labeling.concurrent import map_bounded
from r2r.labeling.continuations import CONTINUATIONS_AT_ONCE, Fork
from r2r.labeling.respond import Query
from r2r.labeling.rules import Held
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Verdict
from r2r.records import fingerprint

OUTCOME_VERSION = 2  # which mismatches are followed to the end, and what is made of the answers
TEMPERATURE = 0.7  # of the ends that are drawn to confirm a verdict


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

    An LLM that is not sure of its answer comes to another one after any change of wording. So
    where it did, ``samples`` more ends are drawn (``TEMPERATURE``) behind the SLM's token and as
    many behind its own: only where none of the first has its answer and each of the second has,
    the token is divergent, else ``unverified``.
    """

    def __init__(
        self,
        *,
        finals: Finals,
        sentences: Sentences,
        bound: float,
        per_query: int,
        samples: int,
        seed: int,
        max_new_tokens: int,
    ):
        self.finals, self.sentences, self.bound = finals, sentences, bound
        self.per_query, self.samples, self.seed = per_query, samples, seed
        self.max_new_tokens = max_new_tokens

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
        held.on_parts([len(response.tokens) - fork.position for fork in chosen])

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
        swapped = [*fork.response.tokens[:at], fork.token]
        answer, ended = await self._end(query, swapped, held, Sampling())
        fork.tail = answer[at : self.sentences.end(answer, fork.start, at)]
        if not ended:
            return "unverified"
        if await self._same(query, own, answer):
            return "neutral"
        for begun, holds in ((swapped, False), (fork.response.tokens[: at + 1], True)):
            for draw in range(self.samples):
                sampling = Sampling(temperature=TEMPERATURE, seed=self.seed + draw)
                answer, ended = await self._end(query, begun, held, sampling)
                if not ended or await self._same(query, own, answer) != holds:
                    return "unverified"
        return "divergent"

    async def _end(
        self, query: Query, begun: list[int], held: Held, sampling: Sampling
    ) -> tuple[list[int], bool]:
        """The LLM's answer from ``begun`` on, and whether it ended within the limit."""
        if begun[-1] in self.sentences.eos_ids:
            return begun, True
        longest = min(self.max_new_tokens, held.context - len(query.tokens))
        if len(begun) >= longest:
            return begun, False
        request = Request(
            query.tokens,
            begun,
            longest - len(begun),
            sampling=sampling,
            parent=held.session,
            on_tokens=held.on_tokens,
        )
        async with held.turn():
            decoded = await held.llm.decode(request)
        return [*begun, *decoded.tokens], decoded.reason == "eos"

    async def _same(self, query: Query, own: str, answer: list[int]) -> bool:
        final = self.finals.read(query, self.sentences.text(answer))
        return final is not None and await asyncio.to_thread(self.finals.same, query, own, final)
