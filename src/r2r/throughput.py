"""What two models that take turns bring: tokens per second, before anything is run.

Each of some requests is with the SLM for a number of steps, then with the LLM for one call, and so
on. A model runs those that wait for it together, once enough of them wait (delayed batching). The
model is that of TokenRouter (arXiv 2610.12242), and wider: any policy, forwards that take longer
for more requests, models side by side or one after the other on one device. ``exact`` solves its
Markov chain, for few requests; ``simulated`` plays it, for any number. Answers are thought endless.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from r2r.errors import must_be
from r2r.trace import Trace

GRID = 20  # parts of the shortest forward: times in the chain are whole numbers of them
STATES = 20_000  # of the chain, at most
SAME = 1 + 1e-9  # times that differ by rounding alone are one
CALLS, FEW = 4_000, 600  # to the LLM, in a simulation; in one of many
HALVINGS = 8  # of the range in which a share is looked for
THRESHOLDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # that are looked at


class Forward:
    """Seconds of one model's forward by how many requests it serves.

    ``measured``: {requests: seconds}; between them as a straight line, beyond them as the last two
    of them say, and constant where there is but one.
    """

    def __init__(self, measured: Mapping[int, float]):
        self.points = sorted(measured.items())
        if not self.points or min(measured.values()) <= 0:
            raise must_be("seconds of a forward", "above 0, for one batch at least", measured)

    def __call__(self, requests: int) -> float:
        if len(self.points) == 1:
            return self.points[0][1]
        at = bisect_left(self.points, (requests, 0.0))
        at = min(max(at, 1), len(self.points) - 1)
        (low, fast), (high, slow) = self.points[at - 1 : at + 1]
        return max(min(fast, slow), fast + (slow - fast) * (requests - low) / (high - low))


@dataclass(frozen=True, slots=True)
class Turns:
    """How a policy shares an answer, as one request sees it.

    ``steps``: of the SLM between two calls to the LLM, on average; each of them may be the last,
    as with a router, or with ``fixed`` their number never varies, as with drafts. ``forwards`` of
    the LLM in a call. ``tokens`` of the answer that a call and the steps before it bring, those
    that were cut left out.
    """

    steps: float
    tokens: float
    forwards: float = 1.0
    fixed: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.forwards < 1:
            raise must_be("steps and forwards of a call", "at least 1", (self.steps, self.forwards))

    @classmethod
    def taken(cls, slm_forwards: int, llm_forwards: int, calls: int, tokens: int) -> Turns:
        """As answers of ``tokens`` in all have taken them, with ``calls`` to the LLM."""
        calls = max(1, calls)
        return cls(
            steps=max(1.0, slm_forwards / calls),
            tokens=tokens / calls,
            forwards=max(1.0, llm_forwards / calls),
        )

    def rounded(self) -> Turns:
        """To two digits: what differs in less makes no difference."""
        steps, tokens, forwards = (
            float(f"{value:.2g}") for value in (self.steps, self.tokens, self.forwards)
        )
        return Turns(steps, tokens, forwards, self.fixed)

    @classmethod
    def routed(cls, handoff: float) -> Turns:
        """R2R: a step hands over with probability ``handoff``, and then the LLM's token is the one
        that counts."""
        return cls(steps=1 / handoff, tokens=1 / handoff)


@dataclass(slots=True)
class Taken:
    """What answers took, summed over them as they pass."""

    slm_forwards: int = 0
    llm_forwards: int = 0
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0  # of all answers, also where they were under way together

    def passing(self, traces: Iterable[Trace]) -> Iterator[Trace]:
        for trace in traces:
            self.add(trace)
            yield trace

    def add(self, trace: Trace) -> None:
        spent = trace.taken()
        self.slm_forwards += spent.slm.forwards
        self.llm_forwards += spent.llm.forwards
        self.calls += spent.llm.requests
        self.tokens += len(trace.steps)
        self.seconds += trace.seconds

    @property
    def turns(self) -> Turns:
        return Turns.taken(self.slm_forwards, self.llm_forwards, self.calls, self.tokens)

    def to_json(self, wall: float) -> dict[str, Any]:
        """For a manifest: the turns, and how many answers were ``under_way`` on average."""
        under_way = self.seconds / wall if wall else 0.0
        return {"turns": asdict(self.turns), "under_way": round(under_way, 2)}


@dataclass(frozen=True, slots=True)
class Pair:
    """The models: seconds of a forward of each, ``handoff`` seconds a call takes beside the LLM's
    forwards, and whether they run ``together`` (a device or server each) or in turns on one."""

    slm: Forward
    llm: Forward
    handoff: float = 0.0
    together: bool = True


@dataclass(frozen=True, slots=True)
class Timed:
    """Forwards as measured on a machine: of the SLM over a token of each request, the router's
    scores included; of the LLM over a token of each, and ``reading`` over ``reads`` of each, on
    average. ``prompt``: seconds that a token of a prompt takes the SLM and the LLM. ``handoff`` and
    ``together`` as in ``Pair``."""

    slm: Forward
    llm: Forward
    reading: Forward
    reads: float
    prompt: tuple[float, float] = (0.0, 0.0)
    handoff: float = 0.0
    together: bool = True

    @property
    def most(self) -> int:
        """The most requests at once that were measured."""
        return self.llm.points[-1][0]

    def pair(self, turns: Turns) -> Pair:
        """The models as a policy uses them: the first forward of a call reads what the SLM has
        written since the last one, the others a token each."""
        more = (turns.steps - 1) / (self.reads - 1) / turns.forwards

        def seconds(requests: int) -> float:
            one = self.llm(requests)
            return one + more * max(0.0, self.reading(requests) - one)

        llm = Forward({requests: seconds(requests) for requests, _ in self.llm.points})
        return Pair(self.slm, llm, self.handoff, self.together)

    def alone(self, requests: int) -> float:
        """Tokens per second of the LLM without an SLM."""
        return requests / self.llm(requests)

    def rate(self, turns: Turns, requests: int, *, calls: int | None = None) -> float:
        """Tokens per second of all requests, batched as is best."""
        return best(self.pair(turns), turns, requests, calls=calls or CALLS)[1]

    def pays_below(self, requests: int) -> float:
        """The share of tokens by the LLM, one at a handoff, below which routing is faster than the
        LLM alone (0: never, 1: always)."""
        alone, low, high = self.alone(requests), 0.0, 1.0
        for _ in range(HALVINGS):
            share = (low + high) / 2
            faster = self.rate(Turns.routed(share), requests, calls=FEW) > alone
            low, high = (share, high) if faster else (low, share)
        return low if high < 1 else 1.0


def expected(
    pair: Pair, turns: Turns, requests: int, *, enough: int = 1, calls: int = CALLS
) -> float:
    """Tokens per second of all requests; ``enough``: how many must wait for the LLM to start."""
    if requests == 1:  # nobody waits for anybody
        cycle = turns.steps * pair.slm(1) + turns.forwards * pair.llm(1) + pair.handoff
        return turns.tokens / cycle
    return simulated(pair, turns, requests, enough=enough, calls=calls)


def best(pair: Pair, turns: Turns, requests: int, *, calls: int = CALLS) -> tuple[int, float]:
    """How many requests should wait for the LLM before it starts, and the tokens per second then;
    of equals the fewest."""
    tried = [n for n in THRESHOLDS if n <= requests]
    rates = {n: expected(pair, turns, requests, enough=n, calls=calls) for n in tried}
    enough = max(rates, key=lambda n: (rates[n], -n))
    return enough, rates[enough]


# The event simulation.


def simulated(
    pair: Pair, turns: Turns, requests: int, *, enough: int = 1, calls: int = CALLS, seed: int = 0
) -> float:
    """Tokens per second by playing ``calls`` calls to the LLM; the same for the same ``seed``.

    Raises ConfigError where fewer requests than ``enough`` exist: the LLM would never start.
    """
    _check(requests, enough)
    draw = random.Random(seed)

    def steps() -> int:
        return round(turns.steps) if turns.fixed else _geometric(draw, turns.steps)

    left = {request: steps() for request in range(requests)}  # of the model it is with
    small, large = list(left), []
    running: list[tuple[float, int, list[int]]] = []  # (when, model or on its way, requests)
    now, made, began, begun = 0.0, 0, 0.0, 0
    while made < calls:
        busy = {model for _, model, _ in running if model != ON_ITS_WAY}
        if len(large) >= enough and LLM not in busy and (pair.together or not busy):
            heapq.heappush(running, (now + pair.llm(len(large)), LLM, large))
            busy.add(LLM)
            large = []
        if small and SLM not in busy and (pair.together or not busy):
            heapq.heappush(running, (now + pair.slm(len(small)), SLM, small))
            small = []
        now = running[0][0]
        while running and running[0][0] <= now * SAME:  # all that ends now, before more starts
            _, model, served = heapq.heappop(running)
            if model == ON_ITS_WAY:
                large += served
                continue
            stay = []
            for request in served:
                left[request] -= 1
                if left[request]:
                    stay.append(request)
                elif model == LLM:
                    made += 1
                    left[request] = steps()
                    small.append(request)
                else:
                    left[request] = _geometric(draw, turns.forwards)
                    if pair.handoff:
                        heapq.heappush(running, (now + pair.handoff, ON_ITS_WAY, [request]))
                    else:
                        large.append(request)
            if model == LLM:
                large = stay + large
            else:
                small = stay + small
        if made < calls // 10:  # until then it settles
            began, begun = now, made
    return (made - begun) * turns.tokens / (now - began)


SLM, LLM, ON_ITS_WAY = 0, 1, 2


def _geometric(draw: random.Random, mean: float) -> int:
    """1, 2, ... with the given mean: each may be the last."""
    if mean == 1:
        return 1
    return 1 + int(math.log(1 - draw.random()) / math.log(1 - 1 / mean))


def _check(requests: int, enough: int) -> None:
    if not 1 <= enough <= requests:
        raise must_be("requests that wait for the LLM", f"1 to {requests}", enough)


# The Markov chain.


@dataclass(frozen=True, slots=True)
class State:
    """Requests in each model's forward, grid times until it ends, requests that wait for each."""

    running: tuple[int, int]
    left: tuple[int, int]
    waiting: tuple[int, int]


