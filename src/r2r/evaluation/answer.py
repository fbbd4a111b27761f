"""A generated text with what lm-eval itself has no place for."""

from __future__ import annotations


class Answer(str):
    """A generated text that carries what lm-eval itself has no place for.

    ``final``: the part to grade, after the reasoning. ``stats``: per-answer figures by name.
    ``score``: the grade (0 to 1), once the task has given it. All survive pickling and copying.
    """

    final: str
    stats: dict[str, float]
    score: float | None

    def __new__(cls, text: str, final: str = "", stats: dict[str, float] | None = None) -> Answer:
        answer = super().__new__(cls, text)
        answer.final = final
        answer.stats = stats or {}
        answer.score = None
        return answer
