"""Step 4: does the SLM's token lead to a sentence that says the same? The words, and by rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

EQUIVALENCE_VERSION = 1  # which sentences say the same, by rule
# disputed: the judge changed its mind with the order. It counts as divergent: a wrong "neutral"
# costs accuracy, a wrong "divergent" only a call of the larger model.
# unverified: no readable verdict, or no certain one; the token gets no label.
# unsampled: nobody looked; the token gets no label.
Verdict = Literal["neutral", "divergent", "disputed", "unverified", "unsampled"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sentences that share ``before`` and differ from one token on, all as text.

    ``context``: the answer before the sentence, its end at least. ``slm`` and ``llm`` are the
    tokens that differ (empty for the end of the answer), the rests what the LLM wrote after each.
    """

    question: str
    context: str
    before: str
    slm: str
    slm_rest: str
    llm: str
    llm_rest: str

    @property
    def slm_sentence(self) -> str:
        return self.before + self.slm + self.slm_rest

    @property
    def llm_sentence(self) -> str:
        return self.before + self.llm + self.llm_rest

    @property
    def slm_marked(self) -> str:
        """The sentence with the token that differs «marked»."""
        return f"{self.before}{_mark(self.slm)}{self.slm_rest}"

    @property
    def llm_marked(self) -> str:
        return f"{self.before}{_mark(self.llm)}{self.llm_rest}"


def _mark(token: str) -> str:
    return f"«{token or '(the solution ends here)'}»"


class Verifier(Protocol):
    @property
    def controls(self) -> Sequence[str]:
        """The kinds of control pairs (``controls.KINDS``) that it is to judge right."""
        ...

    async def verify(self, comparisons: Iterable[Comparison]) -> list[Verdict]:
        """One verdict for each comparison of a query, in order; the iterable is read as the work
        goes on. Many queries are verified at once: how many questions are asked at a time is the
        verifier's business."""
        ...


class EquivalenceVerifier:
    """Neutral where both sentences are the same after normalisation; for text of known forms.

    Lower case; words and symbols replaced by their meaning in ``synonyms``; words of ``ignored``,
    white space and the punctuation that ends a sentence dropped.
    """

    controls = ("identical", "number", "operation")  # wordings it knows are those of its tables
    PIECES = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*|_|[^\w\s]")
    END = re.compile(r"[.!?。！？]+(?=\s|$)")

    def __init__(self, *, synonyms: Mapping[str, str], ignored: Iterable[str]):
        self.synonyms, self.ignored = dict(synonyms), frozenset(ignored)

    def normalised(self, sentence: str) -> list[str]:
        pieces = [str(p) for p in self.PIECES.findall(self.END.sub(" ", sentence.lower()))]
        return [self.synonyms.get(piece, piece) for piece in pieces if piece not in self.ignored]

    async def verify(self, comparisons: Iterable[Comparison]) -> list[Verdict]:
        return [self._verdict(comparison) for comparison in comparisons]

    def _verdict(self, comparison: Comparison) -> Verdict:
        same = self.normalised(comparison.slm_sentence) == self.normalised(comparison.llm_sentence)
        return "neutral" if same else "divergent"
