"""Benchmarks whose answers a judge compares: Arena-Hard."""

import json
from pathlib import Path

import benchmark_files
import pytest
from benchmark_files import jsonl
from test_benchmarks import answered
from test_verify import said, server  # noqa: F401

from r2r.config import BenchmarkConfig, JudgeConfig
from r2r.errors import ConfigError
from r2r.evaluation import harness, sources
from r2r.journal import Journal


@pytest.mark.parametrize(
    ("verdicts", "accuracy", "unread"),
    [
        (("[[A>>B]]", "[[B>A]]"), 1.0, 0),
        (("[[A>B]]", "[[A>B]]"), 0.5, 0),
        (("[[B>A]]", "I say [[B>A]], no: [[A=B]]"), 0.25, 0),
        (("[[B>>A]]", "none"), 0.25, 1),
    ],
)
def test_answers_are_judged_in_both_orders(tmp_path, server, verdicts, accuracy, unread):  # noqa: F811
    first = "<answer A>\nmine"
    server.reply = lambda prompt: said(verdicts[0] if first in prompt else verdicts[1])
    files = benchmark_files.write(tmp_path, "arena_hard", "arena_hard_baseline")
    judge = JudgeConfig(url=server.url, model="j")
    benchmark = BenchmarkConfig(name="b", tasks=["arena_hard"], data_files=files, judge=judge)
    result = answered(benchmark, "mine")
    assert result["accuracy"] == result["tasks"]["arena_hard"]["accuracy"] == accuracy
    (row,) = result["samples"]
    assert (row["correct"], row["stats"]["unread_verdicts"]) == (accuracy > 0.5, unread)
    asked = [json.dumps(body) for _, _, body in server.seen]
    assert len(asked) == 2 and all("Q1" in body and "baseline 1" in body for body in asked)


def test_replies_are_kept_as_they_come_and_asked_for_once(tmp_path, server):  # noqa: F811
    """However a run ends: each reply is in the journal before the next is looked at."""
    files = benchmark_files.write(tmp_path, "arena_hard", "arena_hard_baseline")
    judge = JudgeConfig(url=server.url, model="j", retries=0, concurrency=1)
    benchmark = BenchmarkConfig(name="b", tasks=["arena_hard"], data_files=files, judge=judge)
    first = "<answer A>\nmine"
    server.reply = lambda prompt: said("[[A>B]]") if first in prompt else (500, {})
    with (
        Journal(tmp_path / "replies.sqlite") as replies,
        pytest.raises(ConfigError, match="a server that answers"),
    ):
        answered(benchmark, "mine", replies=replies)
    server.seen.clear()
    server.reply = lambda prompt: said("[[B>A]]")
    with Journal(tmp_path / "replies.sqlite") as replies:
        assert answered(benchmark, "mine", replies=replies)["accuracy"] == 1
        assert len(server.seen) == 1 and first not in json.dumps(server.seen)
        assert answered(benchmark, "mine", replies=replies)["accuracy"] == 1
        assert answered(benchmark, "yours", replies=replies)["accuracy"] == 0.5
    assert len(server.seen) == 3  # of another answer both


def test_an_answer_that_never_came_loses_unjudged(tmp_path, server):  # noqa: F811
    files = benchmark_files.write(tmp_path, "arena_hard", "arena_hard_baseline")
    judge = JudgeConfig(url=server.url, model="j")
    benchmark = BenchmarkConfig(name="b", tasks=["arena_hard"], data_files=files, judge=judge)
    assert answered(benchmark, "")["accuracy"] == 0 and not server.seen


def test_what_a_judged_benchmark_needs(tmp_path, server):  # noqa: F811
    files = benchmark_files.write(tmp_path, "arena_hard", "arena_hard_baseline")
    benchmark = BenchmarkConfig(name="b", tasks=["arena_hard"], data_files=files)
    with pytest.raises(ConfigError, match=r"benchmark\.judge\.url must be an http"):
        harness.check_benchmark(benchmark)
    benchmark.judge = JudgeConfig(url=server.url, model="j", retries=0)
    server.reply = lambda prompt: (404, {})
    with pytest.raises(ConfigError, match=r"benchmark\.judge\.model must be a model"):
        answered(benchmark, "mine")
    Path(files["arena_hard_baseline"]).write_bytes(
        jsonl({"uid": "u2", "messages": [{"content": "x"}]})
    )
    with pytest.raises(
        ConfigError, match=r"arena_hard_baseline must hold an answer to problem 'u1'"
    ):
        answered(benchmark, "mine")


def test_arena_hards_first_format_is_read_too(tmp_path):
    row = {"question_id": "q", "turns": [{"content": "Q"}]}
    answer = {"question_id": "q", "choices": [{"index": 0, "turns": [{"content": "A"}]}]}
    for name, content in (("q.jsonl", row), ("a.jsonl", answer)):
        (tmp_path / name).write_bytes(jsonl(content))
    files = {"arena_hard": f"{tmp_path}/q.jsonl", "arena_hard_baseline": f"{tmp_path}/a.jsonl"}
    assert sources.problems("arena_hard", "test", files)[0]["question"] == "Q"
    assert sources.problems("arena_hard", sources.BASELINE, files) == [{"id": "q", "answer": "A"}]
