"""What a client may send, as in the OpenAI API; ``neutral`` has the fields that change nothing.

Fields it does not know are refused. The extensions are ``threshold``, ``system`` and
``return_trace``; each field's ``description`` says what it must be.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from r2r.engines.base import Sampling
from r2r.serving.neutral import (
    NeutralChat,
    NeutralCompletion,
    NoList,
    NoText,
    Nothing,
    Number,
    Object,
    Strict,
    Switch,
    Text,
)

MAX_CHOICES = 128
SEEDS = 2**63
StopString = Annotated[str, Field(min_length=1, max_length=1000)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Tokens = Annotated[
    Annotated[int, Field(ge=1)] | None, Field(description="a whole number of at least 1")
]
Conflict = tuple[str, str, Any]  # field, what it must be, what it is


class ApiError(Exception):
    """An answer other than 200, with OpenAI's error body."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> dict[str, Any]:
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        fallback = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = kinds.get(self.status, fallback)
        return {
            "error": {
                "message": str(self), "type": kind, "param": self.param, "code": self.code,
            }
        }  # fmt: skip


class StreamOptions(Strict):
    """``include_usage``: a last chunk with the whole usage; ``continuous_usage_stats``: the usage
    so far in every chunk."""

    include_usage: Switch = None
    continuous_usage_stats: Switch = None
    include_obfuscation: Annotated[Literal[False] | None, Field(description="false")] = None


class TextPart(Strict):
    type: Literal["text"] = Field(description='"text"')
    text: str = Field(description="a text")


class Message(Strict):
    """A turn of the conversation. What an answer's own message holds beside its text is taken."""

    role: Literal["system", "developer", "user", "assistant", "tool"] = Field(
        description="system, developer, user, assistant or tool"
    )
    content: str | list[TextPart] | None = Field(
        None, description="a text or a list of text parts (null for an assistant alone)"
    )
    reasoning_content: Text = None
    name: Text = None
    tool_call_id: Text = None
    tool_calls: NoList = None
    function_call: Nothing = None
    refusal: NoText = None
    annotations: Annotated[list[Any] | None, Field(description="a list")] = None
    audio: Nothing = None

    def plain(self) -> dict[str, str]:
        """What chat templates read: role, text, and where given reasoning, name and call."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        further = {
            "reasoning_content": self.reasoning_content,
            "name": self.name,
            "tool_call_id": self.tool_call_id,
        }
        return {"role": self.role, "content": text} | {k: v for k, v in further.items() if v}


class Asked(Strict):
    """The fields that both endpoints share; defaults are OpenAI's."""

    model: str = Field(description="a model's name")
    max_tokens: Tokens = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = Field(
        None, description="a number from 0 to 2"
    )
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        None, description="a number above 0 and at most 1"
    )
    top_k: Annotated[int, Field(ge=-1)] | None = Field(
        None, description="a whole number of at least -1"
    )
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        None, description="a number from 0 to 1"
    )
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = Field(
        None, description=f"a whole number from 1 to {MAX_CHOICES}"
    )
    best_of: Tokens = None
    seed: Annotated[int, Field(ge=-SEEDS, lt=SEEDS)] | None = Field(
        None, description="a whole number of 64 bits"
    )
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = Field(
        None, description="a text of 1 to 1000 characters, or a list of at most 4"
    )
    ignore_eos: Switch = None
    stream: Switch = None
    stream_options: StreamOptions | None = Field(None, description="an object")
    threshold: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="a number of at least 0"
    )
    system: Annotated[
        Literal["routed", "slm", "llm"] | None, Field(description='"routed", "slm" or "llm"')
    ] = None
    return_trace: Switch = None

    @property
    def limit(self) -> int | None:
        """Tokens to write at most, where it is known."""
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def conflicts(self) -> Iterator[Conflict]:
        """What only together with other fields would change the answer."""
        if self.temperature != 0:  # greedy answers are the same with any of these
            drawn = "where temperature is above 0"
            if self.top_k not in (None, -1, 0):
                yield "top_k", f"-1 or 0, all tokens, {drawn}", self.top_k
            if self.min_p:
                yield "min_p", f"0 {drawn}", self.min_p
        if self.best_of not in (None, self.n or 1):
            yield "best_of", f"n, here {self.n or 1}", self.best_of

    def samplings(self, count: int, max_new_tokens: int) -> list[Sampling]:
        """How ``count`` answers are drawn; each has a seed of its own, from the request's."""
        first = secrets.randbits(62) if self.seed is None else self.seed
        temperature = 1.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        return [Sampling(max_new_tokens, temperature, top_p, first + i) for i in range(count)]


class ChatRequest(Asked, NeutralChat):
    messages: Annotated[list[Message], Field(min_length=1)] = Field(
        description="a list with a message or more"
    )
    max_completion_tokens: Tokens = None
    reasoning_effort: Text = None
    chat_template_kwargs: Object = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def template_options(self) -> dict[str, Any]:
        """What the request asks of the chat template, beside the pair's own options."""
        effort = {"reasoning_effort": self.reasoning_effort} if self.reasoning_effort else {}
        return effort | (self.chat_template_kwargs or {})

    def conflicts(self) -> Iterator[Conflict]:
        for index, message in enumerate(self.messages):
            if message.content is None and message.role != "assistant":
                yield f"messages.{index}.content", "a text or a list of text parts", None
        yield from super().conflicts()


class CompletionRequest(Asked, NeutralCompletion):
    prompt: str | TokenIds | Annotated[list[str] | list[TokenIds], Field(min_length=1)] = Field(
        description="a text, a list of texts, token ids, or a list of lists of token ids"
    )

    @property
    def limit(self) -> int:
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt as text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]
