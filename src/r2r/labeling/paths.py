"""Whose answers are labelled: beside the LLM's own, those that both models share under a router."""

from __future__ import annotations

from dataclasses import dataclass

from r2r.engines.base import Engine, Sampling
from r2r.labeling.respond import LeftOut, OnTokens, Query, Response, left_out
from r2r.policies.base import Prompt
from r2r.policies.routed import Routed
from r2r.records import fingerprint
from r2r.trace import Step

PATHS_VERSION = 1  # which queries get a routed answer, and what the LLM would write along it


@dataclass(frozen=True, slots=True)
class RoutedPaths:
    """A part of the queries is labelled along routed answers: the states that a router meets, its
    own misses among them (as DAgger gathers them, arXiv 1011.0686).

    There the SLM's token stands against the one that the LLM would write next at each place, and
    the LLM goes on from both. ``share``: of the queries, drawn by their prompts' hashes.
    ``generator``: two models that share an answer.
    """

    generator: Routed
    share: float

    def takes(self, query: Query) -> bool:
        """Whether the query is one of them, whatever the other queries."""
        drawn = int(fingerprint(["routed path", *query.tokens])[:8], 16) / 16**8
        return drawn < self.share

    async def answer(
        self, query: Query, *, budget: int, think_end: int | None, on_tokens: OnTokens
    ) -> tuple[list[int], LeftOut | None]:
        """The routed answer, and why it is left out, if it is (as ``respond``'s).

        ``on_tokens`` hears of the tokens that the LLM writes.
        """
        if budget < 1:
            return [], "unfinished"

        def told(step: Step) -> None:
            if step.source == "llm":
                on_tokens([step.token], [])

        trace = await self.generator.answer(Prompt(query.tokens, Sampling(budget)), told)
        tokens = [step.token for step in trace.steps]
        return tokens, left_out(query, tokens, trace.finish_reason == "eos", think_end)


async def llm_tokens(llm: Engine, response: Response, session: int) -> list[int]:
    """The token that the LLM would write at each place of an answer, whoever wrote the answer;
    ``session`` holds the answer afterwards."""
    prompt = response.query.tokens
    found = await llm.prefill([*prompt, *response.tokens], len(prompt) - 1, session)
    return found.signals.token.tolist()
