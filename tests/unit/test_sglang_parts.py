"""What SGLang's engine does without SGLang: delays, commands, and servers that misbehave."""

import asyncio
import json
import socket

import pytest
from aiohttp import web

import r2r.engines.sglang.server as server_module
from r2r.config import ServerConfig
from r2r.engines.base import Request
from r2r.engines.sglang.client import Client, Patience
from r2r.engines.sglang.delay import Delay, Gate, Rule, measure
from r2r.engines.sglang.engine import SGLangEngine
from r2r.engines.sglang.fleet import Fleet
from r2r.engines.sglang.server import Server, command, free_port
from r2r.errors import ConfigError, EngineFailed
from r2r.pairs import Source
from r2r.policies.build import build_policy
from r2r.stages.compose import compose
from r2r.stages.preflight import check, preflight
from r2r.stages.sharing import drafts_in_server
from r2r.stages.workbench import Workbench
from r2r.throughput import Forward

EOS, ROUTE = 4, 5


class Fake:
    """A server that writes 10, 11, 12, ... behind a prompt, EOS at 15; ``bad`` answers first."""

    def __init__(self, *bad):
        self.bad, self.asked, self.aborted, self.health = list(bad), [], [], 200
        self.heard = asyncio.Event()  # the client has what was written

    async def generate(self, request):
        body = await request.json()
        self.asked.append(body["input_ids"])
        bad = self.bad.pop(0) if self.bad else None
        if isinstance(bad, int):
            return web.Response(status=bad, text="no\nroom")
        if bad == "silence":
            await asyncio.sleep(60)
        reply = web.StreamResponse()
        await reply.prepare(request)
        token, left = max(9, *body["input_ids"]), body["sampling_params"]["max_new_tokens"]
        while left:
            token, left = token + 1, left - 1
            ends = token == 15 or not left
            told = {"finish_reason": {"type": "stop"} if ends else None}
            message = {"output_ids": [EOS if token == 15 else token], "meta_info": told}
            raw = f"data: {json.dumps(message)}\n\n".encode()
            for part in (raw[:9], raw[9:]):
                await reply.write(part)
            if ends:
                break
            if bad == "breaks off" and token == 12:
                await self.heard.wait()
                request.transport.close()
                return reply
            if bad == "slow":
                await asyncio.sleep(60)
            if bad == "has to wait" and token == 12:
                await asyncio.sleep(0.5)
        await reply.write(b"data: [DONE]\n\n")
        return reply

    async def well(self, request):
        return web.Response(status=self.health)

    async def abort(self, request):
        self.aborted.append((await request.json())["rid"])
        return web.Response()


def with_fake(fake, work, patience):
    """``work(engine)`` in an event loop with the fake server."""

    async def run():
        app = web.Application()
        app.router.add_post("/generate", fake.generate)
        app.router.add_get("/health", fake.well)
        app.router.add_post("/abort_request", fake.abort)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        server = Server(key="llm", url=f"http://127.0.0.1:{port}", patience=1.0)
        engine = SGLangEngine(
            client=Client([server], patience), eos_ids=frozenset({EOS}), route_id=ROUTE,
            digest=None, delay=Delay(0.0, 1), stream_interval=1,
        )  # fmt: skip
        engine.probed = True
        try:
            return await work(engine)
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def test_an_answer_that_breaks_off_goes_on_where_it_was():
    fake, heard = Fake(503, "breaks off"), []

    def on_tokens(tokens, _):
        heard.extend(tokens)
        if 12 in tokens:
            fake.heard.set()

    request = Request([1], [], 20, on_tokens=on_tokens)
    decoded = with_fake(fake, lambda engine: engine.decode(request), Patience(5.0, 5.0))
    assert decoded.tokens == heard == [10, 11, 12, 13, 14, EOS]
    assert fake.asked == [[1], [1], [1, 10, 11, 12]]


def test_an_answer_that_is_to_ignore_its_end_goes_on_behind_it():
    fake, request = Fake(), Request([1], [], 9, ignore_eos=True)
    decoded = with_fake(fake, lambda engine: engine.decode(request), Patience(5.0, 5.0))
    assert decoded.tokens == [10, 11, 12, 13, 14, EOS, *decoded.tokens[6:]]
    assert (len(decoded.tokens), decoded.reason) == (9, "budget")
    assert fake.asked[:2] == [[1], [1, 10, 11, 12, 13, 14, EOS]]


@pytest.mark.parametrize(("bad", "why"), [(503, "HTTP 503 no room"), ("silence", "Timeout")])
def test_a_server_that_only_fails_is_said_once_and_is_one_error_in_bounded_time(bad, why, caplog):
    def work(engine):
        return asyncio.wait_for(engine.decode(Request([1], [], 20)), 5)

    with pytest.raises(EngineFailed, match=why) as error:
        with_fake(Fake(*[bad] * 50), work, Patience(silence=0.2, down=0.5))
    assert "\n" not in str(error.value)
    (said,) = caplog.messages
    assert why in said and "asked again for 0.5 s (engine.sglang.down_s)" in said


