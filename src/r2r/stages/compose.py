"""From YAML and command line to one checked Config; every mistake becomes one line."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from pathlib import Path
from typing import Any, get_origin

from omegaconf import DictConfig, OmegaConf

import r2r
from r2r.config import Config, keys_of
from r2r.errors import must_be
from r2r.policies.build import build_policy
from r2r.policies.query import QUERY_ROUTERS
from r2r.stages.mistakes import not_a_flag, one_line_errors, options_are_words

ASSETS = Path(r2r.__file__).resolve().parent / "assets"
CONF = ASSETS / "conf"  # the repository's own conf/
# In their order; those of ALONE stand alone.
ALONE = ("plan", "artifacts")
STAGES = ("label", "train", "calibrate", "evaluate", "report", "trace", "serve", *ALONE)
SYSTEMS = ("slm", "llm", "routed", *QUERY_ROUTERS)
CHOICES = {
    "labeler.verifier": ("equivalence", "judge", "likelihood", "outcome"),
    "labeler.executor": ("serial", "ray"),
    "engine.name": ("torch", "sglang", "sglang_remote"),
    "logger.name": ("csv", "wandb"),
    "pair.dtype": ("float32", "bfloat16", "float16"),
}
SECRETS = ("api_key", "admin_api_key", "password", "token")
AT_LEAST = {
    "benchmark.max_new_tokens": 1,
    "benchmark.temperature": 0,
    "engine.max_batch": 1,
    "engine.max_prefill_tokens": 1,
    "engine.patience": 0,
    "engine.sglang.start_s": 1,
    "engine.sglang.silence_s": 1,
    "engine.sglang.down_s": 0,
    "engine.sglang.stream_interval": 1,
    "engine.sglang.delay_ms": 0,
    "engine.sglang.delay_size": 1,
    "labeler.prompts.limit": 1,
    "labeler.ray.workers": 1,
    "labeler.ray.cpus": 0,
    "labeler.ray.gpus": 0,
    "labeler.ray.retries": 0,
    "labeler.in_flight": 1,
    "labeler.max_new_tokens": 1,
    "labeler.max_sentence_tokens": 1,
    "labeler.per_query": 1,
    "labeler.samples": 0,
    "labeler.seed": 0,
    "labeler.shard_queries": 1,
    "pair.context_length": 2,
    "prices.slm.input": 0,
    "prices.slm.output": 0,
    "prices.llm.input": 0,
    "prices.llm.output": 0,
    "plan.queries": 1,
    "plan.gpus": 1,
    "plan.requests_per_s": 0,
    "plan.prompt_tokens": 0,
    "plan.answer_tokens": 1,
    "plan.batch": 1,
    "plan.sentence_tokens": 0,
    "plan.judge_b": 0,
    "plan.judge_tokens": 0,
    "plan.slm_kv_kb": 0,
    "plan.llm_kv_kb": 0,
    "plan.gpu.overhead_ms": 0,
    "plan.gpu.handoff_ms": 0,
    "plan.gpu.price_per_hour": 0,
    "serve.port": 0,
    "serve.max_request_bytes": 1,
    "serve.max_prompt_tokens": 1,
    "serve.running": 1,
    "serve.queue": 0,
    "serve.timeout_s": 0.001,
    "serve.grace_s": 0,
    "seed": 0,
}
ABOVE_ZERO = (
    "plan.kept",
    "plan.gpu.tflops",
    "plan.gpu.tb_per_s",
    "plan.gpu.memory_gb",
    "plan.gpu.efficiency",
    "plan.gpu.bytes_per_param",
    "plan.measured.label",
    "plan.measured.routed",
    "plan.measured.llm",
)
SHARES = (
    "labeler.bound",
    "plan.llm_share",
    "plan.mismatch",
    "plan.kept",
    "plan.gpu.efficiency",
)


def prepare() -> None:
    """What composing needs: where the project is, ``${assets:nano/slm}``, a file or folder of the
    package's own data, and ``${runs_folder:OUTPUTS,RUN}``."""
    os.environ.setdefault("PROJECT_ROOT", str(project_root()))
    OmegaConf.register_new_resolver("assets", lambda name: str(ASSETS / name), replace=True)
    OmegaConf.register_new_resolver("runs_folder", runs_folder, replace=True)


