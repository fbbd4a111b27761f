"""Several servers of one model: whose turn it is, and what becomes of requests when one dies."""

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from r2r.engines.base import Request
from r2r.engines.sglang import client as client_module
from r2r.engines.sglang.client import Client, Patience
from r2r.engines.sglang.delay import Delay
from r2r.engines.sglang.engine import SGLangEngine
from r2r.engines.sglang.fleet import Fleet
from r2r.engines.sglang.server import Server, free_port
from r2r.engines.sglang.turns import BLOCK, SLACK, Turns
from r2r.errors import ConfigError, EngineFailed
from r2r.stages.compose import compose

EOS, ROUTE = 4, 5
WRITTEN = [101, 102, 103, 104, 105, 106, 107, EOS]


def text(start, blocks=3):
    return list(range(start, start + blocks * BLOCK))


def test_texts_without_a_common_beginning_take_turns():
    turns = Turns()
    chosen = [turns.choose(text(1000 * n), [0, 1, 2]) for n in range(6)]
    assert chosen == [0, 1, 2, 0, 1, 2]
    assert [turns.choose([n], [0, 1, 2]) for n in range(3)] == [0, 1, 2]  # shorter than a block


def test_a_conversation_and_the_handoffs_of_an_answer_stay_at_their_server():
    turns = Turns()
    turns.choose(text(9000), [0, 1])
    home = turns.choose(text(0), [0, 1])
    grown = text(0)
    for token in range(7 * BLOCK):
        grown.append(token)
        turns.choose(text(1000 * token + 10_000), [0, 1])  # others in between
        assert turns.choose(grown, [0, 1]) == home


def test_a_text_of_which_less_than_half_is_known_takes_its_turn():
    turns = Turns()
    assert turns.choose(text(0), [0, 1]) == 0
    assert turns.choose([*text(0), *text(900, blocks=4)], [0, 1]) == 1


def test_one_long_beginning_does_not_load_one_server_with_everything():
    turns = Turns()
    for number in range(4 * SLACK):
        turns.under_way[turns.choose([*text(0, blocks=9), number], [0, 1])] += 1
    assert abs(turns.under_way[0] - turns.under_way[1]) <= SLACK + 1


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("r2r.engines.sglang.turns.REMEMBERED", 6)
    turns = Turns()
    for number in range(9):
        turns.choose(text(1000 * number), [0, 1])
    assert len(turns.homes) == 6


class Fake:
    """Writes WRITTEN behind a prompt; holds an answer after three tokens until ``go`` is set."""

    def __init__(self, go, port=0, route=ROUTE):
        self.go, self.port, self.route, self.asked = go, port, route, []

    async def start(self):
        app = web.Application()
        app.router.add_post("/generate", self.generate)
        app.router.add_post("/abort_request", self.well)
        app.router.add_get("/health", self.well)
        app.router.add_get("/model_info", self.well)
        self.runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return self

    async def well(self, request):
        return web.Response()

    async def generate(self, request):
        body = await request.json()
        there = [token for token in body["input_ids"] if token > 100]
        if "probe" not in body["sampling_params"]["custom_params"]["r2r"]:
            self.asked.append(there)
        reply = web.StreamResponse()
        await reply.prepare(request)
        left = WRITTEN[len(there) :][: body["sampling_params"]["max_new_tokens"]]
        for number, token in enumerate(left):
            if len(there) + number == 3:
                await self.go.wait()
            ends = number == len(left) - 1
            told = {"finish_reason": {"type": "stop"} if ends else None}
            told |= {"r2r_router": [None], "r2r_route": [self.route]}
            message = {"output_ids": [token], "meta_info": told}
            await reply.write(f"data: {json.dumps(message)}\n\n".encode())
        await reply.write(b"data: [DONE]\n\n")
        return reply


async def engine_over(fakes, down=20.0):
    servers = [Server(key="llm", url=f"http://127.0.0.1:{f.port}", patience=5.0) for f in fakes]
    engine = SGLangEngine(
        client=Client(servers, Patience(silence=20.0, down=down)), eos_ids=frozenset({EOS}),
        route_id=ROUTE, digest=None, delay=Delay(0.0, 1), stream_interval=1,
    )  # fmt: skip
    await engine.ready()
    return engine


async def until(condition):
    async def poll():
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 30)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(client_module, "PAUSES_S", (0.01, 0.02))


def drill(work, count=3):
    async def run():
        go = asyncio.Event()
        fakes = [await Fake(go).start() for _ in range(count)]
        try:
            await work(fakes, go)
        finally:
            for fake in fakes:
                with contextlib.suppress(RuntimeError):
                    await fake.runner.cleanup()

    asyncio.run(run())


async def answers(engine, count, heard):
    def request(number):
        on_tokens = lambda tokens, _: heard[number].extend(tokens)  # noqa: E731
        return Request([10 + number, 20], [], 30, on_tokens=on_tokens)

    return await asyncio.gather(*(engine.decode(request(number)) for number in range(count)))


