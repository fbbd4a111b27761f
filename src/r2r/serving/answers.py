"""What goes back: completions whole or as a stream of chunks, usage, traces."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from r2r.costs import Forwards, Params
from r2r.serving.reasoning import Reasoning
from r2r.serving.schema import Asked, ChatRequest, StreamOptions
from r2r.serving.text import Piece
from r2r.serving.worker import Part
from r2r.trace import Trace

FINISH = {"eos": "stop", "stop": "stop", "length": "length"}


class Answers:
    """The response to one request, in the endpoint's words, from the parts as they come.

    ``think``: what opens and what closes the reasoning of a chat answer; (None, None): nothing.
    """

    def __init__(
        self,
        request: Asked,
        tokenizer: Any,
        params: Params,
        prompts: Sequence[Any],
        think: tuple[str | None, str | None] = (None, None),
    ):
        self.request, self.tokenizer, self.params = request, tokenizer, params
        self.chat = isinstance(request, ChatRequest)
        self.wants = request.stream_options or StreamOptions()
        self.prompt_tokens = sum(len(prompt) for prompt in prompts)
        self.choices = len(prompts) * (request.n or 1)
        self.parted = [Reasoning(*think) for _ in range(self.choices)]
        self.written = [Forwards.of([])] * self.choices  # what all parts so far tell
        self.forwards = [Forwards.of([])] * self.choices  # and what they took
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}"
        self.created = int(time.time())

    def usage(self) -> dict[str, Any]:
        """OpenAI's counts, who wrote how much, and the average activated params in billions; of
        all parts so far, with what a policy's models did for them beyond writing.
        """
        forwards = sum(self.forwards, Forwards.of([]))
        shares = forwards.shares(self.params)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": forwards.tokens,
            "total_tokens": self.prompt_tokens + forwards.tokens,
            "slm_tokens": forwards.slm_tokens,
            "llm_tokens": forwards.llm_tokens,
            "llm_share": shares["llm_share"],
            "avg_params_b": shares["avg_params_b"],
        }

    def trace(self, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        """Each token with who wrote it, the router's score, the SLM's rejected draft, and what was
        cut behind that."""
        return [
            {
                "token": piece.step.token,
                "text": piece.text,
                "source": piece.step.source,
                "score": piece.step.score,
                "draft": piece.step.draft,
                "draft_text": (
                    None if piece.step.draft is None else self.tokenizer.decode([piece.step.draft])
                ),
                "cut_text": self.tokenizer.decode(piece.step.cut),
            }
            for piece in pieces
        ]

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.request.model,
            "choices": choices,
        }  # fmt: skip

    def whole(self, parts: Sequence[Part]) -> dict[str, Any]:
        """The response in one piece."""
        for part in parts:
            self._count(part)
        choices = []
        for index in range(self.choices):
            own = [part for part in parts if part.index == index]
            pieces = [piece for part in own for piece in part.pieces]
            said: dict[str, Any] = (
                {"message": self._message(index, pieces)}
                if self.chat
                else {"text": "".join(piece.text for piece in pieces)}
            )
            reason = own[-1].finish_reason
            assert reason is not None
            choice = {"index": index, **said, "logprobs": None, "finish_reason": FINISH[reason]}
            if self.request.return_trace:
                choice["trace"] = self.trace(pieces)
            choices.append(choice)
        kind = "chat.completion" if self.chat else "text_completion"
        return self._frame(kind, choices) | {"usage": self.usage()}

    def _message(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        parted = self.parted[index]
        reasons = {} if parted.end is None else {"reasoning_content": ""}
        said = {"role": "assistant", "content": "", "refusal": None, **reasons}
        return said | parted.split(pieces)

    def opening(self) -> list[bytes]:
        """What a stream begins with: chat names the speaker of each choice."""
        if not self.chat:
            return []
        delta = {"role": "assistant", "content": ""}
        return [self._chunk(index, {"delta": delta}) for index in range(self.choices)]

    def chunks(self, part: Part) -> list[bytes]:
        """A part as events of the stream."""
        self._count(part)
        text = "".join(piece.text for piece in part.pieces)
        delta = self.parted[part.index].split(part.pieces) if self.chat else {}
        extra = {"trace": self.trace(part.pieces)} if self.request.return_trace else {}
        events = []
        if (delta if self.chat else text) or (extra and part.pieces):
            said: dict[str, Any] = {"delta": delta} if self.chat else {"text": text}
            events.append(self._chunk(part.index, said | extra))
        if part.finish_reason:
            said = {"delta": {}} if self.chat else {"text": ""}
            events.append(self._chunk(part.index, said, FINISH[part.finish_reason]))
        return events

    def closing(self) -> list[bytes]:
        """What a stream ends with."""
        usage = [self._event([], {"usage": self.usage()})] if self.wants.include_usage else []
        return [*usage, b"data: [DONE]\n\n"]

    def _count(self, part: Part) -> None:
        if part.whole is not None:
            self.forwards[part.index] = Forwards.of([part.whole])
            return
        written = self.written[part.index]
        written += Forwards.of([Trace([], [piece.step for piece in part.pieces])])
        self.written[part.index] = written
        self.forwards[part.index] = written.at_least(part.spent) if part.spent else written

    def _chunk(self, index: int, said: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, **said, "logprobs": None, "finish_reason": finish}
        if self.wants.continuous_usage_stats:
            return self._event([choice], {"usage": self.usage()})
        return self._event([choice], {"usage": None} if self.wants.include_usage else {})

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return event(self._frame(kind, choices) | usage)


def event(content: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False, allow_nan=False)}\n\n".encode()
