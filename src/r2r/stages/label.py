"""Label the tokens of the LLM's answers by path-following."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from r2r.config import Config, ModelConfig
from r2r.errors import must_be
from r2r.records import MANIFEST, read_json
from r2r.stages import fingerprints
from r2r.stages.artifacts import begun
from r2r.stages.outlook import tell_labels
from r2r.stages.screen import say
from r2r.stages.watch import watch
from r2r.stages.workbench import Workbench

if TYPE_CHECKING:
    from r2r.labeling.dataset import Labels
    from r2r.labeling.flow import Asked, Execute, Keep, Progress
    from r2r.labeling.labeler import PathFollowingLabeler
    from r2r.labeling.respond import Query
    from r2r.labeling.sentences import Sentences
    from r2r.labeling.verify import Verifier

KINDS = ("identical", "neutral", "divergent")


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
    if counts["unverified"]:
        say(
            "label", f"{counts['unverified']:,} differing tokens have no label: no readable verdict"
        )
    if not (folder / REPORT).exists():  # killed before it
        write_report(folder)
    say("label", f"counts, and examples to read: {folder / REPORT}")
    return reused


def open_labels(bench: Workbench) -> Labels:
    """The run's labels, for ``trainer.positive``.

    Raises ConfigError where they are not there, damaged, or of no use.
    """
    from r2r.labeling.dataset import Labels

    if not (bench.labels_folder / MANIFEST).exists():
        raise must_be("stages", "a list with label first (no such labels yet)", bench.config.stages)
    if not bench.config.labeler.labels:
        bench.use(fingerprints.labels(bench))
    return Labels.open(bench.labels_folder).counting(bench.config.trainer.positive)


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

        asked, execute = queries(bench), _execute(bench)
        shown.expect(len(asked), width=in_flight(bench))
        shown.doing = ""
        progress = Labelled(shown, config.max_new_tokens)
        asyncio.run(label_queries(asked, folder, execute, config, sentences(bench), progress))


def _execute(bench: Workbench) -> Execute:
    """Says what is left to be labelled, and has it done."""
    config = bench.config.labeler
    if config.executor == "serial":
        labeler = make_labeler(bench)
        execute, engines = labeler.each, (labeler.llm, labeler.slm)
    else:
        from r2r.labeling.on_ray import OnRay

        made = partial(_labeler_of_worker, bench.config, bench.router_name)
        execute, engines = OnRay(made, config.ray).each, ()

    async def foretold(asked: Sequence[Asked], keep: Keep, progress: Progress) -> None:
        if asked:
            read = [len(query.tokens) for _, query in asked]
            longest = [min(config.max_new_tokens, bench.pair.context_length - n) for n in read]
            await tell_labels(engines, read, longest, in_flight(bench))
        await execute(asked, keep, progress)

    return foretold


def _labeler_of_worker(config: Config, router_name: str) -> PathFollowingLabeler:
    """In a process of its own, whose end also ends the servers it has started."""
    return make_labeler(Workbench(config, router_name))


def make_labeler(bench: Workbench) -> PathFollowingLabeler:
    """The labeler of a job, its engines ready."""
    from r2r.labeling.labeler import PathFollowingLabeler

    labeler = PathFollowingLabeler(
        slm=bench.engine("slm"),
        llm=bench.engine("llm", idle=in_flight(bench)),
        verifier=verifier(bench),
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
    for key, asked in bench.queries:
        tokens = pair.encode(asked)
        made.append(Query(key, tokens, asked, thinks=pair.think_end(tokens) is not None))
    return made


def think(bench: Workbench) -> dict[str, int | None]:
    """The token ids of think_start and think_end, None where the pair has none."""
    names = ("think_start", "think_end")
    return {name: bench.pair.token_id(getattr(bench.config.pair, name)) for name in names}


def sentences(bench: Workbench) -> Sentences:
    from r2r.labeling.sentences import Sentences

    pair = bench.pair
    return Sentences(
        decode=lambda tokens: pair.tokenizer.decode(tokens, skip_special_tokens=False),
        think_ids=[token for token in think(bench).values() if token is not None],
        eos_ids=pair.eos_ids,
        limit=bench.config.labeler.max_sentence_tokens,
    )


def verifier(bench: Workbench) -> Verifier:
    from r2r.labeling.verify import EquivalenceVerifier

    labeler = bench.config.labeler
    if labeler.verifier == "equivalence":
        return EquivalenceVerifier(synonyms=labeler.synonyms, ignored=labeler.ignored)
    from r2r.labeling.judge import EngineJudge, HttpJudge, JudgeVerifier

    if labeler.judge.url or not labeler.judge.path:
        return JudgeVerifier(HttpJudge(labeler.judge))
    from r2r.pairs import load_tokenizer

    model = ModelConfig(path=labeler.judge.path)
    tokenizer = load_tokenizer(model, "labeler.judge")
    engine = bench.judge_engine(model, "labeler.judge", tokenizer)
    return JudgeVerifier(EngineJudge(engine, tokenizer))