def test_a_request_that_has_to_wait_in_a_healthy_server_waits():
    fake, patience = Fake("has to wait"), Patience(silence=0.1, down=0.1)
    decoded = with_fake(fake, lambda engine: engine.decode(Request([1], [], 20)), patience)
    assert (len(decoded.tokens), len(fake.asked)) == (6, 1)
    fake = Fake(*["has to wait"] * 50)
    fake.health = 503
    with pytest.raises(EngineFailed, match="health is HTTP 503"):
        with_fake(fake, lambda engine: engine.decode(Request([1], [], 20)), patience)


def test_a_request_that_is_refused_is_not_asked_again():
    fake = Fake(400)
    with pytest.raises(EngineFailed, match="refused"):
        with_fake(fake, lambda engine: engine.decode(Request([1], [], 20)), Patience(5.0, 5.0))
    assert len(fake.asked) == 1


def test_cancelling_aborts_in_the_server():
    fake, heard = Fake("slow"), asyncio.Event()

    async def work(engine):
        request = Request([1], [], 20, on_tokens=lambda *_: heard.set())
        task = asyncio.create_task(engine.decode(request))
        await heard.wait()
        assert engine.live() == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*engine.client.farewells)
        assert engine.live() == 0

    with_fake(fake, work, Patience(5.0, 5.0))
    assert len(fake.aborted) == 1


