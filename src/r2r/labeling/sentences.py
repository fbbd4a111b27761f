"""Where a sentence ends: how far a continuation is followed before it is judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from r2r.engines.base import StopCheck

SENTENCES_VERSION = 1  # where a sentence ends
ENDINGS = frozenset(".!?\n。！？")
LONGEST_ENDING = 4  # characters; a longer token that ends in a full stop may be code or a number
OPENING, CLOSING = "([{（［｛【「『“《", ")]}）］｝】」』”》"


class Sentences:
    """Sentence boundaries in token ids (the paper's section 4.1, sentence-level path following).

    A sentence ends after a think token, and after a token of at most four characters that ends
    in sentence punctuation while no bracket or quote is open; a full stop between two digits is a
    decimal's, and ends none. ``decode``: token ids to text, think tokens included. ``eos_ids`` are
    left out of every text. ``limit``: tokens after which a sentence is cut even where it does not
    end.
    """

    def __init__(
        self,
        *,
        decode: Callable[[list[int]], str],
        think_ids: Collection[int],
        eos_ids: Collection[int],
        limit: int,
    ):
        self.decode, self.limit = decode, limit
        self.think_ids, self.eos_ids = frozenset(think_ids), frozenset(eos_ids)
        self._is_ending: dict[int, bool] = {}

    def text(self, tokens: Sequence[int]) -> str:
        return self.decode([token for token in tokens if token not in self.eos_ids])

    def ends(self, sentence: Sequence[int], following: int | None) -> bool:
        """Whether the last token of ``sentence`` ends it, where the token ``following`` comes next
        (None: the text ends here)."""
        last = sentence[-1]
        if last in self.think_ids or last in self.eos_ids:
            return True
        if last not in self._is_ending:
            text = self.text([last])
            self._is_ending[last] = len(text) <= LONGEST_ENDING and text[-1:] in ENDINGS
        if not self._is_ending[last]:
            return False
        text = self.text(sentence)
        if _is_open(text):
            return False
        if following is None or not _stops_at_digit(text):
            return True
        return not self.text([following])[:1].isdigit()

    def complete(self, sentence: Sequence[int], following: int | None) -> bool:
        """Whether ``following`` starts another sentence: this one ended, or is cut."""
        return len(sentence) >= self.limit or self.ends(sentence, following)

    def starts(self, tokens: Sequence[int]) -> list[int]:
        """For each token, the index at which the sentence that holds it starts."""
        starts: list[int] = []
        start = 0
        for index, token in enumerate(tokens):
            if index > start and self.complete(tokens[start:index], token):
                start = index
            starts.append(start)
        return starts

    def start(self, before: Sequence[int], starts: Sequence[int], token: int) -> int:
        """Where the sentence starts that holds ``token``, were it to come behind ``before``, whose
        own ``starts`` are known."""
        last = starts[len(before) - 1] if before else 0
        ended = bool(before) and self.complete(before[last:], token)
        return len(before) if ended else last

    def end(self, tokens: Sequence[int], start: int, position: int) -> int:
        """The index after the sentence that starts at ``start`` and holds ``position``."""
        last = min(position + self.limit, len(tokens))
        for end in range(position + 1, last):
            if self.ends(tokens[start:end], tokens[end]):
                return end
        return last

    def check(self, start: int, position: int) -> StopCheck:
        """Stops a generation where it is known that the sentence that starts at ``start`` of the
        answer and holds ``position`` has ended: behind ``2.`` one token later, which is not of it.
        """

        def ended(tokens: list[int]) -> bool:
            sentence = tokens[start:]
            if self.ends(sentence, None) and not _stops_at_digit(self.text(sentence)):
                return True
            return len(tokens) > position + 1 and self.ends(sentence[:-1], sentence[-1])

        return ended


def _is_open(text: str) -> bool:
    opened = sum(text.count(bracket) for bracket in OPENING)
    closed = sum(text.count(bracket) for bracket in CLOSING)
    return opened > closed or text.count('"') % 2 == 1


def _stops_at_digit(text: str) -> bool:
    """Whether the next character decides if the last is a full stop or a decimal point."""
    return text[-1:] == "." and text[-2:-1].isdigit()
