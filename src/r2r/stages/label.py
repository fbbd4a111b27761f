"""Label the tokens of the LLM's answers by path-following."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2r.config import Config
from r2r.errors import must_be
from r2r.progress import Progress as Shown
from r2r.records import MANIFEST, read_json
from r2r.stages import fingerprints
from r2r.stages.artifacts import begun
from r2r.stages.check_rule import check_proof
from r2r.stages.earlier import labelled_like
from r2r.stages.outlook import tell_labels
from r2r.stages.paths import routed_paths
from r2r.stages.rules import judges_here, rule, sentences, tasks_asked, think
from r2r.stages.screen import say
from r2r.stages.watch import watch
from r2r.stages.workbench import Workbench

if TYPE_CHECKING:
    from r2r.labeling.controls import Proof
    from r2r.labeling.dataset import Labels
    from r2r.labeling.flow import Asked, Execute, Keep, Progress
    from r2r.labeling.labeler import QueryLabeler
    from r2r.labeling.respond import Query

KINDS = ("identical", "neutral", "divergent")
UNLABELLED = {
    "unverified": "no readable or no certain verdict",
    "unsampled": "not drawn (labeler.per_query of each answer are)",
}


def label(bench: Workbench) -> bool:
    """Label the queries; True where that was done already."""
    from r2r.labeling.report import REPORT, write_report

    def make(to: Path) -> None:
        if not bench.config.labeler.path:  # the shards of a killed run stay as they are
            first = begun(to)["runs"][0]["labeler"]
            bench.config.labeler.shard_queries = first["shard_queries"]
        _label(bench, to)
        write_report(to)

    folder = bench.labels_folder
    if bench.config.labeler.labels:
        say("label", f"nothing to do: labels {folder}")
        return True
    reused = bench.make("label", fingerprints.labels(bench), make)
    counts = read_json(folder / MANIFEST)["counts"]
    judged = sum(counts[kind] for kind in KINDS)
    shares = ", ".join(f"{100 * counts[k] / max(1, judged):.1f}% {k}" for k in KINDS)
    say("label", f"{judged:,} tokens: {shares}", reused)
    for kind, why in UNLABELLED.items():
        if counts.get(kind):  # labels of earlier versions do not count all of them
            say("label", f"{counts[kind]:,} differing tokens have no label: {why}")
    if not (folder / REPORT).exists():  # killed before it
        write_report(folder)
    say("label", f"counts, and examples to read: {folder / REPORT}")
    return reused


def open_labels(bench: Workbench, positive: str | None = None) -> Labels:
    """The run's labels, for ``positive``; ``trainer.positive`` where it is None.

    Raises ConfigError where they are not there, damaged, or of no use.
    """
    from r2r.labeling.dataset import Labels

    if not (bench.labels_folder / MANIFEST).exists():
        raise must_be("stages", "a list with label first (no such labels yet)", bench.config.stages)
    given = bool(bench.config.labeler.labels)
    if not given:
        bench.use(fingerprints.labels(bench))
    labels = Labels.open(bench.labels_folder, given=given)
    return labels.counting(positive or bench.config.trainer.positive)


def _label(bench: Workbench, folder: Path) -> None:
    config = bench.config.labeler
    if config.path:
        from r2r.labeling.published import read_published

        width = bench.slm_shape()["hidden_size"]
        read_published(config, folder, sentences(bench), hidden_size=width)
        return
    with watch("label", bench.config.stages, folder=folder) as shown:
        from r2r.labeling.flow import label_queries
        from r2r.stages.labelled import Labelled

        asked, (execute, prove) = queries(bench), _executor(bench, shown)
        shown.doing = "the rule is tried on control pairs"
        proof = asyncio.run(prove())
        check_proof(proof, config)
        like, serial = labelled_like(fingerprints.labels(bench))
        shown.expect(len(asked), width=in_flight(bench), like=like, serial=serial)
        shown.doing = ""
        progress = Labelled(shown, config)
        work = label_queries(asked, folder, execute, config, sentences(bench), progress, proof)
        asyncio.run(work)


def _executor(
    bench: Workbench, shown: Shown
) -> tuple[Execute, Callable[[], Coroutine[Any, Any, Proof | None]]]:
    """What says how much is left to be labelled, and labels it; and what has the rule judge the
    control pairs before. ``shown`` learns how fast the models are."""
    config = bench.config.labeler
    if config.executor == "serial":
        labeler = make_labeler(bench)
        execute, engines, prove = labeler.each, (labeler.llm, labeler.slm), labeler.rule.prove
    else:
        from r2r.labeling.on_ray import OnRay

        described = bench.config, bench.router_name
        on_ray = OnRay(partial(_labeler_of_worker, *described), config.ray)
        execute, engines = on_ray.each, ()
        in_worker = partial(on_ray.prove, partial(_proof_of_worker, *described))
        prove = in_worker if judges_here(config) else rule(bench).prove

    async def foretold(asked: Sequence[Asked], keep: Keep, progress: Progress) -> None:
        if asked:
            read = [len(query.tokens) for _, query in asked]
            longest = [min(config.max_new_tokens, bench.pair.context_length - n) for n in read]
            await tell_labels(engines, shown, read, longest, in_flight(bench))
        await execute(asked, keep, progress)

    return foretold, prove


def _proof_of_worker(config: Config, router_name: str) -> Proof | None:
    """In a process of its own, which loads what the rule needs, and nothing else."""
    bench = Workbench(config, router_name)
    made = rule(bench)
    bench.ready()
    return asyncio.run(made.prove())


def _labeler_of_worker(config: Config, router_name: str) -> QueryLabeler:
    """In a process of its own, whose end also ends the servers it has started."""
    return make_labeler(Workbench(config, router_name))


def make_labeler(bench: Workbench) -> QueryLabeler:
    """The labeler of a job, its engines ready."""
    from r2r.labeling.labeler import QueryLabeler

    llm = bench.engine("llm", idle=in_flight(bench))
    routed = routed_paths(bench, llm)
    labeler = QueryLabeler(
        slm=routed.generator.slm if routed else bench.engine("slm"),
        llm=llm,
        routed=routed,
        rule=rule(bench),
        sentences=sentences(bench),
        config=bench.config.labeler,
        context=bench.pair.context_length,
        max_batch=bench.config.engine.max_batch,
        in_flight=in_flight(bench),
        **think(bench),
    )
    bench.ready()
    return labeler


def in_flight(bench: Workbench) -> int:
    """How many queries are under way at once in a process."""
    return bench.config.labeler.in_flight or bench.config.engine.max_batch


def queries(bench: Workbench) -> list[Query]:
    """What is labelled, as prompts."""
    from r2r.labeling.respond import Query

    pair, made = bench.pair, []
    for (key, asked), task in zip(bench.queries, tasks_asked(bench), strict=True):
        tokens = pair.encode(asked)
        thinks = pair.think_end(tokens) is not None
        made.append(Query(key, tokens, asked, thinks=thinks, task=task))
    return made
