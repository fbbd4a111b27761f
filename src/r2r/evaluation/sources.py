"""Where each task's problems come from: a local file, the package or the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from r2r.errors import ConfigError
from r2r.evaluation import rows
from r2r.evaluation.files import read_rows
from r2r.evaluation.graders import BOXED_VERSION, LETTER_VERSION
from r2r.evaluation.livecode import LIVECODE_VERSION
from r2r.evaluation.programs import PROGRAMS_VERSION
from r2r.evaluation.rows import IDS, Row
from r2r.hub import offline_without_hub

NANO = Path(__file__).parent.parent / "assets" / "nano" / "data"
Grader = Literal["boxed", "letter", "programs", "livecode", "arena"]
PREFIX = "r2r_"  # of our tasks' names in lm-eval, which has a gsm8k of its own
BASELINE = "baseline"  # a split that holds what the judged answers are compared with


@dataclass(frozen=True, slots=True)
class Source:
    """A task's problems.

    ``splits``: the hub's name of each split, or the files of the hub's repository that hold it.
    ``keep``: whether a row counts in a split. ``read``: the row as a problem. ``member`` and
    ``password_env``: where local files may be an archive. ``runs_code``: grading runs what the
    model wrote; ``judged``: a judge grades. ``grader``: which of ours tasks/ names.
    """

    packaged: Path | None = None
    hub: str | None = None
    subset: str | None = None
    splits: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    keep: Callable[[Row, str], bool] = lambda row, split: True
    read: Callable[[Row], dict[str, Any]] = rows.plain
    member: str | None = None
    password_env: str | None = None
    runs_code: bool = False
    judged: bool = False
    grader: Grader = "boxed"
    version: int = 1  # of its prompt and of how its rows are read


def versions(task: str) -> dict[str, int]:
    """Of the steps from a task's rows to its grades."""
    source = SOURCES[task]
    return {"task": source.version, source.grader: _grader_version(source.grader)}


def _grader_version(grader: str) -> int:
    if grader == "arena":
        from r2r.evaluation.arena import ARENA_VERSION  # imports lm-eval

        return ARENA_VERSION
    return {
        "boxed": BOXED_VERSION,
        "letter": LETTER_VERSION,
        "programs": PROGRAMS_VERSION,
        "livecode": LIVECODE_VERSION,
    }[grader]


GRADERS: dict[str, Grader] = {"math": "boxed", "qa": "letter", "code": "programs"}  # of nano


def _nano(family: str) -> Source:
    return Source(
        packaged=NANO,
        keep=lambda row, split: row.fields.get("family") == family,
        read=rows.nano,
        runs_code=family == "code",
        grader=GRADERS[family],
    )


def _gpqa(subset: str) -> Source:
    return Source(
        hub="Idavidrein/gpqa",  # gated: needs the user's token
        subset=subset,
        splits={"test": "train"},
        read=rows.gpqa,
        member=f"{subset}.csv",
        password_env="GPQA_PASSWORD",
        grader="letter",
    )


def _year(row: Row, split: str) -> bool:
    year = int(row("year"))
    return year == 2023 if split == "test" else year < 2023


SOURCES = {
    "nano_math": _nano("math"),
    "nano_qa": _nano("qa"),
    "nano_code": _nano("code"),
    "gsm8k": Source(hub="openai/gsm8k", subset="main", splits={"train": "train", "test": "test"}),
    "math500": Source(hub="HuggingFaceH4/MATH-500", splits={"test": "test"}),
    "aime23": Source(
        hub="di-zhang-fdu/AIME_1983_2024",
        splits={"test": "train", "train": "train"},
        keep=_year,
    ),
    "aime24": Source(hub="HuggingFaceH4/aime_2024", splits={"test": "train"}),
    "aime25": Source(hub="math-ai/aime25", splits={"test": "test"}),
    "gpqa_diamond": _gpqa("gpqa_diamond"),
    "gpqa_extended": _gpqa("gpqa_extended"),
    "mmlu_redux_philosophy": Source(
        hub="edinburgh-dawg/mmlu-redux-2.0",
        subset="philosophy",
        splits={"test": "test"},
        keep=lambda row, split: row("error_type") == "ok",
        read=rows.mmlu_redux,
        grader="letter",
    ),
    "humaneval": Source(
        hub="openai/openai_humaneval",
        splits={"test": "test"},
        read=rows.human_eval,
        runs_code=True,
        grader="programs",
    ),
    "livecodebench": Source(
        hub="livecodebench/code_generation_lite",
        splits={"test": ("test3.jsonl", "test4.jsonl", "test5.jsonl")},  # it has a loading script
        keep=lambda row, split: "2024-08-01" <= row.text("contest_date") < "2025-02-01",
        read=rows.live_code,
        runs_code=True,
        grader="livecode",
    ),
    "arena_hard": Source(
        hub="lmarena-ai/arena-hard-auto",
        splits={
            "test": ("data/arena-hard-v0.1/question.jsonl",),
            BASELINE: ("data/arena-hard-v0.1/model_answer/gpt-4-0314.jsonl",),
        },
        read=rows.arena,
        judged=True,
        grader="arena",
    ),
    "bespoke_stratos": Source(
        hub="bespokelabs/Bespoke-Stratos-17k",
        splits={"train": "train"},
        keep=rows.is_code_or_qa,
        read=rows.conversation,
    ),
}


