"""What the task YAMLs in tasks/ call: a task's problems, and the grading of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r2r.evaluation import (
    arena,  # noqa: F401  # registers the judge's filter
    sources,
)
from r2r.evaluation.answer import Answer
from r2r.evaluation.graders import boxed_correct, letter_correct, number_correct
from r2r.evaluation.livecode import livecode_correct
from r2r.evaluation.programs import check_correct, code_correct

AVERAGED = ("avg_params_b", "output_tokens")


class Problems(list[dict[str, Any]]):
    """What lm-eval asks of a ``datasets.Dataset``; an Arrow table would not hold the tests of
    LiveCodeBench, gigabytes in one column."""

    @property
    def features(self) -> dict[str, Any]:
        return self[0]


def load(
    *,
    task: str,
    split: str = "test",
    data_files: Mapping[str, str | None] | None = None,
    judge: Mapping[str, Any] | None = None,
    **_metadata: object,
) -> dict[str, Problems]:
    """One split's problems under the one name that the YAMLs know.

    lm-eval passes a task's ``dataset_kwargs`` and all of its metadata, where its command line also
    puts the model's arguments: what is not named here is not meant for us. A filter sees nothing
    but problems and answers, so the problems of a judged task carry the ``judge``'s config.
    """
    problems = Problems(sources.graded_problems(task, split, data_files or {}))
    if sources.SOURCES[task].judged and split == "test":
        for problem in problems:
            problem |= {"judge": dict(judge or {})}
    return {"problems": problems}


def boxed_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: boxed_correct(text, doc["answer"]))


def number_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: number_correct(text, doc["answer"]))


def letter_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: letter_correct(text, doc["answer"]))


def code_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: code_correct(text, doc["tests"]))


def check_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: check_correct(text, doc))


def livecode_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: livecode_correct(text, doc))


def judged_results(doc: dict[str, Any], results: list[list[tuple[str, float]]]) -> dict[str, Any]:
    answers, scores = zip(*results[0], strict=True)
    return metrics(answers, scores)


def graded(results: list[list[str]], correct: Callable[[str], bool]) -> dict[str, Any]:
    """One problem's metrics, over its repeats. Answers of other lm-eval models are plain text."""
    (repeats,) = results
    return metrics(repeats, [correct(r.final if isinstance(r, Answer) else r) for r in repeats])


def metrics(repeats: Sequence[str], scores: Sequence[float]) -> dict[str, Any]:
    """``accuracy``, the mean of ``scores`` (0 to 1), and the means of the answers' stats."""
    found: dict[str, Any] = {"accuracy": sum(scores) / len(scores)}
    answers = [r for r in repeats if isinstance(r, Answer)]
    if len(answers) == len(repeats):
        for answer, score in zip(answers, scores, strict=True):
            answer.score = float(score)
        for name in AVERAGED:
            found[name] = sum(a.stats[name] for a in answers) / len(answers)
        tokens = sum(a.stats["output_tokens"] for a in answers)
        written = sum(a.stats["llm_share"] * a.stats["output_tokens"] for a in answers)
        found["llm_share"] = (written, tokens)
    return found


def ratio_of_sums(pairs: list[tuple[float, float]]) -> float:
    """Sum of numerators over sum of denominators; 0 where nothing was written."""
    total = sum(denominator for _, denominator in pairs)
    return sum(numerator for numerator, _ in pairs) / total if total else 0.0
