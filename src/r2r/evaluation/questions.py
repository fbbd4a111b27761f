"""Problems as prompts, by the task YAMLs that lm-eval reads too. lm-eval itself, whose import takes
a second, is left to those who have answers graded: any run asks for the prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

TASKS = Path(__file__).parent / "tasks"
TEMPLATES = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # as lm-eval has it


class _Loader(yaml.SafeLoader):
    """Reads what lm-eval is to call as its name."""


_Loader.add_constructor("!function", _Loader.construct_scalar)


def questions(task: str, problems: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a model is asked, of each problem of a task."""
    asked = _doc_to_text(TASKS / f"{task}.yaml")
    if asked in problems[0]:  # a field by its name
        return [str(problem[asked]) for problem in problems]
    template = TEMPLATES.from_string(asked)
    return [template.render(problem) for problem in problems]


def _doc_to_text(path: Path) -> str:
    told = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    return told.get("doc_to_text") or _doc_to_text(path.with_name(told["include"]))
