"""What a labelling tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Sequence

from r2r.labeling.finished import Facts
from r2r.labeling.flow import Counts, Progress
from r2r.labeling.respond import LeftOut, Query
from r2r.progress import Progress as Shown
from r2r.stages.screen import say

ENOUGH, MANY = 10, 0.1  # a warning where of so many answers at least such a share is left out
WHY: dict[LeftOut, str] = {
    "unfinished": "has no end within {limit:,} tokens (labeler.max_new_tokens) and the context",
    "no_think_end": "never closes its thinking (pair.think_end)",
}


class Labelled(Progress):
    """Moves what is ``shown``, and says it at once when answers are left out: the first one, and
    when there are too many. ``limit``: tokens of an answer."""

    def __init__(self, shown: Shown, limit: int):
        self.shown, self.limit = shown, limit
        self.done = self.divergent = self.left_out = 0
        self.warned = False

    def found(self, tokens: Sequence[int], counts: Counts, dropped: Counts) -> None:
        for each in tokens:
            self.shown.keep(each)
        self._count(len(tokens), counts["divergent"], sum(dropped.values()))

    def begin(self, data_id: int) -> None:
        self.shown.begin(data_id)

    def move(self, data_id: int, tokens: int) -> None:
        self.shown.move(data_id, tokens)

    def finished(self, data_id: int, query: Query, facts: Facts) -> None:
        if data_id in self.shown.under_way:
            self.shown.end(data_id)
        else:
            self.shown.keep(facts.tokens)
        if facts.left_out and not self.left_out:
            why = WHY[facts.left_out].format(limit=self.limit)
            say("label", f"left out: the answer to query {query.id} {why}")
        self._count(1, facts.counts["divergent"], int(facts.left_out is not None))

    def _count(self, done: int, divergent: int, left_out: int) -> None:
        self.done, self.divergent = self.done + done, self.divergent + divergent
        self.left_out += left_out
        self.shown.note = f"{self.divergent:,} divergent"
        if self.left_out:
            self.shown.note += f", {self.left_out:,} left out"
        if not self.warned and self.done >= ENOUGH and self.left_out > MANY * self.done:
            self.warned = True
            told = f"{self.left_out:,} of {self.done:,} answers so far are left out"
            say("label", f"warning: {told}; each takes its time and gives no label")
