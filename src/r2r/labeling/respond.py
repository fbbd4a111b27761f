"""Step 1: the LLM answers every query greedily; its answers are the path to be followed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from r2r.engines.base import Engine, Request
from r2r.labeling.concurrent import map_bounded

RESPOND_VERSION = 1  # which of the LLM's answers are kept


@dataclass(frozen=True, slots=True)
class Query:
    """One question, and the prompt it makes as token ids (chat template applied, once).

    ``thinks``: whether its answer is to close a reasoning, where models close theirs.
    """

    id: str
    tokens: list[int]
    question: str
    thinks: bool = True


@dataclass(frozen=True, slots=True)
class Response:
    """The LLM's answer to a query, EOS included; ``data_id`` is the query's place in the run."""

    query: Query
    data_id: int
    tokens: list[int]


async def respond(
    llm: Engine,
    queries: Sequence[Query],
    *,
    first: int,
    max_new_tokens: int,
    context: int,
    think_end: int | None,
) -> tuple[list[Response], Counter[str]]:
    """The finished responses in the order of ``queries``, and how many were left out and why.

    ``first``: data_id of the first query. A response is kept when it ends by itself within
    ``max_new_tokens`` and the ``context`` (tokens) and closes its thinking.
    """

    async def answer(query: Query) -> tuple[list[int], bool]:
        budget = min(max_new_tokens, context - len(query.tokens))
        if budget < 1:
            return [], False
        decoded = await llm.decode(Request(query.tokens, [], budget))
        return decoded.tokens, decoded.reason == "eos"

    kept: list[Response] = []
    dropped: Counter[str] = Counter(unfinished=0, no_think_end=0)
    answers = await map_bounded(len(queries), queries, answer)
    for data_id, (query, (tokens, ended)) in enumerate(zip(queries, answers, strict=True), first):
        if not ended:
            dropped["unfinished"] += 1
        elif think_end is not None and query.thinks and think_end not in tokens:
            dropped["no_think_end"] += 1
        else:
            kept.append(Response(query, data_id, tokens))
    return kept, dropped
