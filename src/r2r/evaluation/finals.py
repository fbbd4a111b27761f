"""What a task's grader takes from an answer, to be compared with another answer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from r2r.config import BenchmarkConfig
from r2r.errors import must_be
from r2r.evaluation.graders import last_boxed, last_letter, last_number, same_answer
from r2r.evaluation.harness import load_tasks, quiet, split_tasks
from r2r.evaluation.sources import SOURCES

COMPARED = ("boxed", "letter")  # graders that read a final answer; the others run or judge it


@dataclass(frozen=True, slots=True)
class Final:
    """``read``: the final answer in a text behind its reasoning, None where it has none. ``same``:
    whether two of them are equal."""

    read: Callable[[str], str | None]
    same: Callable[[str, str], bool]


# By the function of ``problems`` that a task's YAML names.
FINALS = {
    "boxed_results": Final(last_boxed, same_answer),
    "number_results": Final(last_number, same_answer),
    "letter_results": Final(last_letter, str.__eq__),
}


def check_finals(benchmark: BenchmarkConfig, split: str = "train") -> None:
    """Raises ConfigError where answers to a split hold no final one that can be compared: programs,
    what a judge grades, and tasks that are never graded."""
    comparable = [name for name in SOURCES if _has_final(name)]
    for task in split_tasks(benchmark, split):
        if task not in comparable:
            key = "train_tasks" if split == "train" and benchmark.train_tasks else "tasks"
            wanted = "tasks whose answers end in a number, a term or a letter for labeler=outcome"
            raise must_be(f"benchmark.{key}", wanted, task, comparable)


def _has_final(task: str) -> bool:
    source = SOURCES[task]
    return source.grader in COMPARED and (source.packaged is not None or "test" in source.splits)


def finals(benchmark: BenchmarkConfig, split: str = "train") -> dict[str, Final]:
    """How each task of a split compares final answers. Raises ConfigError as ``check_finals``."""
    check_finals(benchmark, split)
    with quiet():
        tasks = load_tasks(benchmark, split)
    return {name: FINALS[task.config.process_results.__name__] for name, task in tasks.items()}
