"""What speed to expect: measured forwards, and what the throughput model makes of them.

Told before much is spent, with a warning where routing is slower than the LLM alone; kept, and set
beside what was measured then.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2r.policies.routed import Routed
from r2r.records import MANIFEST, read_json
from r2r.stages.screen import say
from r2r.throughput import Timed, Turns
from r2r.workload import Work

if TYPE_CHECKING:
    from r2r.config import Config
    from r2r.stages.workbench import Workbench

QUESTION = "A train leaves at 12 and another one at 30 past 4; how long after the first is that? "
TEXT = 32  # tokens, about, behind which forwards are timed, where no lengths are known
LONGEST = 512  # where they are: reading more takes slow models too long
READS = 8.0  # tokens that the LLM reads at a handoff, where nothing is known
LEAST_SHARE = 1e-3  # by the LLM: less is no different
Z = 1.96  # standard errors of 95 %

Curve = Mapping[str, Sequence[float]]  # columns: threshold, llm_share, recall


@dataclass(frozen=True, slots=True)
class Forecast:
    """Tokens per second of ``requests`` at once: of the LLM alone, and ``routed`` with the LLM
    writing ``share`` of the tokens; both None where no replay tells it. Prompts and the end, when
    few answers are left, are in them where lengths of answers are known. ``pays_below``: the share
    below which routing is faster than the LLM alone, as long as so many are under way."""

    requests: int
    llm: float
    routed: float | None
    share: float | None
    pays_below: float


@dataclass(frozen=True, slots=True)
class Operating:
    """A policy at a threshold, as an evaluation has found it: which, its accuracy with the
    standard error, how it takes turns, and on how many problems."""

    what: str
    accuracy: float
    stderr: float
    turns: Turns
    problems: int


def measure(bench: Workbench, generator: Routed, requests: int, work: Work | None = None) -> Timed:
    """Seconds of both engines' forwards with up to so many requests at once, behind texts as long
    as those of ``work`` are when it is under way. Servers on a CPU share its cores."""
    from r2r.engines.timing import timed

    share, question = share_expected(bench), bench.pair.encode(QUESTION)
    lengths = [min(LONGEST, length) for length in work.texts(requests)] if work else [TEXT]
    text = bench.pair.encode(QUESTION * math.ceil(max(lengths) / len(question)))
    return asyncio.run(
        timed(
            generator.slm,
            generator.llm,
            text,
            requests,
            lengths=[min(length, len(text)) for length in lengths],
            reads=1 / share if share else READS,
            scored=bench.policy.routes,
            together=bench.fleet is not None and bench.config.engine.device != "cpu",
        )
    )


def forecast(
    timed: Timed, share: float | None, requests: int, work: Work | None = None
) -> Forecast:
    """What a router is expected to bring, whose LLM writes ``share`` of the tokens; of endless
    answers where no ``work`` is given."""
    share = None if share is None else max(share, LEAST_SHARE)
    turns = None if share is None else Turns.routed(share)
    if work:
        llm = work.alone(timed, requests)
        routed = work.rate(timed, turns, requests) if turns else None
    else:
        llm = timed.alone(requests)
        routed = timed.rate(turns, requests) if turns else None
    return Forecast(requests, llm, routed, share, timed.pays_below(requests))


def share_expected(bench: Workbench) -> float | None:
    """The LLM's share of the tokens at the run's threshold, as replayed on labels; None where the
    policy is another than the paper's, or nothing was replayed."""
    found = _replayed(bench)
    return max(share_at(found["curve"], bench.threshold), LEAST_SHARE) if found else None


def _replayed(bench: Workbench) -> dict[str, Any] | None:
    from r2r.policies.r2r import R2R
    from r2r.stages.calibrate import calibration

    known = isinstance(bench.policy, R2R) and bench.asks_router and bench.needs_labels
    return calibration(bench) if known else None


def share_at(curve: Curve, threshold: float) -> float:
    """Of the next threshold above that was replayed, which routes the same labels or nearly."""
    shares = zip(curve["threshold"], curve["llm_share"], strict=True)
    return next((share for at, share in shares if at >= threshold), 0.0)


def operating_points(artifacts: Path, pair: str, benchmark: str) -> list[Operating]:
    """What evaluations of a pair's routed systems have found on the problems of a benchmark, those
    on which a target is chosen left out."""
    found = []
    for path in sorted(artifacts.glob(f"evaluation/*/{MANIFEST}")):
        about = read_json(path)
        made, turns = about.get("made") or {}, about.get("measured", {}).get("turns")
        if (made.get("pair"), made.get("what")) == (pair, f"routed on {benchmark}") and turns:
            metrics, at = about["metrics"], _what(made["decides"]["system"])
            accuracy, stderr = metrics["accuracy"], metrics["accuracy_stderr"]
            found.append(Operating(at, accuracy, stderr, Turns(**turns), metrics["n"]))
    return found


def _what(system: dict[str, Any]) -> str:
    """``Check, MLPRouter at 0.1`` of what decided a routed system."""
    policy = system["policy"]["_target_"].rpartition(".")[2]
    if "threshold" not in system:
        return policy
    router = system["router"][0]["_target_"].rpartition(".")[2]
    return f"{policy}, {router} at {system['threshold']:.4g}"


