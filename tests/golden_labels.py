"""Goldens of the steps from prompts to labels (golden_steps.py)."""

import asyncio
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from golden_base import ASKED, PLAN, FullStops, nano_pair, plan, rounded, slips, step
from tiny import nano
from toy import CLOSE, HIDDEN, THINK, TOP, ToyEngine, ids

from r2r.config import LabelerConfig
from r2r.engines.base import Request, Sampling
from r2r.labeling.continuations import Fork, compare, follow_one
from r2r.labeling.respond import Query, Response
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Comparison, EquivalenceVerifier

# Prompts and models.


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
        deaf = {"on_tokens": lambda tokens, scores: None, "on_parts": lambda parts: None}
        return Held(llm, context=40, turn=nullcontext, **deaf)

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
            samples=0,
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
