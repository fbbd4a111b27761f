"""The labelling rules by name (``labeler.verifier``), and what each is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from r2r.config import LabelerConfig, ModelConfig
from r2r.stages.workbench import Workbench

if TYPE_CHECKING:
    from r2r.evaluation.finals import Final
    from r2r.labeling.respond import Query
    from r2r.labeling.rules import Rule
    from r2r.labeling.sentences import Sentences
    from r2r.labeling.verify import Verifier


def rule(bench: Workbench) -> Rule:
    """The run's rule, what it needs loaded."""
    return RULES[bench.config.labeler.verifier](bench)


def _path_following(bench: Workbench) -> Rule:
    from r2r.labeling.rules import PathFollowing

    return PathFollowing(verifier(bench), sentences(bench))


def _likelihood(bench: Workbench) -> Rule:
    from r2r.labeling.likelihood import Likelihood

    bound = bench.config.labeler.bound
    assert bound is not None
    return Likelihood(bound=bound)


def _outcome(bench: Workbench) -> Rule:
    from r2r.evaluation.finals import finals
    from r2r.labeling.outcome import Outcome

    config = bench.config.labeler
    assert config.bound is not None and config.per_query is not None
    assert config.samples is not None and config.seed is not None
    return Outcome(
        finals=TaskFinals(finals(bench.config.benchmark), bench.config.pair.think_end),
        sentences=sentences(bench),
        bound=config.bound,
        per_query=config.per_query,
        samples=config.samples,
        seed=config.seed,
        max_new_tokens=config.max_new_tokens,
    )


RULES: dict[str, Callable[[Workbench], Rule]] = {
    "equivalence": _path_following,
    "judge": _path_following,
    "likelihood": _likelihood,
    "outcome": _outcome,
}


class TaskFinals:
    """The final answers of the benchmark's tasks. ``think_end``: what closes a reasoning."""

    def __init__(self, tasks: Mapping[str, Final], think_end: str | None):
        self.tasks, self.think_end = tasks, think_end

    def read(self, query: Query, text: str) -> str | None:
        from r2r.evaluation.graders import answer_text

        graded = answer_text(text, self.think_end if query.thinks else None)
        return self.tasks[query.task].read(graded)

    def same(self, query: Query, one: str, other: str) -> bool:
        return self.tasks[query.task].same(one, other)


def tasks_asked(bench: Workbench) -> list[str]:
    """The task of each of ``bench.queries``, for a rule that grades; else nobody asks."""
    if bench.config.labeler.verifier != "outcome":
        return [""] * len(bench.queries)
    from r2r.evaluation.harness import asked

    every = asked(bench.config.benchmark, "train")
    return [each.task for each in every[: len(bench.queries)]]


# What rules, and the oracle, are made of.


def sentences(bench: Workbench) -> Sentences:
    from r2r.labeling.sentences import Sentences

    pair = bench.pair
    return Sentences(
        decode=lambda tokens: pair.tokenizer.decode(tokens, skip_special_tokens=False),
        think_ids=[token for token in think(bench).values() if token is not None],
        eos_ids=pair.eos_ids,
        limit=bench.config.labeler.max_sentence_tokens,
    )


def think(bench: Workbench) -> dict[str, int | None]:
    """The token ids of think_start and think_end, None where the pair has none."""
    names = ("think_start", "think_end")
    return {name: bench.pair.token_id(getattr(bench.config.pair, name)) for name in names}


def verifier(bench: Workbench) -> Verifier:
    """What compares two sentences, in a rule that does."""
    labeler = bench.config.labeler
    if labeler.verifier == "equivalence":
        from r2r.labeling.verify import EquivalenceVerifier

        return EquivalenceVerifier(synonyms=labeler.synonyms, ignored=labeler.ignored)
    from r2r.labeling.judge import EngineJudge, HttpJudge, JudgeVerifier

    if not judges_here(labeler):
        return JudgeVerifier(HttpJudge(labeler.judge))
    from r2r.pairs import load_tokenizer

    model = ModelConfig(path=str(labeler.judge.path))
    tokenizer = load_tokenizer(model, "labeler.judge")
    queries = labeler.in_flight or bench.config.engine.max_batch  # each has a session of its own
    engine = bench.judge_engine(model, "labeler.judge", tokenizer, idle=queries)
    return JudgeVerifier(EngineJudge(engine, tokenizer))


def judges_here(labeler: LabelerConfig) -> bool:
    """Whether the rule loads a judge."""
    judge = labeler.judge
    return labeler.verifier == "judge" and bool(judge.path) and not judge.url
