"""What a labelling tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Sequence

from r2r.config import LabelerConfig
from r2r.labeling.finished import Facts
from r2r.labeling.flow import Counts, Progress
from r2r.labeling.respond import LeftOut, Query
from r2r.progress import UNLIMITED
from r2r.progress import Progress as Shown
from r2r.stages.screen import explain, say

ENOUGH, MANY = 10, 0.1  # a warning where of so many answers at least such a share is left out
JUDGED, ONE_SIDED = 50, 0.9  # and where of so many mismatches such a share has one verdict
INSTEAD = {
    "equivalence": "its tables are made for other text: take labeler=judge or labeler=likelihood",
    "judge": "read a few in report.md; take another judge, or labeler=likelihood or outcome",
    "likelihood": "take another labeler.bound",
    "outcome": "raise labeler.per_query and the number of queries, or take labeler=likelihood",
}
WHY: dict[LeftOut, str] = {
    "unfinished": "has no end within {limit:,} tokens (labeler.max_new_tokens) and the context",
    "no_think_end": "never closes its thinking (pair.think_end)",
}


class Labelled(Progress):
    """Moves what is ``shown``, and says it at once when answers are left out: the first one, and
    when there are too many; and when nearly all mismatches, or nearly none, are divergent."""

    def __init__(self, shown: Shown, config: LabelerConfig):
        self.shown, self.config = shown, config
        self.done = self.divergent = self.neutral = self.left_out = 0
        self.warned: set[str] = set()

    def found(self, tokens: Sequence[int], counts: Counts, dropped: Counts) -> None:
        for each in tokens:
            self.shown.keep(each)
        self._count(len(tokens), counts, sum(dropped.values()))

    def begin(self, data_id: int) -> None:
        # An answer that waits to be read has no more tokens to come: without the limit it would
        # be thought to go on.
        only_answers = self.config.verifier == "likelihood"
        self.shown.begin(data_id, self.config.max_new_tokens if only_answers else UNLIMITED)

    def move(self, data_id: int, tokens: int) -> None:
        self.shown.move(data_id, tokens)

    def split(self, data_id: int, parts: Sequence[float]) -> None:
        self.shown.split(data_id, parts)

    def finished(self, data_id: int, query: Query, facts: Facts) -> None:
        if data_id in self.shown.under_way:
            self.shown.end(data_id)
        else:
            self.shown.keep(facts.tokens)
        if facts.left_out and not self.left_out:
            why = WHY[facts.left_out].format(limit=self.config.max_new_tokens)
            say("label", f"left out: the answer to query {query.id} {why}")
        self._count(1, facts.counts, int(facts.left_out is not None))

    def _count(self, done: int, counts: Counts, left_out: int) -> None:
        self.done += done
        self.divergent += counts["divergent"]
        self.neutral += counts["neutral"]
        self.left_out += left_out
        self.shown.note = f"{self.divergent:,} divergent"
        if self.left_out:
            self.shown.note += f", {self.left_out:,} left out"
        if self.done >= ENOUGH and self.left_out > MANY * self.done:
            told = f"{self.left_out:,} of {self.done:,} answers so far are left out"
            self._warn("left out", f"{told}; each takes its time and gives no label")
        judged = self.divergent + self.neutral
        for kind, count in (("divergent", self.divergent), ("neutral", self.neutral)):
            if judged >= JUDGED and count > ONE_SIDED * judged:
                told = f"{count:,} of the first {judged:,} differing tokens are {kind}"
                self._warn("one-sided", f"{told}; {INSTEAD[self.config.verifier]}")

    def _warn(self, what: str, text: str) -> None:
        """Say it, once."""
        if what not in self.warned:
            self.warned.add(what)
            explain("label", f"warning: {text}")
