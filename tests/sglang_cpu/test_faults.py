"""Servers that die: what runs ends right or with one clear error, and a job goes on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from conftest import PYTHON, ROOT, START_S, same_labels
from job import kept

from r2r.errors import EngineFailed

# Of a clock, of an engine.
OWN = {"seconds", "tokens_per_s", "load", "timed_in", "timed_with", "answers"}


def kill(server):
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    server.process = None


def test_the_llm_dies_under_32_requests_and_comes_back(nano, servers):
    asked = nano.prompts(32, [0.5])
    hasty = nano.prompts(4, [0.0])
    expected = nano.routed(nano.torch_engine("slm"), nano.torch_engine("llm")).generate(asked)

    async def drill():
        slm = nano.sglang_engine("slm", servers[0])
        patient = nano.routed(slm, nano.sglang_engine("llm", servers[1], down=START_S))
        impatient = nano.routed(slm, nano.sglang_engine("llm", servers[1], down=1.0))
        await patient.answer(asked[0])  # both have been probed
        await impatient.answer(hasty[0])
        heard, enough = [], asyncio.Event()

        def on_step(step):
            heard.append(step)
            if len(heard) > 100:
                enough.set()

        running = [asyncio.create_task(patient.answer(p, on_step)) for p in asked]
        failing = [asyncio.create_task(impatient.answer(p)) for p in hasty]
        await enough.wait()
        server, url = servers[1], servers[1].url
        server.process, dead = None, server.process  # as a remote one: nobody watches it
        os.killpg(dead.pid, signal.SIGKILL)
        dead.wait()
        errors = await asyncio.wait_for(asyncio.gather(*failing, return_exceptions=True), 60)
        server.start()
        assert server.url == url
        return await asyncio.wait_for(asyncio.gather(*running), 2 * START_S), errors

    traces, errors = asyncio.run(drill())
    for trace, other in zip(traces, expected, strict=True):
        assert [(s.token, s.source) for s in trace.steps] == [
            (s.token, s.source) for s in other.steps
        ]
    assert all(isinstance(error, EngineFailed) for error in errors)
    assert all(servers[1].url in str(error) and "\n" not in str(error) for error in errors)


# The job, as a user runs it.


def job(outputs, *overrides, **env):
    command = [
        sys.executable, str(ROOT / "run.py"), "stages=[evaluate,report]", "systems=[routed]",
        "benchmark.limit=8", "engine.max_batch=4", "threshold=0.5", f"outputs={outputs}",
        *overrides,
    ]  # fmt: skip
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def results(outputs):
    figures = json.loads((outputs / "latest" / "results.json").read_text())["systems"]["routed"]
    answers = (outputs / "latest" / "samples" / "routed.jsonl").read_text().splitlines()
    figures = {key: value for key, value in figures.items() if key not in OWN}
    traces = [json.loads(line)["trace"] for line in answers]
    return figures, [(trace["tokens"], trace["llm"], trace["text"]) for trace in traces]


def finished(process):
    out, err = process.communicate(timeout=2 * START_S)
    assert process.returncode == 0, err
    return out


def test_a_killed_evaluation_resumes_and_equals_torchs(nano, servers, tmp_path):
    router = ["router=trained", f"router.path={nano.folder}"]
    slm, llm = servers
    remote = ["engine=sglang_remote", f"engine.sglang.slm.url={slm.url}",
              f"engine.sglang.llm.url={llm.url}", "engine.sglang.down_s=1"]  # fmt: skip
    finished(job(tmp_path / "torch", *router))
    disturbed = job(tmp_path / "sglang", *router, *remote)
    evaluations = tmp_path / "sglang" / "artifacts" / "evaluation"
    while not any(kept(path) for path in evaluations.glob("*/answers.sqlite")):
        assert disturbed.poll() is None, disturbed.communicate()
        time.sleep(0.05)
    kill(llm)
    _, err = disturbed.communicate(timeout=120)
    if disturbed.returncode:  # else it was through before
        assert disturbed.returncode == 2 and len(err.splitlines()) == 1 and llm.url in err
    llm.start()
    asyncio.run(llm.ready())
    screen = finished(job(tmp_path / "sglang", *router, *remote))
    assert "(reused)" not in screen
    assert results(tmp_path / "sglang") == results(tmp_path / "torch")
    finished(job(tmp_path / "whole", *router, *remote))
    assert results(tmp_path / "whole") == results(tmp_path / "sglang")


def processes(mark):
    """Of this machine, those with ``mark`` in their environment, but zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:  # gone, or not ours
            continue
    return found


def test_a_job_starts_its_servers_and_ends_them(nano, servers, tmp_path):
    """The same figures as torch; nothing is left behind, after Ctrl-C and SIGKILL neither."""
    router = ["router=trained", f"router.path={nano.folder}", "benchmark.limit=4"]
    own = ["engine=sglang", f"engine.sglang.python={PYTHON}", f"engine.sglang.start_s={START_S}"]
    finished(job(tmp_path / "torch", *router))
    mark = uuid.uuid4().hex
    finished(job(tmp_path / "own", *router, *own, R2R_MARK=mark))
    assert processes(mark) == []
    assert results(tmp_path / "own") == results(tmp_path / "torch")
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        stopped = job(tmp_path / end.name, *router, *own, R2R_MARK=mark)
        while len(list((tmp_path / end.name).glob("logs/*.log"))) < 2:
            assert stopped.poll() is None, stopped.communicate()
            time.sleep(0.1)
        time.sleep(2)
        stopped.send_signal(end)
        stopped.communicate(timeout=60)
        until = time.monotonic() + 60
        while processes(mark) and time.monotonic() < until:
            time.sleep(0.5)
        assert processes(mark) == [], end.name


def test_labels_along_routed_answers_equal_torchs(nano, servers, tmp_path):
    asked = ["stages=[label]", "labeler.prompts.limit=12", "labeler.paths.routed=0.5",
             f"labeler.paths.router={nano.folder}", "labeler.paths.threshold=0.45"]  # fmt: skip
    own = ["engine=sglang", f"engine.sglang.python={PYTHON}", f"engine.sglang.start_s={START_S}"]
    made = []
    for name, engine in (("torch", []), ("sglang", own)):
        finished(job(tmp_path / name, *asked, *engine))
        made += (tmp_path / name / "artifacts" / "labels").iterdir()
    same_labels(*made)


def test_exact_speculation_of_a_job_is_torchs(servers, tmp_path):
    slm, llm = servers
    remote = ["engine=sglang_remote", f"engine.sglang.slm.url={slm.url}",
              f"engine.sglang.llm.url={llm.url}"]  # fmt: skip
    asked = ["policy=speculative", "threshold=auto"]
    finished(job(tmp_path / "torch", *asked))
    finished(job(tmp_path / "sglang", *asked, *remote))
    assert results(tmp_path / "sglang") == results(tmp_path / "torch")
    assert 0 < results(tmp_path / "torch")[0]["llm_forwards_per_token"] < 1
