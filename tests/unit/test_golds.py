"""Golds that nothing or everything equals are refused when the file is read, with their place."""

import json
import math

import pytest

from r2r.config import BenchmarkConfig
from r2r.errors import ConfigError
from r2r.evaluation import harness
from r2r.evaluation.sources import BASELINE, SOURCES, problems

NONE = (math.nan, math.inf, -math.inf, None, True, False, "", "  ", "nan", "null", [], {}, [1])
CHECK = "def check(candidate):\n    assert candidate(1) == 2\n"


def io(*given):
    return json.dumps([{"input": "1", "output": o, "testtype": "stdin"} for o in given])


PLAIN = {"problem": "Q", "answer": "18"}
GPQA = {"Question": "Q", "Correct Answer": "a"} | {f"Incorrect Answer {n}": f"b{n}" for n in "123"}
PROGRAM = {"prompt": "def f(x):\n", "canonical_solution": "", "test": CHECK, "entry_point": "f"}
LIVE = {
    "question_content": "Q", "contest_date": "2024-09-01", "public_test_cases": io("2"),
    "private_test_cases": io("3"),
}  # fmt: skip
CALLED = LIVE | {"metadata": json.dumps({"func_name": "f"})}
REDUX = {"question": "Q", "choices": list("abcd"), "error_type": "ok", "answer": 1}
NANO = {"question": "Q", "answer": "2", "tests": []}
CODE = NANO | {"family": "code", "tests": [[1, 2]]}
JUDGED = {"question_id": "q", "prompt": "Q"}

# Of each task a row that is read, and by field what is refused in it.
NUMBERS = {name: (PLAIN, {"answer": NONE}) for name in ("gsm8k", "math500", "aime24", "aime25")}
GOLDS = NUMBERS | {
    "aime23": (PLAIN | {"year": 2023}, {"answer": NONE}),
    "gpqa_diamond": (GPQA, dict.fromkeys(("Correct Answer", "Incorrect Answer 2"), NONE)),
    "gpqa_extended": (GPQA, {"Correct Answer": NONE}),
    "mmlu_redux_philosophy": (REDUX, {"answer": (*NONE, 4, -1, "A", 1.0)}),
    "nano_math": (NANO | {"family": "math"}, {"answer": NONE}),
    "nano_qa": (NANO | {"family": "qa", "answer": "A"}, {"answer": (*NONE, "E", "AB", 1)}),
    "nano_code": (CODE, {
        "answer": NONE,
        "tests": (None, [], {}, True, "x", [[1]], [[1, None]], [[1, math.nan]], [[1, [math.nan]]]),
    }),
    "humaneval": (PROGRAM, {
        "test": (*NONE, "assert f(1) == 2", "# def check(candidate)"),
        "entry_point": (None, True, math.nan, "", " ", "f(x)", "two words"),
    }),
    "livecodebench": (LIVE, {
        "public_test_cases": (*NONE, "[", io(None), io(True), io(math.nan), io(2)),
        "private_test_cases": (math.nan, None, True, "", io(None), "bm90IGEgcGlja2xl"),
    }),
    "arena_hard": (JUDGED, {}),
    "bespoke_stratos": ({"conversations": [{"from": "user", "value": "Q"}]}, {}),
}  # fmt: skip
CASES = [
    (task, field, value)
    for task, (_, fields) in GOLDS.items()
    for field, values in fields.items()
    for value in values
]


def written(folder, ending, *rows):
    path = folder / f"a{ending}"
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n\n".join(lines) if ending == ".jsonl" else f"[{', '.join(lines)}]")
    return path


def check(task, path):
    files = {task: str(path)}
    harness.check_benchmark(BenchmarkConfig(name="b", tasks=[task], data_files=files))


def test_every_task_is_here():
    assert set(GOLDS) == set(SOURCES)


@pytest.mark.parametrize("task", [task for task in GOLDS if not SOURCES[task].judged])
def test_a_good_row_is_read(tmp_path, task):
    check(task, written(tmp_path, ".jsonl", GOLDS[task][0]))


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
@pytest.mark.parametrize(("task", "field", "value"), CASES)
def test_a_gold_that_nothing_equals_is_refused_with_its_place(tmp_path, ending, task, field, value):
    good = GOLDS[task][0]
    path = written(tmp_path, ending, good, good | {field: value})
    place = "line 3" if ending == ".jsonl" else "row 2"  # as an editor counts
    with pytest.raises(ConfigError, match=rf"data_files\.{task}: .*/a{ending}, {place} "):
        check(task, path)


@pytest.mark.parametrize("output", ["", "NaN", "null", "Infinity", "[NaN]", "two", "[" * 99999])
def test_a_function_that_no_result_could_satisfy_is_refused(tmp_path, output):
    rows = [CALLED, CALLED | {"private_test_cases": io("1", output)}]
    with pytest.raises(ConfigError, match="line 3 must have JSON outputs in its tests"):
        check("livecodebench", written(tmp_path, ".jsonl", *rows))


def test_tests_that_every_silent_program_passes_are_refused(tmp_path):
    empty = dict.fromkeys(("public_test_cases", "private_test_cases"), io("", "\n"))
    with pytest.raises(ConfigError, match="line 1 must have a test whose output is not empty"):
        check("livecodebench", written(tmp_path, ".jsonl", LIVE | empty))
    check("livecodebench", written(tmp_path, ".jsonl", LIVE | {"public_test_cases": io("")}))


@pytest.mark.parametrize("value", [None, math.nan, True, "", " ", {"answer": None}, 1])
@pytest.mark.parametrize("form", ["choices", "messages"])
def test_a_baseline_without_an_answer_is_refused(tmp_path, form, value):
    def row(said):
        turns = {"choices": [{"turns": [{"content": said}]}], "messages": [{"content": said}]}
        return JUDGED | {form: turns[form]}

    def read(said):
        path = written(tmp_path, ".jsonl", row(said))
        return problems("arena_hard", BASELINE, {"arena_hard_baseline": str(path)})

    assert read("It is 2.")[0]["answer"] == "It is 2."
    with pytest.raises(ConfigError, match=f"line 1 must have an answer's text in {form}"):
        read(value)
