"""The two endpoints that write: from a request body to an answer, whole or streamed."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from r2r.costs import Params
from r2r.errors import ConfigError
from r2r.policies.base import Prompt
from r2r.serving.answers import Answers, event
from r2r.serving.parsing import parse
from r2r.serving.schema import ApiError, Asked, ChatRequest, CompletionRequest
from r2r.serving.worker import Part, Worker

Result = TypeVar("Result")
MAIN = "routed"  # the system that answers where a request names none
STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


@dataclass(frozen=True, slots=True)
class Served:
    """The one model that a server offers, and what it takes.

    ``encode_chat`` gives the token ids of a conversation, with a request's own options of the chat
    template, and raises ConfigError where the template cannot say it; None where there is none.
    ``threshold`` is the default and ``max_threshold`` the highest a request may ask for; the page
    begins at ``page_threshold``, and tells of any threshold the recall that it had on validation
    labels (``recalls``, as ``recall_curve`` has it; None: not known).
    ``beside``: what tokens cost of the systems that a request may name in the routed one's place.
    ``max_new_tokens`` ends a chat answer whose request names no limit. ``think`` gives what opens
    and what closes the reasoning in the answer to a prompt.
    """

    name: str
    params: Params
    encode_chat: Callable[[list[dict[str, str]], dict[str, Any]], list[int]] | None
    threshold: float
    max_threshold: float
    max_new_tokens: int
    max_prompt_tokens: int
    max_request_bytes: int
    api_key: str | None = None  # None: nobody is asked for one
    beside: Mapping[str, Params] = field(default_factory=dict)
    examples: Sequence[str] = ()  # questions for the page to offer
    page_threshold: float | None = None  # None: the default
    recalls: Mapping[str, list[float]] | None = None
    one_turn: bool = False  # the page asks each question by itself
    think: Callable[[Sequence[int]], tuple[str | None, str | None]] = lambda prompt: (None, None)


def check_key(request: Request, key: str | None) -> None:
    """Raises ApiError 401 unless the client knows the key; where there is none, any will do."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), (key or "").encode())
    if key is not None and not (scheme.lower() == "bearer" and right):
        message = "a valid API key is needed: Authorization: Bearer KEY"
        raise ApiError(401, message, code="invalid_api_key")