def splits(task: str) -> tuple[str, ...]:
    """The splits that ``benchmark.data_files`` may name a file for."""
    return ("test", "train", BASELINE) if SOURCES[task].judged else ("test", "train")


def data_key(task: str, split: str) -> str:
    """The key of ``benchmark.data_files`` that names a split's file."""
    return task if split == "test" else f"{task}_{split}"


def local_file(task: str, split: str, data_files: Mapping[str, str | None]) -> Path | None:
    """The file a split is read from; None where it is read from the hub."""
    given = data_files.get(data_key(task, split))
    if given is not None:
        return Path(given).expanduser()
    folder = SOURCES[task].packaged
    return folder / f"{split}.jsonl" if folder else None


def problems(task: str, split: str, data_files: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """A split's problems, each with ``id``, ``question``, ``answer`` and what else its task needs.

    Raises ConfigError where there are none, a file is broken, a field is missing, or the hub cannot
    be reached.
    """
    source, key = SOURCES[task], f"benchmark.data_files.{data_key(task, split)}"
    read = rows.arena_baseline if split == BASELINE else source.read
    path = local_file(task, split, data_files)
    if path:
        found = read_rows(path, key, member=source.member, password_env=source.password_env)
    elif source.hub and split in source.splits:
        found = _from_hub(source, split, key)
    else:
        instead = ", or labeler.prompts.data_files," if split == "train" else ""
        raise ConfigError(f"task {task} has no {split} split: set {key}{instead} to a local file")
    where = f"{key}: {path or source.hub}"
    kept: list[dict[str, Any]] = []
    for place, fields in found:
        row = Row(fields, f"{where}, {place}")
        try:
            if source.keep(row, split):
                named = (row.fields[name] for name in IDS if row.fields.get(name) is not None)
                identifier = str(next(named, f"{task}-{split}-{len(kept)}"))
                kept.append({"id": identifier} | read(row))
        except ConfigError:
            raise
        except (LookupError, TypeError, ValueError, StopIteration) as error:
            raise row.wrong(f"is not as task {task} has them ({error!r})") from error
    if not kept:
        raise ConfigError(f"{key}: no problems for task {task} in {path or source.hub}")
    return kept


def graded_problems(
    task: str, split: str, data_files: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """``problems``; of a judged task, each with the ``baseline`` that its answer is compared with.
    Raises ConfigError where one has none."""
    found = problems(task, split, data_files)
    if SOURCES[task].judged and split == "test":
        rivals = {p["id"]: p["answer"] for p in problems(task, BASELINE, data_files)}
        for problem in found:
            if problem["id"] not in rivals:
                key = f"benchmark.data_files.{data_key(task, BASELINE)}"
                raise ConfigError(f"{key} must hold an answer to problem {problem['id']!r}")
            problem |= {"baseline": rivals[problem["id"]]}
    return found


def _from_hub(source: Source, split: str, key: str) -> Iterable[tuple[str, dict[str, Any]]]:
    assert source.hub
    names = source.splits[split]
    try:
        if isinstance(names, str):
            from datasets import load_dataset

            with offline_without_hub():
                found: Any = load_dataset(source.hub, source.subset, split=names)
            return ((f"row {number}", row) for number, row in enumerate(found, start=1))
        from huggingface_hub import hf_hub_download

        paths = [hf_hub_download(source.hub, name, repo_type="dataset") for name in names]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{source.hub} cannot be read from the hub: set {key} to a local file ({reason})"
        ) from error
    return (row for path in paths for row in read_rows(Path(path), key))
