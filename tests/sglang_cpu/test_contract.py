"""The engine contract, over the torch engine and over real SGLang servers."""

import asyncio
import json

import pytest
import torch
from reference import alone, next_logits

from r2r.engines.base import Request, Sampling


@pytest.fixture(params=["torch", "sglang"])
def engines(request, nano):
    """(SLM with its router, LLM)."""
    if request.param == "torch":
        return nano.torch_engine("slm"), nano.torch_engine("llm")
    servers = request.getfixturevalue("servers")
    return tuple(nano.sglang_engine(n, s) for s, n in zip(servers, ("slm", "llm"), strict=True))


@pytest.fixture
def prompt(nano):
    return nano.prompts(1)[0].tokens


def expected(nano, name, prompt, budget):
    banned = [nano.pair.route_id]
    return alone(getattr(nano, name), prompt, budget, nano.pair.eos_ids, banned)


def test_an_answer_ends_with_eos(nano, engines, prompt):
    for engine, name in zip(engines, ("slm", "llm"), strict=True):
        decoded = asyncio.run(engine.decode(Request(prompt, [], 200)))
        assert (decoded.reason, decoded.tokens) == ("eos", expected(nano, name, prompt, 200))
        assert decoded.tokens[-1] in nano.pair.eos_ids
        assert decoded.scores == []


def test_a_budget_ends_it_before(nano, engines, prompt):
    decoded = asyncio.run(engines[1].decode(Request(prompt, [], 7)))
    assert (decoded.reason, decoded.tokens) == ("budget", expected(nano, "llm", prompt, 7))


def test_an_answer_goes_on_where_it_was(nano, engines, prompt):
    whole = expected(nano, "llm", prompt, 200)
    decoded = asyncio.run(engines[1].decode(Request(prompt, whole[:9], 200)))
    assert decoded.tokens == whole[9:]
    assert asyncio.run(engines[1].next_token(Request(prompt, whole[:9], 1))) == whole[9]


def test_a_stop_check_sees_the_whole_answer_and_ends_it_at_once(nano, engines, prompt):
    whole = expected(nano, "llm", prompt, 200)
    seen = []

    def stop(answer):
        seen.append(list(answer))
        return len(answer) == 8

    request = Request(prompt, whole[:3], 200, stop=stop)
    decoded = asyncio.run(engines[1].decode(request))
    assert (decoded.reason, decoded.tokens) == ("stop", whole[3:8])
    assert seen == [whole[:n] for n in range(4, 9)]


def test_tokens_are_heard_once_in_order_with_their_scores(engines, prompt):
    heard, scores = [], []

    def on_tokens(tokens, found):
        heard.extend(tokens)
        scores.extend(found)

    request = Request(prompt, [], 30, threshold=2.0, on_tokens=on_tokens)
    decoded = asyncio.run(engines[0].decode(request))
    assert (heard, scores) == (decoded.tokens, decoded.scores)
    assert len(scores) == 30 and all(0 <= score <= 1 for score in scores)


def test_a_divergent_token_is_a_draft_not_a_token(nano, engines, prompt):
    decoded = asyncio.run(engines[0].decode(Request(prompt, [], 30, threshold=0.0)))
    assert (decoded.tokens, decoded.reason) == ([], "divergent")
    assert decoded.draft == expected(nano, "slm", prompt, 1)[0]
    assert 0 < decoded.draft_score < 1


def test_a_threshold_needs_a_router(engines, prompt):
    with pytest.raises(ValueError, match="router"):
        asyncio.run(engines[1].decode(Request(prompt, [], 30, threshold=0.5)))