def fastest(
    timed: Timed, points: Iterable[Operating], requests: int
) -> tuple[Operating, float, int] | None:
    """The operating point of the highest expected tokens per second among those whose accuracy is
    not told from the best one's (by its standard error), and how many were compared; None of less
    than two. Only those of the most problems are: a quick look at six says nothing beside 540."""
    known = list(points)
    most = max((point.problems for point in known), default=0)
    known = [point for point in known if point.problems == most]
    if len(known) < 2:
        return None
    best = max(known, key=lambda point: point.accuracy)
    enough = best.accuracy - Z * best.stderr
    good = [(p, timed.rate(p.turns, requests)) for p in known if p.accuracy >= enough]
    chosen, rate = max(good, key=lambda found: found[1])
    return chosen, rate, len(known)


def tell(found: Forecast) -> None:
    """A line or two on the terminal."""
    told = [f"LLM alone {found.llm:,.0f}"]
    told += [] if found.routed is None else [f"routed {found.routed:,.0f}"]
    say("forecast", f"tokens/s, {found.requests} at once: {', '.join(told)}")
    share = "" if found.share is None else f"; {100 * found.share:.1f}% are expected"
    some = f"below an LLM share of {100 * found.pays_below:.0f}%"
    say("forecast", f"routing pays {some if found.pays_below >= 0.005 else 'nowhere'}{share}")


def helps(timed: Timed, found: Forecast, curve: Curve, device: str) -> Iterator[str]:
    """What would make routing pay on a kind of ``device``, in overrides; ``curve``: thresholds as
    replayed, if any."""
    columns = (curve.get(name, []) for name in ("threshold", "llm_share", "recall"))
    for at, share, recall in zip(*columns, strict=True):
        if share < found.pays_below:
            yield f"threshold={at:.4g} (LLM share {100 * share:.0f}%, recall {100 * recall:.0f}%)"
            break
    if found.share:
        yield from _otherwise(timed, Turns.routed(found.share), found, device)
    yield "systems=[llm]: no routing; or a pair whose LLM is larger"


def _otherwise(timed: Timed, turns: Turns, found: Forecast, device: str) -> Iterator[str]:
    """Other arrangements, and fewer requests at once, with which the same routing would pay."""
    if not timed.together and device != "cpu":
        apart = Timed(timed.slm, timed.llm, timed.reading, timed.reads, timed.prompt)
        rate = apart.rate(turns, found.requests)
        if rate > found.llm:
            yield f"a device for each model (engine=sglang_two_gpus): {rate:,.0f}"
    for many in (found.requests // 4, 1):
        if 0 < many < found.requests and timed.rate(turns, many) > timed.alone(many):
            yield f"{many} at once (engine.max_batch): faster than the LLM alone there"
            return


def warn(timed: Timed, found: Forecast, curve: Curve, device: str) -> None:
    """Where routing is expected to be slower than the LLM alone, say so, and what would help."""
    if found.routed is None or found.routed > found.llm:
        return
    say("warning", "routing is slower than the LLM alone here; what would help:")
    for line in helps(timed, found, curve, device):
        say("", line)


def tell_fastest(timed: Timed, config: Config, requests: int) -> None:
    """The best of what this pair's evaluations have tried, if there is a choice."""
    artifacts, benchmark = Path(config.outputs) / "artifacts", config.benchmark.name
    points = operating_points(artifacts, config.pair.name, benchmark)
    if quickest := fastest(timed, points, requests):
        point, rate, compared = quickest
        say("forecast", f"of {compared} operating points on {benchmark}, the fastest whose")
        say("", "accuracy is not told from the best one's:")
        on = f"accuracy {100 * point.accuracy:.1f}% on {point.problems:,} problems"
        say("", f"{point.what}: {rate:,.0f} tokens/s, {on}")


def foretell(
    bench: Workbench, generator: Routed, requests: int, work: Work | None = None
) -> tuple[Timed, Forecast]:
    """Measure both engines, and say what to expect of ``requests`` at once, or of as many as slow
    models could be measured with; of ``work``, where it is known."""
    timed, replayed = measure(bench, generator, requests, work), _replayed(bench)
    requests = min(requests, timed.most)
    found = forecast(timed, share_expected(bench), requests, work)
    tell(found)
    curve = replayed["curve"] if replayed else {}
    warn(timed, found, curve, bench.config.engine.device)
    tell_fastest(timed, bench.config, requests)
    return timed, found


def asked(bench: Workbench) -> list[list[int]]:
    """Tokens of each prompt that an evaluation asks, repeats included."""
    from r2r.evaluation.harness import asked as problems

    benchmark, of = bench.config.benchmark, Counter[str]()
    found = []
    for problem in problems(benchmark, "test"):
        of[problem.task] += 1
        if benchmark.limit is None or of[problem.task] <= benchmark.limit:
            found.append(bench.pair.encode(problem.question))
    return found * benchmark.repeats


def work(bench: Workbench, prompts: Sequence[Sequence[int]], parts: int) -> Work | None:
    """Answers to ``prompts``, as long as those that were labelled; None without labels."""
    from r2r.labeling.dataset import answer_lengths

    if not bench.needs_labels or not (bench.labels_folder / MANIFEST).exists():
        return None
    known = answer_lengths(bench.labels_folder)
    drawn = random.Random(0).choices(known, k=len(prompts))
    return Work(statistics.fmean(map(len, prompts)), drawn, parts)
