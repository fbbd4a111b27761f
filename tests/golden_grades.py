"""Goldens of graders, tasks and what an evaluation finds (golden_steps.py)."""

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import benchmark_files
from benchmark_files import case, packed
from golden_base import STEPS, Golden, step

# Grades.


@step("evaluation.graders", "BOXED_VERSION")
def boxed():
    from r2r.evaluation.graders import answer_text, boxed_correct

    answers = (
        r"</think>\boxed{73}",
        r"</think>\boxed{073}",
        r"</think>\boxed{\frac{146}{2}}",
        r"\boxed{73}</think>",
        r"</think>73",
        r"</think>\boxed{12} \boxed{73}",
        r"</think>\boxed{73\text{ apples}}",
        r"</think>\boxed{730}",
        r"</think>\boxed{73",
    )
    texts = [answer_text(text, "</think>") for text in answers]
    return [texts, [boxed_correct(text, "73") for text in answers]]


@step("evaluation.graders", "LETTER_VERSION")
def letter():
    from r2r.evaluation.graders import letter_correct

    answers = (
        r"</think>\boxed{B}",
        r"</think>\boxed{\text{(b)}}",
        "</think>Answer: B",
        "</think>The answer is **B**.",
        "</think>Answer: C, or rather Answer: B",
        "</think>Both",
        r"</think>Answer: B \boxed{A}",
        "Answer: B</think>",
    )
    return [letter_correct(text, "B") for text in answers]


def program(body: str) -> str:
    return f"reasoning</think>\n```python\n{body}\n```"


def in_sandbox(output: Callable[[], Any]) -> Any:
    """Raises ConfigError where there is no sandbox."""
    from r2r.evaluation.sandbox import run_program

    run_program("", timeout_s=60, memory_mb=256)
    return output()


@step("evaluation.programs", "PROGRAMS_VERSION")
def programs():
    from r2r.evaluation.programs import check_correct, code_correct

    doc = {"question": "def f(x):\n", "test": benchmark_files.CHECK, "entry_point": "f"}
    bodies = (
        "def f(x):\n    return x * x",
        "def f(x):\n    return x + 2",
        "f = 3",
        "raise ValueError",
        "def f(x):\n    import socket\n    return x * x",
    )
    tests = [[2, 4], [-3, 9]]

    def grades() -> list[list[bool]]:
        return [[code_correct(program(b), tests), check_correct(program(b), doc)] for b in bodies]

    return in_sandbox(grades)


@step("evaluation.livecode", "LIVECODE_VERSION")
def livecode():
    from r2r.evaluation.livecode import livecode_correct, read_tests

    tests = case("2\n", "4\n"), case("21\n", "42\n")
    doc = {
        "public_tests": json.dumps(tests[:1]),
        "private_tests": packed(list(tests[1:])),
        "function": "",
    }
    bodies = ("print(2 * int(input()))", "print(4)", "print(2 * int(input()), end='')")

    def grades() -> list[Any]:
        return [livecode_correct(program(body), doc) for body in bodies]

    return [read_tests(doc["public_tests"], doc["private_tests"]), in_sandbox(grades)]


@step("evaluation.arena", "ARENA_VERSION")
def arena():
    from r2r.evaluation.adapter import Answer
    from r2r.evaluation.arena import games, score

    said = (("[[A>>B]]", "[[B>A]]"), ("[[A=B]]", "none"), ("[[B>A]]", "[[A>B]] or [[A=B]]"))
    scores = [score(Answer("x", "x"), *both) for both in said]
    return [list(games("Why?", "Because.", "So.")), scores]


@step("evaluation.harness", "EVALUATION_VERSION")
def evaluation():
    from r2r.evaluation.adapter import request_seed
    from r2r.evaluation.figures import figures

    stats = {
        "llm_share": 0.25,
        "avg_params_b": 2.0,
        "output_tokens": 8,
        "slm_tokens": 6,
        "llm_tokens": 2,
    }
    rows = [
        {"task": task, "doc_id": doc, "repeat": r, "score": s, "correct": s > 0.5, "stats": stats}
        for task, doc, r, s in (
            ("a", 0, 0, 1.0),
            ("a", 0, 1, 0.0),
            ("a", 1, 0, 1.0),
            ("b", 0, 0, 0.0),
        )
    ]
    found = json.loads(json.dumps(figures(rows)), parse_float=lambda x: round(float(x), 4))
    return [found, [request_seed(0, "a", doc, repeat) for doc in range(3) for repeat in range(2)]]


def _task(name: str, split: str) -> Any:
    from r2r.config import BenchmarkConfig
    from r2r.evaluation.harness import load_tasks, quiet, split_tasks
    from r2r.evaluation.sources import data_key

    key = data_key(name, split)
    os.environ.setdefault("GPQA_PASSWORD", benchmark_files.PASSWORD)
    with tempfile.TemporaryDirectory() as folder:
        known = benchmark_files.files()
        given = {
            key: path
            for key, path in benchmark_files.write(Path(folder), *known).items()
            if key in (name, f"{name}_train", f"{name}_baseline")
        }
        benchmark = BenchmarkConfig(name="b", tasks=[name], data_files=given)
        benchmark.judge.url, benchmark.judge.model = "http://127.0.0.1:1/v1", "judge"
        assert split_tasks(benchmark, split) == [name], key
        with quiet():
            (task,) = load_tasks(benchmark, split).values()
            doc = task.eval_docs[0]
            return [
                str(task.doc_to_text(doc)),
                str(task.doc_to_target(doc)),
                sorted(doc),
                doc["id"],
            ]


def _add_tasks() -> None:
    from r2r.evaluation.sources import SOURCES

    for name in SOURCES:
        split = "train" if set(SOURCES[name].splits) == {"train"} else "test"
        STEPS[f"task_{name}"] = Golden(
            f"task_{name}",
            "r2r.evaluation.sources",
            f"SOURCES.{name}.version",
            partial(_task, name, split),
        )


_add_tasks()
