"""Label the SLM's tokens along the LLM's answers, or along routed ones, by any rule."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from r2r.config import LabelerConfig
from r2r.engines.base import Engine
from r2r.labeling.concurrent import Turns, map_bounded
from r2r.labeling.continuations import Fork, compare, forks_of
from r2r.labeling.finished import EXAMPLES, Facts, Finished, columns_of, tally
from r2r.labeling.flow import Asked, Keep, Progress
from r2r.labeling.paths import RoutedPaths, llm_tokens
from r2r.labeling.prefill import read, read_large
from r2r.labeling.respond import LeftOut, OnTokens, Response, respond
from r2r.labeling.rules import Held, Rule
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Verdict
from r2r.records import fingerprint


class QueryLabeler:
    """Queries in, labelled queries out: each goes through all steps by itself, many at once.

    ``context``: tokens that prompt and answer may take together. ``max_batch``: requests that the
    LLM has at once. ``in_flight``: queries under way at once; the LLM should have room for as many
    idle sessions. ``routed``: labels part of them along routed answers.
    ``think_start`` and ``think_end``: token ids, None where the pair has none.
    """

    def __init__(
        self,
        *,
        slm: Engine,
        llm: Engine,
        rule: Rule,
        sentences: Sentences,
        config: LabelerConfig,
        context: int,
        max_batch: int,
        in_flight: int,
        think_start: int | None,
        think_end: int | None,
        routed: RoutedPaths | None = None,
    ):
        self.slm, self.llm, self.rule, self.sentences = slm, llm, rule, sentences
        self.routed = routed
        self.config, self.context = config, context
        self.in_flight = in_flight
        self.think_start, self.think_end = think_start, think_end
        self.turns, self.order = Turns(max_batch), itertools.count()

    async def each(self, asked: Sequence[Asked], keep: Keep, progress: Progress) -> None:
        """Label queries as ``flow.Execute`` says, ``in_flight`` at once."""

        async def one(numbered: Asked) -> None:
            data_id, _ = numbered
            progress.begin(data_id)
            told = partial(progress.move, data_id), partial(progress.split, data_id)
            await keep(await self.label(numbered, *told))

        await map_bounded(self.in_flight, asked, one)

    async def label(
        self,
        asked: Asked,
        on_tokens: Callable[[int], None] = lambda count: None,
        on_parts: Callable[[Sequence[float]], None] = lambda parts: None,
    ) -> Finished:
        """One query through all steps; it waits for engines and judge, and for no other query.

        ``on_tokens(count)`` hears of what the LLM writes for it; ``on_parts(parts)`` that its
        answer is read (of no parts), then how many tokens each of those to come will have, about.
        """
        data_id, _ = asked
        written = 0

        def heard(tokens: list[int], _: list[float]) -> None:
            nonlocal written
            written += len(tokens)
            on_tokens(len(tokens))

        # What began first goes first, so that few queries are under way, and those soon done.
        turn = partial(self.turns.turn, next(self.order))
        held = Held(
            self.llm, context=self.context, turn=turn, on_tokens=heard, on_parts=on_parts
        )  # fmt: skip
        try:
            async with turn():
                response, left_out = await self._answer(asked, held.session, heard)
            if left_out:
                return Finished(data_id, Facts(written, left_out), {})
            think = {"think_start": self.think_start, "think_end": self.think_end}
            reading, features = await read(self.slm, response, **think)
            small = features["small_token"]
            async with turn():
                large, ratios = await read_large(self.llm, response, reading.mismatch, small)
            forks = forks_of(response, reading.mismatch, small, self.sentences)
            for fork, ratio in zip(forks, ratios, strict=True):
                fork.ratio = ratio
            on_parts([])
            verdicts = await self.rule.verdicts(forks, held) if forks else []
        finally:
            held.release()
        columns = columns_of(features | large, reading, verdicts)
        counts, entropy = tally(reading, columns["divergent"], verdicts)
        facts = Facts(written, None, counts, entropy, self._examples(forks, verdicts))
        return Finished(data_id, facts, columns)

    async def _answer(
        self, asked: Asked, session: int, on_tokens: OnTokens
    ) -> tuple[Response, LeftOut | None]:
        """What a query is labelled along, which the LLM's ``session`` holds afterwards."""
        data_id, query = asked
        budget = min(self.config.max_new_tokens, self.context - len(query.tokens))
        told = {"budget": budget, "think_end": self.think_end, "on_tokens": on_tokens}
        if self.routed is None or not self.routed.takes(query):
            tokens, left_out = await respond(self.llm, query, session=session, **told)
            return Response(query, data_id, tokens), left_out
        tokens, left_out = await self.routed.answer(query, **told)
        response = Response(query, data_id, tokens)
        if left_out is None:
            response = replace(response, llm=await llm_tokens(self.llm, response, session))
        return response, left_out

    def _examples(
        self, forks: Sequence[Fork], verdicts: Sequence[Verdict]
    ) -> dict[str, list[dict[str, Any]]]:
        """Of each kind the forks whose hashes are lowest: a sample that depends on no order."""
        ranked: dict[str, list[tuple[str, Fork]]] = {"neutral": [], "divergent": []}
        for fork, verdict in zip(forks, verdicts, strict=True):
            if verdict in ranked:
                rank = fingerprint([fork.response.data_id, fork.position])
                ranked[verdict].append((rank, fork))
        return {
            kind: [
                self._example(rank, fork)
                for rank, fork in heapq.nsmallest(EXAMPLES, found, key=lambda pair: pair[0])
            ]
            for kind, found in ranked.items()
        }

    def _example(self, rank: str, fork: Fork) -> dict[str, Any]:
        both = compare(fork, self.sentences)
        where = {"rank": rank, "query": fork.response.query.id, "position": fork.position}
        told = {"question": both.question, "slm": both.slm_marked, "llm": both.llm_marked}
        return where | told
