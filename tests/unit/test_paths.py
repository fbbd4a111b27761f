"""Labels along routed answers: the LLM's own token, and what it makes of it, at each place."""

import asyncio

import numpy as np
import pytest
from test_labeling import PLAN, column, labeler, queries, run, slips
from toy import END, ToyEngine, ids

from r2r.errors import ConfigError
from r2r.labeling.dataset import Labels
from r2r.labeling.paths import RoutedPaths
from r2r.labeling.respond import Query
from r2r.labeling.sentences import Sentences
from r2r.stages.compose import compose
from r2r.stages.paths import check_paths, check_router, decides_paths, routing
from r2r.stages.workbench import Workbench
from r2r.trace import Step, Trace

# The router keeps the SLM's other connective and misses its wrong number.
ROUTED = [*PLAN[:1], *ids("Then "), *PLAN[2:6], *ids("4"), *PLAN[7:]]


class Routed:
    def __init__(self, path=ROUTED, reason="eos"):
        self.path, self.reason, self.asked = path, reason, []

    async def answer(self, prompt, on_step):
        self.asked.append(prompt)
        steps = [Step(t, "llm" if t == own else "slm") for t, own in zip(self.path, PLAN)]  # noqa: B905
        for step in steps:
            on_step(step)
        return Trace(prompt.tokens, steps=steps, finish_reason=self.reason)


def label_routed(folder, share=1.0, generator=None, **options):
    made = labeler(**options)
    made.routed = RoutedPaths(generator or Routed(), share)
    manifest = run(made, queries(), folder)
    return made, manifest, Labels.open(folder)


def test_each_token_stands_against_what_the_llm_would_write_there(tmp_path):
    llm = ToyEngine(lambda prompt, answer: PLAN[len(answer)] if len(answer) < len(PLAN) else END)
    _, manifest, labels = label_routed(tmp_path, llm=llm)
    rows = len(PLAN)
    first = slice(0, rows)
    assert column(labels, "token_id")[first].tolist()[1:] == ROUTED[:-1]
    assert column(labels, "real_token")[first].tolist() == PLAN
    small = [slips(None, ROUTED[:t]) for t in range(rows)]
    assert column(labels, "small_token")[first].tolist() == small
    # Place 5: the LLM goes on from "=" and from " is " to the same 3, though the answer has a 4.
    assert np.flatnonzero(column(labels, "mismatch")[first]).tolist() == [1, 5, 6, 18]
    assert np.flatnonzero(column(labels, "divergent")[first] == 1).tolist() == [6]
    assert not llm.sessions and manifest["counts"]["divergent"] == 10
    wrong = manifest["report"]["examples"]["divergent"][0]
    assert "«3»" in wrong["llm"] and "«4»" in wrong["slm"]
    own = [r for r in llm.requests if r.answer and r.answer[-1] == PLAN[len(r.answer) - 1]]
    assert len(own) >= 10 * 2  # it went on from its own tokens too


def test_a_share_of_the_queries_is_routed_whatever_the_others(tmp_path):
    made, _, labels = label_routed(tmp_path, share=0.5)
    asked = {tuple(prompt.tokens) for prompt in made.routed.generator.asked}
    assert asked == {tuple(q.tokens) for q in queries() if made.routed.takes(q)}
    assert 0 < len(asked) < 10
    wrong = column(labels, "token_id") == ids("4")[0]
    routed = set(column(labels, "data_id")[wrong & (column(labels, "position") == 7)].tolist())
    assert routed == {n for n, q in enumerate(queries()) if made.routed.takes(q)}
    many = [Query("q", [n, n + 1], "?") for n in range(2000)]
    drawn = sum(RoutedPaths(None, 0.25).takes(query) for query in many)
    assert 400 < drawn < 600
    assert all(RoutedPaths(None, 1.0).takes(query) for query in many)


def test_an_answer_that_does_not_end_is_left_out(tmp_path):
    made = labeler()
    made.routed = RoutedPaths(Routed(ROUTED[:5], "length"), 1.0)
    found = asyncio.run(made.label((0, queries()[0])))
    assert found.facts.left_out == "unfinished" and not found.columns
    made.routed = RoutedPaths(Routed([t for t in ROUTED if t != PLAN[15]]), 1.0)
    assert asyncio.run(made.label((0, queries()[0]))).facts.left_out == "no_think_end"


def test_a_sentence_starts_where_the_llms_own_token_would_stand():
    words = ["a", "2", ".", "5", "b"]
    sentences = Sentences(
        decode=lambda t: "".join(words[i] for i in t), think_ids=[], eos_ids=[], limit=9
    )
    path = [0, 1, 2, 4]  # "a2.b"
    starts = sentences.starts(path)
    assert starts == [0, 0, 0, 3]
    assert sentences.start(path[:3], starts, 4) == 3
    assert sentences.start(path[:3], starts, 3) == 0  # "a2.5": a decimal goes on
    assert sentences.start([], starts, 3) == 0


def bench(*overrides):
    return Workbench(*compose([*overrides]))


@pytest.mark.parametrize(
    "wrong, said",
    [
        (
            ["labeler.paths.routed=1.5"],
            "labeler.paths.routed must be a share",
        ),
        (
            ["labeler.paths.routed=1", "labeler.paths.threshold=x"],
            "labeler.paths.threshold must be",
        ),
        (["labeler.paths.routed=1", "labeler.path=x"], "labeler.paths.routed must be 0 where"),
        (["labeler.paths.routed=1", "labeler=outcome"], "must be 0 with labeler=outcome"),
        (["labeler.paths.routed=1", "policy=lossy"], "labeler.paths.router must be the folder"),
    ],
)
def test_what_cannot_be_labelled_is_refused_at_the_start(wrong, said):
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        check_paths(bench(*wrong))


def test_a_router_that_is_not_there_yet_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"labeler\.paths\.router must be the folder of a router"):
        check_router(bench("labeler.paths.routed=1", f"outputs={tmp_path}"))
    with pytest.raises(ConfigError, match=r"labeler\.paths\.router: router\.path must be a folder"):
        check_router(bench("labeler.paths.routed=1", f"labeler.paths.router={tmp_path}"))


def test_labels_know_which_router_wrote_their_answers():
    none, routed = bench(), bench("labeler.paths.routed=0.5", "threshold=0.3", "policy=check")
    assert decides_paths(none) == ({}, ())
    told, parents = decides_paths(routed)
    by = routing(routed)
    assert by.router_folder == none.router_folder  # the run's own, made along the LLM's answers
    assert parents == (f"router/{none.router_folder.name}",)
    assert told["paths"]["router"] == none.router_folder.name
    assert told["paths"]["routed"] == 0.5 and by.config.threshold == "auto"
    assert routed.labels_folder != none.labels_folder
    assert routed.router_folder != none.router_folder
