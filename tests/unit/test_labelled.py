"""What a labelling says while it runs."""

import pytest

from r2r.config import LabelerConfig
from r2r.labeling.finished import COUNTED, Facts
from r2r.labeling.respond import Query
from r2r.progress import Progress
from r2r.stages import labelled
from r2r.stages.labelled import Labelled


@pytest.fixture
def said(monkeypatch):
    lines = []
    for name in ("say", "explain"):
        monkeypatch.setattr(labelled, name, lambda stage, text: lines.append(text))
    return lines


def finish(progress, data_id, left_out=None, tokens=10, **counts):
    progress.begin(data_id)
    progress.move(data_id, tokens)
    counted = dict.fromkeys(COUNTED, 0) | counts
    progress.finished(data_id, Query(f"q{data_id}", [], ""), Facts(tokens, left_out, counted))


def telling(shown, verifier="judge"):
    return Labelled(shown, LabelerConfig(verifier=verifier, max_new_tokens=2048))


def test_answers_that_are_left_out_are_told_at_once_and_when_they_are_many(said):
    shown = Progress()
    shown.expect(40, width=4)
    progress = telling(shown)
    for data_id in range(3):
        finish(progress, data_id)
    assert said == [] and shown.note == "0 divergent"
    finish(progress, 3, "unfinished")
    assert said.pop().startswith("left out: the answer to query q3 has no end within 2,048 tokens")
    finish(progress, 4, "no_think_end")
    assert said == [] and shown.note == "0 divergent, 2 left out"  # counted: nothing is said twice
    for data_id in range(5, 9):
        finish(progress, data_id)
    assert said == []  # of few answers a share says little
    finish(progress, 9)
    assert said.pop().startswith("warning: 2 of 10 answers so far are left out")
    finish(progress, 10, "unfinished")
    assert said == []


def test_what_earlier_runs_did_counts_and_is_in_no_rate(said):
    shown = Progress()
    shown.expect(40, width=4)
    progress = telling(shown)
    progress.found([7] * 20, {"divergent": 5, "neutral": 9}, {"unfinished": 1, "no_think_end": 2})
    assert said.pop().startswith("warning: 3 of 20 answers so far")
    progress.finished(20, Query("q20", [], ""), Facts(9, None))  # kept in the journal
    finish(progress, 21, "unfinished", tokens=11)
    assert said == []
    facts = shown.facts()
    assert (facts.finished, facts.kept, facts.tokens, facts.made) == (22, 21, 160, 11)
    assert facts.note == "5 divergent, 4 left out"


@pytest.mark.parametrize(
    ("verifier", "one", "counts", "told"),
    [
        ("equivalence", "divergent", (10, 0), "50 of the first 50 differing tokens are divergent"),
        ("judge", "neutral", (0, 10), "50 of the first 50 differing tokens are neutral"),
        ("likelihood", "neutral", (0, 10), "take another labeler.bound"),
        ("outcome", "neutral", (0, 10), "raise labeler.per_query"),
    ],
)
def test_a_rule_that_always_says_the_same_is_told_of_while_it_labels(
    verifier, one, counts, told, said
):
    progress = telling(Progress(), verifier)
    progress.shown.expect(40, width=4)
    kinds = dict(zip(("divergent", "neutral"), counts, strict=True))
    progress.found([7] * 5, {kind: 2 * count for kind, count in kinds.items()}, {})
    for data_id in (5, 6):
        finish(progress, data_id, **kinds)
    assert said == []  # of so few
    finish(progress, 7, **kinds)
    assert len(said) == 1 and told in said[0] and f"are {one}" in said[0]
    finish(progress, 9, **kinds)
    assert len(said) == 1


def test_verdicts_of_both_kinds_are_nothing_to_tell(said):
    progress = telling(Progress())
    progress.shown.expect(40, width=4)
    for data_id in range(30):
        finish(progress, data_id, divergent=1, neutral=9)
    assert said == []


def test_an_answer_that_waits_to_be_read_is_not_thought_to_go_on(said):
    left = {}
    for verifier in ("judge", "likelihood"):
        shown = Progress()
        shown.expect(10, width=10)
        progress = telling(shown, verifier)
        finish(progress, 0, tokens=100)
        for data_id in range(1, 10):
            progress.begin(data_id)
            progress.move(data_id, 2048)
        facts = shown.facts()
        left[verifier] = (facts.expected or 0) - facts.tokens
    assert left["likelihood"] == 0 < left["judge"]
