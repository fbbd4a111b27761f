"""Delayed batching: how long handoffs wait, so that one forward of the LLM takes several of them.

Two models in one process take turns. A forward of the LLM costs L, a step of the SLM S, both much
the same for one request as for several. While k requests wait for the LLM and n write with the SLM,
a step brings n tokens instead of n + k: waiting has lost k / n of its time. It pays until these
losses add up to L. With requests handed over at a rate p a token, and x = p times the steps since
the last forward, n falls as exp(-x), and the losses reach L where exp(x) - 1 - x = p L / S: just
where the time a token takes, (S x / p + L) / (1 - exp(-x)), is least.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

REPEATS = 5
# Costs are taken to 1.5, 6, 24, ...: the optimum is flat (with twice or half the cost 2.5 % slower,
# p = 0.1, L = 4 S), and two runs on one machine should batch alike.
CENTRE, BASE = 1.5, 4


def derived(llm: Callable[[], None], slm: Callable[[], None]) -> float:
    """L / S, as measured, to the next of a few values.

    ``llm``, ``slm``: what writing one token takes of each.
    """
    best = {llm: math.inf, slm: math.inf}
    for _ in range(REPEATS):
        for write in best:
            began = time.perf_counter()
            write()
            best[write] = min(best[write], time.perf_counter() - began)
    return CENTRE * BASE ** round(math.log(best[llm] / best[slm] / CENTRE, BASE))
