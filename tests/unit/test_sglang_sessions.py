"""Handoffs on SGLang send what is new: a server keeps the text, and is told when to drop it."""

import asyncio
import itertools
import time

import pytest
from session_server import (
    EOS,
    INFO,
    PROMPT,
    ROUTE,
    SMALL,
    Fake,
    engine_over,
    following,
    until,
    with_fakes,
)

from r2r.engines.base import Request
from r2r.engines.sglang import client as client_module
from r2r.engines.sglang.fleet import Fleet
from r2r.engines.sglang.sessions import Room, room
from r2r.errors import EngineFailed
from r2r.pairs import Source
from r2r.stages.compose import compose


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(client_module, "PAUSES_S", (0.01, 0.02))
    client_module._warn_once.cache_clear()


async def handoff(engine, session, answer, between=3):
    """The LLM writes a token, which is the one it must be, and the SLM ``between``."""
    token = await engine.next_token(Request(PROMPT, answer, 1, session=session))
    assert token == following([*PROMPT, *answer])
    answer += [token, *range(200, 200 + between)]


def test_bytes_of_a_handoff_do_not_grow_with_the_text():
    sizes = {}

    async def work(fake):
        for keeps in (True, False):
            fake.bytes = []
            engine = await engine_over(fake, keeps=keeps)
            session, answer = engine.new_session(), []
            for number in range(60):
                await handoff(engine, session, answer, between=(0, 3, 40)[number % 3])
            sizes[keeps] = fake.bytes
            engine.release(session)
            await until(lambda engine=engine: engine.live() == 0)
        assert fake.opened == 1 and not fake.kept

    with_fakes(work, Fake())
    kept, whole = sizes[True], sizes[False]
    for place in range(3):  # turns of as many new tokens
        same = kept[3 + place :: 3]
        assert max(same) == min(same)
    assert max(kept) < SMALL < 3000 < whole[-1]


async def turn(engine, session, answer, between):
    """The SLM writes a token and hands over, and the LLM writes ``between``."""
    request = Request(PROMPT, list(answer), 9, session=session, above=0.5, stays=True)
    decoded = await engine.decode(request)
    assert (decoded.tokens, decoded.draft) == ([following([*PROMPT, *answer])], 99)
    answer += [*decoded.tokens, *range(200, 200 + between)]


@pytest.mark.parametrize("bad", [None, "forgets", "breaks off"])
def test_bytes_of_a_turn_of_the_slm_do_not_grow_either(bad):
    """The route token, which a server takes back, is in no text; a lost one is sent whole."""

    async def work(fake):
        engine = await engine_over(fake)
        session, answer = engine.new_session(), list(range(300, 700))
        for number in range(12):
            if number == 6 and bad:
                fake.bad = [bad]
            await turn(engine, session, answer, between=1 + number % 2)
        engine.release(session)
        await until(lambda: engine.live() == 0)
        whole = [at for at, size in enumerate(fake.bytes) if size > SMALL]
        assert whole == ([0, 7] if bad else [0]) and fake.opened == len(whole)

    with_fakes(work, Fake())


def test_a_turn_that_may_be_taken_back_is_kept_by_no_server():
    async def work(fake):
        engine = await engine_over(fake)
        request = Request(PROMPT, [], 9, session=engine.new_session(), above=0.5)
        await engine.decode(request)
        assert not fake.opened

    with_fakes(work, Fake())


@pytest.mark.parametrize("bad", ["forgets", "is full", "breaks off", 503])
def test_a_session_that_is_lost_is_opened_again_with_the_whole_text(bad):
    async def work(fake):
        engine = await engine_over(fake)
        session, answer = engine.new_session(), list(range(300, 600))
        await handoff(engine, session, answer)
        await handoff(engine, session, answer)
        fake.bad = [bad]
        await handoff(engine, session, answer)
        await handoff(engine, session, answer)
        whole, small, failed, again, after = fake.bytes
        assert max(small, failed, after) < SMALL < 1500 < min(whole, again)
        assert fake.opened == 2
        await until(lambda: len(fake.kept) == 1)
        engine.release(session)
        await until(lambda: engine.live() == 0)
        assert not fake.kept

    with_fakes(work, Fake())


