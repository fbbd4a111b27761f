"""The nano pair served through the workbench, and as a process of its own."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest
from live import at_rest, live, until
from soak import soak

from r2r.costs import trace_stats
from r2r.engines.base import Sampling
from r2r.errors import ConfigError
from r2r.policies.base import Prompt
from r2r.stages.compose import compose
from r2r.stages.main import run
from r2r.stages.preflight import preflight
from r2r.stages.serve import offer
from r2r.stages.systems import make_generator
from r2r.stages.workbench import Workbench

ROOT = Path(__file__).parents[2]
QUESTION = "Tom has 60 books. Tom gets 94 more. Tom finds 36. How many books are there?"
ROUTER = ["router=entropy", "threshold=0.3"]  # nothing to learn


def bench(outputs, *overrides):
    config, router = compose([*ROUTER, f"outputs={outputs}", *overrides])
    return Workbench(config, router)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    config, router = compose([*ROUTER, f"outputs={folder}", "stages=[train]"])
    run(config, folder / "trained" / "now", router, [])
    return folder


@pytest.fixture(scope="module")
def url(outputs):
    with live(*offer(bench(outputs, "stages=[serve]", "serve.running=32"))) as (address, _):
        yield address


def test_what_is_streamed_is_what_the_generator_writes(outputs, url):
    parts = bench(outputs)
    generator, params = make_generator(parts, "routed")
    prompt = parts.pair.encode(QUESTION)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    for threshold in (0.0, 0.3, 2.0):
        asked = Prompt(prompt, Sampling(160), threshold=threshold)
        (trace,) = generator.generate([asked])
        stream = client.chat.completions.create(
            model="nano",
            messages=[{"role": "user", "content": QUESTION}],
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"threshold": threshold, "return_trace": True},
        )
        chunks = list(stream)
        told = [t for c in chunks if c.choices for t in getattr(c.choices[0], "trace", [])]
        assert "".join(t["text"] for t in told) == trace.text
        content = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert content == trace.text.rpartition("</think>")[2].lstrip()
        assert [(t["token"], t["source"], t["draft"]) for t in told] == [
            (s.token, s.source, s.draft) for s in trace.steps
        ]
        usage = chunks[-1].usage.model_dump()
        expected = trace_stats(trace, params)
        for key in ("slm_tokens", "llm_tokens", "llm_share", "avg_params_b"):
            assert usage[key] == expected[key]
        assert usage["prompt_tokens"] == len(prompt)


@pytest.mark.parametrize("stream", [False, True])
def test_what_checking_takes_is_in_the_usage(outputs, stream):
    """The LLM's readings count, and tokens that were cut: the steps alone do not tell of them."""
    options = ["policy=check", "policy.every=8", "threshold=0.3", "stages=[serve]"]
    parts = bench(outputs, *options)
    generator, params = make_generator(parts, "routed")
    asked = Prompt(parts.pair.encode(QUESTION), Sampling(60))
    expected = trace_stats(generator.generate([asked])[0], params)
    body = {"model": "nano", "messages": [{"role": "user", "content": QUESTION}],
            "temperature": 0, "max_tokens": 60, "n": 2}  # fmt: skip
    with live(*offer(bench(outputs, *options))) as (address, _):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none")
        if stream:
            wants = {"include_usage": True, "continuous_usage_stats": True}
            asked = {**body, "stream": True, "stream_options": wants}
            *running, usage = [chunk.usage for chunk in client.chat.completions.create(**asked)]
            begun = [told for told in running if told.completion_tokens]
            assert len(begun) > 4
            # Every token that was streamed has been verified, or is the LLM's.
            assert all(told.avg_params_b >= params.llm_b for told in begun)
        else:
            usage = client.chat.completions.create(**body).usage
    told = usage.model_dump()
    assert told["avg_params_b"] == pytest.approx(expected["avg_params_b"])
    assert told["slm_tokens"] == 2 * expected["slm_tokens"]


@pytest.mark.slow
def test_many_clients_of_which_a_third_leaves(url):
    result = asyncio.run(soak(url, clients=32, seconds=3, leaving=1 / 3))
    assert result["errors"] == [] and result["at_rest"]
    assert result["requests"]["answered"] >= 16 and result["requests"]["left"] >= 4


