"""The HTTP application: OpenAI's endpoints over one generator, health, metrics, and the page."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from r2r.serving.endpoint import MAIN, Endpoint, Served, check_key
from r2r.serving.openapi import description
from r2r.serving.schema import ApiError, ChatRequest, CompletionRequest
from r2r.serving.worker import Worker, shutting_down

PAGE = Path(__file__).parent / "page"
ORDER = ("slm", MAIN, "llm")  # as the page shows systems side by side
LOCAL = ("127.0.0.1", "localhost", "::1")  # names of this machine that need no key


def build_app(served: Served, worker: Worker) -> Starlette:
    """The application; the worker's thread lives as long as the application's lifespan.

    Without an API key only this machine is served: requests must name it as their host, so that
    no other site's page can reach the server through a name of its own.
    """
    born = int(time.time())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with worker.at_work():
            yield

    def model() -> dict[str, Any]:
        return {
            "id": served.name, "object": "model", "created": born, "owned_by": "r2r",
            "context_length": worker.generator.context,
            "threshold": served.threshold,
            "page_threshold": (
                served.threshold if served.page_threshold is None else served.page_threshold
            ),
            "recalls": served.recalls,
            "systems": sorted([MAIN, *served.beside], key=ORDER.index),
            "examples": list(served.examples),
            "one_turn": served.one_turn,
            "max_threshold": None if math.isinf(served.max_threshold) else served.max_threshold,
        }  # fmt: skip

    def models(request: Request) -> Response:
        check_key(request, served.api_key)
        return JSONResponse({"object": "list", "data": [model()]})

    def one_model(request: Request) -> Response:
        check_key(request, served.api_key)
        name = request.path_params["name"]
        if name != served.name:
            message = f"the model {name!r} does not exist; this is {served.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return JSONResponse(model())

    async def health(_: Request) -> Response:
        if worker.draining:
            raise shutting_down()
        return JSONResponse({"status": "ok"})

    async def page(_: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def metrics(request: Request) -> Response:
        check_key(request, served.api_key)
        text = await worker.figures()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(_: Request) -> Response:
        return JSONResponse(description(served))

    chat = Endpoint("chat.completions", ChatRequest, served, worker)
    completions = Endpoint("completions", CompletionRequest, served, worker)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/", models),
            Route("/v1/models/{name:path}", one_model),
            Route("/openapi.json", openapi),
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/", page),
            Mount("/page", StaticFiles(directory=PAGE)),
        ],
        middleware=[
            *([] if served.api_key else [Middleware(TrustedHostMiddleware, allowed_hosts=LOCAL)]),
            Middleware(SafeHeaders),
        ],
        exception_handlers={ApiError: _told, HTTPException: _told, 500: _told},
        lifespan=lifespan,
    )


def _told(_: Request, error: Exception) -> Response:
    """Every error in OpenAI's words."""
    headers = None
    if isinstance(error, HTTPException):
        headers = error.headers  # Allow, of a 405
        error = ApiError(error.status_code, error.detail)
    elif not isinstance(error, ApiError):  # Starlette raises it again, into the log
        error = ApiError(500, "the server had an error; its log says which")
    return JSONResponse(error.body(), error.status, headers)


class SafeHeaders:
    """Lets pages load nothing from elsewhere, and browsers guess no types."""

    HEADERS = (
        (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)