def test_a_server_that_dies_between_turns_is_given_the_whole_text_when_it_is_back():
    async def work(fake):
        engine = await engine_over(fake)
        session, answer = engine.new_session(), []
        await handoff(engine, session, answer)
        await fake.stop()
        waits = asyncio.create_task(handoff(engine, session, answer))
        await asyncio.sleep(0.05)
        await fake.start()
        await waits
        await handoff(engine, session, answer)
        assert (fake.opened, len(fake.kept)) == (2, 1)

    with_fakes(work, Fake())


def test_a_text_that_was_cut_is_sent_whole_and_the_old_one_dropped():
    async def work(fake):
        engine = await engine_over(fake)
        session, answer = engine.new_session(), list(range(300, 600))
        await handoff(engine, session, answer)
        for cut in (answer[:200], [*answer[:250], 7, 7, 7, *answer[253:]]):
            await handoff(engine, session, list(cut))
            await until(lambda: len(fake.kept) == 1)
        assert fake.opened == 3 and min(fake.bytes) > SMALL

    with_fakes(work, Fake())


def test_a_cancelled_turn_is_aborted_and_its_session_closed():
    async def work(fake):
        engine = await engine_over(fake)
        session, answer = engine.new_session(), []
        await handoff(engine, session, answer)
        fake.bad = ["hangs"]
        fake.asked.clear()
        waits = asyncio.create_task(handoff(engine, session, answer))
        await fake.asked.wait()
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        await until(lambda: not fake.kept and len(fake.aborted) == 1)
        engine.release(session)
        await until(lambda: engine.live() == 0)

    with_fakes(work, Fake())


def test_sessions_are_closed_though_the_loop_ends_with_their_release():
    async def work(fake):
        async def job():
            engine = await engine_over(fake)
            sessions = [engine.new_session() for _ in range(5)]
            for session in sessions:
                await handoff(engine, session, [session])
            assert len(fake.kept) == engine.live() == 5
            for session in sessions:
                engine.release(session)
            return engine

        engine = await asyncio.to_thread(asyncio.run, job())
        assert not fake.kept and engine.live() == 0

    with_fakes(work, Fake())


def test_a_connection_that_the_server_has_ended_unseen_is_not_asked(monkeypatch):
    monkeypatch.setattr(client_module, "UNUSED_S", 0.2)
    fake = Fake()
    fake.unused = 0.4

    async def work(fake):
        async def job():
            engine = await engine_over(fake)
            session, answer = engine.new_session(), []
            for _ in range(4):
                await handoff(engine, session, answer)
                time.sleep(0.8)
            engine.release(session)

        await asyncio.to_thread(asyncio.run, job())
        assert (fake.opened, len(fake.bytes)) == (1, 4)

    with_fakes(work, fake)


def test_a_server_that_does_not_hear_of_a_release_holds_the_end_up_for_a_bounded_time(monkeypatch):
    monkeypatch.setattr(client_module, "FAREWELL_S", 0.1)

    async def work(fake):
        async def silent(request):
            await asyncio.sleep(60)

        fake.close_session = silent
        await fake.stop()
        await fake.start()

        async def job():
            engine = await engine_over(fake)
            session = engine.new_session()
            await handoff(engine, session, [])
            engine.release(session)

        await asyncio.wait_for(asyncio.to_thread(asyncio.run, job()), 5)

    with_fakes(work, Fake())


def test_a_session_stays_at_one_of_several_servers_and_goes_on_at_another_when_that_dies():
    async def work(*fakes):
        engine = await engine_over(*fakes)
        sessions = [(engine.new_session(), [number] * 300) for number in range(6)]
        for _ in range(4):
            await asyncio.gather(*(handoff(engine, *each) for each in sessions))
        assert [(fake.opened, len(fake.bytes)) for fake in fakes] == [(2, 8)] * 3
        await fakes[1].stop()
        for _ in range(3):
            await asyncio.gather(*(handoff(engine, *each) for each in sessions))
        others = [fakes[0], fakes[2]]
        assert sum(fake.opened for fake in others) == 6
        assert sum(size > SMALL for fake in others for size in fake.bytes) == 6
        for session, _ in sessions:
            engine.release(session)
        await until(lambda: engine.live() == 0)
        assert not any(fake.kept for fake in others)
        assert not engine.client.turns.under_way.total()
        (waits,) = engine.client.down.values()
        waits.cancel()

    with_fakes(work, *(Fake() for _ in range(3)))


