"""What decides each artifact: config, models, data, and the versions of the steps that make it.

A step's version is a constant beside it, raised whenever it gives something else for the same
input (tests/golden holds it to that). What shows in nothing but time (devices, batch sizes,
executors, which engine) decides nothing here; ``artifacts`` records it in the manifest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2r.config import BenchmarkConfig, JudgeConfig, ModelConfig
from r2r.costs import COSTS_VERSION
from r2r.engines.base import ENGINE_VERSION
from r2r.pairs import PROMPT_VERSION, identity
from r2r.policies.base import GENERATION_VERSION
from r2r.policies.query import QUERY_ROUTERS, QUERY_VERSION
from r2r.policies.routed import ROUTED_VERSION
from r2r.policies.single import SINGLE_VERSION
from r2r.records import fingerprint, folder_hash
from r2r.stages.artifacts import Key
from r2r.stages.given import given_id
from r2r.stages.parts import PARTS
from r2r.stages.paths import decides_paths
from r2r.stages.sharing import drafts_in_server, held
from r2r.training import CALIBRATION_VERSION, TRAINING_VERSION
from r2r.training.sizes import SIZES_VERSION, is_open

if TYPE_CHECKING:
    from r2r.stages.workbench import Workbench

TRACES_VERSION = 2  # which answers a person reads, and what is said of their tokens
WHERE = ("accelerator", "devices", "strategy", "num_workers")  # a router is trained
THRESHOLD = ("positive", "min_recall", "target_share")  # all that a router without weights reads


def _key(
    bench: Workbench, kind: str, what: str, decides: dict[str, Any], parents: Iterable[object] = ()
) -> Key:
    pair = bench.config.pair.name
    return Key(bench.artifacts, kind, pair, what, decides, tuple(map(str, parents)))


# Labels and routers.


def labels(bench: Workbench) -> Key:
    config, pair = bench.config.labeler, bench.pair
    if config.path:
        from r2r.labeling.dataset import DATASET_VERSION
        from r2r.labeling.published import PUBLISHED_VERSION, source_identity

        decides = {
            "slm": pair.identities["slm"],
            "published": source_identity(config.path),
            "splits": [config.validation_share, config.test_share],
            "steps": {"published": PUBLISHED_VERSION, "dataset": DATASET_VERSION},
        }
        return _key(bench, "labels", "published", decides)
    from r2r.labeling.dataset import DATASET_VERSION
    from r2r.labeling.prefill import READ_VERSION
    from r2r.labeling.respond import RESPOND_VERSION

    decides, parents = decides_paths(bench)
    decides |= {
        "pair": pair.identity(),
        "text": _text(bench),
        "think_start": bench.config.pair.think_start,
        "queries": fingerprint(bench.queries),
        "max_new_tokens": config.max_new_tokens,
        "rule": _rule(bench),
        "splits": [config.validation_share, config.test_share],
        "precision": _precision(bench, "slm", "llm", "judge"),
        "steps": {
            "prompt": PROMPT_VERSION,
            "engine": ENGINE_VERSION,
            "respond": RESPOND_VERSION,
            "read": READ_VERSION,
            **_rule_steps(bench),
            "dataset": DATASET_VERSION,
        },
    }
    return _key(bench, "labels", f"{len(bench.queries):,} queries", decides, parents)


def router(bench: Workbench) -> Key:
    config = bench.config
    decides = {
        "pair": bench.pair.identity(),
        "router": config.router,
        "seed": config.seed,
        "steps": {"router": bench.router_class.version},
    }
    if not bench.needs_labels:
        return _key(bench, "router", bench.router_name, decides)
    trainer = asdict(config.trainer)
    read = [key for key in trainer if key not in WHERE] if bench.learns else THRESHOLD
    name, parents = _labels_read(bench)
    decides |= {"labels": name, "trainer": {key: trainer[key] for key in read}}
    trained = {"training": TRAINING_VERSION} if bench.learns else {}
    decides["steps"] |= {"calibration": CALIBRATION_VERSION} | trained
    if bench.learns and is_open(config.router, config.trainer):
        decides["steps"] |= {"sizes": SIZES_VERSION}
    return _key(bench, "router", bench.router_name, decides, parents)


def judge(bench: Workbench) -> Key:
    """The network of a policy's learned test."""
    learned, trainer = bench.learned, asdict(bench.config.trainer)
    assert learned is not None
    name, parents = _labels_read(bench)
    unread = (*WHERE, "positive", "target_share")
    steps = {"sizes": SIZES_VERSION, "calibration": CALIBRATION_VERSION}
    steps |= learned.steps | {"training": TRAINING_VERSION}
    decides = {
        "pair": bench.pair.identity(),
        "scorer": learned.scorer,
        "seed": bench.config.seed,
        "labels": name,
        "trainer": {key: value for key, value in trainer.items() if key not in unread},
        "steps": steps,
    }
    return _key(bench, "judge", "learned test", decides, parents)


