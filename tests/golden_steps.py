"""What each step gives for small fixed inputs, kept in tests/golden with the step's version.

    python tests/golden_steps.py [STEP ...]

writes the goldens of steps whose version was raised, and of new ones. One whose output differs
though its version does not is refused, unless it is named: that is for new inputs, here, alone.
"""

import asyncio
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import benchmark_files
import numpy as np
import torch
from benchmark_files import case, packed
from omegaconf import OmegaConf
from tiny import NANO, nano
from toy import CLOSE, END, HIDDEN, THINK, TOP, ToyEngine, decode, ids

from r2r.config import LabelerConfig, ModelConfig, PairConfig
from r2r.costs import Params, summary
from r2r.engines.base import Request, Sampling
from r2r.errors import ConfigError
from r2r.labeling.continuations import Fork, compare, follow_one
from r2r.labeling.respond import Query, Response
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Comparison, EquivalenceVerifier
from r2r.policies.base import Generator, Prompt
from r2r.routers.build import build_router
from r2r.trace import Step, TokenSignals, Trace

FOLDER = Path(__file__).parent / "golden"
CONF = Path(__file__).parents[1] / "conf"
COMMAND = "python tests/golden_steps.py"
SECONDS = ("seconds", "tokens_per_s")
PLAN = ids("So ", "1", "+", "2", "=", "3", ".\n", "Now ", "3", "+", "1", "=", "4", ".\n", "<end>")
ASKED = ids("<ask>", "1", "<go>")


@dataclass(frozen=True)
class Golden:
    """``module``, ``constant``: where the version is; an attribute, or one of a class's."""

    name: str
    module: str
    constant: str
    output: Callable[[], Any]

    @property
    def version(self) -> int:
        found: Any = importlib.import_module(self.module)
        for part in self.constant.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        return found

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.json"

    @property
    def where(self) -> str:
        return f"{self.constant} in src/{self.module.replace('.', '/')}.py"

    def now(self) -> dict[str, Any]:
        return {"version": self.version, "output": json.loads(json.dumps(self.output()))}

    def fault(self) -> str | None:
        """What is wrong with the golden, and what to do; None where nothing is."""
        if not self.file.exists():
            return f"{self.name} has no golden: {COMMAND}"
        kept, now = json.loads(self.file.read_text()), self.now()
        if kept["version"] != now["version"]:
            return (
                f"{self.where} is {now['version']}, the golden of {kept['version']}: {COMMAND}"
                if kept["output"] != now["output"]
                else f"{self.where} is {now['version']}, and gives what {kept['version']} gave:"
                f" put it back, or {COMMAND} where this step's golden shows too little"
            )
        if kept["output"] != now["output"]:
            return (
                f"{self.name} gives something else than before: raise {self.where}, so that"
                f" nobody's artifacts are taken for what it gives now, then {COMMAND}"
            )
        return None


STEPS: dict[str, Golden] = {}


