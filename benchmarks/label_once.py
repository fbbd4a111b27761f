"""One labelling, timed, for labelling.py: in a process of its own, by any version of the package.

    python benchmarks/label_once.py --queries 12 --json FILE [--naive] [key=value ...]

The naive labeller asks transformers' ``generate`` for each answer and each continuation, its whole
prefix each time, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from r2r.stages import label
from r2r.stages.compose import compose
from r2r.stages.workbench import Workbench

WARM_UP = 3  # queries
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Cut:
    """The LLM's engine, with answers that end after as many tokens as the query is to have."""

    def __init__(self, engine: Any, lengths: dict[tuple[int, ...], int]):
        self.engine, self.lengths = engine, lengths

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    async def decode(self, request: Any) -> Any:
        length = self.lengths.get(tuple(request.prompt))
        if length is None or request.answer:
            return await self.engine.decode(request)
        request = dataclasses.replace(request, stop=lambda tokens: len(tokens) >= length)
        decoded = await self.engine.decode(request)
        return dataclasses.replace(decoded, reason="eos") if decoded.reason == "stop" else decoded


class Forwards:
    """The time that a model's forwards take; each of its parts is counted."""

    def __init__(self, model: Any, now: Callable[[], float]):
        self.seconds, self.now, self.began = 0.0, now, 0.0
        for part in (model.get_decoder(), model.get_output_embeddings()):
            part.register_forward_pre_hook(self._begin)
            part.register_forward_hook(self._end)

    def _begin(self, *_: Any) -> None:
        self.began = self.now()

    def _end(self, *_: Any) -> None:
        self.seconds += self.now() - self.began


def ours(bench: Workbench, asked: list[Any], lengths: list[int], now: Any) -> dict[str, Any]:
    """The package's labelling, as its stage runs it."""
    prompts = [tuple(bench.pair.encode(question)) for _, question in asked]
    cuts, made, make = dict(zip(prompts, lengths, strict=False)), {}, bench.engine

    def engine(name: str, **options: Any) -> Any:
        if name not in made:
            made[name] = make(name, **options)
        return Cut(made[name], cuts) if name == "llm" else made[name]

    bench.engine = engine  # type: ignore[method-assign]
    _label(bench, asked[:WARM_UP])
    forwards = {name: Forwards(bench.model(name), now) for name in ("slm", "llm")}
    began = now()
    labels = _label(bench, asked)
    whole = now() - began
    shares = {name: timed.seconds / whole for name, timed in forwards.items()}
    return {"seconds": whole, "labels": labels} | shares


def _label(bench: Workbench, asked: list[Any]) -> dict[int, list[int]]:
    """The labels of each query, by data_id."""
    bench.__dict__["queries"] = asked
    labels: dict[int, list[int]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        label._label(bench, Path(folder))
        for shard in sorted(Path(folder).glob("shard-*")):
            columns = [shard / f"{name}.npy" for name in ("data_id", "divergent")]
            if columns[0].exists():
                both = (np.load(path).tolist() for path in columns)
                for data_id, mark in zip(*both, strict=True):
                    labels[data_id].append(mark)
    return dict(labels)


class Stop(StoppingCriteria):
    """A stop check of ours, for one sequence."""

    def __init__(self, check: Any, prompt: int):
        self.check, self.prompt = check, prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return torch.tensor([self.check(input_ids[0, self.prompt :].tolist())])


def naive(bench: Workbench, asked: list[Any], lengths: list[int], now: Any) -> dict[str, Any]:
    """One model call after the other, nothing shared. The models are as transformers loads them."""
    from r2r.labeling.continuations import compare, forks_of
    from r2r.labeling.finished import LABELS
    from r2r.labeling.respond import Query, Response
    from r2r.stages import rules  # an earlier version, which is timed by ``ours``, has none

    pair, config = bench.pair, bench.config.labeler
    slm, llm = (bench.load(pair.models[name], pair.keys[name]) for name in ("slm", "llm"))
    cut, ends, judge = rules.sentences(bench), rules.think(bench), rules.verifier(bench)
    banned = [[pair.route_id]]

    def go_on(tokens: list[int], budget: int, **more: Any) -> list[int]:
        ids = torch.tensor([tokens])
        made = llm.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=budget,
            eos_token_id=sorted(pair.eos_ids), pad_token_id=0, bad_words_ids=banned, **more,
        )  # fmt: skip
        return made[0, len(tokens) :].tolist()

    labels: dict[int, list[int]] = {}
    began = now()
    for data_id, (key, question) in enumerate(asked):
        query = Query(key, pair.encode(question), question)
        budget = min(config.max_new_tokens, 1024)
        length = lengths[data_id] if lengths else budget + 1
        answer = go_on(query.tokens, min(budget, length))
        ended = answer[-1] in pair.eos_ids or len(answer) == length
        if not ended or ends["think_end"] not in (None, *answer):
            continue
        response = Response(query, data_id, answer)
        with torch.no_grad():
            logits = slm(input_ids=torch.tensor([[*query.tokens, *answer[:-1]]])).logits[0]
        logits[:, pair.route_id] = -torch.inf
        small = logits[len(query.tokens) - 1 :].argmax(-1).numpy()
        real = np.array(answer)
        differs = small != real
        masked = differs & (real == ends["think_end"])
        marks = np.where(masked, -1, 0)
        forks = forks_of(response, differs & ~masked, small, cut)
        for fork in forks:
            at, prefix = fork.position, [*answer[: fork.position], fork.token]
            check = cut.check(fork.start, at)
            if not check(prefix):
                stopping = StoppingCriteriaList([Stop(check, len(query.tokens))])
                text = [*query.tokens, *prefix]
                prefix += go_on(text, cut.limit - 1, stopping_criteria=stopping)
            fork.tail = prefix[at : cut.end(prefix, fork.start, at)]
        verdicts = asyncio.run(judge.verify(compare(fork, cut) for fork in forks))
        for fork, verdict in zip(forks, verdicts, strict=True):
            marks[fork.position] = LABELS[verdict]
        labels[data_id] = marks.tolist()
    return {"seconds": now() - began, "labels": labels}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queries", type=int, required=True)
    parser.add_argument("--lengths", type=json.loads, default=[], help="of the answers, at most")
    parser.add_argument("--json", type=Path, required=True, help="where what was found goes")
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("overrides", nargs="*", default=[])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bench = Workbench(*compose(given.overrides))
    made = naive if given.naive else ours
    found = made(bench, bench.queries[: given.queries], given.lengths, CLOCKS[given.clock])
    given.json.write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
