"""Goldens of answers, routers, and what a person reads of them (golden_steps.py)."""

import json
import sys
import tempfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_base import (
    ASKED,
    COMMON,
    CONF,
    ENDS,
    PLAN,
    STEPS,
    FullStops,
    Golden,
    nano_pair,
    plan,
    rounded,
    signals,
    slips,
    step,
    traces,
)
from omegaconf import OmegaConf
from tiny import nano
from toy import END, HIDDEN, ToyEngine, decode, ids

from r2r.costs import Params, summary
from r2r.engines.base import Sampling
from r2r.policies.base import Generator, Prompt
from r2r.routers.build import build_router
from r2r.trace import Step, Trace

# Answers.


class Script(Generator):
    """Writes a fixed text."""

    async def write(self, prompt, budget, add, spent):
        stop = self.stop_check(prompt)
        answer = []
        for token in PLAN[:budget]:
            answer.append(token)
            add(Step(token, "llm"))
            if token == END:
                return "eos"
            if stop and stop(answer):
                return "stop"
        return "length"


@step("policies.base", "GENERATION_VERSION")
def generation():
    stopped = Prompt(ASKED, Sampling(30), stop=("=3",))
    behind = Prompt(ASKED, Sampling(30), stop=("=",), after="Now")
    long = Prompt(ASKED * 12, Sampling(30))
    return traces(Script(**COMMON), Prompt(ASKED, Sampling(30)), stopped, behind, long)


@step("policies.single", "SINGLE_VERSION")
def single():
    from r2r.policies.single import Single

    return traces(Single(engine=ToyEngine(plan), source="llm", **COMMON))


def _policy(name: str, accept: str | None) -> Any:
    """The nano pair's answer, shared as a policy says; entropy routes."""
    from r2r.engines.torch.engine import TorchEngine
    from r2r.policies.build import build_policy
    from r2r.policies.routed import Routed
    from r2r.routers.heuristics import EntropyRouter

    pair = nano_pair()
    common = {
        "eos_ids": pair.eos_ids,
        "banned": [pair.route_id],
        "max_batch": 4,
        "max_prefill_tokens": 256,
    }
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / "policy" / f"{name}.yaml"))
    config.pop("defaults", None)
    if accept:
        test: Any = OmegaConf.to_container(
            OmegaConf.load(CONF / "policy" / "accept" / f"{accept}.yaml")
        )
        config["accept"] = test
    made = Routed(
        policy=build_policy(config),
        slm=TorchEngine(model=nano("slm"), router=EntropyRouter(), **common),
        llm=TorchEngine(model=nano("llm"), **common),
        threshold=0.3,
        tokenizer=pair.tokenizer,
        context=256,
        concurrency=2,
        eos_ids=pair.eos_ids,
    )
    asked = pair.encode("Tom has 12 apples and gets 30 more. How many apples does he have?")
    (trace,) = made.generate([Prompt(asked, Sampling(40))])
    steps = [[step.token, step.source, step.draft] for step in trace.steps]
    return [steps, trace.finish_reason, asdict(trace.spent) if name == "r2r" else None]


def _add_policies() -> None:
    for name, accept in (
        ("r2r", None),
        ("check", "ratio"),
        ("speculative", "exact"),
        ("lossy", "ratio"),
        ("r_stitch", None),
        ("glimpse", None),
        ("spec_reason", None),
    ):
        target: Any = OmegaConf.load(CONF / "policy" / f"{name}.yaml")._target_
        module, _, kind = target.rpartition(".")
        for known, where, constant in (
            (f"policy_{name}", module, f"{kind}.version"),
            (f"accept_{accept}", "r2r.policies.acceptance", f"{str(accept).title()}.version"),
            ("routed", "r2r.policies.routed", "ROUTED_VERSION"),
        ):
            if accept or not known.startswith("accept"):
                output = partial(_policy, name, accept)
                STEPS.setdefault(known, Golden(known, where, constant, output))


_add_policies()


@step("policies.learned", "Learned.version")
def accept_learned():
    from r2r.engines.base import Prefill, Verified
    from r2r.policies.learned import Learned, about

    seen, at = signals(), torch.arange(6)
    read = Prefill(seen, at[:, None] + torch.arange(100))
    given = torch.tensor([0, 3, 7, 4, 200, 9])
    test = Learned(bound=0.5, hidden_dims=[8], expansion=2, dropout=0.0)
    shape = {"hidden_size": HIDDEN, "vocab_size": 100, "token_embeddings": None}
    test.attach(build_router(test.scorer, **shape))
    found = test.accepts(given.tolist(), Verified([], [], [0, 0, 7, 0, 0, 0, 0], read))
    return [found, rounded(about(given, seen, read.indices).logits[:, :3])]


@step("labeling.oracle", "ORACLE_VERSION")
def oracle():
    from r2r.labeling.oracle import Oracle

    class ByToken:
        async def verify(self, comparisons):
            return ["neutral" if c.slm == " is " else "divergent" for c in comparisons]

    slm, llm = ToyEngine(slips), ToyEngine(plan)
    made = Oracle(
        slm=slm, llm=llm, verifier=ByToken(), sentences=FullStops(), eos_ids=ENDS, **COMMON
    )
    return traces(made)


