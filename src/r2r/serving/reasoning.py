"""A chat answer's reasoning and its content, apart, as they stream."""

from __future__ import annotations

from collections.abc import Iterable

from r2r.serving.text import Piece


class Reasoning:
    """Divides the text of one answer where the reasoning ends: at the token ``end``.

    ``start``: what may open the reasoning, and is no part of it. ``end`` None: it is all content.
    Neither part begins with white space.
    """

    def __init__(self, start: str | None, end: str | None):
        self.start, self.end = start, end
        self.under_way = end is not None
        self.begun = False  # with a part: something of it was not white space

    def split(self, pieces: Iterable[Piece]) -> dict[str, str]:
        """What ``pieces`` add to ``reasoning_content`` and to ``content``; only what is not empty.

        Called once with all pieces of an answer, or several times in their order.
        """
        said = {"reasoning_content": "", "content": ""}
        for piece in pieces:
            text = piece.text
            if self.under_way and self.end is not None and self.end in text:
                before, _, text = text.partition(self.end)
                said["reasoning_content"] += self._part(before)
                self.under_way = self.begun = False
            said["reasoning_content" if self.under_way else "content"] += self._part(text)
        return {name: text for name, text in said.items() if text}

    def _part(self, text: str) -> str:
        if not self.begun:
            text = text.lstrip()
            if self.under_way and self.start is not None:
                text = text.removeprefix(self.start).lstrip()
            self.begun = bool(text)
        return text
