"""The server on a real socket, over a generator that does as it is told."""

import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from live import Script, at_rest, figures, live, offer, until
from transformers import AutoTokenizer

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "llm"
TEXT = "Now 1+2=3. So é数😀 it is."


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO)


@pytest.fixture
def script(tokenizer):
    return Script(tokenizer, TEXT)


@pytest.fixture
def url(script):
    with live(*offer(script)) as (address, _):
        yield address
        script.go.set()
        until(lambda: at_rest(address))  # whatever a test did, nothing is left behind
        assert script.engine.held == 0


def chat(url, content="hi", **fields):
    body = {"model": "toy", "messages": [{"role": "user", "content": content}], **fields}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)


def events(response):
    lines = [line for line in response.text.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def error(response, status):
    assert response.status_code == status, response.text
    told = response.json()["error"]
    assert set(told) == {"message", "type", "param", "code"}
    return told


def test_a_chat_in_one_piece(url, tokenizer):
    answer = chat(url).json()
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXT, "refusal": None}
    assert choice["finish_reason"] == "stop" and answer["object"] == "chat.completion"
    count = len(tokenizer(TEXT, add_special_tokens=False).input_ids)
    llm = -(-count // 4)
    usage = answer["usage"]
    assert usage["completion_tokens"] == count == usage["slm_tokens"] + usage["llm_tokens"]
    assert usage["total_tokens"] == count + usage["prompt_tokens"]
    assert (usage["llm_tokens"], usage["llm_share"]) == (llm, llm / count)
    # each LLM token also cost the SLM's rejected draft, and two that were cut
    assert usage["avg_params_b"] == pytest.approx((count - llm + llm * 13) / count)


def test_a_stream_says_the_same(url):
    whole = chat(url, n=2, return_trace=True).json()
    options = {"stream": True, "stream_options": {"include_usage": True}, "return_trace": True}
    response = chat(url, n=2, **options)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    told = events(response)
    assert told[-1]["choices"] == [] and told[-1]["usage"] == whole["usage"]
    assert len({chunk["id"] for chunk in told}) == 1
    for index, choice in enumerate(whole["choices"]):
        own = [c for chunk in told for c in chunk["choices"] if c["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["delta"].get("content", "") for c in own) == TEXT
        assert [c["finish_reason"] for c in own if c["finish_reason"]] == ["stop"]
        trace = [token for c in own for token in c.get("trace", [])]
        assert trace == choice["trace"]
        assert "".join(token["text"] for token in trace) == TEXT
        assert {t["source"]: (t["score"], t["draft"]) for t in trace} == {
            "llm": (0.75, 9), "slm": (0.25, None),
        }  # fmt: skip


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
@pytest.mark.parametrize("options", [
    {}, {"include_usage": True}, {"continuous_usage_stats": True},
    {"include_usage": True, "continuous_usage_stats": True},
])  # fmt: skip
def test_usage_within_a_stream(url, path, options):
    asked = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"prompt": "a"}
    body = {"model": "toy", "stream": True, "stream_options": options, "n": 2, **asked}
    told = events(httpx.post(f"{url}/v1/{path}", json=body, timeout=30))
    body = body | {"stream": False, "stream_options": None}
    whole = httpx.post(f"{url}/v1/{path}", json=body, timeout=30).json()["usage"]
    if options.get("include_usage"):
        assert (told[-1]["choices"], told.pop()["usage"]) == ([], whole)
    assert all(chunk["choices"] for chunk in told)
    if options.get("continuous_usage_stats"):
        counts = [chunk["usage"]["completion_tokens"] for chunk in told]
        assert counts == sorted(counts) and told[-1]["usage"] == whole
        assert len({*counts}) > 2
    else:
        expected = [None] if options else []
        assert {*expected} == {chunk.get("usage", None) for chunk in told if "usage" in chunk}


@pytest.mark.parametrize("stream", [False, True])
def test_stop_and_length(url, stream):
    def answer(**fields):
        response = chat(url, stream=stream, **fields)
        if not stream:
            (choice,) = response.json()["choices"]
            return choice["message"]["content"], choice["finish_reason"]
        choices = [c for chunk in events(response) for c in chunk["choices"]]
        text = "".join(c["delta"].get("content", "") for c in choices)
        return text, choices[-1]["finish_reason"]

    assert answer(stop="3. So") == ("Now 1+2=", "stop")
    assert answer(stop=["=4", "数"]) == ("Now 1+2=3. So é", "stop")
    assert answer(max_tokens=3) == ("Now 1+", "length")
    assert answer(max_completion_tokens=3, max_tokens=9) == ("Now 1+", "length")


def test_completions_and_what_the_generator_is_asked(url, script):
    body = {"model": "toy", "prompt": ["a", "b"], "n": 2, "max_tokens": 4, "seed": 5,
            "temperature": 0.5, "top_p": 0.9, "threshold": 0.25, "ignore_eos": True}  # fmt: skip
    answer = httpx.post(f"{url}/v1/completions", json=body).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert {choice["text"] for choice in answer["choices"]} == {"Now 1+2"}
    asked = sorted((tuple(p.tokens), p.sampling.seed) for p in script.asked)
    ids = [tuple(script.tokenizer(text).input_ids) for text in "ab"]
    assert asked == sorted((i, seed) for i in ids for seed in (5, 6))
    first = script.asked[0]
    assert (first.sampling.temperature, first.sampling.top_p) == (0.5, 0.9)
    assert (first.sampling.max_new_tokens, first.threshold) == (4, 0.25)
    assert first.ignore_eos


def test_the_model_tells_its_threshold(url):
    (model,) = httpx.get(f"{url}/v1/models").json()["data"]
    assert (model["id"], model["threshold"], model["max_threshold"]) == ("toy", 0.5, 1.0)
    assert httpx.get(f"{url}/v1/models/toy").json() == model
    assert httpx.get(f"{url}/v1/models/").json()["data"] == [model]
    assert error(httpx.get(f"{url}/v1/models/other"), 404)["code"] == "model_not_found"


def test_health_page_and_unknown_places(url):
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    page = httpx.get(url)
    assert "<title>R2R" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    error(httpx.get(f"{url}/nowhere"), 404)
    error(httpx.get(f"{url}/page/../../app.py"), 404)
    error(httpx.get(f"{url}/page/%2e%2e/app.py"), 404)
    error(httpx.get(f"{url}/v1/completions"), 405)


def test_refusals(url):
    assert error(chat(url, model="other"), 404)["code"] == "model_not_found"
    assert error(chat(url, foo=1), 400)["message"] == "Unrecognized request argument supplied: foo"
    assert "threshold" in error(chat(url, threshold=1.5), 400)["message"]
    assert error(chat(url, n=9), 400)["param"] == "n"
    assert error(chat(url, content="a" * 20_000), 413)["type"] == "invalid_request_error"
    assert error(chat(url, content="1" * 150), 400)["code"] == "context_length_exceeded"
    assert error(chat(url, content=""), 400)["param"] == "messages"
    assert error(chat(url, max_tokens=200), 400)["code"] == "context_length_exceeded"
    path = f"{url}/v1/completions"
    ids = {"model": "toy", "prompt": [10**6]}
    assert error(httpx.post(path, json=ids), 400)["param"] == "prompt"
    as_text = httpx.post(path, content=b"{}", headers={"content-type": "text/plain"})
    assert "Content-Type" in error(as_text, 400)["message"]
    assert httpx.get(f"{url}/health", headers={"host": "evil.example"}).status_code == 400


def test_a_body_that_never_ends_is_cut_off(url):
    pieces = (b" " * 1000 for _ in range(100))
    headers = {"content-type": "application/json"}
    error(httpx.post(f"{url}/v1/completions", content=pieces, headers=headers), 413)


def test_a_failed_answer_is_an_error_and_the_next_one_is_not(url):
    assert "broken on purpose" in error(chat(url, content="fail", n=2), 500)["message"]
    lines = chat(url, content="fail", stream=True).text.split("\n\n")
    assert "broken on purpose" in json.loads(lines[-2].removeprefix("data: "))["error"]["message"]
    assert chat(url).status_code == 200
    assert figures(url)['r2r_requests_total{endpoint="chat.completions",status="500"}'] == 2


def test_an_engine_whose_server_is_down_is_unavailable(url):
    assert "server is down" in error(chat(url, content="down"), 503)["message"]


def test_more_than_fit_wait_and_more_than_may_wait_are_refused(url, script):
    with ThreadPoolExecutor(8) as pool:
        held = [pool.submit(chat, url, content="wait") for _ in range(8)]
        until(lambda: figures(url).get("r2r_answers_waiting") == 4)
        now = figures(url)
        assert (now["r2r_answers_running"], now['r2r_engine_live{engine="toy"}']) == (4, 4)
        assert error(chat(url), 429)["type"] == "rate_limit_error"
        assert error(chat(url, stream=True), 429)["type"] == "rate_limit_error"
        script.go.set()
        assert all(one.result().status_code == 200 for one in held)


def test_a_body_that_stops_halfway(script):
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    with live(*offer(script, timeout_s=0.3)) as (url, _):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address) as connection:
            connection.sendall(head)
            assert b" 408 " in connection.recv(100)
        with socket.create_connection(address) as connection:
            connection.sendall(head)
        name = 'r2r_requests_total{endpoint="completions",status="499"}'
        until(lambda: figures(url).get(name) == 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["running", "waiting"])
def test_a_client_that_goes_away_frees_its_work(url, script, stream, when, caplog, monkeypatch):
    def leave(n):
        body = {"model": "toy", "prompt": "wait", "n": n, "stream": stream, "max_tokens": 50}
        raw = json.dumps(body).encode()
        host, port = url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)))
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
            b"\r\nContent-Length: " + str(len(raw)).encode() + b"\r\n\r\n" + raw
        )
        return connection

    for name in ("uvicorn.error", "r2r"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [caplog.handler])
    connections = [leave(4)]
    until(lambda: figures(url)["r2r_answers_running"] == 4)
    if when == "waiting":
        connections.insert(0, leave(3))
        until(lambda: figures(url)["r2r_answers_waiting"] == 3)
        connections.pop(0).close()
        until(lambda: figures(url)["r2r_answers_waiting"] == 0)
        assert len(script.asked) == 4
    connections.pop().close()
    until(lambda: at_rest(url))
    left = figures(url)['r2r_requests_total{endpoint="completions",status="499"}']
    assert left == 1 + (when == "waiting")
    assert not caplog.records  # and says nothing of it in the log