def runs_folder(outputs: str, run: str | int) -> str:
    """Where a run's folder lies, which Hydra makes before any code of ours sees the config."""
    if not outputs:
        raise must_be("outputs", "a folder", outputs)
    if not run or "/" in str(run) or str(run).startswith("."):
        raise must_be("run", "a folder name without '/' that starts with no dot", run)
    return f"{outputs}/{run}"


def project_root() -> Path:
    """Where outputs/ lies: the repository this package is installed from, or the working folder."""
    root = Path(r2r.__file__).resolve().parents[2]
    return root if (root / "run.py").exists() else Path.cwd()


def compose(overrides: list[str]) -> tuple[Config, str]:
    """The checked config of a command line, and the name of its router; runs nothing."""
    import hydra

    prepare()
    for override in overrides:
        if override.startswith("-"):
            raise not_a_flag(override, overrides, CONF)
    given = dict(override.split("=", 1) for override in overrides if "=" in override)
    pair, router = given.get("pair", "nano"), given.get("router", "mlp")
    with (
        one_line_errors(CONF),
        hydra.initialize_config_dir(str(CONF), version_base="1.3"),
    ):
        options_are_words(overrides, CONF)
        raw = hydra.compose("config", [f"run={pair}_{router}", *overrides])
        return checked(raw), router


def checked(raw: DictConfig) -> Config:
    """The composed config as typed plain objects. Raises ConfigError naming the key at fault."""
    raw = with_lists(raw)
    missing = sorted(OmegaConf.missing_keys(raw))
    if missing:
        raise must_be(missing[0], f"given (try {missing[0]}=...)", None)
    body: Any = OmegaConf.to_container(raw, resolve=True)
    config: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), body))
    _check_values(config)
    return config


def with_lists(raw: DictConfig) -> DictConfig:
    """``stages=label`` as ``stages=[label]``, and so wherever the schema has a list."""
    raw = copy.deepcopy(raw)
    for key, kind in keys_of(Config).items():
        value = OmegaConf.select(raw, key) if get_origin(kind) is list else None
        if isinstance(value, str | int | float):
            OmegaConf.update(raw, key, [value])
    return raw


def _check_values(config: Config) -> None:
    config.threshold = _threshold("threshold", config.threshold)
    query_level = config.query_level
    query_level.threshold = _threshold("query_level.threshold", query_level.threshold)
    middle = tuple(config.pair.middle)
    _subset("stages", config.stages, STAGES)
    _subset("systems", config.systems, ("middle", *middle, *SYSTEMS))
    for key, choices in CHOICES.items():
        if _get(config, key) not in choices:
            raise must_be(key, "one of its choices", _get(config, key), choices)
    for key, least in AT_LEAST.items():
        value = _get(config, key)
        if value is not None and value < least:
            raise must_be(key, f"at least {least}", value)
    if not 0 < config.benchmark.top_p <= 1:
        raise must_be("benchmark.top_p", "above 0 and at most 1", config.benchmark.top_p)
    for stage in ALONE:
        if stage in config.stages and len(config.stages) > 1:
            raise must_be("stages", f"[{stage}] alone, or without it", config.stages)
    if config.artifacts.remove not in (None, "unused"):
        raise must_be("artifacts.remove", "unused, or null", config.artifacts.remove)
    for key in ABOVE_ZERO:
        value = _get(config, key)
        if value is not None and not value > 0:
            raise must_be(key, "above 0", value)
    for key in SHARES:
        value = _get(config, key)
        if value is not None and not 0 <= value <= 1:
            raise must_be(key, "a share, from 0 to 1", value)
    for model, price in (("slm", config.prices.slm), ("llm", config.prices.llm)):
        if (price.input is None) != (price.output is None):
            missing = "input" if price.input is None else "output"
            raise must_be(f"prices.{model}.{missing}", "given where the other one is", None)
    if config.report.runs and config.stages != ["report"]:
        raise must_be("stages", "[report] where report.runs names other runs", config.stages)
    build_policy(config.policy)
    shares = config.labeler.validation_share, config.labeler.test_share
    if min(shares) <= 0 or sum(shares) >= 1:
        raise must_be(
            "labeler.validation_share and test_share", "above 0, together below 1", shares
        )
    if config.labeler.labels and config.labeler.path:
        wanted = "null where labeler.path names a published training set"
        raise must_be("labeler.labels", wanted, config.labeler.labels)
    runs_folder(config.outputs, config.run)
    _no_secrets("", dataclasses.asdict(config))


