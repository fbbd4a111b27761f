"""Arena-Hard: a judge compares each answer with the baseline's, in both orders."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Awaitable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx
from lm_eval.api.filter import Filter
from lm_eval.api.registry import register_filter

from r2r.config import JudgeConfig
from r2r.evaluation.answer import Answer
from r2r.journal import Journal
from r2r.labeling.judge import HttpJudge
from r2r.progress import Progress

ARENA_VERSION = 1  # what the judge is asked, and the score of its verdicts
JUDGE_KEY = "benchmark.judge"
REPLY_TOKENS = 4096  # the judge first answers the question itself
VERDICT = re.compile(r"\[\[\s*(A>>B|A>B|A=B|B>A|B>>A)\s*\]\]")
PROMPT = """\
Two assistants answered a user. Judge which answer serves the user better.

First work out your own answer to the user's message. Then compare both answers with it: name and \
correct what is wrong in them, and weigh whether they are helpful, relevant and concise, and \
whether something important is missing. Neither length nor order counts.

End with exactly one of these verdicts:
[[A>>B]] A is much better, [[A>B]] A is slightly better, [[A=B]] both are about equal,
[[B>A]] B is slightly better, [[B>>A]] B is much better.

<user>
{question}
</user>

<answer A>
{a}
</answer A>

<answer B>
{b}
</answer B>"""


@dataclass(frozen=True, slots=True)
class Replies:
    """Where a judge's replies are heard of and kept, both if wanted."""

    progress: Progress | None = None
    journal: Journal | None = None

    def kept(self, prompt: str) -> str | None:
        """A reply from before; None where there is none."""
        if self.journal is None:
            return None
        try:
            return self.journal.get(_key(prompt)).decode()
        except KeyError:
            return None

    async def of(self, prompt: str, asked: Awaitable[str]) -> str:
        item = object()
        if self.progress is not None:
            self.progress.begin(item, 1)
        reply = await asked
        if self.journal is not None:
            self.journal.put(_key(prompt), reply.encode(errors="replace"), tokens=0)
        if self.progress is not None:
            self.progress.move(item)
            self.progress.end(item)
        return reply


def _key(prompt: str) -> int:
    """A prompt's place in a journal: 63 bits, which is what SQLite's integers have above 0."""
    digest = hashlib.blake2b(prompt.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


REPLIES: ContextVar[Replies] = ContextVar("replies")


@contextlib.contextmanager
def judging(progress: Progress | None, journal: Journal | None) -> Iterator[None]:
    """``progress`` hears of every reply that is asked for in the block, and ``journal`` keeps it:
    lm-eval makes its filters itself, and hands nothing on to them."""
    before = REPLIES.set(Replies(progress, journal))
    try:
        yield
    finally:
        REPLIES.reset(before)


class KeptJudge(HttpJudge):
    async def _ask_one(self, client: httpx.AsyncClient, prompt: str) -> str:
        replies = REPLIES.get(Replies())
        kept = replies.kept(prompt)
        if kept is not None:
            return kept
        return await replies.of(prompt, super()._ask_one(client, prompt))


@register_filter("r2r_judge")
class JudgeFilter(Filter):
    """Each answer becomes (answer, score): 1 for a win over the baseline, 0.5 for a tie, 0 for a
    loss, averaged over both orders. All answers are judged in one go, because each takes seconds.

    A reply without a verdict counts as a tie; the answer's ``unread_verdicts`` (0 to 2) tells. An
    answer whose reasoning never ended loses unjudged. Raises ConfigError as ``HttpJudge`` does.
    """

    def apply(
        self, resps: list[list[str]], docs: list[dict[str, Any]]
    ) -> list[list[tuple[str, float]]]:
        judge = KeptJudge(JudgeConfig(**docs[0]["judge"]), key=JUDGE_KEY, reply_tokens=REPLY_TOKENS)
        asked: list[str] = []
        for answers, doc in zip(resps, docs, strict=True):
            for answer in filter(final, answers):
                asked += games(doc["question"], final(answer), doc["baseline"])
        known = REPLIES.get(Replies())
        if known.progress is not None:
            missing = sum(known.kept(prompt) is None for prompt in asked)
            known.progress.expect(
                missing, width=judge.config.concurrency, unit="replies", doing="judging"
            )
        replies = iter(asyncio.run(judge.ask(asked)))
        return [
            [
                (answer, score(answer, next(replies), next(replies)) if final(answer) else 0.0)
                for answer in answers
            ]
            for answers in resps
        ]


def final(answer: str) -> str:
    """What is judged; answers of other lm-eval models are plain text."""
    return (answer.final if isinstance(answer, Answer) else answer).strip()


def games(question: str, answer: str, baseline: str) -> tuple[str, str]:
    """The two prompts: the answer as A, then as B."""
    return (
        PROMPT.format(question=question, a=answer, b=baseline),
        PROMPT.format(question=question, a=baseline, b=answer),
    )


def score(answer: str, as_a: str, as_b: str) -> float:
    """The mean of both games, from the judge's replies; notes the verdicts that were missing."""
    verdicts = [VERDICT.findall(reply)[-1:] for reply in (as_a, as_b)]
    if isinstance(answer, Answer):
        answer.stats["unread_verdicts"] = verdicts.count([])
    points = [{"A": 1.0, "B": 0.0}.get(winner(verdict), 0.5) for verdict in verdicts]
    return (points[0] + 1 - points[1]) / 2


def winner(verdict: list[str]) -> str:
    return verdict[0][0] if verdict and "=" not in verdict[0] else ""
