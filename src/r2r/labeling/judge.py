"""Step 4 with an LLM as the judge: behind an OpenAI-compatible URL, or in an engine of ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import httpx

from r2r.config import JudgeConfig
from r2r.engines.base import Engine, Request
from r2r.errors import ConfigError, must_be
from r2r.labeling.concurrent import Shared
from r2r.labeling.controls import KINDS
from r2r.labeling.verify import Comparison, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

JUDGE_VERSION = 2  # what a judge is asked, and how its replies are read
ANSWER_TOKENS = 16
# What differs comes last: a judge keeps what it has read of a query's other mismatches.
PROMPT = """\
You compare two drafts of one worked solution. They are the same up to a marked place, «like \
this», and then go on in their own words. Does it matter which draft is kept? It does not where \
both say the same thing in other words: then reply neutral. It does where they differ in a number, \
an operation, a fact, a claim, the next step taken or the conclusion reached: then reply divergent.

Question:
{question}

Solution so far (its end):
{context}

Draft A goes on:
{a}

Draft B goes on:
{b}

Reply with one word, neutral or divergent."""


class Judge(Protocol):
    async def ask(self, prompts: Iterable[str]) -> list[str]:
        """The reply to each prompt, greedy, in order. Many calls may be under way at once: how
        many prompts are is the judge's business."""
        ...


class JudgeVerifier:
    """Asks a judge about each pair of sentences twice, in both orders.

    Neutral only where both replies say so; where they differ the verdict is ``disputed``; where
    one cannot be read it is ``unverified``.
    """

    controls = KINDS

    def __init__(self, judge: Judge):
        self.judge = judge

    async def verify(self, comparisons: Iterable[Comparison]) -> list[Verdict]:
        def prompts() -> Iterator[str]:
            for comparison in comparisons:
                yield from _prompts(comparison)

        replies: list[Verdict] = [parse(reply) for reply in await self.judge.ask(prompts())]
        return [_agree(*both) for both in zip(replies[::2], replies[1::2], strict=True)]


def _prompts(comparison: Comparison) -> tuple[str, str]:
    slm, llm = comparison.slm_marked, comparison.llm_marked
    shared = {"question": comparison.question, "context": comparison.context}
    return PROMPT.format(a=slm, b=llm, **shared), PROMPT.format(a=llm, b=slm, **shared)


def parse(reply: str) -> Verdict:
    """The one verdict that a reply names; ``unverified`` where it names none, or both."""
    named = set(re.findall(r"\b(neutral|divergent)\b", reply.lower()))
    if named == {"neutral"}:
        return "neutral"
    return "divergent" if named == {"divergent"} else "unverified"


def _agree(first: Verdict, second: Verdict) -> Verdict:
    if "unverified" in (first, second):
        return "unverified"
    return first if first == second else "disputed"


class EngineJudge:
    """A judge in this process: ``engine`` runs the model that ``tokenizer`` belongs to.

    The prompts of a call are asked one after the other in one session, which keeps what two of them
    begin with; many calls may be under way at once.
    """

    def __init__(self, engine: Engine, tokenizer: PreTrainedTokenizerBase):
        self.engine, self.tokenizer = engine, tokenizer

    async def ask(self, prompts: Iterable[str]) -> list[str]:
        session = self.engine.new_session()
        try:
            return [await self._ask_one(prompt, session) for prompt in prompts]
        finally:
            self.engine.release(session)

    async def _ask_one(self, prompt: str, session: int) -> str:
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # a judge has no tokens to think in
        )
        tokens = self.tokenizer(str(text), add_special_tokens=False).input_ids
        decoded = await self.engine.decode(Request(tokens, [], ANSWER_TOKENS, session=session))
        return str(self.tokenizer.decode(decoded.tokens, skip_special_tokens=True))


class HttpJudge:
    """A judge behind an OpenAI-compatible URL (``POST {url}/chat/completions``).

    ``key``: where ``config`` stands in the whole config. Raises ConfigError where the server
    cannot be reached, refuses the request, or still fails after ``retries``: what was labelled so
    far is kept, and the next run goes on from there.
    """

    def __init__(
        self,
        config: JudgeConfig,
        *,
        key: str = "labeler.judge",
        reply_tokens: int = ANSWER_TOKENS,
    ):
        if not config.url or not config.url.startswith(("http://", "https://")):
            raise must_be(f"{key}.url", "an http:// or https:// address", config.url)
        if not config.model:
            wanted = f"the model's name at {key}.url"
            raise must_be(f"{key}.model", wanted, config.model)
        if config.concurrency < 1:
            raise must_be(f"{key}.concurrency", "at least 1", config.concurrency)
        self.config, self.key, self.reply_tokens = config, key, reply_tokens
        self.shared, self.calls = Shared(config.concurrency), 0
        self.address = f"{config.url.rstrip('/')}/chat/completions"
        self.headers: dict[str, str] = {}
        if config.api_key_env:
            secret = os.environ.get(config.api_key_env)
            if not secret:
                wanted = "the name of an environment variable that holds the key"
                raise must_be(f"{key}.api_key_env", wanted, config.api_key_env)
            self.headers["Authorization"] = f"Bearer {secret}"

    async def ask(self, prompts: Iterable[str]) -> list[str]:
        async with self._connected() as client:
            return await self.shared.map(prompts, lambda prompt: self._ask_one(client, prompt))

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncGenerator[httpx.AsyncClient, None]:
        """One pool of connections for all calls that are under way at a time."""
        if not self.calls:
            limits = httpx.Limits(max_connections=self.config.concurrency)
            self.client = httpx.AsyncClient(
                headers=self.headers, timeout=self.config.timeout_s, limits=limits
            )
        self.calls += 1
        client = self.client
        try:
            yield client
        finally:
            self.calls -= 1
            if not self.calls:
                await client.aclose()

    async def _ask_one(self, client: httpx.AsyncClient, prompt: str) -> str:
        body = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": self.reply_tokens,
        }
        failure = ""
        for attempt in range(self.config.retries + 1):
            if attempt:
                await asyncio.sleep(min(0.25 * 2**attempt, 30))
            try:
                reply = await client.post(self.address, json=body)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                failure = f"{type(error).__name__} {error}".strip()
                continue
            if reply.status_code in (408, 429) or reply.status_code >= 500:
                failure = _answered(reply)
                continue
            return self._content(reply)
        got = f"{self.config.url!r}: {failure}"
        raise ConfigError(f"{self.key}.url must be a server that answers, got {got}")

    def _content(self, reply: httpx.Response) -> str:
        if reply.status_code in (401, 403):
            got = f"{self.config.api_key_env!r}: {_answered(reply)}"
            wanted = "the name of a key that the server accepts"
            raise ConfigError(f"{self.key}.api_key_env must be {wanted}, got {got}")
        if reply.is_error:
            got = f"{self.config.model!r}: {_answered(reply)}"
            raise ConfigError(f"{self.key}.model must be a model that the server has, got {got}")
        try:
            content = reply.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            got = f"{self.config.url!r}: {_answered(reply)}"
            wanted = "an OpenAI-compatible endpoint"
            raise ConfigError(f"{self.key}.url must be {wanted}, got {got}") from error
        return content or ""


def _answered(reply: httpx.Response) -> str:
    return f"HTTP {reply.status_code} {' '.join(reply.text.split())[:200]}"
