"""Whether this machine can hold and fetch a run's pair, before anything of it is read."""

from __future__ import annotations

import os

from r2r.config import Config, ModelConfig
from r2r.errors import ConfigError
from r2r.hub import hub_answers
from r2r.pairs import locate

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PLAN = "docs/gpus.md has the arrangements; stages=[plan] tells hours and money"


def check_room(config: Config) -> None:
    """Raises ConfigError where the device is not there, where the declared weights and one text do
    not fit it, or where models are neither in the hub's cache nor to be fetched."""
    engine = config.engine
    if engine.name == "sglang_remote":
        return
    _check_device(config)
    declared = _declared(config)
    if declared:
        memory, where = _memory_gb(config)
        weights, text = declared
        if weights + text > memory:
            raise ConfigError(
                f"engine.device must be one that holds pair={config.pair.name},"
                f" {needs(config)}; {where} has {memory:.0f} GB. Use GPUs or a smaller pair: {PLAN}"
            )
    _check_hub(config)


def needs(config: Config) -> str:
    """What a pair's models take, as far as the config declares it; empty where it does not."""
    declared = _declared(config)
    if not declared:
        return ""
    weights, text = declared
    more = f" and {text:.1f} GB more for each text of {config.pair.max_new_tokens:,} tokens"
    return f"which takes {weights:.0f} GB in {config.pair.dtype}{more if text >= 0.05 else ''}"


def _declared(config: Config) -> tuple[float, float] | None:
    """GB of both models' weights, and of the KV cache of one text as long as may be."""
    both = [config.pair.slm, config.pair.llm]
    sizes = [model.weights_b or model.params_b for model in both]
    if None in sizes:
        return None
    weights = sum(size or 0.0 for size in sizes) * BYTES[config.pair.dtype]
    kb = sum(model.kv_kb or 0.0 for model in both)
    return weights, kb * config.pair.max_new_tokens / 1e6


def _memory_gb(config: Config) -> tuple[float, str]:
    """Of the device, or for servers of all GPUs together."""
    engine = config.engine
    if engine.device == "cpu":
        return _host_gb(), "this machine"
    import torch

    every = range(torch.cuda.device_count())
    index = int(engine.device.partition(":")[2] or 0)
    used = every if engine.sglang else [index]
    total = sum(torch.cuda.get_device_properties(i).total_memory for i in used)
    return total / 1e9, f"{len(used)} GPU(s)" if engine.sglang else engine.device


def _host_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _check_device(config: Config) -> None:
    device = config.engine.device
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ConfigError(f"engine.device must be cpu, cuda or cuda:N, got {device!r}")
    if kind == "cpu":
        return
    import torch

    found = torch.cuda.device_count()
    if int(index or 0) >= found:
        declared, host = needs(config), _host_gb()
        fits = sum(_declared(config) or (0.0,)) <= host
        advice = "use engine.device=cpu" if fits else f"engine.device=cpu has {host:.0f} GB"
        pair = f" (for pair={config.pair.name}, {declared}: {PLAN})" if declared else ""
        raise ConfigError(
            f"engine.device must be a device of this machine, got {device!r} with {found} GPUs"
            f" here; {advice}{pair}"
        )


def _check_hub(config: Config) -> None:
    pair = config.pair
    models = {"pair.slm": pair.slm, "pair.llm": pair.llm}
    models |= {f"pair.middle.{name}": model for name, model in pair.middle.items()}
    away = [key for key, model in models.items() if not _at_hand(model, key)]
    if not away or hub_answers():
        return
    declared = needs(config)
    raise ConfigError(
        f"{away[0]}.path must be a folder, or a hub id that is in this machine's cache or can be"
        f" fetched, got {models[away[0]].path!r} and no answer from the hub. Fetch it where"
        " there is a network (hf download), or give folders"
        + (f" (pair={pair.name}, {declared}: {PLAN})" if declared else "")
    )


def _at_hand(model: ModelConfig, key: str) -> bool:
    source = locate(model, key)
    if source.local:
        return True
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.where, "config.json", revision=source.revision)
    return isinstance(found, str)
