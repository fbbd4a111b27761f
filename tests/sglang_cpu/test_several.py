"""Two servers of each model behind one orchestrator: one of each dies under load and comes back."""

import asyncio
import os
import signal

from conftest import START_S


def end(server):
    """As a remote one ends: nobody here watches its process."""
    server.process, process = None, server.process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def counted(client):
    """Of each server, the requests it has been given so far; the list goes on counting."""
    found, choose = [0] * len(client.servers), client.turns.choose

    def choosing(text, among):
        number = choose(text, among)
        found[number] += 1
        return number

    client.turns.choose = choosing
    return found


def test_one_server_of_each_model_dies_under_load_and_is_used_again(nano, servers, launch, caplog):
    others = [launch(f"{name}2", nano.command(name)) for name in ("slm", "llm")]
    asked = nano.prompts(32, [0.5])
    expected = nano.routed(nano.torch_engine("slm"), nano.torch_engine("llm")).generate(asked)

    async def drill():
        for server in others:
            await server.ready()
        engines = [
            nano.sglang_engine(name, first, second, down=START_S)
            for name, first, second in zip(("slm", "llm"), servers, others, strict=True)
        ]
        routed = nano.routed(*engines)
        given = [counted(engine.client) for engine in engines]
        await routed.answer(asked[0])  # all four have been probed
        heard, enough = [], asyncio.Event()

        def on_step(step):
            heard.append(step)
            if len(heard) > 200:
                enough.set()

        running = [asyncio.create_task(routed.answer(p, on_step)) for p in asked]
        await enough.wait()
        for server in others:
            end(server)
        while sum(len(engine.client.down) for engine in engines) < 2:
            await asyncio.sleep(0.05)
        for server in others:
            server.start()
        traces = await asyncio.wait_for(asyncio.gather(*running), START_S)
        while any(engine.client.down for engine in engines):
            await asyncio.sleep(0.2)
        before = [list(counts) for counts in given]
        again = await asyncio.gather(*(routed.answer(p) for p in asked))
        while any(engine.live() for engine in engines):  # what is dropped is told of last
            await asyncio.sleep(0.05)
        return traces, again, before, given

    traces, again, before, given = asyncio.run(asyncio.wait_for(drill(), 3 * START_S))
    for found in (traces, again):
        for trace, other in zip(found, expected, strict=True):
            assert [(s.token, s.source, s.draft) for s in trace.steps] == [
                (s.token, s.source, s.draft) for s in other.steps
            ]
    for then, now in zip(before, given, strict=True):
        assert min(then) > 0  # both worked before one died
        assert all(b > a for a, b in zip(then, now, strict=True))  # and both after it came back
    for server in others:
        assert f"{server} is left out" in caplog.text and f"{server} is back" in caplog.text
