"""Conversations as prompts, through a model's chat template; what is said is never lost there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from r2r.errors import ConfigError, must_be

Message = Mapping[str, Any]  # ``role``, ``content`` and what else the template may read


def encode_question(tokenizer: Any, question: str, options: Mapping[str, Any]) -> list[int]:
    """A question as the prompt's token ids, through the chat template where there is one.

    ``options`` go to the template. It writes the BOS itself, so that is never doubled.
    """
    if tokenizer.chat_template is None:
        return list(tokenizer(question).input_ids)
    return encode_chat(tokenizer, [{"role": "user", "content": question}], options)


def encode_chat(
    tokenizer: Any, messages: Sequence[Message], options: Mapping[str, Any]
) -> list[int]:
    """A conversation as the next answer's prompt. Raises ConfigError as ``render`` does."""
    text = render(tokenizer, messages, options)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    options: Mapping[str, Any],
    *,
    go_on: bool = False,
) -> str:
    """A conversation as the chat template writes it, open for the next answer; ``go_on``: for the
    rest of its last message.

    ``developer`` becomes ``system`` in a template that does not speak of it. Raises ConfigError
    where the template refuses the conversation, or leaves out what one of its roles says.
    """
    if "developer" not in str(tokenizer.chat_template):
        renamed = {"developer": "system"}
        messages = [{**m, "role": renamed.get(m["role"], m["role"])} for m in messages]

    def written(conversation: Sequence[Message]) -> str:
        try:
            return tokenizer.apply_chat_template(
                list(conversation),
                add_generation_prompt=not go_on,
                continue_final_message=go_on,
                tokenize=False,
                **options,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ConfigError(f"the chat template refuses the messages: {error}") from error

    text = written(messages)
    marks = [f"qzj{index}jzq" for index in range(len(messages))]
    marked = written([{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)])
    for index, (message, mark) in enumerate(zip(messages, marks, strict=True)):
        if message["content"] and mark not in marked:
            raise must_be(
                f"messages.{index}.role",
                "one whose content this chat template writes there",
                message["role"],
            )
    return text


def check_template_options(tokenizer: Any, options: Mapping[str, Any], key: str) -> None:
    """Raises ConfigError for an option that the chat template does not read, or that is not for a
    caller to set."""
    own = inspect.signature(tokenizer.apply_chat_template).parameters
    words = set(re.findall(r"\w+", str(tokenizer.chat_template))) - {*own, "messages"}
    for name in options:
        if name not in words:
            raise must_be(key, "options that this model's chat template reads", name)
