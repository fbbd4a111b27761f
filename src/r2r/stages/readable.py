"""Samples with their tokens as text, and what else the SLM could have written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from r2r.reporting.traces import CUT
from r2r.stages.workbench import Workbench

CHOICES = 5  # alternatives shown of each token


def readable(
    bench: Workbench, samples: Sequence[dict[str, Any]], again: Sequence[bool]
) -> list[dict[str, Any]]:
    """Rows of ``reporting.traces`` from rows of samples.jsonl.

    ``again``: which of them the SLM reads once more. They get ``alternatives`` of the tokens that
    the LLM wrote: the SLM's likeliest there, as (text, probability).
    """
    pieces: dict[int, str] = {}

    def decode(token: int) -> str:
        if token not in pieces:
            pieces[token] = bench.pair.tokenizer.decode([token])
        return pieces[token]

    def lost(cut: Sequence[int]) -> str:
        return CUT + "".join(map(decode, cut)) if cut else ""

    read = [sample for sample, wanted in zip(samples, again, strict=True) if wanted]
    others = iter(asyncio.run(_alternatives(bench, read)) if read else [])
    rows = []
    for sample, wanted in zip(samples, again, strict=True):
        trace = sample["trace"]
        row = {key: value for key, value in sample.items() if key not in ("trace", "stats")}
        rows.append(
            row
            | {
                "pieces": [decode(token) for token in trace["tokens"]],
                "drafts": [
                    None if t is None else decode(t) + lost(cut)
                    for t, cut in zip(trace["drafts"], trace["cuts"], strict=True)
                ],
                "llm": trace["llm"],
                "scores": trace["scores"],
                "alternatives": next(others) if wanted else None,
            }
        )
    return rows


async def _alternatives(
    bench: Workbench, samples: Sequence[dict[str, Any]]
) -> list[list[list[tuple[str, float]] | None]]:
    engine, decode = bench.engine("slm"), bench.pair.tokenizer.decode

    async def one(trace: dict[str, Any]) -> list[list[tuple[str, float]] | None]:
        prompt, answer = trace["prompt"], trace["tokens"]
        prefill = await engine.prefill([*prompt, *answer], start=len(prompt) - 1)
        likely = prefill.signals.logits.softmax(-1)[:, :CHOICES]
        told = zip(trace["llm"], prefill.indices.tolist(), likely.tolist(), strict=True)
        return [
            [(decode([i]), round(p, 4)) for i, p in zip(ids, ps, strict=False)] if llm else None
            for llm, ids, ps in told
        ]

    return await asyncio.gather(*(one(sample["trace"]) for sample in samples))
