"""One answer under way, as a policy sees it: what is written, and what each model can be asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from r2r.engines.base import Decoded, Engine, Request, Verified
from r2r.policies.base import Prompt, ended, finish
from r2r.policies.pace import Pace
from r2r.policies.stopping import StepEnd, StopStrings
from r2r.trace import FinishReason, Source, Spent, Step


@dataclass(frozen=True, slots=True)
class Drafted:
    """Tokens that a model proposes, which the answer has not got.

    ``scores`` align with ``tokens``, and are None where no router was asked.
    """

    tokens: list[int]
    scores: Sequence[float | None]


class Answer:
    """What two models have written for one prompt, and what they may still write.

    ``ended`` says how it ended, None while it goes on; nothing is added behind its end. ``left``:
    tokens it may still have. ``threshold``: where the SLM's router hands over, as ``pace`` has it
    now, where there is one. What was added is never taken back: it may have been streamed.
    """

    def __init__(
        self,
        prompt: Prompt,
        *,
        slm: Engine,
        llm: Engine,
        threshold: float,
        budget: int,
        eos_ids: frozenset[int],
        tokenizer: Any,
        stop: StopStrings | None,
        add: Callable[[Step], None],
        spent: Spent,
        pace: Pace | None = None,
    ):
        self.prompt, self.left = prompt, budget
        self._threshold, self.pace, self.paced = threshold, pace, (0, 0)
        self.eos_ids = frozenset() if prompt.ignore_eos else eos_ids
        self.stop, self._add, self.spent = stop, add, spent
        self.tokenizer = tokenizer
        self.tokens: list[int] = []
        self.ended: FinishReason | None = None
        self.slm, self.llm = Writer(slm, self, "slm"), Writer(llm, self, "llm")

    @property
    def threshold(self) -> float:
        if self.pace is None:
            return self._threshold
        self._tell(self.pace)
        return self.pace.threshold

    def _tell(self, pace: Pace) -> None:
        """What this answer has taken since it last told."""
        (forwards, tokens), now = self.paced, (self.spent.llm.forwards, len(self.tokens))
        pace.count(now[0] - forwards, now[1] - tokens)
        self.paced = now

    def add(self, *steps: Step) -> None:
        """Append tokens, up to one that ends the answer."""
        for step in steps:
            if self.ended is not None:
                return
            self.take(step)
            self.ended = ended(self.tokens, self.eos_ids, self.stop)
            if self.ended is None and not self.left:
                self.ended = "length"

    def take(self, step: Step) -> None:
        """Append one token without a look at whether it ends the answer."""
        self.tokens.append(step.token)
        self.left -= 1
        for writer in (self.slm, self.llm):
            writer.follow(step.token)
        self._add(step)

    def step(self, text: str) -> StepEnd:
        """The end of a step that begins here: where its text has ``text`` behind a word."""
        return StepEnd(self.tokenizer, text, len(self.tokens), self.stop)

    def release(self) -> None:
        """Give back what the engines hold, and tell what the answer has taken."""
        if self.pace is not None:
            self._tell(self.pace)
        for writer in (self.slm, self.llm):
            writer.engine.release(writer.session)


class Writer:
    """One of the two models: its session with this answer, and what it may be asked."""

    def __init__(self, engine: Engine, answer: Answer, source: Source):
        self.engine, self.answer = engine, answer
        self.source: Source = source
        self.session = engine.new_session()
        self.usage = answer.spent.of(source)
        self.held = 0  # tokens of prompt and answer that its KV cache holds
        self.ahead: list[int] = []  # and those it holds behind them, while they may still come

    async def write(
        self,
        *,
        threshold: float | None = None,
        above: float | None = None,
        below: float | None = None,
        most: int | None = None,
        until: StepEnd | None = None,
        instead: Drafted | None = None,
    ) -> Decoded:
        """Write on, each token the answer's as it comes, until the answer ends.

        Or, with a ``threshold``, until the router finds a token divergent, which is not added; with
        ``above``, until its own entropy is above it, likewise; with ``below``, to the first token
        where it is below; for ``most`` tokens; to the end of a step, ``until``. What is written
        takes the place of ``instead``.
        """
        answer, refused = self.answer, instead

        def told(tokens: list[int], scores: list[float]) -> None:
            nonlocal refused
            for token, score in zip(tokens, scores or [None] * len(tokens), strict=True):
                step = Step(token, self.source, score)
                if refused is not None:
                    (draft, *lost), first = refused.tokens, refused.scores[0]
                    step, refused = Step(token, self.source, first, draft, tuple(lost)), None
                answer.take(step)

        budget = answer.left if most is None else min(most, answer.left)
        request = self._request([], budget, threshold)
        request.above, request.below = above, below
        request.stays = until is None and below is None and not (threshold is above is None)
        request.stop, request.on_tokens = until or answer.stop, told
        unread, at = self._unread([]), len(answer.prompt.tokens) + len(answer.tokens)
        decoded = await self.engine.decode(request)
        forwards = self._count(unread, decoded, threshold)
        self.held, self.ahead = at + forwards - 1, []
        if decoded.reason == "eos" or (decoded.reason == "stop" and not (until and until.closed)):
            answer.ended = finish(decoded.reason)
        elif not answer.left:
            answer.ended = "length"
        return decoded

    async def draft(
        self, most: int, *, threshold: float | None = None, until: StepEnd | None = None
    ) -> Drafted:
        """What it would write next, ``most`` tokens at most, up to one that would end the answer.

        With a ``threshold``, up to and with a token that the router finds divergent; ``until`` the
        end of a step.
        """
        answer = self.answer
        if min(most, answer.left) < 1:
            return Drafted([], [])
        request = self._request([], min(most, answer.left), threshold)
        # What they remember of drafts must not stay.
        request.stop = until.aside() if until else copy.copy(answer.stop)
        unread = self._unread([])
        decoded = await self.engine.decode(request)
        forwards = self._count(unread, decoded, threshold)
        tokens, scores = decoded.tokens, decoded.scores
        if decoded.draft is not None and decoded.draft_score is not None:
            tokens, scores = [*tokens, decoded.draft], [*scores, decoded.draft_score]
        self.ahead = tokens[: forwards - 1]
        return Drafted(tokens, scores or [None] * len(tokens))

    async def next_token(self) -> int:
        """The one token it would write next; the answer has not got it."""
        request, unread = self._request([], 1, None), self._unread([])
        token = await self.engine.next_token(request)
        self._count(unread, Decoded([token], "budget"), None)
        self.ahead = []
        return token

    async def verify(self, given: list[int], *, signals: bool = False) -> Verified:
        """What it thinks of the tokens ``given``, were they to come next; and its ``signals``."""
        request, unread = self._request(given, 0, None), self._unread(given)
        request.signals = signals
        found = await self.engine.verify(request, len(self.answer.tokens))
        self._count(unread, Decoded(found.choices[-1:], "budget"), None)
        self.ahead = list(given)
        self.answer.spent.verified += len(given)
        return found

    def follow(self, token: int) -> None:
        """A token was added to the answer: is it what this model had read in that place?"""
        if self.ahead and self.ahead[0] == token:
            self.held += 1
            del self.ahead[0]
        else:
            self.ahead = []

    def _request(self, given: list[int], budget: int, threshold: float | None) -> Request:
        answer = self.answer
        return Request(
            answer.prompt.tokens, [*answer.tokens, *given], budget, answer.prompt.sampling,
            self.session, threshold=threshold, ignore_eos=answer.prompt.ignore_eos,
        )  # fmt: skip

    def _unread(self, given: list[int]) -> int:
        """How many tokens it has to read for a request about the answer and the ``given``.

        Of a text whose KV cache is there the last token is read again: its output is asked for.
        """
        same = 0
        while same < min(len(given), len(self.ahead)) and given[same] == self.ahead[same]:
            same += 1
        text = len(self.answer.prompt.tokens) + len(self.answer.tokens)
        return text + len(given) - min(self.held + same, text - 1)

    def _count(self, unread: int, decoded: Decoded, threshold: float | None) -> int:
        """Account for a request; how many tokens it gave, a rejected one included."""
        forwards = len(decoded.tokens) + (decoded.reason == "divergent")
        text = len(self.answer.prompt.tokens) + len(self.answer.tokens)
        self.held = text
        self.usage.requests += 1
        self.usage.forwards += forwards
        self.usage.positions += unread + forwards - 1
        self.answer.spent.scored += 0 if threshold is None else forwards
        return forwards
