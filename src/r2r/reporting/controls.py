"""What routing has to beat, from the answers of the two models alone: nothing more is generated.

``RANDOM``: each problem answered by the SLM or the LLM at random, the LLM so often that it makes as
many forwards a token as in the routed system. Its figures are expected values. The best single
model (LLMRouterBench, arXiv 2601.07206): the more accurate of the two, without any routing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r2r.reporting.statistics import Scores

RANDOM = "query_random"
PER_TOKEN = (
    "avg_params_b", "avg_params_published_b", "llm_share", "llm_forwards_per_token",
    "llm_positions_per_token", "slm_steps_per_token", "cut_per_token",
)  # fmt: skip
PER_ANSWER = ("accuracy", "output_tokens", "seconds", "billed")


def best_single(systems: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The more accurate of slm and llm, the SLM where they are equal; None without both."""
    if not {"slm", "llm"} <= systems.keys():
        return None
    return max(("slm", "llm"), key=lambda name: systems[name]["accuracy"])


def llm_answers(systems: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The share of answers that the LLM writes in ``RANDOM``; None where slm, llm or routed is
    missing."""
    if not {"slm", "llm", "routed"} <= systems.keys():
        return None
    wanted = systems["routed"].get("llm_forwards_per_token", systems["routed"]["llm_share"])
    wanted = min(1.0, wanted)
    small, large = (systems[name]["output_tokens"] for name in ("slm", "llm"))
    whole = large * (1 - wanted) + small * wanted
    return wanted * small / whole if whole else 0.0


def at_random(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The figures of ``RANDOM``; what either model lacks is left out."""
    by_llm = llm_answers(systems)
    if by_llm is None:
        return None
    slm, llm = systems["slm"], systems["llm"]

    def mixed(name: str, small: float, large: float) -> dict[str, Any]:
        if name not in slm or name not in llm:
            return {}
        if slm[name] is None or llm[name] is None:
            return {name: None}
        whole = small + large
        return {name: (small * slm[name] + large * llm[name]) / whole if whole else 0.0}

    found: dict[str, Any] = {"n": llm["n"], "llm_answers": by_llm}
    for name in PER_ANSWER:
        found |= mixed(name, 1 - by_llm, by_llm)
    tokens = (1 - by_llm) * slm["output_tokens"], by_llm * llm["output_tokens"]
    for name in PER_TOKEN:
        found |= mixed(name, *tokens)
    found["cost"] = found["avg_params_b"] * found["output_tokens"]
    rates = slm.get("tokens_per_s"), llm.get("tokens_per_s")
    if None in rates or not all(rates):
        return found | {"tokens_per_s": None, "seconds": None}
    found |= {"timed_in": llm["timed_in"]} if "timed_in" in llm else {}
    seconds = tokens[0] / rates[0] + tokens[1] / rates[1]
    return found | {"tokens_per_s": sum(tokens) / seconds if seconds else 0.0}


def random_scores(slm: Scores, llm: Scores, by_llm: float) -> dict[tuple[str, int], float]:
    """What each problem scores at random, on average."""
    return {problem: (1 - by_llm) * slm[problem] + by_llm * llm[problem] for problem in llm}
