"""The server's OpenAPI description, made from the schema of its requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import r2r
from r2r.serving.endpoint import Served
from r2r.serving.schema import Asked, ChatRequest, CompletionRequest

ERRORS = {
    400: "malformed, or not offered here",
    401: "no valid API key",
    404: "another model",
    408: "no whole body in time",
    413: "a body too large",
    429: "too many requests",
    500: "the engine failed",
    503: "shutting down, or an engine's server is down",
    504: "no whole answer in time",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def description(served: Served) -> dict[str, Any]:
    """The document (OpenAPI 3.1) for the one model that is served."""
    schemas = {"Error": ERROR}
    paths = {
        "/v1/chat/completions": _writes(served, ChatRequest, "chat.completion", schemas),
        "/v1/completions": _writes(served, CompletionRequest, "text_completion", schemas),
        "/v1/models": _reads("the one model, in a list", _object("object", "data"), 401),
        "/v1/models/{name}": _reads(
            "the model", _object("id", "context_length"), 401, 404, parameters=[_name(served)]
        ),
        "/health": _reads("ready", _object("status"), 503),
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"R2R: {served.name}", "version": r2r.__version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if served.api_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _writes(
    served: Served, model: type[Asked], kind: str, schemas: dict[str, Any]
) -> dict[str, Any]:
    """A path that writes; what its body is made of goes into ``schemas``."""
    body = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= body.pop("$defs", {})
    body["properties"]["model"]["const"] = served.name
    if math.isfinite(served.max_threshold):
        for option in body["properties"]["threshold"]["anyOf"]:
            if option["type"] == "number":
                option["maximum"] = served.max_threshold
    schemas[model.__name__] = body
    whole = _object("id", "object", "created", "model", "choices", "usage")
    whole["properties"] = {"object": {"const": kind}, "choices": {"type": "array"}}
    answer = {
        "application/json": {"schema": whole},
        "text/event-stream": {},  # chunks of the same; OpenAPI 3.1 has no words for events
    }
    wanted = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "post": {
            "requestBody": {"required": True, "content": {"application/json": {"schema": wanted}}},
            "responses": {"200": {"description": "the answer", "content": answer}}
            | _errors(*ERRORS),
        }
    }


def _reads(
    what: str, schema: dict[str, Any], *errors: int, parameters: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    responses = {"200": {"description": what, "content": content}} | _errors(*errors)
    return {"get": {"parameters": list(parameters), "responses": responses}}


def _errors(*statuses: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(s): {"description": ERRORS[s], "content": content} for s in statuses}


def _object(*required: str) -> dict[str, Any]:
    return {"type": "object", "required": list(required)}


def _name(served: Served) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "examples": [served.name]}
    return {"name": "name", "in": "path", "required": True, "schema": schema}