def test_the_route_token_is_never_written_and_seeds_decide_every_draw(nano, engines, prompt):
    hot = Sampling(temperature=5.0, seed=3)

    async def draws(seeds):
        asked = [Request(prompt, [], 40, Sampling(temperature=5.0, seed=s)) for s in seeds]
        return [d.tokens for d in await asyncio.gather(*map(engines[1].decode, asked))]

    drawn = asyncio.run(draws([3, 3, 4]))
    assert drawn[0] == drawn[1] != drawn[2]
    assert nano.pair.route_id not in drawn[0] + drawn[2]
    resumed = asyncio.run(engines[1].decode(Request(prompt, drawn[0][:5], 35, hot)))
    assert resumed.tokens == drawn[0][5:]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_handoffs_of_a_session_equal_those_without_one(nano, engines, prompt, temperature):
    """Another model writes between them, or nobody does; a text is cut, and another one comes."""
    engine = engines[1]
    sampling = Sampling(temperature=temperature, seed=11)
    filler = expected(nano, "slm", prompt, 200)

    async def handoffs(session):
        found, answer = [], []
        for number in range(24):
            if number == 9:
                del answer[5:]
            if number == 15:
                answer = filler[20:50]
            if number == 18:
                engine.release(session)
                session = -1 if session < 0 else engine.new_session()
            token = await engine.next_token(Request(prompt, list(answer), 1, sampling, session))
            found.append(token)
            answer += [token, *filler[number : number + number % 4]]
        engine.release(session)
        return found

    async def both():
        return await handoffs(engine.new_session()), await handoffs(-1)

    kept, whole = asyncio.run(both())
    assert kept == whole
    assert len(set(kept)) > 3


def sizes_sent(client):
    """Of each request from now on, as it is sent."""
    sizes, answering = [], client._answer

    def counting(server, body):
        sizes.append(len(json.dumps(body)))
        return answering(server, body)

    client._answer = counting
    return sizes


async def closed_by(server, client):
    """The server has dropped the session that is held, as when it was idle for long."""
    (held,) = client.sessions.held.values()
    client._farewell(server, "close_session", {"session_id": held.id})
    await asyncio.gather(*client.farewells)


@pytest.mark.parametrize("bad", [None, "cancelled", "closed"])
def test_a_handoff_sends_what_is_new(nano, servers, prompt, bad):
    engine = nano.sglang_engine("llm", servers[1])
    client = engine.client

    async def handoffs():
        session, answer = engine.new_session(), []

        async def one():
            return await engine.next_token(Request(prompt, list(answer), 1, session=session))

        await engine.ready()
        sizes = sizes_sent(client)
        for number in range(12):
            if number == 8 and bad == "cancelled":
                turn = asyncio.create_task(one())
                while len(sizes) < 9:
                    await asyncio.sleep(0)
                turn.cancel()
                await asyncio.gather(turn, return_exceptions=True)
                sizes.pop()
            if number == 8 and bad == "closed":
                await closed_by(servers[1], client)
            token = await one()
            assert token == expected(nano, "llm", [*prompt, *answer], 1)[0]
            answer.extend([token, *[300] * 49])  # as many digits each time
        engine.release(session)
        while engine.live():
            await asyncio.sleep(0.01)
        return sizes

    sizes = asyncio.run(handoffs())
    if bad == "closed":
        assert sizes.pop(8) < 1.1 * sizes[7]  # of which the server said that it had it no more
    whole = [0] if bad is None else [0, 8]
    small = [size for number, size in enumerate(sizes) if number not in whole]
    assert max(small) < 1.1 * min(small)
    if bad:
        assert sizes[8] > 3 * max(small)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("closed", [False, True])
