"""What a labelling rule is: it says which mismatches of an answer are divergent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from r2r.engines.base import Engine
from r2r.labeling.continuations import Fork, compare, follow, to_follow
from r2r.labeling.controls import Proof, prove
from r2r.labeling.respond import OnTokens
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Verdict, Verifier


class Held:
    """An answer that a session of the LLM holds, and what a rule may ask of the LLM there.

    ``session``: may be named as a request's parent until ``release``, which a rule calls as soon as
    it can. ``context``: tokens that prompt and answer may take together. ``turn()``: to be held
    while the LLM computes. ``on_tokens``: of each request that writes. ``on_parts(parts)``: a rule
    that has the LLM go on says from how many places, and how many tokens each will have, about: how
    long the run will take is told by it.
    """

    def __init__(
        self,
        llm: Engine,
        *,
        context: int,
        turn: Callable[[], AbstractAsyncContextManager[None]],
        on_tokens: OnTokens,
        on_parts: Callable[[Sequence[float]], None],
    ):
        self.llm, self.context, self.turn = llm, context, turn
        self.on_tokens, self.on_parts = on_tokens, on_parts
        self.session, self.released = llm.new_session(), False

    def release(self) -> None:
        if not self.released:
            self.released = True
            self.llm.release(self.session)


class Rule(Protocol):
    async def verdicts(self, forks: Sequence[Fork], held: Held) -> list[Verdict]:
        """One verdict for each mismatch of an answer, one or more of them, in order.

        Each fork's ``tail`` is filled in with what a report is to show after the SLM's token, and
        that token before it. Many answers are under way at once.
        """
        ...

    async def prove(self) -> Proof | None:
        """How it does on pairs of known verdict; None for a rule that reads no sentences."""
        ...


class PathFollowing:
    """Algorithm 1 of the R2R paper: the LLM goes on from the SLM's token to the end of the
    sentence, and ``verifier`` compares that with the sentence that the LLM had written."""

    def __init__(self, verifier: Verifier, sentences: Sentences):
        self.verifier, self.sentences = verifier, sentences

    async def prove(self) -> Proof:
        return await prove(self.verifier, self.verifier.controls)

    async def verdicts(self, forks: Sequence[Fork], held: Held) -> list[Verdict]:
        held.on_parts([length for fork in forks for length in to_follow(fork, self.sentences)])
        await follow(
            held.llm,
            forks,
            self.sentences,
            context=held.context,
            parent=held.session,
            turn=held.turn,
            on_tokens=held.on_tokens,
        )
        held.release()  # a judge may take its time
        return await self.verifier.verify(compare(fork, self.sentences) for fork in forks)