def calibration(bench: Workbench) -> Key:
    name, parents = _labels_read(bench)
    decides = {
        "router": _routing(bench),
        "labels": name,
        "steps": {"router": bench.described_router.version, "calibration": CALIBRATION_VERSION},
    }
    parents = [*parents, *_router_parents(bench)]
    return _key(bench, "calibration", bench.router_name, decides, parents)


def _labels_read(bench: Workbench) -> tuple[str, list[str]]:
    """The run's labels by name, and where they are one of these artifacts, as a parent."""
    if not bench.config.labeler.labels:
        key = labels(bench)
        return key.name, [str(key)]
    folder = bench.labels_folder.resolve()
    here = folder.parent == bench.artifacts.resolve() / "labels"
    return given_id(folder), [f"labels/{folder.name}"] if here else []


def router_id(bench: Workbench) -> str:
    """What tells the run's router from others: heuristics have no weights, only options."""
    return fingerprint(_routing(bench))


# Answers.


def evaluation(bench: Workbench, system: str, split: str = "test") -> Key:
    from r2r.evaluation.harness import EVALUATION_VERSION, data_identity, task_versions

    benchmark, part = benchmark_of(bench, split), split
    split = "test" if split == "test" else "train"
    who, steps, parents = _who(bench, system)
    decides = {
        "system": who,
        "text": _text(bench),
        "benchmark": _benchmark(benchmark, split),
        "data": data_identity(benchmark, split),
        "sampling": _sampling(bench),
        "steps": {
            "prompt": PROMPT_VERSION,
            "engine": ENGINE_VERSION,
            "generation": GENERATION_VERSION,
            **steps,
            "evaluation": EVALUATION_VERSION,
            "costs": COSTS_VERSION,
            "tasks": task_versions(benchmark, split),
        },
    }
    if part in PARTS:
        decides["problems"] = fingerprint(bench.held_out[part])
    what = f"{system} on {benchmark.name}" + (f", {part}" if part != "test" else "")
    return _key(bench, "evaluation", what, decides, parents)


def benchmark_of(bench: Workbench, split: str) -> BenchmarkConfig:
    """The benchmark; of its train split, for query-level routers, as many problems as labelling
    takes, each answered once."""
    if split == "test":
        return bench.config.benchmark
    if split in PARTS:
        return replace(bench.config.benchmark, limit=None)
    from r2r.evaluation.harness import split_tasks

    benchmark, limit = bench.config.benchmark, bench.config.labeler.prompts.limit
    each = None if limit is None else math.ceil(limit / len(split_tasks(benchmark, "train")))
    return replace(benchmark, limit=each, repeats=1)


def graded_models(bench: Workbench, system: str) -> list[str]:
    """Whose answers to the training prompts a query-level router learns from, the LLM's last."""
    return ["slm", *(bench.config.pair.middle if system == "query_mf" else ()), "llm"]


