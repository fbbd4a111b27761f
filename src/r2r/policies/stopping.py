"""Stop strings over a growing answer."""

from __future__ import annotations

import copy
from typing import Any

TAIL = 16  # tokens beside the stop strings' own length that are decoded to look for them


class StopStrings:
    """Ends an answer when one of ``stop`` appears in its text, behind ``after`` where given.

    Only the tail is decoded at each token, so the cost does not grow with the answer.
    """

    def __init__(self, tokenizer: Any, stop: tuple[str, ...], after: str):
        self.tokenizer, self.stop, self.after = tokenizer, stop, after
        self.window = TAIL + max(len(text.encode()) for text in stop)
        self.begin: int | None = None if after else 0

    def __call__(self, tokens: list[int]) -> bool:
        if self.begin is None:
            if self.after in self.tokenizer.decode(tokens[-TAIL:], skip_special_tokens=False):
                self.begin = len(tokens)
            return False
        tail = self.tokenizer.decode(
            tokens[max(self.begin, len(tokens) - self.window) :], skip_special_tokens=True
        )
        return any(text in tail for text in self.stop)


class StepEnd:
    """Ends a step of an answer: with the first token, from place ``begin`` on, behind whose text
    stands ``text`` (a line break, say), or where the whole answer stops. ``closed``: by ``text``.
    """

    def __init__(self, tokenizer: Any, text: str, begin: int, stop: StopStrings | None):
        self.tokenizer, self.text, self.begin, self.stop = tokenizer, text, begin, stop
        self.closed = False

    def __call__(self, tokens: list[int]) -> bool:
        if self.stop is not None and self.stop(tokens):
            return True
        begin = max(self.begin, len(tokens) - TAIL - len(self.text.encode()))
        tail = self.tokenizer.decode(tokens[begin:], skip_special_tokens=True)
        self.closed = self.text in tail.lstrip()
        return self.closed

    def aside(self) -> StepEnd:
        """Another that may look at drafts, which are whole steps: what is thought of one does not
        depend on the stop strings in it."""
        other = copy.copy(self)
        other.stop = None
        return other


def cut(text: str, stop: tuple[str, ...], after: str) -> str:
    """The text before the first stop string behind ``after``."""
    start = text.find(after) + len(after) if after else 0
    if after and after not in text:
        return text
    ends = [at for at in (text.find(s, start) for s in stop) if at >= 0]
    return text[: min(ends)] if ends else text
