"""Where each task's problems come from: a local file, the package or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2r.errors import ConfigError
from r2r.jsonl import read_jsonl

NANO = Path(__file__).parent.parent / "assets" / "nano" / "data"
QUESTION_FIELDS = ("question", "problem")
ANSWER_FIELDS = ("expected_answer", "answer")


@dataclass(frozen=True, slots=True)
class Source:
    """A task's problems. ``splits``: the hub's name of each split; ``family``: the rows that
    count; ``runs_code``: grading them runs what the model wrote."""

    packaged: Path | None = None
    family: str | None = None
    hub: str | None = None
    subset: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    runs_code: bool = False


SOURCES = {
    "nano_math": Source(packaged=NANO, family="math"),
    "nano_qa": Source(packaged=NANO, family="qa"),
    "nano_code": Source(packaged=NANO, family="code", runs_code=True),
    "gsm8k": Source(hub="openai/gsm8k", subset="main", splits={"train": "train", "test": "test"}),
    "aime24": Source(hub="HuggingFaceH4/aime_2024", splits={"test": "train"}),
    "aime25": Source(hub="math-ai/aime25", splits={"test": "test"}),
}


def data_key(task: str, split: str) -> str:
    """The key of ``benchmark.data_files`` that names a split's file."""
    return task if split == "test" else f"{task}_{split}"


def local_file(task: str, split: str, data_files: Mapping[str, str | None]) -> Path | None:
    """The JSONL file a split is read from; None where it is read from the hub."""
    given = data_files.get(data_key(task, split))
    if given is not None:
        return Path(given).expanduser()
    folder = SOURCES[task].packaged
    return folder / f"{split}.jsonl" if folder else None


def problems(task: str, split: str, data_files: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """A split's problems, each with ``id``, ``question``, ``answer`` and ``tests``.

    Raises ConfigError where there are none, a line of a file is broken, or a field is missing.
    """
    source, key = SOURCES[task], f"benchmark.data_files.{data_key(task, split)}"
    path = local_file(task, split, data_files)
    if path:
        rows, origin = read_jsonl(path, key), str(path)
    elif source.hub and split in source.splits:
        rows, origin = _from_hub(source.hub, source.subset, source.splits[split], key), source.hub
    else:
        instead = ", or labeler.prompts.data_files," if split == "train" else ""
        raise ConfigError(f"task {task} has no {split} split: set {key}{instead} to a JSONL file")
    if source.family:
        rows = [row for row in rows if row.get("family") == source.family]
    if not rows:
        raise ConfigError(f"{key}: no problems for task {task} in {origin}")
    return [_problem(row, f"{task}-{split}-{n}", f"{key}: {origin}") for n, row in enumerate(rows)]


def _from_hub(hub: str, subset: str | None, split: str, key: str) -> list[dict[str, Any]]:
    from datasets import Dataset, load_dataset

    try:
        found = load_dataset(hub, subset, split=split)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{hub} cannot be read from the hub: set {key} to a JSONL file ({reason})"
        ) from error
    assert isinstance(found, Dataset)
    return found.to_list()


def _problem(row: dict[str, Any], identifier: str, where: str) -> dict[str, Any]:
    answer = _field(row, ANSWER_FIELDS, identifier, where)
    return {
        "id": str(row.get("id", identifier)),
        "question": _field(row, QUESTION_FIELDS, identifier, where),
        "answer": gold(answer),
        "tests": row.get("tests", []),
    }


def gold(answer: str) -> str:
    """GSM8K's answers are worked solutions that end in ``#### 1,234``; the others stand bare."""
    return answer.rpartition("####")[2].strip().replace(",", "")


def _field(row: dict[str, Any], names: tuple[str, ...], identifier: str, where: str) -> str:
    for name in names:
        if name in row:
            return str(row[name])
    wanted, got = " or ".join(names), ", ".join(row)
    raise ConfigError(f"{where}: problem {identifier} must have a field {wanted}, got {got}")
