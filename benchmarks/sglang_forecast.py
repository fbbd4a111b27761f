"""Forecast beside measured tokens/s of routing on SGLang, whose servers this starts.

    python benchmarks/sglang_forecast.py [key=value ...] [--batches 1 8 32] [--shares 5 10 30]

As ``forecast.py``, with the run's router and policy (the keys are those of run.py; labels and
router must be there: ``python run.py router=mlp stages=[label,train,calibrate]`` before), by wall
time: servers are other processes. Shares are thresholds that the calibration tells of.
"""

from __future__ import annotations

import sys
from functools import partial

from forecast import beside, show
from harness import interleaved, middle, options, parsed, spread

from r2r.engines.base import Sampling
from r2r.errors import ConfigError
from r2r.policies.base import Prompt
from r2r.policies.routed import Routed
from r2r.stages.calibrate import calibration
from r2r.stages.compose import compose
from r2r.stages.forecast import asked, measure
from r2r.stages.preflight import preflight
from r2r.stages.systems import make_generator
from r2r.stages.workbench import Workbench
from r2r.workload import Work


def once(
    bench: Workbench, generator: Routed, batch: int, prompts: list[Prompt]
) -> dict[str, float]:
    generator.concurrency = batch
    read = sum(len(prompt.tokens) for prompt in prompts) / len(prompts)
    tokens = [prompt.sampling.max_new_tokens for prompt in prompts]
    return beside(generator, measure(bench, generator, batch, Work(read, tokens)), prompts)


def main() -> int:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--shares", type=float, nargs="+", default=[5, 10, 30])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--waves", type=int, default=2)
    parser.add_argument("--warmups", type=int, default=1)
    parser.add_argument("overrides", nargs="*", default=["router=mlp"])
    given = parsed(parser)
    config, router = compose(["engine=sglang", *given.overrides])
    bench = Workbench(config, router)
    assert bench.fleet is not None
    rows = []
    try:
        preflight(bench)
        found = calibration(bench)
        if found is None:
            parser.error("the router must be trained and calibrated before, got none")
        curve, texts = found["curve"], asked(bench)

        def prompts(batch: int) -> list[Prompt]:
            count = batch * (given.waves if batch > 1 else 1)
            sampling = Sampling(given.tokens)
            return [Prompt(text, sampling, ignore_eos=True) for text in texts[:count]]

        for share in given.shares:
            both = zip(curve["threshold"], curve["llm_share"], strict=True)
            bench.config.threshold = next(at for at, some in both if some <= share / 100)
            generator, _ = make_generator(bench, "routed")
            assert isinstance(generator, Routed)
            ways = {n: partial(once, bench, generator, n, prompts(n)) for n in given.batches}
            named = {f"{share:g}, {batch}": way for batch, way in ways.items()}
            timed = interleaved(named, given.repeats, given.warmups)
            for batch, runs in zip(given.batches, timed.values(), strict=True):
                rates = [run["tokens_per_s"] for run in runs]
                rows.append({"batch": batch, "policy": config.policy["name"]} | middle(runs)
                            | {"spread": spread(rates)})  # fmt: skip
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        bench.close()
    about = {"tokens": given.tokens, "waves": given.waves, "sglang": bench.fleet.version}
    show(given, "sglang", sorted(rows, key=lambda row: row["batch"]), about, most=25.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