def query(bench: Workbench, system: str) -> Key:
    graded = [evaluation(bench, model, "train") for model in graded_models(bench, system)]
    encoder = bench.config.query_level.encoder
    if encoder is not None and Path(encoder).is_dir():
        encoder = folder_hash(Path(encoder))
    decides = {
        "system": system,
        "graded": [key.name for key in graded],
        "encoder": encoder,
        "seed": bench.config.seed,
        "steps": {"query": QUERY_VERSION},
    }
    return _key(bench, "query", system, decides, graded)


def traces(bench: Workbench, systems: Sequence[str]) -> Key:
    """The answers of some systems in readable form."""
    answers = {name: evaluation(bench, name) for name in systems}
    decides = {
        "systems": list(systems),
        "answers": {name: key.name for name, key in answers.items()},
        "steps": {"traces": TRACES_VERSION},
    }
    return _key(bench, "traces", ", ".join(systems), decides, answers.values())


Who = tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]


def _who(bench: Workbench, system: str) -> Who:
    """What decides a system's answers beside what decides all systems', its own steps, parents."""
    config, pair = bench.config, bench.pair
    if system in pair.models:
        place = system if system in ("slm", "llm") else "middle"
        alone = {
            "model": pair.identities[system],
            "source": "slm" if system == "slm" else "llm",
            "params_b": pair.models[system].params_b,
            "precision": _precision(bench, place),
        } | pair.shared_identity()
        return alone, {"single": SINGLE_VERSION}, ()
    both = {
        "pair": pair.identity(),
        "params_b": {name: pair.models[name].params_b for name in ("slm", "llm")},
        "precision": _precision(bench, "slm", "llm"),
    }
    if system in QUERY_ROUTERS:
        matched = config.query_level.threshold == "auto"
        needed = ("slm", "llm", "routed") if matched else ("slm", "llm")
        answers = [evaluation(bench, name) for name in needed]
        key = query(bench, system)
        chosen = {
            "query": key.name,
            "threshold": config.query_level.threshold,
            "answers": [answer.name for answer in answers],
        }
        return chosen, {"query": QUERY_VERSION}, (str(key), *map(str, answers))
    if bench.oracle:
        from r2r.labeling.oracle import ORACLE_VERSION

        rule = {
            "rule": _rule(bench),
            "think_start": config.pair.think_start,
            "precision": _precision(bench, "slm", "llm", "judge"),
        }
        return both | rule, {"oracle": ORACLE_VERSION, **_rule_steps(bench)}, ()
    policy = bench.policy
    both["policy"] = {key: value for key, value in config.policy.items() if key != "name"}
    steps = {"routed": ROUTED_VERSION, "policy": policy.version}
    if policy.accept is not None:
        steps["accept"] = policy.accept.version
    parents: tuple[str, ...] = ()
    if bench.learned:
        known = bench.described_judge
        both["judge"] = [known.config, known.digest]
        parents = (f"judge/{bench.judge_folder.name}",)
    if not policy.routes:
        # SGLang's own does not tell which tokens were drafts: other traces of the same text.
        by_server = drafts_in_server(config, policy) is not None
        return both | ({"by": "sglang"} if by_server else {}), steps, parents
    routing = {"router": _routing(bench), "threshold": bench.threshold}
    steps["router"] = bench.described_router.version
    return both | routing | held(config), steps, (*_router_parents(bench), *parents)


def _routing(bench: Workbench) -> list[Any]:
    known = bench.described_router
    return [known.config, known.digest]


def _router_parents(bench: Workbench) -> tuple[str, ...]:
    """The run's router, where it is one of these artifacts."""
    path, root = bench.router_path.resolve(), bench.artifacts.resolve()
    return (f"router/{path.name}",) if path.parent == root / "router" else ()


# What several kinds share.


