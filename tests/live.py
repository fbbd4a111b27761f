"""A served generator on a real socket, in this process; and a generator that does as it is told."""

import asyncio
import contextlib
import re
import socket
import threading
import time

import httpx

from r2r.costs import Params
from r2r.errors import EngineFailed
from r2r.policies.base import Generator
from r2r.serving.app import build_app
from r2r.serving.endpoint import Served
from r2r.serving.metrics import Metrics
from r2r.serving.server import Server
from r2r.serving.worker import Worker
from r2r.trace import Step


class Held:
    """An engine that only counts what it holds."""

    def __init__(self):
        self.held = 0

    def live(self):
        return self.held


class Script(Generator):
    """Answers ``text``; a prompt that says ``wait`` is held until ``go``, ``fail`` fails,
    ``down`` finds an engine's server down."""

    def __init__(self, tokenizer, text):
        super().__init__(tokenizer=tokenizer, context=200, concurrency=8)
        self.text, self.asked, self.engine = text, [], Held()
        self.go = threading.Event()

    async def write(self, prompt, budget, add, spent):
        self.asked.append(prompt)
        said = self.tokenizer.decode(prompt.tokens)
        stop = self.stop_check(prompt)
        self.engine.held += 1
        try:
            written = []
            for n, token in enumerate(
                self.tokenizer(self.text, add_special_tokens=False).input_ids
            ):
                await asyncio.sleep(0)
                if n == 2 and "fail" in said:
                    raise RuntimeError("broken on purpose")
                if n == 2 and "down" in said:
                    raise EngineFailed("the LLM's server is down")
                while n == 2 and "wait" in said and not self.go.is_set():
                    await asyncio.sleep(0.01)
                written.append(token)
                by_llm = n % 4 == 0
                step = Step(token, "llm", 0.75, 9, (10, 11)) if by_llm else Step(token, "slm", 0.25)
                spent.of(step.source).forwards += 1
                spent.slm.forwards += 3 * by_llm  # the draft, and what was cut
                add(step)
                if stop and stop(written):
                    return "stop"
                if len(written) == budget:
                    return "length"
            return "eos"
        finally:
            self.engine.held -= 1


def offer(generator, *, running=4, queue=4, timeout_s=30.0, **served):
    """A served model named toy over ``generator``, and its worker."""

    def encode_chat(messages, options):
        return generator.tokenizer("".join(m["content"] for m in messages)).input_ids

    options = {
        "name": "toy", "params": Params(1.0, 10.0), "encode_chat": encode_chat, "threshold": 0.5,
        "max_threshold": 1.0, "max_new_tokens": 64, "max_prompt_tokens": 100,
        "max_request_bytes": 20_000,
    } | served  # fmt: skip
    worker = Worker(
        generator=generator, engines={"toy": generator.engine}, metrics=Metrics(),
        running=running, queue=queue, timeout_s=timeout_s,
    )  # fmt: skip
    return Served(**options), worker


@contextlib.contextmanager
def live(served, worker, grace_s=5.0):
    """The server's address, and the server; it is shut down in order at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(build_app(served, worker), worker, grace_s)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()


def until(true, seconds=60):
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def figures(url, **headers):
    """The server's metrics: name with labels -> value."""
    text = httpx.get(f"{url}/metrics", headers=headers).text
    return {m[1]: float(m[2]) for m in re.finditer(r"^(r2r_\S+) (\S+)$", text, re.M)}


def at_rest(url):
    """Whether nothing runs, waits or is held in any engine."""
    now = figures(url)
    held = [v for name, v in now.items() if name.startswith(("r2r_answers_", "r2r_engine_live"))]
    return not any(held)