def test_a_gate_opens_when_enough_wait_or_nobody_else_can_come():
    async def run():
        live = {1, 2, 3, 4}
        gate = Gate(size=3, window=60.0, live=lambda: len(live))
        waiting = [asyncio.create_task(gate.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        await asyncio.wait_for(gate.wait(), 5)  # the third
        await asyncio.gather(*waiting)
        late = asyncio.create_task(gate.wait())
        await asyncio.sleep(0)
        live.intersection_update({1})
        gate.check()
        await asyncio.wait_for(late, 5)

    asyncio.run(run())


def test_a_gate_opens_after_its_window():
    async def run():
        gate = Gate(size=3, window=0.01, live=lambda: 9)
        await asyncio.wait_for(gate.wait(), 5)

    asyncio.run(run())


def test_a_cancelled_one_is_not_counted():
    async def run():
        gate = Gate(size=2, window=60.0, live=lambda: 9)
        gone = asyncio.create_task(gate.wait())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        stays = asyncio.create_task(gate.wait())
        await asyncio.sleep(0)
        assert not stays.done() and len(gate.waiting) == 1
        await gate.wait()
        await stays

    asyncio.run(run())


def test_a_servers_forwards_are_timed_with_one_and_with_many():
    asked = []

    async def ask(count):
        asked.append(count)

    forward = asyncio.run(measure(ask))
    assert set(asked) == {1, 16} == {count for count, _ in forward.points}


TOKENROUTER = Forward({1: 0.006}), Forward({1: 0.0279})  # arXiv 2610.12242, 0.35 handed over


def test_so_many_wait_as_tokenrouter_found_best():
    rule = Rule(*TOKENROUTER)
    asked = {requests: rule.ask(requests, 1 / 0.35) for requests in (1, 2, 3, 4)}
    assert [enough for enough, _ in asked.values()] == [1, 2, 2, 3]
    assert asked[1][1] == 0
    assert asked[4][1] == pytest.approx(2 * 3 / 0.35 / 207.9, rel=0.05)  # seconds, twice the mean


def test_the_rule_follows_what_is_under_way_and_what_is_handed_over():
    rule, written = Rule(*TOKENROUTER), 0

    async def settled(requests, steps):
        nonlocal written
        for _ in range(400):
            written += steps
            rule.called(written, requests)
            if rule.asking:
                await rule.asking
        return rule.called(written, requests)

    async def run():
        return [await settled(*at) for at in ((1, 3), (4, 3), (32, 3), (32, 300))]

    alone, four, many, seldom = asyncio.run(run())
    assert alone == (1, 0.0) and four[0] == 3 and many[0] > four[0] > seldom[0]


def line(**settings):
    return command(
        python="python", model=Source("a/b", False, revision="main"),
        settings=ServerConfig(**settings), device="cuda", dtype="bfloat16",
        max_prefill_tokens=8192, routing={"route_id": 5}, extra={},
    )  # fmt: skip


def test_a_command_holds_the_settings_and_nothing_that_is_null():
    words = line(tp_size=2, mem_fraction_static=0.8, args={"page_size": 16, "enable-metrics": True})
    options = dict(zip(words[3::2], words[4::2], strict=False))
    assert words[:3] == ["python", "-m", "sglang.launch_server"]
    assert (options["--model-path"], options["--revision"]) == ("a/b", "main")
    assert (options["--tp-size"], options["--mem-fraction-static"]) == ("2", "0.8")
    assert words[words.index("--page-size") + 1] == "16"
    assert words.count("--page-size") == words.count("--enable-metrics") == 1
    assert "--context-length" not in words and "None" not in words
    assert words[words.index("--host") + 1] == "127.0.0.1"


@pytest.mark.parametrize(("engine", "slm", "llm"), [
    ("sglang_two_gpus", (1, 0.15), (2, 0.80)),
    ("sglang_one_gpu", (1, 0.15), (1, 0.70)),
])  # fmt: skip
def test_the_shipped_arrangements(engine, slm, llm):
    settings = compose([f"engine={engine}"])[0].engine.sglang
    assert (settings.slm.tp_size, settings.slm.mem_fraction_static) == slm
    assert (settings.llm.tp_size, settings.llm.mem_fraction_static) == llm


def test_servers_make_room_on_a_gpu(tmp_path):
    config = compose(["engine=sglang_one_gpu", "engine.sglang.python=/bin/true"])[0].engine
    fleet = Fleet(config, dtype="bfloat16", logs=tmp_path)

    def running(place, digest=None):
        router = {"router": "there", "pair": "p", "identity": {}}
        fleet.engine(place, Source(place, True), eos_ids=frozenset({4}), tokens=9, route_id=5,
                     routing=router if digest else None, digest=digest)  # fmt: skip
        return list(fleet.servers)

    assert running("slm") + running("llm") == ["slm", "slm", "llm"]
    assert running("slm", "digest") == ["slm"]  # comes first, so the LLM starts again behind it
    assert running("llm") == ["slm", "llm"]
    assert running("slm") == ["slm", "llm"]  # with its router it serves the SLM alone too
    assert fleet.servers["llm"].after is fleet.servers["slm"]
    assert running("middle") == ["middle"]
    assert running("llm") == ["llm"]


def test_a_servers_port_is_none_that_the_kernel_may_give_away(monkeypatch):
    lowest = int(server_module.KERNELS.read_text().split()[0])
    assert free_port() in [port for port in server_module.PORTS if port < lowest]
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        taken = held.getsockname()[1]
        monkeypatch.setattr(server_module, "PORTS", range(taken, taken + 1))
        assert free_port() != taken


def test_a_server_whose_port_is_anothers_is_told_of_when_it_ends(tmp_path, monkeypatch):
    """The other takes the question and never answers; SGLang's log says more behind the cause."""
    monkeypatch.setattr(server_module, "ANSWER_S", 0.1)
    said = "ERROR: [Errno 98] ...: address already in use\nReadTimeoutError: no reply\nbye"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = Server(
            key="llm", url=f"http://127.0.0.1:{other.getsockname()[1]}", patience=600.0,
            command=["sh", "-c", f"echo '{said}'; exit 3"], log=tmp_path / "llm.log",
        )  # fmt: skip
        with pytest.raises(EngineFailed, match=r"exit code 3: ERROR.* address already in use"):
            asyncio.run(asyncio.wait_for(server.ready(), 60))


@pytest.mark.parametrize(
    "overrides, drafts",
    [
        (["engine=sglang_one_gpu"], 4),
        (["engine=sglang_one_gpu", "benchmark.temperature=0.6"], None),
        (["engine=sglang_one_gpu", "policy=lossy"], None),
        (["engine=sglang"], None),  # on a CPU
        (["engine=sglang_remote", "engine.device=cuda"], None),  # nobody knows how it was started
        (["engine=torch"], None),
    ],
)
def test_sglangs_own_speculation_is_used_where_it_does_what_the_policy_says(overrides, drafts):
    config = compose(["policy=speculative", *overrides])[0]
    assert drafts_in_server(config, build_policy(config.policy)) == drafts


def test_sglangs_own_speculation_tells_no_target_its_drafts():
    asked = ["policy=speculative", "target=quality:0.98"]
    with pytest.raises(ConfigError, match="target must be null with SGLang's own speculative"):
        check(Workbench(*compose(["engine=sglang_one_gpu", *asked])), machine=False)
    check(Workbench(*compose(["engine=sglang", *asked])), machine=False)


def test_mistakes_are_told_before_anything_starts():
    def start(*overrides):
        preflight(Workbench(compose(list(overrides))[0], "mlp"))

    with pytest.raises(ConfigError, match=r"engine\.sglang\.python must be a Python with sglang"):
        start("engine=sglang", "engine.sglang.python=/bin/true")
    with pytest.raises(ConfigError, match=r"engine\.sglang\.delay_ms must be at least 0"):
        compose(["engine=sglang", "engine.sglang.delay_ms=-1"])