@step("policies.query", "QUERY_VERSION")
def query():
    from r2r.policies.query.generator import by_llm, matched_threshold
    from r2r.policies.query.scorers import (
        Similarity,
        fit_factors,
        fit_linear,
        fit_mlp,
        fit_neighbours,
    )

    at = np.arange(40)
    features = np.stack([np.sin(at), np.cos(at), at % 2], axis=1).astype(np.float32)
    wins = (features[:, 0] > 0).astype(int)
    right = np.stack([wins == 0, np.ones(40, bool)], axis=1)
    scorers = {
        "sw": Similarity.fit(features, wins),
        "knn": fit_neighbours(features, wins),
        "linear": fit_linear(features, wins),
        "mlp": fit_mlp(features, wins, 0),
        "mf": fit_factors(features, right, 0),
    }
    scores = {name: made.score(features[:12]) for name, made in scorers.items()}
    tokens = at[:12] + 10
    threshold = matched_threshold(scores["linear"], tokens, tokens, Params(1.0, 10.0), 5.0)
    chosen = by_llm(scores["linear"], threshold).tolist()
    return [{name: rounded(found, 1) for name, found in scores.items()}, chosen]


@step("costs", "COSTS_VERSION")
def costs():
    steps = [Step(1, "slm", 0.1), Step(2, "llm", 0.9, 5), Step(3, "slm"), Step(4, "llm")]
    both = [Trace([1], steps), Trace([1], steps[:3])]
    return json.loads(
        json.dumps(summary(both, Params(1.0, 10.0, 0.1), 2.0)),
        parse_float=lambda number: round(float(number), 6),
    )


# Routers.


def _router(name: str) -> Any:
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / "router" / f"{name}.yaml"))
    config.pop("defaults", None)
    config |= {"seed": 0} if "seed" in config else {}
    if name in ("mlp", "calibrated"):
        config = OmegaConf.to_container(OmegaConf.load(CONF / "router" / "mlp.yaml")) | config
        config |= {"hidden_dims": [8, 8], "expansion": 2}
    embeddings = torch.cos(torch.arange(30 * HIDDEN)).reshape(30, HIDDEN)
    router = build_router(config, hidden_size=HIDDEN, vocab_size=120, token_embeddings=embeddings)
    return [rounded(router.score(signals())), rounded(list(_sums(router)), 1)]


def _sums(router: Any) -> Any:
    return (float(value.double().sum()) for value in router.state_dict().values())


def _add_routers() -> None:
    for name in (
        "mlp",
        "calibrated",
        "linear",
        "entropy",
        "margin",
        "aleatoric",
        "schedule",
        "random",
        "always_slm",
        "always_llm",
    ):
        target: Any = OmegaConf.load(CONF / "router" / f"{name}.yaml")._target_
        module, _, kind = target.rpartition(".")
        step_name = f"router_{name}"
        STEPS[step_name] = Golden(step_name, module, f"{kind}.version", partial(_router, name))


_add_routers()


@step("training", "TRAINING_VERSION")
def training():
    sys.path.append(str(Path(__file__).parent / "unit"))
    from test_training import CONFIG, Labels, new_router

    from r2r.training.fit import train_router

    with tempfile.TemporaryDirectory() as folder:
        labels = Labels(Path(folder) / "labels", (150, 0, 331))
        router, config = new_router(), replace(CONFIG, max_epochs=2)
        found = train_router(
            router, labels, config, Path(folder), seed=0, loggers=[], progress=lambda *told: None
        )
    return [rounded(found.metrics["val_loss"], 1), rounded(list(_sums(router)), 0)]


@step("training.sizes", "SIZES_VERSION")
def sizes():
    from r2r.config import TrainerConfig
    from r2r.training.sizes import hidden_dims, sized_trainer

    def chosen(labels: int, slm_width: int) -> list[Any]:
        widths = hidden_dims(labels, slm_width)
        trainer = TrainerConfig(lr=None, batch_size=None, max_epochs=None)
        found = sized_trainer(trainer, labels, widths[0])
        return [widths, found.lr, found.batch_size, found.max_epochs]

    counts = (10, 1_000, 10_000, 50_000, 300_000, 2_000_000, 8_000_000)
    return [chosen(labels, slm_width) for labels in counts for slm_width in (48, 896, 4096)]


@step("training", "CALIBRATION_VERSION")
def calibration():
    from r2r.training.calibrate import calibrate, quality
    from r2r.training.replay import Recorded, replay

    at = np.arange(60)
    scores = (np.sin(at) / 2 + 0.5).astype(np.float32)
    kinds = np.where(at % 7 == 6, -1, (scores > 0.6).astype(int) * 2)
    kinds[::9] = 1
    labelled = kinds >= 0
    every, divergent = scores[labelled], kinds[labelled] == 2
    thresholds = [calibrate(every, divergent, 0.9, None), calibrate(every, divergent, 0.9, 0.2)]
    found = quality(every, divergent, thresholds[0])
    replayed = replay(Recorded(scores, kinds), 1.0)["at"]
    curve = {name: rounded(values, 3) for name, values in replayed.items()}
    return [rounded(thresholds, 3), rounded(found["recall"], 3), rounded(found["auroc"], 3), curve]


# What a person reads.


@step("stages.fingerprints", "TRACES_VERSION")
def readable():
    from types import SimpleNamespace

    from r2r.stages.readable import readable

    def tokens(ids, **_):
        return decode(ids)

    bench: Any = SimpleNamespace(
        pair=SimpleNamespace(tokenizer=SimpleNamespace(decode=tokens)),
        engine=lambda name: ToyEngine(slips),
    )
    steps = [
        Step(PLAN[0], "slm", 0.1),
        Step(PLAN[1], "llm", 0.9, ids("4")[0], tuple(ids("+", "1"))),
        Step(PLAN[2], "slm"),
    ]
    trace = Trace(ASKED, steps, "So 1+").to_json()
    rows = [
        {"system": system, "id": "a", "trace": trace, "stats": {}} for system in ("routed", "llm")
    ]
    return readable(bench, rows, [True, False])
