"""What one row of each dataset is as a problem: ``id``, ``question``, ``answer`` and, where the
task needs them, further fields that its YAML and its grader read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from r2r.errors import ConfigError
from r2r.evaluation.livecode import read_tests
from r2r.records import fingerprint

IDS = ("id", "unique_id", "question_id", "task_id", "record_id", "uid")
QUESTIONS = ("question", "problem")
LETTERS = "ABCD"


class Row:
    """A dataset's row. Its fields go by lower-case names: ``Record ID`` is ``record_id``.

    ``where`` (the config key, the file or dataset, the row) opens every message.
    """

    def __init__(self, fields: Mapping[str, Any], where: str):
        self.fields = {name.lower().replace(" ", "_"): value for name, value in fields.items()}
        self.where = where

    def __call__(self, *names: str) -> Any:
        """The first of these fields that is there; raises ConfigError where none is."""
        for name in names:
            if self.fields.get(name) is not None:
                return self.fields[name]
        raise self.wrong(f"must have a field {' or '.join(names)}, got {', '.join(self.fields)}")

    def text(self, *names: str) -> str:
        return self._of(str, names, "text")

    def answer(self, *names: str) -> str:
        """Text, or a number; never empty, NaN, true or false, which no answer could equal."""
        present = [name for name in names if name in self.fields]
        value = self.fields[present[0]] if present and self._empty(present) else self(*names)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (isinstance(value, str) or (number and math.isfinite(value))):
            wanted = f"must have text or a number in {' or '.join(names)}"
            raise self.wrong(f"{wanted}, got {value!r:.60}")
        return self.filled(str(value).strip(), *names)

    def filled(self, answer: str, *names: str) -> str:
        """The answer of these fields, as it is; raises ConfigError where nothing is in it."""
        if not answer or answer.lower() in ("nan", "null"):
            raise self.wrong(f"must have an answer in {' or '.join(names)}, got {answer!r}")
        return answer

    def _empty(self, names: Sequence[str]) -> bool:
        return all(self.fields[name] is None for name in names)

    def _of(self, kind: Any, names: Sequence[str], called: str) -> Any:
        value = self(*names)
        if not isinstance(value, kind):
            raise self.wrong(f"must have {called} in {' or '.join(names)}, got {value!r:.60}")
        return value

    def wrong(self, problem: str) -> ConfigError:
        return ConfigError(f"{self.where} {problem}")


def plain(row: Row) -> dict[str, Any]:
    """A question and its answer. GSM8K's are worked solutions that end in ``#### 1,234``."""
    names = ("expected_answer", "answer")
    answer = row.answer(*names)
    if "####" in answer:
        answer = row.filled(answer.rpartition("####")[2].replace(",", "").strip(), *names)
    return {"question": row.text(*QUESTIONS), "answer": answer}


def nano(row: Row) -> dict[str, Any]:
    problem, family = plain(row), row.text("family")
    if family == "qa" and problem["answer"] not in list(LETTERS):
        raise row.wrong(f"must have one of {LETTERS} in answer, got {problem['answer']!r}")
    tests = row("tests") if family == "code" else []
    if family == "code" and not (tests and all(len(t) == 2 and _is_gold(t[1]) for t in tests)):
        raise row.wrong(f"must have [input, output] pairs in tests, got {tests!r:.60}")
    return problem | {"tests": tests}


def _is_gold(value: Any) -> bool:
    """Whether a program can return it, and must not return nothing: null and NaN are no answers."""
    try:
        return json.dumps(value, allow_nan=False) != "null"
    except ValueError:
        return False


def gpqa(row: Row) -> dict[str, Any]:
    """Four options in an order that the question alone decides, the same on every machine."""
    question, right = row.text("question"), row.answer("correct_answer").strip()
    wrong = [row.answer(f"incorrect_answer_{n}").strip() for n in (1, 2, 3)]
    options = sorted([right, *wrong], key=lambda option: fingerprint([question, option]))
    return {"question": question, "options": options, "answer": LETTERS[options.index(right)]}


def mmlu_redux(row: Row) -> dict[str, Any]:
    options, answer = row("choices"), row("answer")
    known = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(LETTERS)
    if len(options) != len(LETTERS) or not known:
        raise row.wrong(f"must have four choices and the answer's index, got answer {answer!r}")
    return {"question": row.text("question"), "options": options, "answer": LETTERS[answer]}


def human_eval(row: Row) -> dict[str, Any]:
    """``answer``: the canonical body; ``test`` defines ``check(candidate)``, which grades what the
    program calls ``entry_point``."""
    names = {"question": "prompt", "answer": "canonical_solution"}
    same = {name: name for name in ("test", "entry_point")}
    problem = {name: row.text(field) for name, field in (names | same).items()}
    if not re.search(r"^def check\(", problem["test"], re.MULTILINE):
        raise row.wrong(f"must define check(candidate) in test, got {problem['test']!r:.60}")
    if not problem["entry_point"].isidentifier():
        raise row.wrong(f"must have a name in entry_point, got {problem['entry_point']!r:.60}")
    return problem


def live_code(row: Row) -> dict[str, Any]:
    """``function`` names what functional tests call (empty: the program reads standard input).

    The tests stay as they are published, packed, until they are needed: megabytes a problem.
    """
    public, private = row.text("public_test_cases"), row.text("private_test_cases")
    try:
        tests = read_tests(public, private)
        metadata = json.loads(row.fields.get("metadata") or "{}")
    except ValueError as error:
        raise row.wrong(f"its tests or metadata cannot be read ({error})") from error
    function = metadata.get("func_name") or ""
    for test in tests:
        if not all(isinstance(test[name], str) for name in ("input", "output")):
            raise row.wrong(f"must have texts in its tests, got {test!r:.60}")
        if function and not _is_result(test["output"]):
            raise row.wrong(f"must have JSON outputs in its tests, got {test['output']!r:.60}")
    if not any(test["output"].strip() for test in tests):
        raise row.wrong("must have a test whose output is not empty")
    return {
        "question": row.text("question_content"),
        "answer": "",
        "starter_code": row.fields.get("starter_code") or "",
        "function": function,
        "public_tests": public,
        "private_tests": private,
    }


def _is_result(output: str) -> bool:
    try:
        return _is_gold(json.loads(output, parse_int=str))
    except (ValueError, RecursionError):
        return False


def arena(row: Row) -> dict[str, Any]:
    """A question of Arena-Hard, in either of its formats."""
    turns = row("prompt", "turns")
    return {"question": turns if isinstance(turns, str) else turns[0]["content"], "answer": ""}


def arena_baseline(row: Row) -> dict[str, Any]:
    """What the baseline model answered, in either format of its answers."""
    name = "choices" if "choices" in row.fields else "messages"
    said = row("choices")[0]["turns"][0] if name == "choices" else row("messages")[-1]
    said = said["content"]
    answer = said["answer"] if isinstance(said, dict) else said
    if not isinstance(answer, str) or not answer.strip():
        raise row.wrong(f"must have an answer's text in {name}, got {answer!r:.60}")
    return {"answer": answer}


def conversation(row: Row) -> dict[str, Any]:
    """What the user says first."""
    said = (turn["value"] for turn in row("conversations") if turn["from"] == "user")
    return {"question": next(said), "answer": ""}


def is_code_or_qa(row: Row, split: str) -> bool:
    """Whether a row of Bespoke-Stratos is not one of its mathematics problems, which all ask for
    the "final response within \\boxed{}" (the paper trains on code and QA)."""
    return not conversation(row)["question"].startswith("Return your final response")