def test_the_openai_client(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == ["toy"]
    asked = {"model": "toy", "messages": [{"role": "user", "content": "hi"}]}
    answer = client.chat.completions.create(**asked, extra_body={"return_trace": True})
    assert answer.choices[0].message.content == TEXT
    assert answer.usage.llm_tokens > 0 and answer.choices[0].trace
    stream = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert chunks[-1].usage.llm_share > 0
    assert client.completions.create(model="toy", prompt="hi").choices[0].text
    with pytest.raises(openai.BadRequestError, match="foo"):
        client.chat.completions.create(**asked, extra_body={"foo": 1})
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**asked | {"model": "other"})
    with pytest.raises(openai.APIError, match="broken on purpose"):
        failing = asked | {"messages": [{"role": "user", "content": "fail"}]}
        list(client.chat.completions.create(**failing, stream=True))


def test_an_answer_is_taken_back_as_it_came(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    messages = [{"role": "user", "content": "hi"}]
    for _ in range(2):
        answer = client.chat.completions.create(model="toy", messages=messages)
        messages.append(answer.choices[0].message)
        messages.append({"role": "user", "content": [{"type": "text", "text": "go on"}]})
    assert [m.content for m in messages[1::2]] == [TEXT, TEXT]
    client.chat.completions.create(model="toy", messages=[
        m if isinstance(m, dict) else m.model_dump() for m in messages
    ])  # fmt: skip


def test_methods_and_headers(url):
    for path in ("/v1/models", "/health", "/"):
        assert httpx.head(f"{url}{path}").status_code == 200
    wrong = httpx.get(f"{url}/v1/chat/completions")
    error(wrong, 405)
    assert wrong.headers["allow"] == "POST"
    body = {"model": "toy", "prompt": "hi"}
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        raw, headers = (
            json.dumps(body).encode(),
            {"content-type": kind, "authorization": "Bearer x"},
        )
        answer = httpx.post(f"{url}/v1/completions", content=raw, headers=headers)
        assert answer.status_code == 200
    asked = httpx.post(
        f"{url}/v1/completions", json=body, headers={"origin": "https://evil.example"}
    )
    assert "access-control-allow-origin" not in asked.headers
    assert httpx.options(f"{url}/v1/completions").status_code == 405


def test_metrics(url):
    chat(url)
    chat(url, foo=1)
    now = figures(url)
    assert now['r2r_requests_total{endpoint="chat.completions",status="200"}'] == 1
    assert now['r2r_requests_total{endpoint="chat.completions",status="400"}'] == 1
    slm, llm = (now[f'r2r_tokens_total{{source="{who}"}}'] for who in ("slm", "llm"))
    assert now["r2r_llm_share"] == llm / (slm + llm) and now["r2r_handoffs_total"] == llm
    assert (now["r2r_first_token_seconds_count"], now["r2r_request_seconds_count"]) == (1, 2)


def test_a_key(script):
    with live(*offer(script, api_key="secret")) as (url, _):
        assert error(chat(url), 401)["code"] == "invalid_api_key"
        for path in ("/v1/models", "/metrics"):
            error(httpx.get(f"{url}{path}", headers={"Authorization": "Bearer wrong"}), 401)
            right = {"Authorization": "Bearer secret", "Host": "models.example"}
            assert httpx.get(f"{url}{path}", headers=right).status_code == 200
        assert httpx.get(f"{url}/health").status_code == httpx.get(url).status_code == 200
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="secret")
        assert [model.id for model in client.models.list()] == ["toy"]