def _no_secrets(key: str, value: Any) -> None:
    """A config is written into the run's folder and shown to loggers: no place for a secret."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if str(name).replace("-", "_") in SECRETS and inner is not None:
                wanted = "left out: what the config says is written into the run's folder"
                raise must_be(f"{key}{name}", wanted, "a secret")
            _no_secrets(f"{key}{name}.", inner)
    elif isinstance(value, str) and re.match(r"\w+://[^/]*@", value):
        wanted = "an address without a name or password in it (keys go through api_key_env)"
        raise must_be(key.rstrip("."), wanted, "one with them")


def _threshold(key: str, value: object) -> float | str:
    """A number at least 0 or ``auto``; a router with bounded scores checks its own upper end."""
    wanted = "a number of at least 0 (at most 1 for probabilities), or auto"
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise must_be(key, wanted, value)
    return float(value)


def _subset(key: str, given: list[str], choices: tuple[str, ...]) -> None:
    if not given:
        raise must_be(key, "a list with one entry or more", given, choices)
    for name in given:
        if name not in choices:
            raise must_be(key, "a list of its choices", name, choices)


def _get(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = None if config is None else getattr(config, name)
    return config


def help_text(conf: Path) -> str:
    """What ``run.py --help`` prints: groups with their options, keys, examples. Fits 80 columns."""
    import textwrap

    indent = " " * 16
    lines = [
        "python run.py [group=option] [key=value] ...",
        "",
        "Groups (the first is the default):",
    ]
    defaults = {}
    for entry in OmegaConf.load(conf / "config.yaml").defaults:
        if isinstance(entry, DictConfig):
            defaults |= {str(key): str(value) for key, value in entry.items()}
    folders = (path for path in conf.rglob("*") if path.is_dir() and path.name != "base")
    for group in sorted(str(path.relative_to(conf)) for path in folders):
        options = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        first = defaults.get(group)
        ordered = [first, *(o for o in options if o != first)] if first else options
        lines += textwrap.wrap(f"  {group:<14}{', '.join(ordered)}", 79, subsequent_indent=indent)
    lines += [
        "",
        "Keys at the top:",
        "  threshold     0..1, or auto (calibrated with the router); the LLM writes a",
        "                token whose score is at least this",
        "  target        share:0.06, quality:0.98 or speed: finds the threshold for it",
        *textwrap.wrap(
            f"  stages        any of [{', '.join(STAGES)}]", 79, subsequent_indent=indent
        ),
        "  systems       [slm, middle, llm, routed]: what evaluate scores; baselines:",
        *textwrap.wrap(f"{indent}{', '.join(SYSTEMS[3:])}", 79, subsequent_indent=indent),
        "  objective     [routed/accuracy, routed/avg_params_b]: what a sweep optimises",
        "  seed, force, run, outputs",
        "",
        "Any other key: python run.py --cfg job shows them all with their values.",
        "",
        "Examples:",
        "  python run.py router=mlp threshold=0.1",
        "  python run.py stages=[train] trainer.lr=3e-4",
        "  python run.py -m threshold=0.1,0.3,0.5",
        "  python run.py -m +sweep=threshold   (others: sweeps/README.md)",
        "  python run.py stages=[report] report.runs=[outputs/nano_mlp]",
        "  python run.py stages=[serve] serve.port=8000",
        "  python run.py stages=[plan] pair=r1_1.5b_32b",
        "  python run.py pair=local pair.slm.path=SLM pair.llm.path=LLM benchmark=gsm8k",
    ]
    return "\n".join(lines)