class Endpoint:
    """Answers requests of one kind (``model``), and counts how each ends.

    An ASGI application, so that a client that goes away is noticed at every moment.
    """

    def __init__(self, name: str, model: type[Asked], served: Served, worker: Worker):
        self.name, self.model, self.served, self.worker = name, model, served, worker
        self.tokenizer, self.context = worker.generator.tokenizer, worker.generator.context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 500
        try:
            status = await self._respond(scope, receive, send)
        except ApiError as error:
            status = error.status
            raise
        finally:
            self.worker.metrics.requests.labels(self.name, status).inc()
            self.worker.metrics.whole.observe(time.perf_counter() - began)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> int:
        """The status it ended with; within a stream that is no longer the response's own."""
        request = Request(scope, receive)
        check_key(request, self.served.api_key)
        asked = await self._body(request)
        tokens = await asyncio.to_thread(self._encode, asked)
        prompts = self._prompts(asked, tokens)
        think = self.served.think(tokens[0])
        system = None if asked.system == MAIN else asked.system
        params = self.served.beside[system] if system else self.served.params
        answers = Answers(asked, self.tokenizer, params, tokens, think)
        async with aclosing(self.worker.parts(prompts, system)) as parts:
            if asked.stream:
                return await self._streamed(answers, parts, receive, send)
            whole = await unless_gone(receive, _collected(parts))
        await JSONResponse(answers.whole(whole))(scope, receive, send)
        return 200

    async def _body(self, request: Request) -> Asked:
        """Raises ApiError: 413 too large, 408 too slow, 400 malformed, 404 another model."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(400, "Content-Type must be application/json")
        try:
            async with asyncio.timeout(self.worker.timeout_s):
                raw = await self._read(request)
        except TimeoutError:
            raise ApiError(408, f"no whole body within {self.worker.timeout_s:g} s") from None
        except ClientDisconnect:
            raise gone() from None
        asked = await asyncio.to_thread(parse, self.model, raw)
        if asked.model != self.served.name:
            message = f"the model {asked.model!r} does not exist; this is {self.served.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return asked

    async def _read(self, request: Request) -> bytes:
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > self.served.max_request_bytes:
                limit = f"{self.served.max_request_bytes} bytes (serve.max_request_bytes)"
                raise ApiError(413, f"the body is larger than {limit}")
        return bytes(raw)

    def _encode(self, asked: Asked) -> list[list[int]]:
        """The token ids of each prompt."""
        if isinstance(asked, ChatRequest):
            if self.served.encode_chat is None:
                message = "this model has no chat template; use /v1/completions"
                raise ApiError(400, message, param="messages")
            try:
                turns = [message.plain() for message in asked.messages]
                return [self.served.encode_chat(turns, asked.template_options)]
            except ConfigError as error:
                raise ApiError(400, str(error), param="messages") from None
        assert isinstance(asked, CompletionRequest)
        texts = [
            list(self.tokenizer(prompt).input_ids) if isinstance(prompt, str) else prompt
            for prompt in asked.prompts
        ]
        known = len(self.tokenizer)
        if any(token >= known for tokens in texts for token in tokens):
            raise ApiError(400, f"token ids must be below {known}", param="prompt")
        return texts

    def _prompts(self, asked: Asked, texts: Sequence[list[int]]) -> list[Prompt]:
        """Each prompt ``n`` times. Raises ApiError 400 for what this server does not take."""
        systems = [MAIN, *self.served.beside]
        if (asked.system or MAIN) not in systems:
            message = f"system must be one that is served: {', '.join(systems)}"
            raise ApiError(400, message, param="system")
        highest = self.served.max_threshold
        if asked.threshold is not None and asked.threshold > highest:
            raise ApiError(400, f"threshold must be from 0 to {highest:g}", param="threshold")
        count = asked.n or 1
        if len(texts) * count > self.worker.room:
            message = f"{len(texts) * count} answers in one request, {self.worker.room} at most"
            raise ApiError(400, message, param="n")
        return [
            Prompt(
                tokens,
                sampling,
                stop=asked.stops,
                threshold=asked.threshold,
                ignore_eos=bool(asked.ignore_eos),
            )
            for tokens in texts
            for sampling in asked.samplings(count, self._budget(asked, len(tokens)))
        ]

    def _budget(self, asked: Asked, length: int) -> int:
        """Tokens to write at most after a prompt of ``length`` tokens."""
        param = "messages" if isinstance(asked, ChatRequest) else "prompt"
        code = "context_length_exceeded"
        longest = min(self.served.max_prompt_tokens, self.context - 1)
        if not 1 <= length <= longest:
            message = f"the prompt must have 1 to {longest} tokens, it has {length}"
            raise ApiError(400, message, param=param, code=code)
        room = self.context - length
        limit = asked.limit
        if limit is not None and limit > room:
            message = f"the context is {self.context} tokens: {length} + {limit} are too many"
            raise ApiError(400, message, param=param, code=code)
        return limit or min(self.served.max_new_tokens, room)

    async def _streamed(
        self, answers: Answers, parts: AsyncGenerator[Part], receive: Receive, send: Send
    ) -> int:
        async def opening() -> Part:
            return await anext(parts)

        first = await unless_gone(receive, opening())  # until here an error has its own status
        try:
            return await unless_gone(receive, self._stream(answers, first, parts, send))
        except ApiError as error:  # gone: there is nobody left to be told
            return error.status

    async def _stream(
        self, answers: Answers, first: Part, parts: AsyncIterator[Part], send: Send
    ) -> int:
        async def write(events: Sequence[bytes], more: bool = True) -> None:
            body = b"".join(events)
            await send({"type": "http.response.body", "body": body, "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        try:
            await write([*answers.opening(), *answers.chunks(first)])
            async for part in parts:
                await write(answers.chunks(part))
            await write(answers.closing(), more=False)
        except ApiError as error:
            await write([event(error.body())], more=False)
            return error.status
        return 200


def gone() -> ApiError:
    return ApiError(499, "the client went away")


async def _collected(parts: AsyncIterator[Part]) -> list[Part]:
    return [part async for part in parts]


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``; cancels it and raises ApiError 499 when the client goes away."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, leaving = asyncio.create_task(work), asyncio.create_task(left())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise gone()
    finally:
        for each in (task, leaving):
            each.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)