@pytest.mark.parametrize(("info", "why"), [
    ({"enable_streaming_session": False}, "without --enable-streaming-session"),
    ({"skip_tokenizer_init": False}, "without --skip-tokenizer-init"),
    ({"dp_size": 2}, "with --dp-size"),
])  # fmt: skip
def test_a_server_that_keeps_no_sessions_is_sent_the_whole_text_and_told_of_once(caplog, info, why):
    async def work(fake):
        for _ in range(2):
            engine = await engine_over(fake)
            session, answer = engine.new_session(), []
            for _ in range(3):
                await handoff(engine, session, answer)
            engine.release(session)
            assert engine.live() == 0
        assert not fake.opened

    with_fakes(work, Fake(**info))
    (line,) = caplog.messages
    assert why in line and "whole text" in line


def test_a_server_that_comes_back_without_sessions_is_sent_the_whole_text(caplog):
    async def work(fake):
        engine = await engine_over(fake)
        session, answer = engine.new_session(), []
        await handoff(engine, session, answer)
        fake.kept.clear()
        fake.info |= {"enable_streaming_session": False}
        await handoff(engine, session, answer)
        await handoff(engine, session, answer)
        engine.release(session)
        await until(lambda: engine.live() == 0)

    with_fakes(work, Fake())
    assert len(caplog.messages) == 1 and "disabled" in caplog.text


@pytest.mark.parametrize("info", [
    {"max_total_num_tokens": 280},
    {"internal_states": [{"effective_max_running_requests_per_dp": 6}]},
])  # fmt: skip
def test_sessions_leave_room_for_other_requests(info):
    """What does not fit is sent whole; when others have ended it is kept again."""

    async def work(fake):
        engine = await engine_over(fake)
        sessions = [(engine.new_session(), []) for _ in range(5)]
        for each in sessions:
            await handoff(engine, *each, between=0)
        assert fake.opened == len(fake.kept) == 3
        for session, _ in sessions[:3]:
            engine.release(session)
        for _ in range(2):
            for each in sessions[3:]:
                await handoff(engine, *each)
        assert fake.opened == 5 and len(fake.kept) == 2

    with_fakes(work, Fake(**info))


def test_a_text_that_outgrows_its_room_goes_on_without_a_session():
    async def work(fake):
        engine = await engine_over(fake)
        session, answer = engine.new_session(), []
        for _ in range(8):
            await handoff(engine, session, answer)
        assert fake.opened == 1 and not fake.kept
        assert engine.live() == 0

    with_fakes(work, Fake(max_total_num_tokens=110))


def test_a_request_that_is_refused_in_a_new_session_is_an_error_at_once():
    async def work(fake):
        engine = await engine_over(fake)
        fake.bad = [422]
        with pytest.raises(EngineFailed, match="refused a request: HTTP 422"):
            await handoff(engine, engine.new_session(), [])
        await until(lambda: not fake.kept)

    with_fakes(work, Fake())


def test_room_is_half_of_what_the_server_has():
    assert room(INFO) == Room(50_000, 32)


@pytest.mark.parametrize(("place", "speculative", "kept"), [
    ("slm", None, True), ("llm", None, True), ("middle", None, False),
    ("llm", {"speculative_algorithm": "X"}, False),
])  # fmt: skip
def test_the_pairs_servers_are_started_with_sessions(tmp_path, place, speculative, kept):
    config = compose(["engine=sglang_one_gpu", "engine.sglang.python=/bin/true"])[0].engine
    fleet = Fleet(config, dtype="bfloat16", logs=tmp_path)
    engine = fleet.engine(
        place, Source("there", True), eos_ids=frozenset({EOS}), tokens=9, route_id=ROUTE,
        speculative=speculative,
    )  # fmt: skip
    line = list(itertools.chain(*fleet.commands[place]))
    assert engine.keeps == kept == ("--enable-streaming-session" in line)
