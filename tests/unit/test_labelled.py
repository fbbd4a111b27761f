"""What a labelling says while it runs."""

import pytest

from r2r.labeling.finished import Facts
from r2r.labeling.respond import Query
from r2r.progress import Progress
from r2r.stages import labelled
from r2r.stages.labelled import Labelled


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(labelled, "say", lambda stage, text: lines.append(text))
    return lines


def finish(progress, data_id, left_out=None, tokens=10):
    progress.begin(data_id)
    progress.move(data_id, tokens)
    progress.finished(data_id, Query(f"q{data_id}", [], ""), Facts(tokens, left_out))


def test_answers_that_are_left_out_are_told_at_once_and_when_they_are_many(said):
    shown = Progress()
    shown.expect(40, width=4)
    progress = Labelled(shown, limit=2048)
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
    progress = Labelled(shown, limit=2048)
    progress.found([7] * 20, {"divergent": 5}, {"unfinished": 1, "no_think_end": 2})
    assert said.pop().startswith("warning: 3 of 20 answers so far")
    progress.finished(20, Query("q20", [], ""), Facts(9, None))  # kept in the journal
    finish(progress, 21, "unfinished", tokens=11)
    assert said == []
    facts = shown.facts()
    assert (facts.finished, facts.kept, facts.tokens, facts.made) == (22, 21, 160, 11)
    assert facts.note == "5 divergent, 4 left out"
