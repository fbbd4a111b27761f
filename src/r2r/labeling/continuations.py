"""Step 3: at each mismatch the LLM goes on from the SLM's token to the end of the sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

import numpy as np

from r2r.engines.base import Engine, Request
from r2r.labeling.concurrent import map_bounded
from r2r.labeling.respond import OnTokens, Response
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Comparison

CONTINUATIONS_VERSION = 1  # what the LLM writes after a fork, and the sentences compared
CONTINUATIONS_AT_ONCE = 64  # of one response; each holds a copy of its token ids
# Of the answer before a sentence a verifier is shown at most two steps, from the start of one: so
# what it is shown for neighbouring mismatches begins alike.
CONTEXT_STEP = 512  # tokens


@dataclass(slots=True)
class Fork:
    """A mismatch: at ``position`` of the response the SLM wrote ``token``.

    ``start``: where the sentence that holds the position starts; ``tail``: the SLM's token and
    what the LLM made of it, to the end of the sentence; ``ratio``: the LLM's probability of the
    SLM's token over that of its own, 0 to 1, once the LLM has read the answer. ``own``: in a routed
    response the LLM's token, and what it made of that likewise; None where the response goes on so.
    """

    response: Response
    position: int
    token: int
    start: int
    tail: list[int] = field(default_factory=list)
    ratio: float = math.nan
    own: list[int] | None = None


def forks_of(
    response: Response, mismatch: np.ndarray, small: np.ndarray, sentences: Sentences
) -> list[Fork]:
    """The forks of a response, from ``mismatch`` [rows] bool and the SLM's tokens [rows]."""
    starts = sentences.starts(response.tokens)
    positions = np.flatnonzero(mismatch).tolist()
    forks = [Fork(response, at, int(small[at]), starts[at]) for at in positions]
    for fork in forks if response.llm else []:
        fork.own = [response.own[fork.position]]
        fork.start = sentences.start(response.tokens[: fork.position], starts, fork.own[0])
    return forks


def to_follow(fork: Fork, sentences: Sentences) -> list[int]:
    """How many tokens each of a fork's continuations will have, about: as many as the response has
    from there to the end of the sentence."""
    end = sentences.end(fork.response.tokens, fork.start, fork.position)
    return [end - fork.position - 1] * (2 if fork.own else 1)


async def follow(
    llm: Engine,
    forks: Sequence[Fork],
    sentences: Sentences,
    *,
    context: int,
    parent: int,
    turn: Callable[[], AbstractAsyncContextManager[None]],
    on_tokens: OnTokens,
) -> None:
    """Fill in the ``tail`` of every fork of a response, which the LLM's session ``parent`` holds;
    and what the LLM makes of its own token, where the response goes on otherwise.

    ``turn()``: to be held while a continuation is written; ``on_tokens``: a request's.
    """

    async def one(fork: Fork) -> None:
        async with turn():
            await follow_one(
                llm, fork, sentences, context=context, parent=parent, on_tokens=on_tokens
            )

    others = [replace(fork, token=fork.own[0]) for fork in forks if fork.own]
    await map_bounded(CONTINUATIONS_AT_ONCE, [*forks, *others], one)
    for fork, other in zip(filter(lambda fork: fork.own, forks), others, strict=True):
        fork.own = other.tail


async def follow_one(
    llm: Engine,
    fork: Fork,
    sentences: Sentences,
    *,
    context: int,
    parent: int,
    on_tokens: OnTokens | None = None,
) -> None:
    """Fill in the ``tail`` of a fork. ``parent``: the LLM's session that holds the text before."""
    query, at = fork.response.query, fork.position
    answer = [*fork.response.tokens[:at], fork.token]
    budget = min(sentences.limit - 1, context - len(query.tokens) - len(answer))
    stop = sentences.check(fork.start, at)
    if budget > 0 and not stop(answer):
        request = Request(
            query.tokens, answer, budget, parent=parent, stop=stop, on_tokens=on_tokens
        )
        answer = [*answer, *(await llm.decode(request)).tokens]
    fork.tail = answer[at : sentences.end(answer, fork.start, at)]


def compare(fork: Fork, sentences: Sentences) -> Comparison:
    """The two sentences that a followed fork leads to, as text."""
    answer, start, at = fork.response.tokens, fork.start, fork.position
    before = sentences.text(answer[start:at])

    def parts(tail: list[int]) -> tuple[str, str]:
        # Cut out of the decoded whole: a tokenizer may decode a lone token differently.
        upto = sentences.text([*answer[start:at], tail[0]])
        whole = sentences.text([*answer[start:at], *tail])
        return upto[len(before) :], whole[len(upto) :]

    slm, slm_rest = parts(fork.tail)
    llm, llm_rest = parts(fork.own or answer[at : sentences.end(answer, start, at)])
    return Comparison(
        question=fork.response.query.question,
        context=sentences.text(answer[_shown_from(start) : start]),
        before=before,
        slm=slm,
        slm_rest=slm_rest,
        llm=llm,
        llm_rest=llm_rest,
    )


def _shown_from(start: int) -> int:
    return max(0, start // CONTEXT_STEP - 1) * CONTEXT_STEP
