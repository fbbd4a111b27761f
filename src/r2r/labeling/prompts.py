"""Queries to label, from a JSONL file or a hub dataset."""

from __future__ import annotations

from typing import Any

from r2r.config import PromptsConfig
from r2r.errors import ConfigError, must_be
from r2r.hub import offline_without_hub
from r2r.jsonl import iter_jsonl


def read_queries(config: PromptsConfig) -> list[tuple[str, str]]:
    """(id, question) of each row; the id is the row's own ``id``, else its number from 0.

    Raises ConfigError where neither or both sources are given, one cannot be read, is empty, or
    lacks the question field.
    """
    if bool(config.data_files) == bool(config.dataset):
        wanted = "given, and labeler.prompts.dataset not (or the other way round)"
        raise must_be("labeler.prompts.data_files", wanted, config.data_files)
    if config.limit is not None and config.limit < 1:
        raise must_be("labeler.prompts.limit", "at least 1, or null", config.limit)
    key = "labeler.prompts.data_files" if config.data_files else "labeler.prompts.dataset"
    if config.data_files:
        lines = iter_jsonl(config.data_files, key)
        rows = [(f"line {line}", row) for line, row in lines]
    else:
        rows = [(f"row {n}", row) for n, row in enumerate(_from_hub(config), start=1)]
    if not rows:
        raise must_be(key, "at least one query", config.data_files or config.dataset)
    return [_query(n, *placed, config) for n, placed in enumerate(rows[: config.limit])]


def _from_hub(config: PromptsConfig) -> list[dict[str, Any]]:
    import datasets

    try:
        with offline_without_hub():
            found = datasets.load_dataset(str(config.dataset), split=config.split)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        wanted = f"a hub dataset with a split {config.split!r}"
        raise ConfigError(
            f"labeler.prompts.dataset must be {wanted}, got {config.dataset!r}: {reason}"
        ) from error
    assert isinstance(found, datasets.Dataset)
    count = len(found) if config.limit is None else min(config.limit, len(found))
    return found.select(range(count)).to_list()


def _query(number: int, place: str, row: dict[str, Any], config: PromptsConfig) -> tuple[str, str]:
    question = row.get(config.question_field)
    if not isinstance(question, str) or not question.strip():
        wanted = f"a field that holds text in every row ({place} has none)"
        raise must_be("labeler.prompts.question_field", wanted, config.question_field, row)
    return str(row.get("id", number)), question
