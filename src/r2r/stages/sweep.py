"""A sweep before it starts: its jobs, and whether each of them can be run."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from omegaconf import DictConfig, flag_override

from r2r.errors import ConfigError, must_be
from r2r.stages.compose import CONF, checked
from r2r.stages.mistakes import one_line_errors, options_are_words

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

GRID = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"
SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
HERE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # jobs run in this process


def overrides_of(config: DictConfig) -> list[list[str]]:
    """Each job's overrides. A sampler (Optuna) chooses its own: a job for each value that it may
    take, ends of intervals among them, with the first one of every other key."""
    params = config.hydra.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()] + list(config.hydra.overrides.task)
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(given)
    if config.hydra.sweeper._target_ == GRID:
        return list(itertools.chain(*BasicSweeper.split_arguments(parsed, None)))
    axes = {override.get_key_element(): _values(override) for override in parsed}
    first = {key: values[0] for key, values in axes.items()}
    jobs = [first, *(first | {key: v} for key, values in axes.items() for v in values[1:])]
    return [[f"{key}={value}" for key, value in job.items()] for job in jobs]


def _values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_discrete_sweep():
        return list(override.sweep_iterator(transformer=Transformer.encode))  # as Optuna's does
    interval: Any = override.value()
    return [interval.start, interval.end]


def total(config: DictConfig, jobs: Sequence[Sequence[str]]) -> int:
    """How many jobs the sweep starts."""
    return len(jobs) if config.hydra.sweeper._target_ == GRID else config.hydra.sweeper.n_trials


def own(job: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[str]:
    """The overrides that not all jobs have."""
    common = set.intersection(*map(set, jobs))
    return [override for override in job if override not in common] or list(job)


def check(config: DictConfig, jobs: Sequence[Sequence[str]]) -> None:
    """Compose every job, and find what is wrong with its values. Raises ConfigError for the first
    that cannot be run, naming its overrides."""
    from r2r.stages.preflight import check
    from r2r.stages.workbench import Workbench

    if (many := total(config, jobs)) < 1:
        raise must_be("hydra.sweeper.n_trials", "at least 1", many)
    if config.hydra.launcher._target_ == SLURM and not shutil.which("srun"):
        wanted = "submitit_local, or submitit_slurm on a machine that has srun"
        raise must_be("hydra/launcher", wanted, "submitit_slurm without it")

    loader = GlobalHydra.instance().config_loader()
    here = config.hydra.launcher._target_ == HERE
    try:
        for number, job in enumerate(jobs):
            with one_line_errors(CONF):
                options_are_words(job, CONF)
                whole: Any = loader.load_sweep_config(config, list(job))
                with flag_override(whole, ["struct", "readonly"], False):
                    whole.hydra.job.num = number
                HydraConfig.instance().set_config(whole)
                raw = copy.deepcopy(whole)
                with flag_override(raw, ["struct", "readonly"], False):
                    del raw["hydra"]
                router = whole.hydra.runtime.choices.router
                check(Workbench(checked(raw), router), machine=here)
    except ConfigError as error:
        named = ", ".join(own(job, jobs))
        raise ConfigError(f"{error} (job {number + 1} of {len(jobs)}: {named})") from error
    finally:
        HydraConfig.instance().set_config(config)