def exact(pair: Pair, turns: Turns, requests: int, *, enough: int = 1) -> float:
    """Tokens per second from the stationary distribution of the chain.

    Times are rounded to a grid. For policies whose every step may be the last and whose calls take
    one forward. Raises ConfigError for others, and for more requests than it has room for.
    """
    from scipy.sparse import csr_array, eye_array, vstack
    from scipy.sparse.linalg import spsolve

    _check(requests, enough)
    if turns.fixed or turns.forwards != 1:
        raise must_be("turns", "a router's, of one forward a call (use simulated)", turns)
    grid = min(pair.slm(1), pair.llm(1)) / GRID
    first = _started(pair, enough, grid, State((0, 0), (0, 0), (requests, 0)))
    numbers, todo = {first: 0}, [first]
    chain: dict[tuple[int, int], float] = defaultdict(float)
    ended, seconds = [], []  # calls to the LLM that a state's event ends, how long it lasts
    while todo:
        state = todo.pop()
        row = numbers[state]
        lasts = min(left for left, some in zip(state.left, state.running, strict=True) if some)
        ended += [0.0] * (row + 1 - len(ended))
        seconds += [0.0] * (row + 1 - len(seconds))
        seconds[row] = lasts * grid
        for chance, calls, then in _events(state, lasts, 1 / turns.steps):
            ended[row] += chance * calls
            after = _started(pair, enough, grid, then)
            if after not in numbers:
                numbers[after] = len(numbers)
                todo.append(after)
                if len(numbers) > STATES:
                    raise must_be("requests", "fewer (use simulated)", requests)
            chain[numbers[after], row] += chance
    size = len(numbers)
    rows, columns = zip(*chain, strict=True)
    moves = csr_array((list(chain.values()), (rows, columns)), shape=(size, size))
    balance = vstack([(moves - eye_array(size)).tocsr()[:-1], csr_array(np.ones((1, size)))])
    stationary = spsolve(balance.tocsc(), np.eye(1, size, size - 1)[0])
    return float(stationary @ ended / (stationary @ seconds)) * turns.tokens