def test_requests_of_a_dead_server_go_on_at_others_and_it_is_used_again(caplog):
    async def work(fakes, go):
        engine = await engine_over(fakes)
        heard = [[] for _ in range(12)]
        running = asyncio.create_task(answers(engine, 12, heard))
        await until(lambda: all(len(tokens) == 3 for tokens in heard))
        assert [len(fake.asked) for fake in fakes] == [4, 4, 4]
        await fakes[1].runner.cleanup()
        await until(lambda: len(fakes[0].asked) + len(fakes[2].asked) == 12)
        go.set()
        assert [done.tokens for done in await running] == [WRITTEN] * 12
        assert heard == [WRITTEN] * 12  # every token once
        went_on = [there for fake in (fakes[0], fakes[2]) for there in fake.asked if there]
        assert went_on == [WRITTEN[:3]] * 4
        assert "is left out" in caplog.text and str(fakes[1].port) in caplog.text

        again = await Fake(go, fakes[1].port).start()
        await until(lambda: not engine.client.down)
        assert "is back" in caplog.text
        await answers(engine, 6, [[] for _ in range(6)])
        assert len(again.asked) == 2
        assert engine.live() == 0 and not engine.client.turns.under_way.total()
        await again.runner.cleanup()

    drill(work)


def test_one_that_comes_back_as_another_stays_left_out(caplog):
    async def work(fakes, go):
        go.set()
        engine = await engine_over(fakes)
        await fakes[1].runner.cleanup()
        await answers(engine, 2, [[], []])
        stranger = await Fake(go, fakes[1].port, route=ROUTE + 1).start()
        await until(lambda: "stays left out" in caplog.text)
        await answers(engine, 4, [[] for _ in range(4)])
        assert not stranger.asked and list(engine.client.down) == [1]
        await stranger.runner.cleanup()

    drill(work, count=2)


def test_all_dead_is_one_error_that_names_a_server():
    async def work(fakes, go):
        go.set()
        engine = await engine_over(fakes, down=0.1)
        for fake in fakes:
            await fake.runner.cleanup()
        with pytest.raises(EngineFailed, match=r"llm \(SGLang at http://127"):
            await answers(engine, 1, [[]])

    drill(work, count=2)


def test_every_server_must_be_there_at_the_start():
    async def work(fakes, go):
        await fakes[1].runner.cleanup()
        servers = [Server(key="llm", url=f"http://127.0.0.1:{f.port}", patience=0.1) for f in fakes]
        engine = SGLangEngine(
            client=Client(servers, Patience(1.0, 1.0)), eos_ids=frozenset({EOS}), route_id=ROUTE,
            digest=None, delay=Delay(0.0, 1), stream_interval=1,
        )  # fmt: skip
        with pytest.raises(EngineFailed, match="did not answer within"):
            await engine.ready()

    drill(work, count=2)


def test_every_address_without_a_server_is_said_at_once_with_what_to_start(tmp_path, caplog):
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(3)]
    slm, llm = f"engine.sglang.slm.url=[{urls[0]},{urls[1]}]", f"engine.sglang.llm.url={urls[2]}"
    config, _ = compose(["engine=sglang_remote", slm, llm, "engine.sglang.down_s=0.2"])
    fleet = Fleet(config.engine, dtype="float32", logs=tmp_path)
    for place in ("slm", "llm"):
        fleet.engine(place, None, eos_ids=frozenset({EOS}), tokens=9, route_id=ROUTE)
    assert str(fleet) == ", ".join(urls)
    how = r"Connection refused; docs/sglang.md says how to start it"
    with pytest.raises(EngineFailed, match=rf"did not answer within 0.2 s: {how}"):
        fleet.ready()
    places = ("slm", "slm", "llm")
    assert {record.getMessage() for record in caplog.records} == {
        f"engine.sglang.{place}.url (SGLang at {url}) does not answer: Connection refused; asked"
        " again for 0.2 s (engine.sglang.down_s); docs/sglang.md says how to start it"
        for place, url in zip(places, urls, strict=True)
    }


def remote(tmp_path, *overrides):
    config, _ = compose(["engine=sglang_remote", *overrides])
    fleet = Fleet(config.engine, dtype="float32", logs=tmp_path)
    engine = fleet.engine("llm", None, eos_ids=frozenset({EOS}), tokens=9, route_id=ROUTE)
    return [server.url for server in engine.client.servers]


def test_url_takes_one_or_several(tmp_path):
    assert remote(tmp_path) == ["http://127.0.0.1:30002"]
    assert remote(tmp_path, "engine.sglang.llm.url=[http://a:1,http://b:2]") == [
        "http://a:1", "http://b:2",
    ]  # fmt: skip
    for wrong in ("null", "[]", "[http://a:1,http://a:1]", "[http://a:1,b]", "7"):
        with pytest.raises(ConfigError, match=r"engine\.sglang\.llm\.url must be"):
            remote(tmp_path, f"engine.sglang.llm.url={wrong}")
