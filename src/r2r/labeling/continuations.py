"""Step 3: at each mismatch the LLM goes on from the SLM's token to the end of the sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from r2r.engines.base import Engine, Request
from r2r.labeling.concurrent import map_bounded
from r2r.labeling.respond import Response
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Comparison

CONTINUATIONS_VERSION = 1  # what the LLM writes after a fork, and the sentences compared
RESPONSES_AT_ONCE = 8  # each keeps one session of the LLM
CONTINUATIONS_AT_ONCE = 64  # of one response; each holds a copy of its token ids
CONTEXT_TOKENS = 1024  # of the answer before the sentence: what a verifier is shown


@dataclass(slots=True)
class Fork:
    """A mismatch: at ``position`` of the response the SLM wrote ``token``.

    ``start``: where the sentence that holds the position starts; ``tail``: the SLM's token and
    what the LLM made of it, to the end of the sentence.
    """

    response: Response
    position: int
    token: int
    start: int
    tail: list[int] = field(default_factory=list)


def forks_of(
    response: Response, mismatch: np.ndarray, small: np.ndarray, sentences: Sentences
) -> list[Fork]:
    """The forks of a response, from ``mismatch`` [rows] bool and the SLM's tokens [rows]."""
    starts = sentences.starts(response.tokens)
    positions = np.flatnonzero(mismatch).tolist()
    return [Fork(response, at, int(small[at]), starts[at]) for at in positions]


async def follow(
    llm: Engine, forks: Sequence[Sequence[Fork]], sentences: Sentences, *, context: int
) -> None:
    """Fill in the ``tail`` of every fork; ``forks`` are grouped by response.

    The LLM reads a response once more, in a session that its continuations name as parent: that
    costs one prefill, and no more than a few responses occupy the engine's cache at any time.
    """

    async def follow_response(group: Sequence[Fork]) -> None:
        text = [*group[0].response.query.tokens, *group[0].response.tokens]
        session = llm.new_session()
        try:
            await llm.prefill(text, start=len(text) - 2, session=session)
            await map_bounded(
                CONTINUATIONS_AT_ONCE,
                group,
                lambda fork: follow_one(llm, fork, sentences, context=context, parent=session),
            )
        finally:
            llm.release(session)

    await map_bounded(RESPONSES_AT_ONCE, [group for group in forks if group], follow_response)


async def follow_one(
    llm: Engine, fork: Fork, sentences: Sentences, *, context: int, parent: int
) -> None:
    """Fill in the ``tail`` of a fork. ``parent``: the LLM's session that holds the text before."""
    query, at = fork.response.query, fork.position
    answer = [*fork.response.tokens[:at], fork.token]
    budget = min(sentences.limit - 1, context - len(query.tokens) - len(answer))
    stop = sentences.check(fork.start, at)
    if budget > 0 and not stop(answer):
        request = Request(query.tokens, answer, budget, parent=parent, stop=stop)
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
    llm, llm_rest = parts(answer[at : sentences.end(answer, start, at)])
    return Comparison(
        question=fork.response.query.question,
        context=sentences.text(answer[max(0, start - CONTEXT_TOKENS) : start]),
        before=before,
        slm=slm,
        slm_rest=slm_rest,
        llm=llm,
        llm_rest=llm_rest,
    )
