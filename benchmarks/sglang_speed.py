"""Tokens/s of routing on SGLang beside its SLM and its LLM alone, and what a handoff costs.

    python benchmarks/sglang_speed.py [--concurrency 1 8 32 128] [--repeats 3] [key=value ...]

The keys are those of run.py; the router must be there (``router=trained router.path=...``, or
``python run.py router=random stages=[train]`` before). Systems are interleaved, figures are
medians over the repeats. Prints a table; writes benchmarks/results/sglang_<pair>_<device>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import statistics
import sys
import time
from collections import defaultdict
from typing import Any

from harness import RESULTS, middle
from rich.console import Console
from rich.table import Table

from r2r.engines.base import Decoded, Request, Sampling
from r2r.engines.sglang.engine import SGLangEngine
from r2r.errors import ConfigError
from r2r.policies.base import Generator, Prompt
from r2r.policies.routed import Routed
from r2r.records import write_json
from r2r.stages.compose import compose
from r2r.stages.main import manifest
from r2r.stages.preflight import preflight
from r2r.stages.systems import make_generator
from r2r.stages.workbench import Workbench

SYSTEMS = ("slm", "llm", "routed", "delayed")
PARTS = ("wait", "llm", "slm", "rest")
EXTEND = re.compile(r"Prefill batch.*#new-seq: (\d+)")


class Watch:
    """Where the time of a routed run goes: the waits, and each server's part of a handoff."""

    def __init__(self, generator: Routed):
        self.seconds: dict[str, float] = defaultdict(float)
        self.handoffs = 0
        for part in ("slm", "llm"):
            self._watch(getattr(generator, part), part)

    def _watch(self, engine: SGLangEngine, part: str) -> None:
        company, write = engine._company, engine._write

        async def timed_company() -> None:
            began = time.perf_counter()
            await company()
            self.seconds["wait"] += time.perf_counter() - began

        async def timed_write(request: Request, session: int | None = None) -> Decoded:
            """The LLM's answer; of the SLM's, what comes before its first word."""
            began = time.perf_counter()
            first: list[float] = []
            heard = request.on_tokens

            def on_tokens(tokens: list[int], scores: list[float]) -> None:
                first.append(time.perf_counter())
                if heard is not None:
                    heard(tokens, scores)

            decoded = await write(dataclasses.replace(request, on_tokens=on_tokens), session)
            ended = time.perf_counter()
            self.seconds["inside"] += ended - began
            if part == "llm":
                self.seconds["llm"] += ended - began
                self.handoffs += 1
            elif request.answer:
                self.seconds["slm"] += (first[0] if first else ended) - began
            return decoded

        engine._company, engine._write = timed_company, timed_write  # type: ignore[method-assign]

    def per_handoff(self, whole: float) -> dict[str, float]:
        """Milliseconds; ``rest``: of ``whole`` (all answers' seconds), neither server nor wait."""
        total = dict(self.seconds)
        total["rest"] = whole - total.pop("inside", 0.0) - total.get("wait", 0.0)
        count = max(1, self.handoffs)
        return {part: 1000 * total.get(part, 0.0) / count for part in PARTS}


def extends(bench: Workbench, since: dict[str, int]) -> dict[str, float | None]:
    """Mean sequences of each server's prefill forwards, from what its log gained; moves ``since``
    on. None where there is no log, or none were run."""
    found: dict[str, float | None] = {}
    for place, server in (bench.fleet.servers if bench.fleet else {}).items():
        text = server.log.read_text(errors="replace") if server.log else ""
        sizes = [int(size) for size in EXTEND.findall(text[since.get(place, 0) :])]
        since[place] = len(text)
        found[place] = statistics.fmean(sizes) if sizes else None
    return found


def once(
    bench: Workbench, generator: Generator, prompts: list[Prompt], since: dict[str, int]
) -> dict[str, Any]:
    """One run: tokens/s, LLM share, a handoff's parts, mean extend sizes."""
    watch = Watch(generator) if isinstance(generator, Routed) else None
    extends(bench, since)
    began = time.perf_counter()
    traces = generator.generate(prompts)
    seconds = time.perf_counter() - began
    tokens = sum(len(trace.steps) for trace in traces)
    shown: dict[str, Any] = {
        "tokens_per_s": tokens / seconds,
        "llm_share": sum(trace.count("llm") for trace in traces) / tokens,
        "extend": extends(bench, since),
    }
    if watch:
        shown["handoff_ms"] = watch.per_handoff(sum(trace.seconds for trace in traces))
    return shown


def measure(bench: Workbench, concurrency: list[int], repeats: int) -> list[dict[str, Any]]:
    """A row for each concurrency and system."""
    config, rows = bench.config, []
    settings = config.engine.sglang
    assert settings is not None
    questions = [question for _, question in bench.queries]
    since: dict[str, int] = {}
    make_generator(bench, "routed")  # whose servers serve the SLM and the LLM alone too
    for count in concurrency:
        asked = [
            Prompt(bench.pair.encode(questions[i % len(questions)]),
                   Sampling(config.benchmark.max_new_tokens, seed=i))
            for i in range(max(8, count))
        ]  # fmt: skip
        runs: dict[str, list[Any]] = {system: [] for system in SYSTEMS}
        for repeat in range(-1 if not rows else 0, repeats):  # the very first warms up
            for system in SYSTEMS:
                settings.delay_ms = 0 if system == "routed" else None
                generator, _ = make_generator(bench, "routed" if system == "delayed" else system)
                generator.concurrency = count
                run = once(bench, generator, asked, since)
                if repeat >= 0:
                    runs[system].append(run)
        rows += [{"concurrency": count, "system": s} | middle(found) for s, found in runs.items()]
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """80 columns."""
    shown = Table(
        caption="n: answers at once. wait for company, llm and slm (HTTP included), rest:\n"
        "ms a handoff. ext: sequences in an extend forward of the SLM, of the LLM."
    )
    for name in ("n", "system", "tok/s", "LLM%", *PARTS, "ext.S", "ext.L"):
        justify = "left" if name == "system" else "right"
        shown.add_column(name, justify=justify, no_wrap=True)
    for row in rows:
        parts = row.get("handoff_ms", {})
        sizes = [row["extend"].get(place) for place in ("slm", "llm")]
        shown.add_row(
            str(row["concurrency"]), row["system"], f"{row['tokens_per_s']:.0f}",
            f"{100 * row['llm_share']:.0f}",
            *(f"{parts[part]:.1f}" if part in parts else "" for part in PARTS),
            *("" if size is None else f"{size:.1f}" for size in sizes),
        )  # fmt: skip
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--repeats", type=int, default=3)
    options, overrides = parser.parse_known_args()
    try:
        logged = [f"+engine.sglang.{place}.args.log_level=info" for place in ("slm", "llm")]
        config, router = compose(["engine=sglang", *logged, *overrides])
        bench = Workbench(config, router)
        try:
            preflight(bench)
            rows = measure(bench, options.concurrency, options.repeats)
        finally:
            bench.close()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    written = RESULTS / f"sglang_{config.pair.name}_{config.engine.device}.json"
    load = os.getloadavg()[0]
    version = bench.fleet.version if bench.fleet else None
    about = manifest(config, []) | {"load_average": load, "repeats": options.repeats}
    about["versions"]["sglang"] = version
    del about["command"]  # paths of this machine
    saved = bench.saved_router
    about |= {"router": saved.config, "digest": saved.digest, "threshold": bench.threshold}
    write_json(written, about | {"rows": rows})
    Console().print(table(rows))
    print(f"load average at the end: {load:.1f}; written to {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
