"""Benchmarks through lm-eval: their prompts for labelling, and a model's score on them.

``benchmark.data_files`` names local files: ``<task>`` the problems to score, ``<task>_train`` those
to label (``gsm8k: test.jsonl``, ``gsm8k_train: train.jsonl``), ``<task>_baseline`` the answers that
a judge compares with. A task without an entry reads the package (nano) or the hub (the others).
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Collection, Iterator
from dataclasses import asdict
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from r2r.errors import must_be
from r2r.evaluation.figures import figures
from r2r.evaluation.questions import TASKS, questions
from r2r.evaluation.sandbox import run_program
from r2r.evaluation.sources import (
    PREFIX,
    SOURCES,
    data_key,
    graded_problems,
    local_file,
    problems,
    splits,
    versions,
)
from r2r.records import file_hash

if TYPE_CHECKING:
    from r2r.config import BenchmarkConfig
    from r2r.evaluation.adapter import R2RLM
    from r2r.journal import Journal
    from r2r.progress import Progress

EVALUATION_VERSION = 1  # requests and their seeds, rows of samples, figures


def prompts(benchmark: BenchmarkConfig, split: str = "train") -> list[tuple[str, str]]:
    """(id, question) of all problems of a split, the tasks in turn, so that the first n hold as
    many of each; train: of ``train_tasks`` where there are any. Raises ConfigError where a task has
    no such split."""
    return [(each.id, each.question) for each in asked(benchmark, split)]


class Asked(NamedTuple):
    task: str
    id: str
    question: str


def asked(benchmark: BenchmarkConfig, split: str) -> list[Asked]:
    """``prompts``, with the task of each."""
    check_benchmark(benchmark)
    columns = []
    for task in split_tasks(benchmark, split):
        found = graded_problems(task, split, benchmark.data_files)
        pairs = zip(found, questions(task, found), strict=True)
        columns.append([Asked(task, problem["id"], question) for problem, question in pairs])
    return [each for each in chain(*zip_longest(*columns)) if each]


def evaluate(
    lm: R2RLM,
    benchmark: BenchmarkConfig,
    split: str = "test",
    progress: Progress | None = None,
    *,
    only: Collection[str] | None = None,
    replies: Journal | None = None,
) -> dict[str, Any]:
    """``figures.figures`` of the answers, and ``samples``: one row for each answer (task, doc_id,
    id, repeat, question, gold, score (0 to 1), correct (a score above a half), answer, stats).

    ``only``: ids of the problems that are asked, in place of ``benchmark.limit``.

    Samples stand in the order in which ``lm`` got the requests. ``progress`` hears of a judge's
    replies, and those that ``replies`` holds are not asked for again. Raises ConfigError as
    ``check_benchmark`` does, and where a task has no such split.
    """
    from lm_eval.evaluator import evaluate as run

    from r2r.evaluation.arena import judging

    with quiet(), judging(progress, replies):
        tasks = load_tasks(benchmark, split)
        for task in tasks.values():
            task.set_config("repeats", benchmark.repeats)
        results: Any = run(
            lm,
            {"tasks": {PREFIX + name: task for name, task in tasks.items()}},
            limit=benchmark.limit if only is None else None,
            samples=None if only is None else _places(tasks, only),
            bootstrap_iters=1,  # the mean's standard error has a closed form: none is drawn
            log_samples=True,
            confirm_run_unsafe_code=True,
        )
    logged = results["samples"]
    samples = [
        row for task in tasks for sample in logged[PREFIX + task] for row in rows(task, sample)
    ]
    return figures(samples) | {"samples": samples}


def _places(tasks: dict[str, Any], only: Collection[str]) -> dict[str, list[int]]:
    """Where in each task's problems those of the given ids are, as lm-eval wants it."""
    return {
        PREFIX + name: [at for at, doc in enumerate(task.eval_docs) if doc["id"] in only]
        for name, task in tasks.items()
    }


