"""Step 1: the LLM answers every query greedily; its answers are the path to be followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from r2r.engines.base import Engine, Request

OnTokens = Callable[[list[int], list[float]], None]  # of a request
# Why an answer is left out: it has no end within its budget, or never closes its thinking.
LeftOut = Literal["unfinished", "no_think_end"]
LEFT_OUT: tuple[LeftOut, ...] = ("unfinished", "no_think_end")

RESPOND_VERSION = 1  # which of the LLM's answers are kept


@dataclass(frozen=True, slots=True)
class Query:
    """One question, and the prompt it makes as token ids (chat template applied, once).

    ``thinks``: whether its answer is to close a reasoning, where models close theirs. ``task``: of
    the benchmark, empty where it is not known.
    """

    id: str
    tokens: list[int]
    question: str
    thinks: bool = True
    task: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a query that is labelled, EOS included; ``data_id`` is the query's place in the
    run. ``llm``: what the LLM would write at each place of a routed answer; None where the answer
    is its own."""

    query: Query
    data_id: int
    tokens: list[int]
    llm: list[int] | None = None

    @property
    def own(self) -> list[int]:
        """The LLM's token at each place."""
        return self.tokens if self.llm is None else self.llm


async def respond(
    llm: Engine,
    query: Query,
    *,
    budget: int,
    think_end: int | None,
    session: int,
    on_tokens: OnTokens,
) -> tuple[list[int], LeftOut | None]:
    """The LLM's answer, and why it is left out, if it is: it is kept when it ends by itself within
    ``budget`` tokens and closes its thinking.

    ``session``: the LLM's, which holds the answer afterwards. ``on_tokens``: a request's.
    """
    if budget < 1:
        return [], "unfinished"
    request = Request(query.tokens, [], budget, session=session, on_tokens=on_tokens)
    decoded = await llm.decode(request)
    return decoded.tokens, left_out(query, decoded.tokens, decoded.reason == "eos", think_end)


def left_out(query: Query, answer: list[int], ended: bool, think_end: int | None) -> LeftOut | None:
    """Why an answer is left out, if it is; ``ended``: by itself."""
    if not ended:
        return "unfinished"
    if think_end is not None and query.thinks and think_end not in answer:
        return "no_think_end"
    return None