EDGES = {
    "temperature": [0, -0.0, 5e-324, 1e-308, 1e-6, 2, -5e-324, 2.0001, 1e308, 10**400],
    "top_p": [5e-324, 1e-308, 1, 0, 1.0001, -1],
    "min_p": [0, 5e-324, 1], "top_k": [-1, 0, 1, -2, 2**63],
    "max_tokens": [1, 0, -1, 10**9, 2**63, 2**200], "n": [1, 4, 0, 128, 129, 2**63],
    "seed": [0, -(2**63), 2**63 - 1, 2**63, -(2**200)], "best_of": [1, 2],
    "threshold": [0, 5e-324, 1, 1.0001, 1e308, -5e-324],
    "stop": ["\0", "\ufffd", " ", "a" * 1000, "a" * 1001, "", [], ["a"] * 4, ["a"] * 5],
    "ignore_eos": [True, False, 1], "stream": [True, False, 0], "return_trace": [True, None],
    "system": ["routed", "slm", "llm", "", "mid"],
    "messages": [[], [{"role": "user", "content": ""}], [{"role": "user", "content": "a " * 4000}]],
}  # fmt: skip
ASKED = {"model": "nano", "messages": [{"role": "user", "content": "What is 1+2?"}]}


@pytest.mark.parametrize("name", EDGES)
def test_at_the_edge_of_a_field_no_other_request_is_touched(url, name):
    async def every():
        kind = {"content-type": "application/json"}
        async with httpx.AsyncClient(base_url=url, timeout=120, headers=kind) as client:

            async def answer(**fields):
                body = {**ASKED, "max_tokens": 6, **fields}
                return await client.post("/v1/chat/completions", content=json.dumps(body))

            good = {"temperature": 0, "max_tokens": 12}
            alone = await answer(**good)
            asked = [answer(**{"temperature": 1, name: value}) for value in EDGES[name]]
            return alone, await asyncio.gather(*asked, *(answer(**good) for _ in range(4)))

    def said(response):
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]

    alone, ended = asyncio.run(every())
    edges, beside = ended[:-4], ended[-4:]
    assert [said(response) for response in beside] == [said(alone)] * 4
    statuses = [response.status_code for response in edges]
    assert set(statuses) <= {200, 400, 429} and 200 in statuses, statuses
    for response in edges:
        if response.status_code != 200:
            told = response.json()["error"]["message"]
            assert "\n" not in told and "Traceback" not in told and "engine failed" not in told
    until(lambda: at_rest(url))


def test_a_conversation_and_a_role_the_template_refuses(url):
    path = f"{url}/v1/chat/completions"
    turns = [("user", "hi"), ("assistant", "yes"), ("user", "go on")]
    messages = [{"role": role, "content": content} for role, content in turns]
    body = {"model": "nano", "messages": messages, "max_tokens": 3}
    assert httpx.post(path, json=body).status_code == 200
    body["messages"] = [{"role": "system", "content": "be brief"}, *messages]
    refused = httpx.post(path, json=body)
    assert refused.status_code == 400 and "chat template" in refused.json()["error"]["message"]


def test_without_a_router_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="train first"):
        preflight(bench(tmp_path, "stages=[serve]"))
    with pytest.raises(ConfigError, match=r"serve\.api_key_env"):
        preflight(bench(tmp_path, "stages=[train,serve]", "serve.host=0.0.0.0"))


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(outputs, signum):
    command = [
        sys.executable,
        "-c",
        "from r2r.stages.serve_cli import main; raise SystemExit(main())",
    ]
    options = [*ROUTER, f"outputs={outputs}", "serve.port=0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout.readline, "")
            address = next(m[0] for m in (re.search(r"http://\S+", x) for x in lines) if m)
            until(lambda: httpx.get(f"{address}/health").status_code == 200)
            body = {"model": "nano", "prompt": "Now 12+30=", "max_tokens": 1000, "stream": True}
            with httpx.stream("POST", f"{address}/v1/completions", json=body, timeout=60) as answer:
                told = answer.iter_lines()
                next(told)
                process.send_signal(signum)
                rest = [json.loads(line[6:]) for line in told if line[6:7] == "{"]
            assert rest[-1]["choices"][0]["finish_reason"] in ("stop", "length")
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


@pytest.mark.slow
def test_a_taken_port_is_refused_in_one_line(outputs, url):
    port = url.rpartition(":")[2]
    command = [sys.executable, str(ROOT / "run.py"), "stages=[serve]", *ROUTER]
    options = [f"outputs={outputs}", f"serve.port={port}"]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("error: serve.host and serve.port must be free") and port in line
    assert at_rest(url)