def _started(pair: Pair, enough: int, grid: float, state: State) -> State:
    """The state with the forwards that can start now, in the order of ``simulated``."""
    running, left, waiting = list(state.running), list(state.left), list(state.waiting)
    for model, least, forward in ((LLM, enough, pair.llm), (SLM, 1, pair.slm)):
        free = not running[model] if pair.together else not any(running)
        if free and waiting[model] >= least:
            more = pair.handoff if model == LLM else 0.0
            running[model], waiting[model] = waiting[model], 0
            left[model] = max(1, round((forward(running[model]) + more) / grid))
    return State(_two(running), _two(left), _two(waiting))


def _events(state: State, lasts: int, handoff: float) -> Iterator[tuple[float, int, State]]:
    """What may come when the next forwards end: how likely, calls that ended, the state then."""
    over = [bool(n) and left == lasts for n, left in zip(state.running, state.left, strict=True)]
    left = _two([0 if o or not n else t - lasts for o, n, t in
                 zip(over, state.running, state.left, strict=True)])  # fmt: skip
    running = _two([0 if o else n for o, n in zip(over, state.running, strict=True)])
    written = state.running[SLM] if over[SLM] else 0
    answered = state.running[LLM] if over[LLM] else 0
    small, large = state.waiting
    for away in range(written + 1):
        chance = math.comb(written, away) * handoff**away * (1 - handoff) ** (written - away)
        waiting = (small + written - away + answered, large + away)
        yield chance, answered, State(running, left, waiting)


def _two(values: Sequence[int]) -> tuple[int, int]:
    small, large = values
    return small, large
