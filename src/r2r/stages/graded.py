"""A system's graded answers, an artifact: made through lm-eval, kept as they come, read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2r.chat import render
from r2r.costs import Params, summary, trace_stats
from r2r.evaluation.figures import cut_short
from r2r.journal import Journal, forget
from r2r.policies.base import Generator
from r2r.policies.routed import Routed
from r2r.policies.saved import HalfWay, Saved
from r2r.records import MANIFEST, read_json, write_json
from r2r.reporting.tables import cut_warning
from r2r.stages import fingerprints
from r2r.stages.earlier import answers_like, spread
from r2r.stages.outlook import tell_answers
from r2r.stages.parts import PARTS
from r2r.stages.samples import read_samples, write_samples
from r2r.stages.screen import say
from r2r.stages.watch import watch
from r2r.stages.workbench import Workbench
from r2r.throughput import Taken
from r2r.trace import Trace

if TYPE_CHECKING:
    from r2r.evaluation.adapter import R2RLM

ANSWERS = "answers.sqlite"  # the journal that samples.jsonl is made from
REPLIES = "replies.sqlite"  # and that of a judge's replies

Make = Callable[[Workbench, str, Path], None]  # a system's answers, into a folder


def evaluation_folder(bench: Workbench, system: str, split: str = "test") -> Path:
    return fingerprints.evaluation(bench, system, split).folder


def graded(bench: Workbench, system: str, split: str = "test", make: Make | None = None) -> Path:
    """The folder of a system's graded answers, made where it is not there yet; by ``make``, or by
    generating them."""
    key = fingerprints.evaluation(bench, system, split)
    folder = key.folder
    force = bench.config.force and folder not in bench.evaluated
    made = make or partial(_score, split=split)
    reused = bench.make("evaluate", key, lambda to: made(bench, system, to), force=force)
    for journal in (ANSWERS, REPLIES):  # samples.jsonl holds what came of them
        forget(folder / journal)
    if folder not in bench.evaluated:
        bench.evaluated.add(folder)
        metrics = read_json(folder / MANIFEST)["metrics"]
        accuracy, share = 100 * metrics["accuracy"], 100 * metrics["llm_share"]
        on = "" if split == "test" else f" on {split.replace('_', '-')}"
        say("evaluate", f"{system}{on}: accuracy {accuracy:.1f}%, LLM share {share:.1f}%", reused)
        if warning := cut_warning(system, cut_short(read_samples(folder))):
            say("evaluate", warning)
    return folder


def begin(bench: Workbench, system: str) -> None:
    """Write the first half of a system's answers; ``graded`` then writes the rest."""
    key = fingerprints.evaluation(bench, system, "test")
    make = partial(_score, bench, system, split="test", half=True)
    bench.make("evaluate", key, make, force=False)


def language_model(bench: Workbench, generator: Generator, params: Params) -> R2RLM:
    """lm-eval's model over a generator, as the config has it."""
    from r2r.evaluation.adapter import R2RLM

    config = bench.config
    return R2RLM(
        generator,
        bench.pair.encode,
        render=partial(render, bench.pair.tokenizer, options=config.pair.chat_template),
        think_end=bench.pair.think_end,
        max_new_tokens=config.benchmark.max_new_tokens,
        temperature=config.benchmark.temperature,
        top_p=config.benchmark.top_p,
        seed=config.seed,
        stats=lambda trace: trace_stats(trace, params),
    )


def _score(bench: Workbench, system: str, folder: Path, *, split: str, half: bool = False) -> None:
    _clear_old(folder)
    shown = f"{system}, first half" if half else system
    stages, device = bench.config.stages, bench.config.engine.device
    with (
        watch("evaluate", stages, shown, folder=folder, device=device) as progress,
        Journal(folder / ANSWERS) as journal,
        Journal(folder / REPLIES) as replies,
    ):
        from r2r.evaluation.harness import evaluate
        from r2r.stages.systems import make_generator, measured

        inner, params = make_generator(bench, system)
        if isinstance(inner, Routed) and inner.pace and journal.keys():
            say("evaluate", "what a killed run has answered is answered anew (hold_share)")
            journal.drop(journal.keys())
        before = partial(tell_answers, shown, inner, progress)
        generator = Saved(
            inner=inner, journal=journal, progress=progress, before=before, half=half,
            like=answers_like(fingerprints.evaluation(bench, system, split)),
        )  # fmt: skip
        lm = language_model(bench, generator, params)
        only = bench.held_out.get(split) if split in PARTS else None
        benchmark = fingerprints.benchmark_of(bench, split)
        asked = "test" if split == "test" else "train"
        try:
            scored = evaluate(lm, benchmark, asked, progress, only=only, replies=replies)
        except HalfWay:
            return
        if generator.cleared:
            told = f"{generator.cleared} kept answers of {system} belonged to other prompts"
            say("evaluate", f"{told}: made again")
        samples = zip(scored.pop("samples"), generator.kept(), strict=True)
        write_samples(folder, (_row(system, sample, trace) for sample, trace in samples))
        taken = Taken()
        metrics = scored | summary(taken.passing(generator.kept()), params, journal.seconds())
        metrics |= {"params_b": asdict(params)}
        about = {"system": system, "metrics": metrics, "measured": measured(inner)}
        about["lengths"] = spread(journal.lengths())
        if isinstance(inner, Routed):
            about["measured"] |= taken.to_json(journal.seconds())
            about["forecast"] = bench.forecast
        write_json(folder / MANIFEST, about)


def _clear_old(folder: Path) -> None:
    """Take away what a version without the journal has left half-made."""
    old = list(folder.glob("answers-*.json"))
    if old:
        say("evaluate", f"answers of another version in {folder} are not read: made again")
    for path in old:
        path.unlink()


def _row(system: str, sample: dict[str, Any], trace: Trace) -> dict[str, Any]:
    assert sample["answer"] == trace.text, "lm-eval returned answers in another order"
    return {"system": system, **sample, "trace": trace.to_json()}
