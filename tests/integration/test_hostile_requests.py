"""Requests that no client of good will sends: what the server's own description allows and
forbids (schemathesis), bytes that are no request, connections that end halfway."""

import json
import random
import socket
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from live import Script, at_rest, live, offer, until
from schemathesis import checks
from transformers import AutoTokenizer

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "llm"
CHECKS = [
    checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_schema_conformance, checks.negative_data_rejection,
]  # fmt: skip


@pytest.fixture(scope="module")
def url():
    script = Script(AutoTokenizer.from_pretrained(NANO), "Now 1+2=3. So é数😀 it is.")
    with live(*offer(script, running=8, queue=200)) as (address, _):
        yield address
        until(lambda: at_rest(address))
        assert script.engine.held == 0


PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{name}", "/health"]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("path", PATHS)
def test_the_server_keeps_to_its_description(url, path, mode):
    described = schemathesis.openapi.from_url(f"{url}/openapi.json")
    assert sorted(described) == sorted(PATHS)
    (operation,) = described[path].values()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def holds(case):
        case.call_and_validate(checks=CHECKS)

    if mode is schemathesis.GenerationMode.POSITIVE or "completions" in path:
        holds()


def test_the_description_names_the_model_and_its_highest_threshold(url):
    body = httpx.get(f"{url}/openapi.json").json()["components"]["schemas"]["ChatRequest"]
    assert body["properties"]["model"]["const"] == "toy"
    assert {"type": "number", "minimum": 0, "maximum": 1.0} in body["properties"]["threshold"][
        "anyOf"
    ]


def sent(url: str, raw: bytes, *, half_close: bool = False) -> bytes:
    """What the server says to raw bytes, until it ends the connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        while part := connection.recv(65536):
            said += part
        return said


def streamed(**fields) -> bytes:
    asked = {"model": "toy", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    body = json.dumps(asked | fields).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_a_good_stream_ends_with_done(url):
    assert b"data: [DONE]" in sent(url, streamed())


def test_flipped_bytes_in_a_streaming_request(url):
    """Whatever of a request is broken, the answer is a refusal or whole; the server goes on."""
    rng = random.Random(0)
    for _ in range(150):
        raw = bytearray(streamed(return_trace=True))
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        said = sent(url, bytes(raw), half_close=True)
        status = said.split(b" ", 2)[1:2]
        assert status in ([], [b"200"], [b"400"], [b"404"], [b"405"], [b"413"]), (raw, said)
        if status == [b"200"] and b"text/event-stream" in said:
            assert b"data: [DONE]" in said or b'"error"' in said
    until(lambda: at_rest(url))


def test_connections_that_end_at_every_byte(url):
    raw = streamed()
    for length in range(0, len(raw), 7):
        sent(url, raw[:length], half_close=True)
    until(lambda: at_rest(url))


def test_clients_that_reset_while_the_answer_is_written(url):
    host, port = url.removeprefix("http://").split(":")
    for seen in (0, 1, 50, 400):
        connection = socket.create_connection((host, int(port)), timeout=20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(streamed(n=4))
        if seen:
            connection.recv(seen)
        connection.close()  # with a reset
    until(lambda: at_rest(url))
    assert httpx.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\r\n\r\n", b"\0" * 1000, b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"%" * 5_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /page/..%2f..%2fserver.py HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /page/../../server.py HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ],
)  # fmt: skip
def test_bytes_that_are_no_request(url, raw):
    said = sent(url, raw, half_close=True)
    assert said == b"" or said.split(b" ", 2)[1] in (b"400", b"404", b"431"), said
    assert b"import" not in said  # no source file
    assert httpx.get(f"{url}/health").status_code == 200
