"""What a stage is about to make, and about how long that takes here: said before it begins."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from r2r.engines.base import Engine
from r2r.engines.timing import Timer
from r2r.eta import Ahead, Pace
from r2r.policies.base import Generator, Prompt
from r2r.progress import Progress
from r2r.stages.screen import explain
from r2r.stages.watch import span

STEPS = 2  # that are timed, of one request alone and of as many as there will be


async def tell_answers(
    system: str, generator: Generator, progress: Progress, prompts: Sequence[Prompt]
) -> None:
    """Say what ``generator`` is about to write for ``prompts``, before it does: at most, or about,
    where ``progress`` knows how long such answers got. It learns what was measured for that."""
    longest = [max(1, generator.budget(prompt)) for prompt in prompts]
    usual = progress.like.mean() if len(progress.like) else None
    likely = [min(most, usual or most) for most in longest]
    read = [len(prompt.tokens) for prompt in prompts]
    width = min(generator.concurrency, len(prompts))
    engines = [getattr(generator, name, None) for name in ("engine", "slm", "llm")]
    paces = [await timed(engine, width) for engine in engines if _in_process(engine)]
    pace = Pace(sum(pace.step for pace in paces), sum(pace.item for pace in paces))
    if paces:
        progress.timed, progress.first_s = pace, pace.item * sum(read[:width])
    seconds = pace.seconds(whole_work(likely, sum(read), width))
    explain("evaluate", f"{system}: {_told(read, longest, usual)}, {_span(seconds, usual)}")


async def tell_labels(
    engines: Sequence[Engine],
    progress: Progress,
    read: Sequence[int],
    longest: Sequence[int],
    width: int,
) -> None:
    """Say what is about to be labelled: queries of ``read`` tokens each, and answers of at most
    ``longest``, ``width`` at once; or how much was written for such queries before, where
    ``progress`` knows it. ``engines``: LLM and SLM, where they are this process's; then
    it learns what was measured.
    """
    width = min(width, len(read))
    usual = progress.like.mean() if len(progress.like) else None
    likely = longest if usual is None else [usual] * len(read)
    seconds = 0.0
    if all(map(_in_process, engines)) and engines:
        paces = [await timed(engine, width) for engine in engines]
        progress.timed, progress.first_s = paces[0], paces[0].item * sum(read[:width])
        progress.read_s = sum(pace.item for pace in paces)
        whole = whole_work(likely, sum(read), width)
        side_by_side = (1 - progress.serial) * (1 - 1 / width)
        whole = replace(whole, steps=whole.steps * (1 - side_by_side))
        seconds = paces[0].seconds(whole)
        seconds += progress.read_s * (sum(read) + progress.serial * sum(likely))
    if usual is None:
        told, more = _told(read, longest), "continuations and verdicts come on top"
    else:
        told = f"{_asked(read)}, {usual:,.0f} written for each before: {_about(sum(likely))}"
        more = "verdicts come on top"
    explain("label", f"{told}, {_span(seconds, usual)}; {more}")


def whole_work(longest: Sequence[float], read: int, width: int) -> Ahead:
    """Answers of ``longest`` tokens each, ``width`` at once, after prompts of ``read`` together."""
    steps = math.ceil(len(longest) / width) * statistics.fmean(longest)
    return Ahead(tokens=read + sum(longest), steps=steps)


async def timed(engine: Engine, width: int) -> Pace:
    """What a step of an idle engine takes, from a few steps of one request, and of ``width``."""
    timer = Timer(engine, [1], None, time.perf_counter)
    alone = await timer.step(1, STEPS)
    if width == 1:
        return Pace(alone, 0.0)
    each = max(0.0, (await timer.step(width, STEPS) - alone) / (width - 1))
    return Pace(max(0.0, alone - each), each)


def _in_process(engine: Any) -> TypeGuard[Engine]:
    """Servers are shared, and tell their speed by the first answers."""
    from r2r.engines.torch.engine import TorchEngine

    return isinstance(engine, TorchEngine)


def _told(read: Sequence[int], longest: Sequence[int], usual: float | None = None) -> str:
    most = f"{_asked(read)}, answers of at most {max(longest):,}"
    if usual is None:
        return f"{most}: {sum(longest):,} tokens at most"
    return f"{most}, earlier ones of {usual:,.0f}: {_about(sum(min(m, usual) for m in longest))}"


def _asked(read: Sequence[int]) -> str:
    return f"{len(read):,} prompts of {statistics.fmean(read):,.0f} tokens"


def _about(tokens: float) -> str:
    return f"about {tokens:,.0f} tokens"


def _span(seconds: float, usual: float | None = None) -> str:
    if not seconds:
        return "time by the first that is finished"
    return f"{'up to' if usual is None else 'about'} {span(seconds)} here"
