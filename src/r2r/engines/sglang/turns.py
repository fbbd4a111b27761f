"""Which of a model's servers a text goes to: where its beginning is cached, or in turn."""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence

BLOCK = 16  # tokens between the places of a text that are remembered
REMEMBERED = 1 << 18  # of them in all: four million tokens of text
SLACK = 8  # requests that a server may have more under way than the least busy one


class Turns:
    """Chooses among servers, known by their numbers.

    A text goes to the server that was last given at least half of it, so that a conversation and
    all handoffs of an answer stay where they are cached; unless that one is much busier, as it is
    where many texts share one long beginning. Any other text goes to the next in turn.
    """

    def __init__(self) -> None:
        self.homes: OrderedDict[int, int] = OrderedDict()  # of texts up to a place: the server
        self.under_way: Counter[int] = Counter()
        self.turn = itertools.count()

    def choose(self, text: Sequence[int], among: Sequence[int]) -> int:
        """One ``among`` the servers that can be asked, for a text as token ids."""
        marks = list(_marks(text))
        chosen = self._home(marks, len(text), among)
        if chosen is None:
            chosen = among[next(self.turn) % len(among)]
        for mark in marks:
            self.homes[mark] = chosen
            self.homes.move_to_end(mark)
        while len(self.homes) > REMEMBERED:
            self.homes.popitem(last=False)
        return chosen

    def _home(self, marks: Sequence[int], length: int, among: Sequence[int]) -> int | None:
        least = min(self.under_way[server] for server in among)
        for number in range(len(marks), 0, -1):
            if 2 * number * BLOCK < length:
                return None
            home = self.homes.get(marks[number - 1])
            if home is not None and home in among:
                return home if self.under_way[home] <= least + SLACK else None
        return None


def _marks(text: Sequence[int]) -> Iterator[int]:
    """A number for the text up to the end of each whole block."""
    mark = 0
    for end in range(BLOCK, len(text) + 1, BLOCK):
        mark = hash((mark, *text[end - BLOCK : end]))
        yield mark
