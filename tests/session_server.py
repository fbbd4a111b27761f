"""A fake SGLang server that keeps streaming sessions, and forgets them as it is told."""

import asyncio
import contextlib
import json

from aiohttp import web

from r2r.engines.sglang.client import Client, Patience
from r2r.engines.sglang.delay import Delay
from r2r.engines.sglang.engine import SGLangEngine
from r2r.engines.sglang.server import Server

EOS, ROUTE = 4, 5
PROMPT = list(range(100, 140))
SMALL = 600  # bytes of a request that sends a few tokens
INFO = {
    "enable_streaming_session": True, "skip_tokenizer_init": True, "dp_size": 1,
    "max_total_num_tokens": 100_000,
    "internal_states": [{"effective_max_running_requests_per_dp": 64}],
}  # fmt: skip


def following(text):
    return 100 + (7 * sum(text) + len(text)) % 800


class Fake:
    """A server that keeps sessions; ``bad``: what becomes of the next turns."""

    def __init__(self, **info):
        self.info, self.port = INFO | info, 0
        self.kept, self.bytes, self.bad, self.aborted = {}, [], [], []
        self.opened, self.unused = 0, 75.0
        self.asked = asyncio.Event()

    async def start(self):
        app = web.Application()
        for path in ("generate", "open_session", "close_session", "abort_request"):
            app.router.add_post(f"/{path}", getattr(self, path))
        app.router.add_get("/server_info", self.server_info)
        for path in ("health", "model_info"):
            app.router.add_get(f"/{path}", self.well)
        self.runner = web.AppRunner(app, shutdown_timeout=0.01, keepalive_timeout=self.unused)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return self

    async def stop(self):
        self.kept = {}
        await self.runner.cleanup()

    async def well(self, request):
        return web.Response()

    async def server_info(self, request):
        return web.json_response(self.info)

    async def open_session(self, request):
        asked = await request.json()
        if not self.info["enable_streaming_session"]:
            return web.json_response({"error": {"message": "disabled"}}, status=400)
        assert asked["streaming"] and asked["timeout"] > 0 and asked["session_id"] not in self.kept
        self.kept[asked["session_id"]] = []
        self.opened += 1
        return web.json_response(asked["session_id"])

    async def close_session(self, request):
        self.kept.pop((await request.json())["session_id"], None)
        return web.Response()

    async def abort_request(self, request):
        self.aborted.append(await request.json())
        return web.Response()

    async def generate(self, request):
        raw = await request.read()
        body = json.loads(raw)
        wish = body["sampling_params"]["custom_params"]["r2r"]
        probe = "probe" in wish
        if not probe:
            self.bytes.append(len(raw))
            self.asked.set()
        bad = self.bad.pop(0) if self.bad and not probe else None
        session = body.get("session_params", {}).get("id")
        if bad == "forgets":
            self.kept.clear()
        if isinstance(bad, int):
            return web.Response(status=bad)
        reply = web.StreamResponse()
        await reply.prepare(request)
        if bad == "breaks off":
            request.transport.close()
            return reply
        if bad == "hangs":
            await asyncio.sleep(60)
        why, told = {"type": "length"}, {"r2r_router": [None], "r2r_route": [ROUTE]}
        if bad == "is full":
            why = {"type": "abort", "message": "full", "status_code": 503}
        if session is not None and session not in self.kept:
            why = {"type": "abort", "message": f"{session} does not exist", "status_code": 400}
        text = [*self.kept.get(session, []), *body["input_ids"]]
        written = [following(text)]
        if "above" in wish:  # the second token would be the other model's
            written += [ROUTE]
            told |= {"r2r_score": [0.1, 0.9], "r2r_draft": [written[0], 99]}
        if session is not None and why["type"] == "length":
            self.kept[session] = [*text, *(t for t in written if t != wish["takes_back"])]
        message = {"output_ids": written, "meta_info": told | {"finish_reason": why}}
        await reply.write(f"data: {json.dumps(message)}\n\ndata: [DONE]\n\n".encode())
        return reply


async def engine_over(*fakes, keeps=True, silence=20.0):
    servers = [Server(key="llm", url=f"http://127.0.0.1:{f.port}", patience=5.0) for f in fakes]
    engine = SGLangEngine(
        client=Client(servers, Patience(silence, 20.0), route_id=ROUTE), eos_ids=frozenset({EOS}),
        route_id=ROUTE, digest=None, delay=Delay(0.0, 1), stream_interval=1, keeps=keeps,
    )  # fmt: skip
    await engine.ready()
    return engine


def with_fakes(work, *fakes):
    async def run():
        for fake in fakes:
            await fake.start()
        try:
            return await asyncio.wait_for(work(*fakes), 60)
        finally:
            for fake in fakes:
                with contextlib.suppress(RuntimeError):
                    await fake.stop()

    return asyncio.run(run())


async def until(condition):
    async def poll():
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 30)