def test_a_timeout_is_told_and_frees_the_work(script):
    with live(*offer(script, timeout_s=0.3)) as (url, _):
        assert "0.3 s" in error(chat(url, content="wait"), 504)["message"]
        lines = chat(url, content="wait", stream=True).text.split("\n\n")
        assert "0.3 s" in json.loads(lines[-2].removeprefix("data: "))["error"]["message"]
        until(lambda: at_rest(url))


def test_shutdown_finishes_what_is_under_way(script):
    with live(*offer(script), grace_s=30) as (url, server), ThreadPoolExecutor(1) as pool:
        held = pool.submit(chat, url, content="wait", stream=True)
        until(lambda: figures(url)["r2r_answers_running"] == 1)
        server.should_exit = True
        until(lambda: server.worker.draining)
        script.go.set()
        assert [c["object"] for c in events(held.result())]
    assert script.engine.held == 0


@pytest.mark.parametrize("stream", [False, True])
def test_shutdown_fails_what_outlasts_the_grace_period(script, stream):
    with live(*offer(script), grace_s=0.2) as (url, server), ThreadPoolExecutor(1) as pool:
        held = pool.submit(chat, url, content="wait", stream=stream)
        until(lambda: figures(url)["r2r_answers_running"] == 1)
        server.should_exit = True
        told = held.result().text.removesuffix("\n\n").split("\n\n")[-1].removeprefix("data: ")
        assert "shutting down" in json.loads(told)["error"]["message"]
    assert script.engine.held == 0
    assert not [t for t in threading.enumerate() if t.name == "generator"]