def test_the_slm_too_is_sent_what_is_new(nano, servers, prompt, temperature, closed):
    """Behind a turn of no token, of one, of more; the LLM writes one or several in the place of
    what was rejected. Without a session the same tokens come, and the same scores."""
    engine = nano.sglang_engine("slm", servers[0])
    client = engine.client

    async def turns(session):
        found, answer = [], []
        for number in range(16):
            if number == 8 and closed and session >= 0:
                await closed_by(servers[0], client)
            sampling = Sampling(temperature=temperature, seed=11)
            threshold = (0.0, 0.45, 0.5, 0.55)[number % 4]
            decoded = await engine.decode(
                Request(prompt, list(answer), 5, sampling, session, threshold=threshold,
                        ignore_eos=True, stays=True)
            )  # fmt: skip
            found.append(decoded)
            answer += [*decoded.tokens, *range(300, 301 + number % 3)]
        engine.release(session)
        while engine.live():
            await asyncio.sleep(0.01)
        return found

    async def both():
        await engine.ready()
        sizes = sizes_sent(client)
        return await turns(engine.new_session()), await turns(-1), sizes

    kept, whole, sizes = asyncio.run(both())
    assert [(d.tokens, d.reason, d.draft) for d in kept] == [
        (d.tokens, d.reason, d.draft) for d in whole
    ]
    for one, other in zip(kept, whole, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
    assert {d.reason for d in kept} == {"divergent", "budget"}
    assert len({len(d.tokens) for d in kept}) > 2
    first, rest = sizes[0], sizes[1 : len(sizes) - 16]
    again = [size for size in rest if size > first]
    assert len(again) == closed and max(set(rest) - set(again)) < 0.75 * first


@pytest.mark.parametrize("first", [0, 5, -2])
def test_a_text_is_read(nano, engines, prompt, first):
    text = prompt + expected(nano, "llm", prompt, 60)
    first = first % len(text)
    read = asyncio.run(engines[0].prefill(text, first))
    again = asyncio.run(engines[0].prefill(text, first))  # all of it is cached by now
    assert torch.equal(read.signals.hidden, again.signals.hidden) or torch.allclose(
        read.signals.hidden, again.signals.hidden, atol=1e-5
    )
    assert read.signals.position.tolist() == list(range(first, len(text) - 1))
    for row, at in enumerate(range(first, len(text) - 1)):
        logits, hidden = next_logits(nano.slm, text[: at + 1])
        top = logits.topk(100)
        assert read.signals.token[row] == logits.argmax()
        assert torch.allclose(read.signals.logits[row], top.values, atol=1e-4)
        assert torch.allclose(logits[read.indices[row]], top.values, atol=1e-4)
        assert torch.allclose(read.signals.hidden[row], hidden, atol=1e-4)


def test_given_tokens_are_judged_whatever_was_read_before(nano, engines, prompt):
    """Nothing, all of it, or the same up to a place from which on it was cut; drawn or greedy."""
    mine, other = (expected(nano, name, prompt, 40)[:12] for name in ("slm", "llm"))

    async def judged(answer, start, sampling):
        return await engines[1].verify(Request(prompt, answer, 0, sampling), start)

    for sampling in (Sampling(), Sampling(temperature=1.0, seed=5)):
        for answer, start in ((mine, 0), (mine, 0), (mine, 7), (other, 3), (mine[:5], 5)):
            found = asyncio.run(judged(answer, start, sampling))
            assert len(found.choices) == len(answer) - start + 1
            for number, choice in enumerate(found.choices):
                before = answer[: start + number]
                asked = Request(prompt, before, 1, sampling)
                assert choice == asyncio.run(engines[1].next_token(asked))
                if start + number == len(answer):
                    continue
                logits = next_logits(nano.llm, [*prompt, *before])[0].clone()
                logits[nano.pair.route_id] = -torch.inf
                given = logits[answer[start + number]]
                ratio, logprob = (given - logits.max()).exp(), given - logits.logsumexp(-1)
                assert found.ratios[number] == pytest.approx(ratio.item(), abs=1e-5)
                assert found.logprobs[number] == pytest.approx(logprob.item(), abs=1e-3)


def test_a_models_own_entropy_ends_a_turn(nano, engines, prompt):
    """Above a bound the token is a draft; below another it is the last; else there is none."""
    whole = expected(nano, "llm", prompt, 30)
    decoded = asyncio.run(engines[1].decode(Request(prompt, [], 30, above=2.0, below=-1.0)))
    assert decoded.tokens == whole and len(decoded.scores) == len(whole)
    highest, lowest = max(decoded.scores), min(decoded.scores)
    first, last = decoded.scores.index(highest), decoded.scores.index(lowest)
    above, below = (Request(prompt, [], 30, above=highest * 0.99),
                    Request(prompt, [], 30, below=lowest + (highest - lowest) * 1e-6))  # fmt: skip
    unsure, sure = asyncio.run(engines[1].decode(above)), asyncio.run(engines[1].decode(below))
    assert (unsure.tokens, unsure.reason, unsure.draft) == (
        whole[:first], "divergent", whole[first],
    )  # fmt: skip
    assert unsure.draft_score == pytest.approx(highest, abs=1e-5)
    assert sure.reason == "certain" and sure.tokens == whole[: len(sure.tokens)]
    assert len(sure.tokens) <= last + 1


def test_a_cancelled_request_leaves_the_engine_free(nano, engines, prompt):
    async def cancelled():
        heard = asyncio.Event()
        request = Request(prompt, [], 900, Sampling(temperature=9.0),
                          on_tokens=lambda *_: heard.set())  # fmt: skip
        asked = [asyncio.create_task(engines[1].decode(request)) for _ in range(8)]
        await heard.wait()
        for task in asked:
            task.cancel()
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in done)
        return await engines[1].decode(Request(prompt, [], 7))

    assert asyncio.run(cancelled()).tokens == expected(nano, "llm", prompt, 7)
