"""Reading: what a model thinks of tokens it is given, computed where the logits are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from r2r.engines.base import Prefill, Sampling, Verified
from r2r.engines.sampling import choose
from r2r.trace import TokenSignals

AT_ONCE = 256  # positions whose logits are there at the same time


@dataclass(slots=True)
class Judged:
    """What was found so far of a text, whose tokens behind position ``start`` are given.

    ``prompt``: its first tokens, before the answer that is drawn as ``sampling`` says.
    """

    text: Sequence[int]
    prompt: int
    start: int
    sampling: Sampling
    found: Verified = field(default_factory=lambda: Verified([], [], []))


def judge(
    parts: Sequence[tuple[Judged, range, int]],
    hidden: torch.Tensor,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Add to what was found.

    ``parts``: of each text the rows of ``hidden`` [tokens, hidden] to look at, and the place of the
    first of them in it. ``logits_of``: raw logits [n, vocab] of hidden states, the banned ones
    infinitely low.
    """
    asked = [
        (judged, row, place + number)
        for judged, rows, place in parts
        for number, row in enumerate(rows)
    ]
    for begin in range(0, len(asked), AT_ONCE):
        texts, rows, places = zip(*asked[begin : begin + AT_ONCE], strict=True)
        logits = logits_of(hidden[list(rows)])
        followed = [at + 1 < len(each.text) for each, at in zip(texts, places, strict=True)]
        given = [
            each.text[at + 1] if more else 0
            for each, at, more in zip(texts, places, followed, strict=True)
        ]
        of_given = logits.gather(1, torch.tensor(given, device=logits.device)[:, None])[:, 0]
        ratios = (of_given - logits.amax(-1)).exp()
        logprobs = of_given - logits.logsumexp(-1)
        in_answer = [at + 1 - each.prompt for each, at in zip(texts, places, strict=True)]
        choices = choose(logits, [each.sampling for each in texts], in_answer)
        table = torch.stack([ratios.double(), logprobs.double(), choices.double()], dim=1).tolist()
        for each, more, (ratio, logprob, choice) in zip(texts, followed, table, strict=True):
            each.found.choices.append(int(choice))
            if more:
                each.found.ratios.append(ratio)
                each.found.logprobs.append(logprob)


def joined(parts: Iterable[tuple[torch.Tensor, ...]], start: int, end: int) -> Prefill:
    """The signals of positions ``start`` to ``end`` - 1 from their parts in order, which may hold
    more behind them: argmax [n], top logits [n, k], their ids [n, k] and hidden states."""
    columns = map(torch.cat, zip(*parts, strict=True))
    argmax, logits, indices, hidden = (column[: end - start] for column in columns)
    return Prefill(TokenSignals(argmax, logits, hidden, torch.arange(start, end)), indices)
