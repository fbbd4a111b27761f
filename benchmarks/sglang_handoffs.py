"""What a handoff on SGLang takes and sends, to the LLM and back, with and without a session.

    python benchmarks/sglang_handoffs.py [--tokens 64 2048 16000] [--repeats 3] [key=value ...]

The keys are those of run.py. One answer of a made text. To the LLM: between two handoffs eight
tokens are added, as if the SLM had written them. Back: the SLM hands over at once, and one token is
added, as if the LLM had written it. Both ways take turns, after one of each that is not
counted; figures are medians. Writes benchmarks/results/sglang_handoffs_<pair>_<device>.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from typing import Any

from harness import RESULTS
from rich.console import Console
from rich.table import Table

from r2r.engines.base import Request
from r2r.engines.sglang.engine import SGLangEngine
from r2r.errors import ConfigError
from r2r.records import write_json
from r2r.stages.compose import compose
from r2r.stages.main import manifest
from r2r.stages.preflight import preflight
from r2r.stages.workbench import Workbench

NEW = {"llm": 8, "slm": 1}  # tokens that are added between two handoffs
AT_ONCE = -1.0  # an entropy above which the SLM hands over
LONG = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"  # nano's own context is 1,024 tokens


async def answer(
    name: str, engine: SGLangEngine, prompt: list[int], handoffs: int, kept: bool
) -> list[tuple[float, int]]:
    """Milliseconds and bytes sent of each handoff behind the first two."""
    sent: list[int] = []
    answering = engine.client._answer

    def counting(server: Any, body: dict[str, Any]) -> Any:
        sent.append(len(json.dumps(body)))
        return answering(server, body)

    engine.client._answer = counting  # type: ignore[method-assign]
    session, written, taken = engine.new_session() if kept else -1, [], []
    for _ in range(handoffs):
        asked = Request(prompt, list(written), 1, session=session, above=AT_ONCE, stays=True)
        began = time.perf_counter()
        if name == "llm":
            written.append(await engine.next_token(asked))
        else:
            await engine.decode(asked)
        taken.append(1000 * (time.perf_counter() - began))
        written += random.sample(prompt, NEW[name])
    engine.client._answer = answering  # type: ignore[method-assign]
    engine.release(session)
    return list(zip(taken, sent, strict=True))[2:]


def measure(
    name: str,
    engine: SGLangEngine,
    lengths: list[int],
    ids: list[int],
    *,
    handoffs: int,
    repeats: int,
) -> list[Any]:
    """A row for each length of text at one of the two models."""

    async def rows() -> list[dict[str, Any]]:
        table = []
        for length in lengths:
            prompt = random.choices(ids, k=length)
            runs: dict[bool, list[tuple[float, int]]] = {False: [], True: []}
            for repeat in range(-1, repeats):
                for kept, found in runs.items():
                    made = await answer(name, engine, prompt, handoffs, kept)
                    found += made if repeat >= 0 else []
            row: dict[str, Any] = {"to": name, "tokens": length}
            for kept, way in ((False, "whole"), (True, "session")):
                times, sizes = zip(*runs[kept], strict=True)
                low, middle, high = statistics.quantiles(times, n=4)
                row[way] = {"ms": middle, "ms_quartiles": [low, high], "bytes": max(sizes)}
            table.append(row)
        return table

    return asyncio.run(rows())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 2048, 16000])
    parser.add_argument("--handoffs", type=int, default=40, help="of each answer")
    parser.add_argument("--repeats", type=int, default=3)
    options, overrides = parser.parse_known_args()
    random.seed(0)
    os.environ[LONG] = "1"
    context = max(options.tokens) + (options.handoffs + 1) * (max(NEW.values()) + 1)
    own = [f"+engine.sglang.{name}.context_length={context}" for name in NEW]
    own.append("engine.sglang.delay_ms=0")
    try:
        config, router = compose(["engine=sglang", *own, *overrides])
        bench = Workbench(config, router)
        try:
            preflight(bench)
            engines: dict[str, Any] = {name: bench.engine(name) for name in NEW}
            bench.ready()
            special = {*bench.pair.eos_ids, bench.pair.route_id}
            ids = [token for token in range(bench.pair.tokens) if token not in special]
            counts = {"handoffs": options.handoffs, "repeats": options.repeats}
            rows = [
                row
                for name, engine in engines.items()
                for row in measure(name, engine, options.tokens, ids, **counts)
            ]
        finally:
            bench.close()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    written = RESULTS / f"sglang_handoffs_{config.pair.name}_{config.engine.device}.json"
    about: dict[str, Any] = manifest(config, []) | {"load_average": os.getloadavg()[0]} | counts
    about["versions"]["sglang"] = bench.fleet.version if bench.fleet else None
    del about["command"], about["overrides"]  # paths of this machine
    write_json(written, about | {"rows": rows})
    shown = Table(caption=f"ms: medians of {options.repeats} x {options.handoffs - 2} handoffs")
    for name in ("to", "tokens", "ms, whole", "ms, session", "bytes, whole", "bytes, session"):
        shown.add_column(name, justify="right")
    for row in rows:
        both = row["whole"], row["session"]
        times, sizes = [f"{way['ms']:.1f}" for way in both], [f"{way['bytes']:,}" for way in both]
        shown.add_row(row["to"], f"{row['tokens']:,}", *times, *sizes)
    Console().print(shown)
    print(f"load average at the end: {about['load_average']:.1f}; written to {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
