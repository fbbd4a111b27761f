"""Problems that no router was trained on: what a target is chosen on, and checked on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from r2r.errors import must_be

if TYPE_CHECKING:
    from r2r.config import Config
    from r2r.pairs import ModelPair

PARTS = {"validation": "validation", "held_out": "test"}  # by the names of the labels' splits


def held_out(
    config: Config, pair: ModelPair, queries: Sequence[tuple[str, str]]
) -> dict[str, list[str]]:
    """The ids of the benchmark's train problems in each of ``PARTS``; the labels' splits decide.

    ``queries``: (id, question) of all that is labelled. Raises ConfigError where the problems are
    none of them: then their answers are not known.
    """
    from r2r.evaluation.harness import prompts
    from r2r.labeling.respond import Query
    from r2r.labeling.shards import assign_splits

    asked = [Query(key, pair.encode(text), text, thinks=False) for key, text in queries]
    split = dict(zip((q.id for q in asked), assign_splits(asked, config.labeler), strict=True))
    ids = [key for key, _ in prompts(config.benchmark, "train")]
    found = {part: [key for key in ids if split.get(key) == name] for part, name in PARTS.items()}
    if not all(found.values()):
        wanted = "the train split of the benchmark, as target needs problems with answers"
        raise must_be("labeler.prompts", wanted, "other queries")
    return found
