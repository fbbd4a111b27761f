"""From a request's bytes to its checked fields, or to one sentence that names what is allowed."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from r2r.serving.neutral import REASONS, Strict
from r2r.serving.schema import ApiError, Asked, Message, StreamOptions, TextPart

Body = TypeVar("Body", bound=Asked)
INNER: dict[str, type[Strict]] = {
    "messages": Message, "content": TextPart, "stream_options": StreamOptions,
}  # fmt: skip


def parse(model: type[Body], raw: bytes) -> Body:
    """A request body, checked. Raises ApiError 400 naming the first field at fault."""
    try:
        body = _given(from_json(raw, allow_inf_nan=False))
    except ValueError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, f"the body must be a JSON object, got {_shown(body)}")
    try:
        asked = model.model_validate(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise _refusal(model, body, details) from None
    for param, wanted, got in asked.conflicts():
        raise refused(param, wanted, got)
    return asked


def refused(param: str, wanted: str, got: Any) -> ApiError:
    """``param must be wanted, got ...``, and why where that is no matter of course."""
    reason = REASONS.get(param.rpartition(".")[2])
    why = f": {reason}" if reason else ""
    return ApiError(400, f"{param} must be {wanted}, got {_shown(got)}{why}", param=param)


def _given(value: Any) -> Any:
    """``value`` without the fields at null, which are the same as fields left out."""
    if isinstance(value, dict):
        return {name: _given(inner) for name, inner in value.items() if inner is not None}
    return [_given(inner) for inner in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except ValueError:  # an integer of more digits than Python prints
        return "a number out of range"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refusal(model: type[Strict], body: dict[str, Any], details: list[ErrorDetails]) -> ApiError:
    """One readable sentence for the first field at fault, as deep within it as is known."""
    first = details[0]["loc"][:1]
    places = [_place(model, one) for one in details if one["loc"][:1] == first]
    error, (path, holder) = max(
        zip(details, places, strict=False),
        key=lambda both: (both[0]["type"] != "extra_forbidden", len(both[1][0])),
    )
    param = ".".join(map(str, path))
    if error["type"] == "missing":
        return ApiError(400, f"you must provide {param}", param=param)
    if error["type"] == "extra_forbidden":
        near = get_close_matches(str(path[-1]), list(holder.model_fields), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return ApiError(400, f"Unrecognized request argument supplied: {param}{hint}", param=param)
    got: Any = body
    for part in path:
        got = got[part]
    return refused(param, holder.model_fields[str(path[-1])].description or "valid", got)


def _place(model: type[Strict], error: ErrorDetails) -> tuple[list[int | str], type[Strict]]:
    """The path to the innermost field that an error is about (pydantic's names for the branches
    of a union left out), and the object that holds it."""
    path: list[int | str] = []
    holder, inner, end = model, model, 0
    for part in error["loc"]:
        if isinstance(part, int):
            path.append(part)
        elif part in inner.model_fields:
            path.append(part)
            holder, inner, end = inner, INNER.get(part, Strict), len(path)
    if error["type"] == "extra_forbidden":
        return [*path, str(error["loc"][-1])], inner
    return path[:end], holder