def step(module: str, constant: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def keep(output: Callable[[], Any]) -> Callable[[], Any]:
        STEPS[output.__name__] = Golden(output.__name__, f"r2r.{module}", constant, output)
        return output

    return keep


# Fixed inputs.


class Words:
    def decode(self, tokens, skip_special_tokens):
        return decode([token for token in tokens if token != END])


class FullStops(Sentences):
    """Sentences that end with a full stop, whatever the real rule says."""

    def __init__(self):
        super().__init__(decode=decode, think_ids=[], eos_ids=[END], limit=12)

    def ends(self, sentence, following=None):
        return sentence[-1] in (*ids(".\n"), END)


def plan(prompt, answer):
    return PLAN[len(answer)] if len(answer) < len(PLAN) else END


def slips(prompt, answer):
    return {1: ids("4")[0], 4: ids(" is ")[0]}.get(len(answer), plan(prompt, answer))


COMMON = {"tokenizer": Words(), "context": 40, "concurrency": 2}
ENDS = frozenset([END])


def traces(generator: Generator, *prompts: Prompt) -> list[Any]:
    asked = prompts or (Prompt(ASKED, Sampling(30)),)
    return [trace.to_json() | {"seconds": 0} for trace in generator.generate(asked)]


def rounded(values: Any, digits: int = 2) -> Any:
    return np.round(np.asarray(values, float), digits).tolist()


def signals(rows: int = 6) -> TokenSignals:
    at = torch.arange(rows)
    logits = (torch.arange(100) * -0.05)[None] * (1 + at[:, None] / 3) + 5
    hidden = torch.sin(at[:, None] * 1.7 + torch.arange(HIDDEN)[None])
    return TokenSignals(at * 3 % 7, logits, hidden, at)


# Prompts and models.


def nano_pair():
    from r2r.pairs import ModelPair

    models = {name: ModelConfig(path=str(NANO / name)) for name in ("slm", "llm")}
    config = PairConfig(
        name="nano", **models, dtype="float32", think_end="</think>", max_new_tokens=160
    )
    return ModelPair(config, Path(tempfile.gettempdir()) / "r2r-golden-none")


@step("pairs", "PAIR_VERSION")
def pair():
    return nano_pair().found


@step("pairs", "PROMPT_VERSION")
def prompt():
    made = nano_pair()
    return [made.encode(text) for text in ("What is 12+30?", "Now \u00e9, or not?")]


@step("engines.base", "ENGINE_VERSION")
def engine():
    from r2r.engines.torch.engine import TorchEngine

    pair = nano_pair()
    made = TorchEngine(
        model=nano("llm"),
        eos_ids=pair.eos_ids,
        banned=[pair.route_id],
        max_batch=4,
        max_prefill_tokens=256,
    )
    asked = pair.encode("Tom has 12 apples and gets 30 more. How many apples does he have?")

    async def both():
        decoded = await made.decode(Request(asked, [], 40, session=made.new_session()))
        read = await made.prefill([*asked, *decoded.tokens], len(asked) - 1)
        return decoded, read

    decoded, read = asyncio.run(both())
    logits = rounded(read.signals.logits[:4, :3], 1)
    return [decoded.tokens, decoded.reason, read.signals.token.tolist(), logits]


@step("engines.sampling", "SAMPLING_VERSION")
def sampling():
    from r2r.engines.sampling import choose

    logits = torch.linspace(0, 4, 12).repeat(8, 1)
    drawn = [Sampling(temperature=0.6, top_p=0.95, seed=seed) for seed in range(7)]
    tokens = [choose(logits, [*drawn, Sampling()], [at] * 8).tolist() for at in range(6)]
    return tokens


# Labels.


@step("labeling.respond", "RESPOND_VERSION")
def respond():
    from r2r.labeling.respond import respond

    llm, query = ToyEngine(plan), Query("q", ASKED, "?")
    given = [(30, None), (5, None), (0, None), (30, CLOSE)]

    async def every():
        found = []
        for budget, think_end in given:
            session = llm.new_session()
            found.append(
                await respond(
                    llm,
                    query,
                    budget=budget,
                    think_end=think_end,
                    session=session,
                    on_tokens=lambda tokens, scores: None,
                )
            )
        return found

    return asyncio.run(every())


@step("labeling.prefill", "READ_VERSION")
def read():
    from r2r.labeling.prefill import read

    answer = [THINK, *PLAN[:7], CLOSE, *PLAN[7:]]
    response = Response(Query("q", ASKED, "?"), 3, answer)
    reading, columns = asyncio.run(
        read(ToyEngine(slips), response, think_start=THINK, think_end=CLOSE)
    )
    told = {name: column.tolist() for name, column in columns.items()}
    return [told, rounded(reading.entropy), reading.mismatch.tolist(), reading.mask.tolist()]


@step("labeling.sentences", "SENTENCES_VERSION")
def sentences():
    texts = (
        "So 1. And 2.5 is it? No!\nYes",
        'He said "so. yes." Then (a. b) ends.',
        "\u597d\u3002x",
        "a" * 40,
        "</t>x. y",
    )
    rule = Sentences(
        decode=lambda tokens: "".join(map(chr, tokens)), think_ids=[ord("t")], eos_ids=[0], limit=16
    )
    tokens = [[ord(letter) for letter in text] for text in texts]
    return [
        [rule.starts(text), [rule.end(text, 0, at) for at in range(len(text))]] for text in tokens
    ]


@step("labeling.continuations", "CONTINUATIONS_VERSION")
def continuations():
    llm, rule = ToyEngine(plan), FullStops()
    response = Response(Query("q", ASKED, "How many?"), 0, PLAN)
    forks = [
        Fork(response, at, token, start)
        for at, token, start in ((1, ids("4")[0], 0), (10, ids("2")[0], 7), (14, ids("So ")[0], 14))
    ]

    async def every():
        session = llm.new_session()
        for fork in forks:
            await follow_one(llm, fork, rule, context=30, parent=session)

    asyncio.run(every())
    return [[fork.tail, asdict(compare(fork, rule))] for fork in forks]


@step("labeling.paths", "PATHS_VERSION")
def paths():
    from r2r.labeling.continuations import follow, forks_of
    from r2r.labeling.paths import RoutedPaths, llm_tokens

    answer = [*PLAN[:4], *ids("4"), *PLAN[5:]]  # the router missed a number
    routed = Response(Query("q", ASKED, "How many?"), 0, answer)
    llm = ToyEngine(plan)
    drawn = [n for n in range(16) if RoutedPaths(cast(Any, None), 0.5).takes(Query("", [n], ""))]

    async def both():
        own = await llm_tokens(llm, routed, -1)
        response = replace(routed, llm=own)
        forks = forks_of(response, np.array(answer) != np.array(own), np.array(answer), FullStops())
        told = {"context": 40, "turn": nullcontext, "on_tokens": lambda tokens, scores: None}
        await follow(llm, forks, FullStops(), parent=llm.new_session(), **told)
        return [own, [[fork.start, fork.tail, fork.own] for fork in forks]]

    return [drawn, asyncio.run(both())]


def pairs_of_sentences():
    for slm, llm in (
        ("So 3+4=7.", "Now 3 plus 4 is 7"),
        ("So 3+4=8.", "Now 3+4=7."),
        ("Answer: 7.", "The answer is 7."),
        ("It is 1,000", "It is 1000"),
        ("", "."),
    ):
        yield Comparison("Why?", "Before. ", "", slm, "", llm, "")


@step("labeling.verify", "EQUIVALENCE_VERSION")
def equivalence():
    tables = {"plus": "+", "is": "=", ":": "="}
    rule = EquivalenceVerifier(synonyms=tables, ignored=["so", "now", "the", "answer"])
    return asyncio.run(rule.verify(list(pairs_of_sentences())))


@step("labeling.judge", "JUDGE_VERSION")
def judge():
    from r2r.labeling.judge import JudgeVerifier

    replies = (
        "Neutral.",
        "neutral",
        "divergent",
        "Neutral",
        "divergent!",
        "It is divergent",
        "neither",
        "neutral",
        "neutral or divergent",
        "neutral",
    )

    class Asked:
        async def ask(self, prompts):
            self.prompts = list(prompts)
            return list(replies)

    asked = Asked()
    verdicts = asyncio.run(JudgeVerifier(asked).verify(list(pairs_of_sentences())))
    return [verdicts, asked.prompts[:2]]


def forked():
    """The toy LLM's answer and its forks, held by a session."""
    from r2r.labeling.rules import Held

    response = Response(Query("q", ASKED, "How many?"), 0, PLAN)
    slips_at = ((1, ids("<end>")[0], 0, 0.4), (4, ids("4")[0], 0, 0.0), (10, ids("2")[0], 7, 0.05))
    forks = [Fork(response, at, token, start, ratio=ratio) for at, token, start, ratio in slips_at]

    def held(llm):
        return Held(llm, context=40, turn=nullcontext, on_tokens=lambda tokens, scores: None)

    return forks, held


@step("labeling.likelihood", "LIKELIHOOD_VERSION")
def likelihood():
    from r2r.labeling.likelihood import Likelihood
    from r2r.labeling.prefill import relative

    forks, held = forked()
    llm = ToyEngine(plan)
    verdicts = asyncio.run(Likelihood(bound=0.1).verdicts(forks, held(llm)))
    read = asyncio.run(llm.prefill([*ASKED, *PLAN], len(ASKED) - 1))
    ratios = [[relative(read, at, token) for token in range(8)] for at in (0, 3)]
    return [verdicts, [fork.tail for fork in forks], rounded(ratios, 4)]


@step("labeling.outcome", "OUTCOME_VERSION")
def outcome():
    from r2r.labeling.outcome import Outcome

    class LastDigit:
        def read(self, query, text):
            return ([letter for letter in text if letter.isdigit()] or [None])[-1]

        def same(self, query, one, other):
            return one == other

    found = []
    for bound, per_query, limit in ((1.0, 3, 40), (1.0, 1, 40), (1.0, 3, 12), (0.05, 3, 40)):
        forks, held = forked()
        rule = Outcome(
            finals=LastDigit(),
            sentences=FullStops(),
            bound=bound,
            per_query=per_query,
            seed=0,
            max_new_tokens=limit,
        )
        verdicts = asyncio.run(rule.verdicts(forks, held(ToyEngine(plan))))
        found.append([verdicts, [fork.tail for fork in forks]])
    return found


@step("labeling.dataset", "DATASET_VERSION")
def dataset():
    from r2r.labeling.dataset import SPLITS, TYPES
    from r2r.labeling.finished import columns_of, tally
    from r2r.labeling.prefill import Reading
    from r2r.labeling.shards import assign_splits

    mismatch = np.array([False, True, True, True, True, True, False])
    reading = Reading(np.arange(7) / 4, mismatch, np.array([True] * 6 + [False]))
    verdicts = ["neutral", "divergent", "disputed", "unverified", "unsampled"]
    columns = columns_of({}, reading, verdicts)
    split = LabelerConfig(validation_share=0.2, test_share=0.2, shard_queries=4)
    asked = [Query(str(n), [n, n * n], "?") for n in (*range(10), 3)]
    told = {name: np.dtype(kind).name for name, kind in TYPES.items()}
    labels = {name: values.tolist() for name, values in columns.items()}
    counted = tally(reading, columns["divergent"], verdicts)
    return [told, SPLITS, labels, counted, assign_splits(asked, split)]


@step("labeling.published", "PUBLISHED_VERSION")
def published():
    import pyarrow as pa
    import pyarrow.parquet as pq

    from r2r.labeling.dataset import Labels
    from r2r.labeling.published import read_published

    rows = 24
    at = np.arange(rows)
    scalars = {
        "token_id": at,
        "data_id": at // 3,
        "divergent": (at % 3 == 1) * 1.0,
        "small_token": (at + 1) % 20,
        "real_token": at + (at % 3 > 0),
        "mismatch": at % 3 > 0,
        "mask": at % 4 > 0,
    }
    lists = {
        "small_logits": at[:, None] / 8 - np.arange(TOP),
        "small_indices": at[:, None] + np.arange(TOP),
        "small_last_hidden_states": at[:, None] + np.arange(HIDDEN) / 4,
    }
    table = pa.table(
        {name: pa.array(values) for name, values in scalars.items()}
        | {name: pa.array(values.tolist()) for name, values in lists.items()}
    )
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/train.parquet")
        config = LabelerConfig(path=folder, validation_share=0.3, test_share=0.3)
        out = Path(folder) / "labels"
        out.mkdir()
        read_published(config, out, FullStops(), hidden_size=HIDDEN)
        (shard,) = Labels.open(out).shards
        return {name: rounded(column) for name, column in shard.items()}


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


# Grades.


@step("evaluation.graders", "BOXED_VERSION")
def boxed():
    from r2r.evaluation.graders import answer_text, boxed_correct

    answers = (
        r"</think>\boxed{73}",
        r"</think>\boxed{073}",
        r"</think>\boxed{\frac{146}{2}}",
        r"\boxed{73}</think>",
        r"</think>73",
        r"</think>\boxed{12} \boxed{73}",
        r"</think>\boxed{73\text{ apples}}",
        r"</think>\boxed{730}",
        r"</think>\boxed{73",
    )
    texts = [answer_text(text, "</think>") for text in answers]
    return [texts, [boxed_correct(text, "73") for text in answers]]


@step("evaluation.graders", "LETTER_VERSION")
def letter():
    from r2r.evaluation.graders import letter_correct

    answers = (
        r"</think>\boxed{B}",
        r"</think>\boxed{\text{(b)}}",
        "</think>Answer: B",
        "</think>The answer is **B**.",
        "</think>Answer: C, or rather Answer: B",
        "</think>Both",
        r"</think>Answer: B \boxed{A}",
        "Answer: B</think>",
    )
    return [letter_correct(text, "B") for text in answers]


def program(body: str) -> str:
    return f"reasoning</think>\n```python\n{body}\n```"


def in_sandbox(output: Callable[[], Any]) -> Any:
    """Raises ConfigError where there is no sandbox."""
    from r2r.evaluation.sandbox import run_program

    run_program("", timeout_s=60, memory_mb=256)
    return output()


@step("evaluation.programs", "PROGRAMS_VERSION")
def programs():
    from r2r.evaluation.programs import check_correct, code_correct

    doc = {"question": "def f(x):\n", "test": benchmark_files.CHECK, "entry_point": "f"}
    bodies = (
        "def f(x):\n    return x * x",
        "def f(x):\n    return x + 2",
        "f = 3",
        "raise ValueError",
        "def f(x):\n    import socket\n    return x * x",
    )
    tests = [[2, 4], [-3, 9]]

    def grades() -> list[list[bool]]:
        return [[code_correct(program(b), tests), check_correct(program(b), doc)] for b in bodies]

    return in_sandbox(grades)


@step("evaluation.livecode", "LIVECODE_VERSION")
def livecode():
    from r2r.evaluation.livecode import livecode_correct, read_tests

    tests = case("2\n", "4\n"), case("21\n", "42\n")
    doc = {
        "public_tests": json.dumps(tests[:1]),
        "private_tests": packed(list(tests[1:])),
        "function": "",
    }
    bodies = ("print(2 * int(input()))", "print(4)", "print(2 * int(input()), end='')")

    def grades() -> list[Any]:
        return [livecode_correct(program(body), doc) for body in bodies]

    return [read_tests(doc["public_tests"], doc["private_tests"]), in_sandbox(grades)]


@step("evaluation.arena", "ARENA_VERSION")
def arena():
    from r2r.evaluation.adapter import Answer
    from r2r.evaluation.arena import games, score

    said = (("[[A>>B]]", "[[B>A]]"), ("[[A=B]]", "none"), ("[[B>A]]", "[[A>B]] or [[A=B]]"))
    scores = [score(Answer("x", "x"), *both) for both in said]
    return [list(games("Why?", "Because.", "So.")), scores]


@step("evaluation.harness", "EVALUATION_VERSION")
def evaluation():
    from r2r.evaluation.adapter import request_seed
    from r2r.evaluation.figures import figures

    stats = {
        "llm_share": 0.25,
        "avg_params_b": 2.0,
        "output_tokens": 8,
        "slm_tokens": 6,
        "llm_tokens": 2,
    }
    rows = [
        {"task": task, "doc_id": doc, "repeat": r, "score": s, "correct": s > 0.5, "stats": stats}
        for task, doc, r, s in (
            ("a", 0, 0, 1.0),
            ("a", 0, 1, 0.0),
            ("a", 1, 0, 1.0),
            ("b", 0, 0, 0.0),
        )
    ]
    found = json.loads(json.dumps(figures(rows)), parse_float=lambda x: round(float(x), 4))
    return [found, [request_seed(0, "a", doc, repeat) for doc in range(3) for repeat in range(2)]]


def _task(name: str, split: str) -> Any:
    from r2r.config import BenchmarkConfig
    from r2r.evaluation.harness import load_tasks, quiet, split_tasks
    from r2r.evaluation.sources import data_key

    key = data_key(name, split)
    os.environ.setdefault("GPQA_PASSWORD", benchmark_files.PASSWORD)
    with tempfile.TemporaryDirectory() as folder:
        known = benchmark_files.files()
        given = {
            key: path
            for key, path in benchmark_files.write(Path(folder), *known).items()
            if key in (name, f"{name}_train", f"{name}_baseline")
        }
        benchmark = BenchmarkConfig(name="b", tasks=[name], data_files=given)
        benchmark.judge.url, benchmark.judge.model = "http://127.0.0.1:1/v1", "judge"
        assert split_tasks(benchmark, split) == [name], key
        with quiet():
            (task,) = load_tasks(benchmark, split).values()
            doc = task.eval_docs[0]
            return [
                str(task.doc_to_text(doc)),
                str(task.doc_to_target(doc)),
                sorted(doc),
                doc["id"],
            ]


def _add_tasks() -> None:
    from r2r.evaluation.sources import SOURCES

    for name in SOURCES:
        split = "train" if set(SOURCES[name].splits) == {"train"} else "test"
        STEPS[f"task_{name}"] = Golden(
            f"task_{name}",
            "r2r.evaluation.sources",
            f"SOURCES.{name}.version",
            partial(_task, name, split),
        )


_add_tasks()


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


# Fingerprints themselves: what decides them, by name.


def fingerprint_parts() -> dict[str, Any]:
    """The composition of each kind of fingerprint, for fixed configs: names, and no values."""
    from types import SimpleNamespace

    from r2r.stages import fingerprints
    from r2r.stages.compose import compose
    from r2r.stages.workbench import Workbench

    def names(value: Any) -> Any:
        return {key: names(each) for key, each in value.items()} if isinstance(value, dict) else ""

    found: dict[str, Any] = {}
    for label, more in (
        ("", []),
        ("judge", ["labeler=judge", "labeler.judge.model=a", "labeler.judge.url=http://a"]),
        ("likelihood", ["labeler=likelihood"]),
        ("outcome", ["labeler=outcome"]),
        ("routed", ["labeler.paths.routed=0.5"]),
    ):
        config, router = compose(["outputs=/nowhere", "threshold=0.5", "router=mlp", *more])
        bench = Workbench(config, router)
        known = SimpleNamespace(
            config=config.router, digest="0", version=1, max_score=1.0, threshold=0.5
        )
        bench.__dict__["described_router"] = known
        systems = ("slm", "routed", "query_sw") if not label else ("llm",)
        keys = {
            f"{label} labels": fingerprints.labels(bench),
            f"{label} router": fingerprints.router(bench),
        }
        if not label:
            keys |= {
                " calibration": fingerprints.calibration(bench),
                " query": fingerprints.query(bench, "query_sw"),
                " traces": fingerprints.traces(bench, ["slm"]),
            }
            keys |= {f" evaluation {s}": fingerprints.evaluation(bench, s) for s in systems}
        found |= {name.strip(): names(key.decides) for name, key in keys.items()}
    return found


def main(named: list[str]) -> int:
    refused = []
    for each in [STEPS[name] for name in named if name in STEPS] or STEPS.values():
        try:
            now = each.now()
        except ConfigError as error:
            print(f"{each.name}: not written: {error}")
            continue
        kept = json.loads(each.file.read_text()) if each.file.exists() else None
        if kept == now:
            continue
        if kept and kept["version"] == now["version"] and each.name not in named:
            refused.append(each.fault())
            continue
        FOLDER.mkdir(exist_ok=True)
        each.file.write_text(json.dumps(now, ensure_ascii=False) + "\n")
        print(f"{each.name}: written at version {now['version']}")
    parts = FOLDER / "fingerprints.json"
    if "fingerprints" in named or not parts.exists():
        parts.write_text(json.dumps(fingerprint_parts(), indent=1) + "\n")
        print("fingerprints: written")
    print(*refused, sep="\n")
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