def _text(bench: Workbench) -> dict[str, Any]:
    """What of a pair bounds and ends any text."""
    pair = bench.pair
    return {
        "route_id": pair.route_id,
        "eos_ids": sorted(pair.eos_ids),
        "tokens": pair.tokens,
        "context": pair.context_length,
        "think_end": bench.config.pair.think_end,
    }


def _rule(bench: Workbench) -> dict[str, Any]:
    """Which differences between two tokens matter."""
    config = bench.config.labeler
    told: dict[str, Any] = {"verifier": config.verifier}
    if config.verifier == "likelihood":
        return told | {"bound": config.bound}
    told["max_sentence_tokens"] = config.max_sentence_tokens
    if config.verifier == "judge":
        return told | {"judge": _judge(config.judge, "labeler.judge")}
    if config.verifier == "equivalence":
        return told | {"synonyms": config.synonyms, "ignored": config.ignored}
    from r2r.evaluation.harness import split_tasks

    tasks = split_tasks(bench.config.benchmark, "train")
    drawn = ("bound", "per_query", "seed", *(["samples"] if config.samples else []))
    return told | {name: getattr(config, name) for name in drawn} | {"tasks": tasks}


def _rule_steps(bench: Workbench) -> dict[str, Any]:
    from r2r.labeling.continuations import CONTINUATIONS_VERSION
    from r2r.labeling.judge import JUDGE_VERSION
    from r2r.labeling.likelihood import LIKELIHOOD_VERSION
    from r2r.labeling.outcome import OUTCOME_VERSION
    from r2r.labeling.sentences import SENTENCES_VERSION
    from r2r.labeling.verify import EQUIVALENCE_VERSION

    name = bench.config.labeler.verifier
    steps: dict[str, Any] = {"sentences": SENTENCES_VERSION}
    if name == "likelihood":
        return steps | {name: LIKELIHOOD_VERSION}
    if name == "outcome":
        from r2r.evaluation.harness import task_versions

        tasks = task_versions(bench.config.benchmark, "train")
        return steps | {name: OUTCOME_VERSION, "tasks": tasks}
    versions = {"equivalence": EQUIVALENCE_VERSION, "judge": JUDGE_VERSION}
    return steps | {"continuations": CONTINUATIONS_VERSION, name: versions[name]}


def _judge(config: JudgeConfig, key: str) -> str | None:
    """A judge by its name at any address, or by its files."""
    if config.url or not config.path:
        return config.model
    return identity(ModelConfig(path=config.path), key)


def _benchmark(benchmark: BenchmarkConfig, split: str) -> dict[str, Any]:
    """What of a benchmark decides answers and grades, beside its data."""
    from r2r.evaluation.harness import is_judged, split_tasks

    judged = is_judged(benchmark, split)
    return {
        "tasks": split_tasks(benchmark, split),
        "limit": benchmark.limit,
        "repeats": benchmark.repeats,
        "max_new_tokens": benchmark.max_new_tokens,
        "judge": _judge(benchmark.judge, "benchmark.judge") if judged else None,
    }


def _sampling(bench: Workbench) -> dict[str, Any] | None:
    """How answers are drawn; None for greedy ones, which no seed changes."""
    benchmark = bench.config.benchmark
    if benchmark.temperature == 0:
        return None
    from r2r.engines.sampling import SAMPLING_VERSION

    return {
        "temperature": benchmark.temperature,
        "top_p": benchmark.top_p,
        "seed": bench.config.seed,
        "version": SAMPLING_VERSION,
    }


def _precision(bench: Workbench, *places: str) -> dict[str, Any]:
    """Where SGLang servers compute in another way than the pair's dtype says: a dtype of their
    own, and arguments that may quantize weights or KV cache. Empty for all other engines."""
    settings, own = bench.config.engine.sglang, {}
    for place in places if settings else ():
        server = getattr(settings, place)
        if server.dtype not in (None, bench.config.pair.dtype) or server.args:
            own[place] = {"dtype": server.dtype, "args": dict(server.args)}
    return own