def check_benchmark(benchmark: BenchmarkConfig) -> None:
    """Find what can be wrong with a benchmark, the hub apart, without importing lm-eval.

    Raises ConfigError for unknown tasks, broken or empty local files, values out of range, a judged
    task without a judge, and a system without a sandbox where a task runs code.
    """
    if not benchmark.tasks:
        raise must_be("benchmark.tasks", "at least one task", list(benchmark.tasks), SOURCES)
    for key, tasks in (("tasks", benchmark.tasks), ("train_tasks", benchmark.train_tasks)):
        for task in tasks:
            if task not in SOURCES:
                raise must_be(f"benchmark.{key}", "known tasks", task, SOURCES)
    for name, value in (("limit", benchmark.limit), ("repeats", benchmark.repeats)):
        if value is not None and value < 1:
            raise must_be(f"benchmark.{name}", "at least 1", value)
    named = {
        data_key(task, split): (task, split)
        for task in (*benchmark.tasks, *benchmark.train_tasks)
        for split in splits(task)
    }
    for key, path in benchmark.data_files.items():
        if path is None:
            continue
        if key not in named:
            raise must_be("benchmark.data_files", "keys of the benchmark's tasks", key, named)
        problems(*named[key], benchmark.data_files)
    if any(SOURCES[task].judged for task in benchmark.tasks):
        from r2r.labeling.judge import HttpJudge

        HttpJudge(benchmark.judge, key="benchmark.judge")
    if any(SOURCES[task].runs_code for task in benchmark.tasks):
        run_program("", timeout_s=10, memory_mb=256)


def check_split(benchmark: BenchmarkConfig, split: str) -> None:
    """Raises ConfigError where a task has no such split, or it cannot be read."""
    for task in split_tasks(benchmark, split):
        problems(task, split, benchmark.data_files)


def split_tasks(benchmark: BenchmarkConfig, split: str) -> list[str]:
    """The tasks whose problems a split holds."""
    return list((benchmark.train_tasks if split == "train" else None) or benchmark.tasks)


def data_identity(benchmark: BenchmarkConfig, split: str = "test") -> dict[str, Any]:
    """What decides a split's problems: each task's file hash, or its dataset on the hub."""
    identity: dict[str, Any] = {}
    for task in split_tasks(benchmark, split):
        source = SOURCES[task]
        for part in splits(task):
            if (part == "train") == (split == "train"):
                path = local_file(task, part, benchmark.data_files)
                hub = [source.hub, source.subset, source.splits.get(part)]
                identity[data_key(task, part)] = file_hash(path) if path else hub
    return identity


def task_versions(benchmark: BenchmarkConfig, split: str) -> dict[str, dict[str, int]]:
    """Of each task's own steps, by its name."""
    return {task: versions(task) for task in split_tasks(benchmark, split)}


def is_judged(benchmark: BenchmarkConfig, split: str) -> bool:
    return any(SOURCES[task].judged for task in split_tasks(benchmark, split))


def load_tasks(benchmark: BenchmarkConfig, split: str) -> dict[str, Any]:
    """The benchmark's tasks by name, with one split's problems."""
    from lm_eval.tasks import TaskManager

    check_benchmark(benchmark)
    manager = TaskManager(
        include_path=TASKS, include_defaults=False, metadata=metadata(benchmark, split)
    )
    names = split_tasks(benchmark, split)
    loaded = manager.load([PREFIX + name for name in names])["tasks"]
    return {name: loaded[PREFIX + name] for name in names}


def metadata(benchmark: BenchmarkConfig, split: str) -> dict[str, Any]:
    """What our tasks are told through lm-eval: which problems, and who judges."""
    return {
        "split": split,
        "data_files": dict(benchmark.data_files),
        "judge": asdict(benchmark.judge),
    }


def rows(task: str, sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
    (answers,) = sample["resps"]
    for repeat, answer in enumerate(answers):
        yield {
            "task": task,
            "doc_id": sample["doc_id"],
            "id": sample["doc"]["id"],
            "repeat": repeat,
            "question": sample["arguments"][0][0],
            "gold": sample["target"],
            "score": answer.score,
            "correct": answer.score > 0.5,
            "answer": str(answer),
            "stats": answer.stats,
        }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's log and the bars of datasets and lm-eval off the terminal."""
    import datasets
    import lm_eval.api.task as task_module

    logger, bar = logging.getLogger("lm_eval"), task_module.tqdm
    level, bars = logger.level, datasets.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    task_module.tqdm = functools.partial(bar, disable=True)  # has no switch of its own
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
        task_module.tqdm = bar
