"""Routed generation on the torch engine beside transformers' generate and assisted generation.

    python benchmarks/decode.py [--pairs nano medium SLM,LLM] [--tokens 256] [--batches 1 8 32]
                                [--shares 0 5 10 15 30 100] [--patience 0 16 64] [--compile]

Every system answers the same random prompts greedily, with ``--tokens`` tokens, end of text or
not. ``eff``: of the wall time, what the model forwards that were needed take alone: a sample of
the run's own forwards is run again, on tensors that lie ready and with nothing around them.
``rtr``: of the wall time, the router's. ``rows``: requests in a forward of the LLM.
``--lengths``: also the routed system's tokens/s and KV cache by length of the answer, at batch 1.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from harness import clock, finish, interleaved, middle, options, parsed, spread, table
from pairs import PROMPT, Pair, load_pair
from rich.table import Table

from r2r.engines.torch.attention import Layout
from r2r.engines.torch.engine import Job, TorchEngine
from r2r.generators.base import Generator
from r2r.generators.routed import Routed
from r2r.generators.single import Single

SAMPLE = 12  # forwards of each engine that are run again

Shape = tuple[list[int], list[int], list[int]]  # slots, starts, widths
Run = Callable[[], dict[str, float]]


class Watch:
    """The forwards of an engine, by shape."""

    def __init__(self, engine: TorchEngine):
        self.engine, self.shapes = engine, []
        self.forward = engine._forward
        engine._forward = self._watched  # type: ignore[method-assign]

    def _watched(self, jobs: list[Job]) -> None:
        slots, starts = [job.place.index for job in jobs], [len(job.place.tokens) for job in jobs]
        widths = [len(job.text) - start for job, start in zip(jobs, starts, strict=True)]
        self.shapes.append((slots, starts, widths))
        self.forward(jobs)

    def stop(self) -> None:
        self.engine._forward = self.forward  # type: ignore[method-assign]

    def bare_seconds(self) -> float:
        """What all the forwards take alone: decoder and head."""
        step = max(1, len(self.shapes) // SAMPLE)
        sample = [self._bare(shape) for shape in self.shapes[step // 2 :: step]]
        return len(self.shapes) * statistics.fmean(sample) if sample else 0.0

    @torch.inference_mode()
    def _bare(self, shape: Shape) -> float:
        engine, widths = self.engine, shape[2]
        layout = Layout(engine.cache, *shape, engine.head.weight)
        ids = [4] * sum(widths)
        last = torch.tensor(widths).cumsum(0) - 1
        taken = []
        for _ in range(3):
            began = clock()
            engine.head(engine._hidden(ids, layout)[last])
            taken.append(clock() - began)
        return statistics.median(taken)


def ours(pair: Pair, generator: Generator, batch: int, tokens: int) -> dict[str, float]:
    """One run of ours, then its forwards alone."""
    pair.ours()
    prompts = pair.prompts(batch, tokens)
    if isinstance(generator, Routed):
        engines: list[Any] = [generator.slm, generator.llm]
    else:
        assert isinstance(generator, Single)
        engines = [generator.engine]
    watches = [Watch(engine) for engine in engines]
    scored = [0.0]
    score = pair.router.inner.score

    def timed(signals: Any) -> Any:
        began = clock()
        made = score(signals)
        scored[0] += clock() - began
        return made

    pair.router.inner.score = timed  # type: ignore[method-assign]
    began = clock()
    traces = generator.generate(prompts)
    seconds = clock() - began
    pair.router.inner.score = score  # type: ignore[method-assign]
    for watch in watches:
        watch.stop()
    written = sum(len(trace.steps) for trace in traces)
    found = {
        "tokens_per_s": written / seconds,
        "llm_share": sum(trace.count("llm") for trace in traces) / written,
        "efficiency": sum(watch.bare_seconds() for watch in watches) / seconds,
    }
    if isinstance(generator, Routed):
        rows = [len(shape[0]) for shape in watches[1].shapes]
        found["router"] = scored[0] / seconds
        found["llm_rows"] = statistics.fmean(rows) if rows else 0.0
    return found


def transformers(pair: Pair, name: str, batch: int, tokens: int) -> dict[str, float]:
    """One run of ``generate`` with a model, or of ``assisted`` generation (batch 1 only)."""
    pair.peers()
    model = pair.slm if name == "slm" else pair.llm
    ids = torch.tensor([prompt.tokens for prompt in pair.prompts(batch, tokens)])
    helper = {"assistant_model": pair.slm} if name == "assisted" else {}
    began = clock()
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens,
        min_new_tokens=tokens, eos_token_id=None, pad_token_id=0, **helper,
    )  # fmt: skip
    seconds = clock() - began
    return {"tokens_per_s": (made.numel() - ids.numel()) / seconds}


def compare(pair: Pair, batch: int, given: Any) -> list[dict[str, Any]]:
    """A row for each system at one batch size."""
    rows = []
    modes = [(False, "")] + ([(True, ", c")] if given.compile else [])
    for number, share in enumerate(given.shares):
        pair.share(share / 100)
        systems: dict[str, Callable[[int], dict[str, float]]] = {}
        if number == 0:
            for name in ("slm", "llm"):
                systems[f"generate {name}"] = partial(transformers, pair, name, batch)
                for compiled, mark in modes:
                    generator = pair.single(name, batch, compiled)
                    systems[f"ours {name}{mark}"] = partial(ours, pair, generator, batch)
        if batch == 1:
            systems["assisted"] = partial(transformers, pair, "assisted", batch)
        for patience in given.patience if batch > 1 else given.patience[:1]:
            label = "routed" if len(given.patience) == 1 else f"routed, p={patience}"
            for compiled, mark in modes:
                generator = pair.routed(batch, patience, compiled)
                systems[f"{label}{mark}"] = partial(ours, pair, generator, batch)
        for run in systems.values():
            run(min(8, given.tokens))  # warms up
        timed = {name: partial(run, given.tokens) for name, run in systems.items()}
        for name, found in interleaved(timed, given.repeats, warmups=0).items():
            row = {"pair": pair.name, "batch": batch, "system": name, "share": share}
            row["spread"] = spread([run["tokens_per_s"] for run in found])
            rows.append(row | middle(found))
    return rows


def by_length(pair: Pair, lengths: list[int]) -> list[dict[str, Any]]:
    """Tokens/s and KV bytes of the routed system at batch 1, by length of the answer."""
    rows = []
    for tokens in lengths:
        generator = pair.routed(1, 0, False)
        found = ours(pair, generator, 1, tokens)
        held, least = 0, 0
        for engine in (generator.slm, generator.llm):
            assert isinstance(engine, TorchEngine)
            for keys, values in engine.cache.layers.values():
                held += keys.nbytes + values.nbytes
                least += (keys.nbytes + values.nbytes) // keys.shape[2] * (PROMPT + tokens)
        rows.append({"pair": pair.name, "length": tokens, "kv_mb": held / 1e6,
                     "kv_needed_mb": least / 1e6} | found)  # fmt: skip
    return rows


def shown(pair: Pair, rows: list[dict[str, Any]]) -> Table:
    lines = []
    for row in rows:
        share = f"{100 * row['llm_share']:.0f}" if "llm_share" in row else ""
        if row["system"] == "assisted":
            share = f"({row['share']:.0f})"
        lines.append([
            row["system"], str(row["batch"]), share, f"{row['tokens_per_s']:.1f}",
            f"{100 * row['spread']:.0f}",
            *(f"{100 * row[key]:.0f}" if key in row else "" for key in ("efficiency", "router")),
            f"{row['llm_rows']:.1f}" if "llm_rows" in row else "",
        ])  # fmt: skip
    sizes = f"{pair.params_m('slm'):.1f} M and {pair.params_m('llm'):.1f} M"
    caption = "LLM%: of the tokens (assisted: drafts the LLM rejects). ±, eff, rtr: %."
    columns = ("system", "batch", "LLM%", "tok/s", "±", "eff", "rtr", "rows")
    return table(f"{pair.name}: {sizes}", caption, columns, lines)


def main() -> int:
    parser = options(__doc__, repeats=2)
    parser.add_argument("--pairs", nargs="+", default=["nano", "medium"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--shares", type=float, nargs="+", default=[10])
    parser.add_argument("--patience", type=int, nargs="+", default=[16])
    parser.add_argument("--compile", action="store_true", help="ours also compiled (c)")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--lengths", type=int, nargs="*", default=[])
    parser.add_argument("--name", default="decode", help="of the record")
    given = parsed(parser)
    rows, tables = [], []
    for name in given.pairs:
        pair = load_pair(name, "float32" if name == "nano" else "bfloat16")
        mine = [row for batch in given.batches for row in compare(pair, batch, given)]
        tables.append(shown(pair, mine))
        lengths = by_length(pair, given.lengths)
        if lengths:
            lines = [
                [str(row["length"]), f"{row['tokens_per_s']:.1f}", f"{row['kv_mb']:.1f}",
                 f"{row['kv_needed_mb']:.1f}"] for row in lengths
            ]  # fmt: skip
            columns = ("answer", "tok/s", "KV MB", "of which needed")
            tables.append(table(f"{name}: by length, batch 1", "", columns, lines))
        rows += mine + lengths
    finish(given.name, rows, {"repeats": given.repeats, "tokens": given.tokens}, *tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
