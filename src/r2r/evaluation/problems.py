"""What the task YAMLs in tasks/ call: a task's problems, and the grading of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from r2r.evaluation import sources
from r2r.evaluation.adapter import Answer
from r2r.evaluation.graders import boxed_correct, code_correct, letter_correct

if TYPE_CHECKING:
    from datasets import Dataset

AVERAGED = ("avg_params_b", "output_tokens")


def load(
    *,
    task: str,
    split: str = "test",
    data_files: Mapping[str, str | None] | None = None,
    **_metadata: object,
) -> dict[str, Dataset]:
    """One split's problems under the one name that the YAMLs know.

    lm-eval passes a task's ``dataset_kwargs`` and all of its metadata, where its command line also
    puts the model's arguments: what is not named here is not meant for us.
    """
    from datasets import Dataset

    return {"problems": Dataset.from_list(sources.problems(task, split, data_files or {}))}


def boxed_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: boxed_correct(text, doc["answer"]))


def letter_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: letter_correct(text, doc["answer"]))


def code_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, Any]:
    return graded(results, lambda text: code_correct(text, doc["tests"]))


def graded(results: list[list[str]], correct: Callable[[str], bool]) -> dict[str, Any]:
    """One problem's metrics, over its repeats. Answers of other lm-eval models are plain text."""
    (repeats,) = results
    grades = [correct(r.final if isinstance(r, Answer) else r) for r in repeats]
    metrics: dict[str, Any] = {"accuracy": sum(grades) / len(grades)}
    answers = [r for r in repeats if isinstance(r, Answer)]
    if len(answers) == len(repeats):
        for answer, grade in zip(answers, grades, strict=True):
            answer.correct = grade
        for name in AVERAGED:
            metrics[name] = sum(a.stats[name] for a in answers) / len(answers)
        tokens = sum(a.stats["output_tokens"] for a in answers)
        written = sum(a.stats["llm_share"] * a.stats["output_tokens"] for a in answers)
        metrics["llm_share"] = (written, tokens)
    return metrics


def ratio_of_sums(pairs: list[tuple[float, float]]) -> float:
    """Sum of numerators over sum of denominators; 0 where nothing was written."""
    total = sum(denominator for _, denominator in pairs)
    return sum(numerator for numerator, _ in pairs) / total if total else 0.0
