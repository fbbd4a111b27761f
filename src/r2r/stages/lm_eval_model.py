"""What lm-eval's command line knows beside its own: the model ``r2r`` and our tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lm_eval.models  # lm-eval looks for its own models only where none is registered yet
import lm_eval.tasks
from lm_eval.api.registry import register_model

from r2r.errors import ConfigError, must_be
from r2r.evaluation.adapter import R2RLM, no_likelihoods
from r2r.evaluation.harness import metadata as task_metadata
from r2r.evaluation.questions import TASKS
from r2r.evaluation.sources import PREFIX, SOURCES
from r2r.records import MANIFEST
from r2r.stages.compose import SYSTEMS, compose
from r2r.stages.preflight import preflight
from r2r.stages.workbench import Workbench

if TYPE_CHECKING:
    from lm_eval.config.evaluate_config import EvaluatorConfig

    from r2r.config import BenchmarkConfig, Config

MODEL = "r2r"


@register_model(MODEL)
class ConfiguredLM(R2RLM):
    """The adapter, made from a config instead of a generator."""

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict | None = None
    ) -> R2RLM:
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string))

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict, additional_config: dict | None = None) -> R2RLM:
        """``additional_config``, batch size and device as lm-eval has them by default, is not
        looked at: ``asked`` has put what a user asked for into the arguments."""
        from r2r.stages.graded import language_model
        from r2r.stages.systems import make_generator

        bench, system = workbench(arg_dict)
        generator, params = make_generator(bench, system)
        return language_model(bench, generator, params)


def asked(config: EvaluatorConfig, device: str | None) -> dict[str, Any]:
    """The arguments of the model, with what lm-eval's own options say beside them. ``device`` is
    the command line's, since ``config`` has one where none is given; its batch size is then 1."""
    size = config.max_batch_size or config.batch_size
    own: dict[str, Any] = {}
    if size != 1 and not str(size).startswith("auto"):
        own["engine.max_batch"] = size
    if device or config.device != type(config)().device:
        own["engine.device"] = device or config.device
    return own | (config.model_args or {})


def workbench(model_args: Mapping[str, Any]) -> tuple[Workbench, str]:
    """The parts that ``--model_args`` ask for, and the system's name.

    Raises ConfigError where they cannot be had; nothing is loaded yet.
    """
    given = {"stages": ["evaluate"], **model_args}
    system = str(given.pop("system", "routed"))

    def composed(systems: list[str]) -> tuple[Config, str]:
        both = {"systems": systems} | given
        return compose([f"{key}={_override(value)}" for key, value in both.items()])

    known = (*SYSTEMS, *composed(["slm"])[0].pair.middle)
    if system not in known:
        raise must_be("system", "one that can be scored", system, known)
    config, router = composed([system])
    bench = Workbench(config, router)
    own = system == "routed" and not bench.oracle and not bench.finished_router
    if own and not (bench.router_folder / MANIFEST).exists():
        raise ConfigError(
            "there is no router for these --model_args yet: run.py stages=[label,train] with the"
            " same makes it; router=trained,router.path=... names one that is there"
        )
    preflight(bench)
    return bench, system


def _override(value: Any) -> str:
    """A value of ``--model_args``, which lm-eval has parsed, as Hydra's command line has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_override, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{k}:{_override(v)}' for k, v in value.items())}}}"
    return "null" if value is None else str(value)


@contextlib.contextmanager
def with_our_tasks(config: EvaluatorConfig | None) -> Iterator[None]:
    """lm-eval finds our tasks beside its own and the user's, with their data as ``config``'s
    model_args have it. Raises ConfigError for what can be found wrong before anything is loaded."""
    ours = None
    if config is not None and config.model == MODEL:
        ours = workbench(config.model_args or {})[0].config.benchmark
    theirs = lm_eval.tasks.TaskManager
    lm_eval.tasks.TaskManager = _manager(theirs, ours)  # type: ignore[misc]
    try:
        yield
    finally:
        lm_eval.tasks.TaskManager = theirs  # type: ignore[misc]


def _manager(theirs: type[Any], ours: BenchmarkConfig | None) -> type[Any]:
    """lm-eval's task manager with our tasks; ``ours`` says where their problems are (None: the
    model is another, and tasks may be of any kind)."""

    class TaskManager(theirs):
        def __init__(
            self,
            *,
            include_path: str | None = None,
            include_defaults: bool = True,
            metadata: dict[str, Any] | None = None,
        ):
            if include_path is not None and not Path(include_path).is_dir():
                raise must_be("--include_path", "a folder with tasks", include_path)
            super().__init__(
                include_path=[TASKS, *([include_path] if include_path else [])],
                include_defaults=include_defaults,
                # What is asked for wins: labels' prompts are of the train split.
                metadata=(task_metadata(ours, "test") if ours else {}) | (metadata or {}),
            )

        def match_tasks(self, task_list: list[str]) -> list[str]:
            found = super().match_tasks(task_list)
            if not found and not any(Path(name).is_dir() for name in task_list):
                names = [PREFIX + name for name in SOURCES]
                wanted = "known tasks: lm-eval's (r2r-eval ls tasks), yours, or one of its choices"
                raise must_be("--tasks", wanted, ",".join(task_list), names)
            return found

        def load(self, task_list: Any) -> Any:
            loaded = super().load(task_list)
            for name, task in loaded["tasks"].items():
                if ours is not None and task.OUTPUT_TYPE != "generate_until":
                    raise no_likelihoods(name)
            return loaded

    return TaskManager
