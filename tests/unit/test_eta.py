"""When work ends, foretold from a fifth of it on, whatever the lengths: checked by playing it."""

import heapq

import numpy as np
import pytest

from r2r.eta import EVEN, NONE, Ahead, Lengths, Pace, ahead, pace

LIMIT, SEEDS = 8192, 10
LENGTHS = {
    "20-fold, even": lambda rng, n: rng.uniform(100, 2000, n),
    "20-fold, in logs": lambda rng, n: np.exp(rng.uniform(np.log(100), np.log(2000), n)),
    "lognormal": lambda rng, n: np.exp(rng.normal(np.log(500), 0.6, n)),
    "power law": lambda rng, n: 100 * (rng.pareto(2, n) + 1),
    "15 % to the budget": lambda rng, n: np.where(
        rng.random(n) < 0.15, LIMIT, np.exp(rng.normal(np.log(400), 0.6, n))
    ),
    "all alike": lambda rng, n: np.full(n, 500.0),
    "around a mean": lambda rng, n: np.clip(rng.normal(300, 95, n), 60, None),
}


class Played:
    """Work on items of given lengths: ``width`` at once, each as long as its tokens say, at a pace
    that depends on how many are under way. The first ``kept`` are an earlier run's; ``like``:
    lengths of others that are thought to be alike."""

    def __init__(self, lengths, width, speed, kept=0, like=NONE):
        self.like = np.minimum(np.round(like), LIMIT).astype(int)
        lengths = np.minimum(np.round(lengths), LIMIT).astype(int)
        self.before, self.lengths, self.width = lengths[:kept], lengths[kept:], width
        heap, self.start = [0] * width, []
        for length in self.lengths.tolist():
            self.start.append(heap[0])
            heapq.heapreplace(heap, heap[0] + length)
        self.start = np.array(self.start)
        self.end = self.start + self.lengths
        self.steps = np.unique(np.concatenate([self.start, self.end]))
        self.busy = (
            (self.start <= self.steps[:-1, None]) & (self.end > self.steps[:-1, None])
        ).sum(1)
        self.seconds = np.diff(self.steps) * (speed.step + speed.item * self.busy)
        self.tokens = np.diff(self.steps) * self.busy

    def error(self, share, even):
        """The ETA as a part of the truth, once ``share`` of this run's tokens are made."""
        made = np.concatenate([[0], np.cumsum(self.tokens)])
        last = int(np.searchsorted(made, share * made[-1])) - 1
        part = (share * made[-1] - made[last]) / self.tokens[last]
        step = self.steps[last] + part * (self.steps[last + 1] - self.steps[last])
        seconds, tokens = {}, {}
        for at in range(last + 1):
            busy, whole = int(self.busy[at]), 1.0 if at < last else part
            seconds[busy] = seconds.get(busy, 0) + self.seconds[at] * whole
            tokens[busy] = tokens.get(busy, 0) + self.tokens[at] * whole
        running = (self.start <= step) & (self.end > step)
        far = np.floor(step - self.start[running]).astype(int)
        left = ahead(
            np.concatenate([self.before, self.lengths[self.end <= step]]), far,
            np.full(len(far), float(LIMIT)), waiting=int((self.start > step).sum()),
            width=self.width, like=self.like,
        )  # fmt: skip
        truth = self.seconds.sum() - sum(seconds.values())
        return pace(seconds, tokens, even).seconds(left) / truth


def errors(name, *, width, items, share, even=EVEN["cpu"], kept=0, like=None):
    """The factor by which the ETA is wrong, of ``SEEDS`` runs; with others that are thought alike,
    and ``like`` times as long."""
    made = []
    for seed in range(SEEDS):
        lengths = LENGTHS[name](np.random.default_rng(seed), items)
        others = NONE
        if like is not None:
            others = like * LENGTHS[name](np.random.default_rng(1000 + seed), 200)
        played = Played(lengths, width, Pace(even / 100, 0.01), kept, others)
        made.append(played.error(share, even))
    return np.exp(np.abs(np.log(made)))


SHARES = (0.2, 0.5, 0.9)
RARE = ("power law", "15 % to the budget")  # a few items are most of the work


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("width", "items"), [(1, 200), (8, 200), (64, 640)])
@pytest.mark.parametrize("name", LENGTHS)
def test_from_a_fifth_on_the_end_is_known_within_a_factor(name, width, items, share):
    found = errors(name, width=width, items=items, share=share)
    if name in RARE:
        assert np.median(found) < 2
    elif name == "lognormal" and share == 0.9:  # two or three long ones are all that is left
        assert np.median(found) < 1.5
    else:
        assert np.median(found) < 1.25 and np.mean(found < 1.5) >= 0.8


@pytest.mark.parametrize("name", RARE)
def test_one_who_is_told_the_law_of_the_lengths_is_not_much_nearer(name, monkeypatch):
    """Where a few items are most of the work, what is not known is which, and not how many."""
    asked = [{"width": w, "items": n, "share": s} for w, n in ((1, 200), (8, 200)) for s in SHARES]
    ours = np.concatenate([errors(name, **each) for each in asked])
    drawn = LENGTHS[name](np.random.default_rng(999), 5_000)
    law = Lengths(np.minimum(np.round(drawn), LIMIT).astype(int), np.array([], int))
    monkeypatch.setattr("r2r.eta.Lengths", lambda *given: law)
    told = np.concatenate([errors(name, **each) for each in asked])
    assert np.mean(ours < 1.5) >= np.mean(told < 1.5) - 0.2


@pytest.mark.parametrize("share", [0.25, 0.3])
def test_the_first_few_of_a_batch_tell_that_answers_have_a_usual_length(share):
    """Half of all were begun at once, and few of these have ended."""
    found = errors("around a mean", width=96, items=200, share=share)
    assert np.median(found) < 1.4  # 4.3 to 6.4 if the others were to end as seldom as they did


@pytest.mark.parametrize("like", [0.75, 1.0, 1.33])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9])
def test_a_batch_of_which_none_has_ended_is_foretold_from_earlier_ones(share, like):
    found = errors("around a mean", width=96, items=200, share=share, like=like)
    assert np.mean(found < 1.5) == 1 and (like != 1 or np.median(found) < 1.1)


@pytest.mark.parametrize("like", [0.5, 2.0])
def test_earlier_ones_that_were_of_other_lengths_are_soon_outweighed(like):
    found = errors("around a mean", width=96, items=200, share=0.7, like=like)
    assert np.mean(found < 1.5) == 1
    found = errors("20-fold, in logs", width=8, items=200, share=0.2, like=like)
    assert np.median(found) < 1.25


@pytest.mark.parametrize("kept", [50, 150])
@pytest.mark.parametrize("width", [1, 8])
def test_a_resumed_run_foretells_from_what_was_kept(width, kept):
    for share in (0.2, 0.5):
        found = errors("20-fold, in logs", width=width, items=300, share=share, kept=kept)
        assert np.median(found) < 1.25 and np.mean(found < 1.5) >= 0.8


@pytest.mark.parametrize("even", [2.0, EVEN["cuda"]])
def test_a_batch_that_empties_is_foretold_at_the_pace_of_the_device(even):
    for share in (0.2, 0.5):
        found = errors("20-fold, even", width=64, items=640, share=share, even=even)
        assert np.median(found) < 1.25


def test_finished_ones_alone_would_say_too_little():
    """Ten that ended at 100 while thirty others are at 100 too: most are longer than that."""
    finished, under_way = np.full(10, 100), np.full(30, 100)
    half = Lengths(finished, under_way).draw(np.zeros(1), np.array([0.5]))
    assert half > 100
    assert Lengths(finished, np.array([], int)).draw(np.zeros(1), np.array([0.5])) == 100


def test_lengths_are_those_seen_where_nothing_is_cut_short():
    seen = np.arange(1, 1001)
    lengths = Lengths(seen, np.array([], int))
    shares = np.linspace(0.05, 0.95, 19)
    drawn = lengths.draw(np.zeros(19), shares)
    assert drawn == pytest.approx(1000 * (1 - shares), rel=0.02)
    beyond = lengths.draw(np.full(19, 600), shares)
    assert beyond == pytest.approx(600 + 400 * (1 - shares), rel=0.02)


def test_no_item_gets_more_than_it_may():
    none = np.array([], int)
    left = ahead(none, np.array([10, 20]), np.array([40.0, 25.0]), waiting=0, width=2)
    assert left.tokens <= 35 and left.steps <= 30


def test_the_longest_of_the_last_bounds_the_end():
    finished, under_way = np.full(50, 100), np.array([0, 90])
    left = ahead(finished, under_way, np.full(2, 100.0), waiting=0, width=2)
    assert left.steps == pytest.approx(100, rel=0.05) and left.tokens == pytest.approx(
        110, rel=0.05
    )


def test_of_an_item_whose_parts_are_known_the_end_is_and_they_go_side_by_side():
    finished, under_way = np.full(50, 100), np.array([90, 50])
    foreseen, parts = np.array([2090.0, np.nan]), np.array([100.0, np.nan])
    left = ahead(
        finished, under_way, np.full(2, np.inf), waiting=0, width=8, foreseen=foreseen, parts=parts
    )
    assert left.tokens == pytest.approx(2050, rel=0.05)
    assert left.steps == pytest.approx(2000 / 8, rel=0.05)


@pytest.mark.parametrize(("step", "item"), [(1.0, 0.02), (0.5, 0.5), (0.0, 1.0)])
def test_the_pace_is_measured_once_fewer_are_under_way(step, item):
    busy = [64, 48, 20, 5, 1]
    seconds = {b: 100 * (step + item * b) for b in busy}
    found = pace(seconds, {b: 100 * b for b in busy})
    left = Ahead(tokens=500, steps=200)
    assert found.seconds(left) == pytest.approx(Pace(step, item).seconds(left), rel=0.05)


def test_noise_of_numbers_that_lie_close_together_makes_no_slope():
    """The first items of a batch end, each a few seconds later than it was thought to."""
    true = Pace(0.26, 0.02)
    seconds = {64: 800 * (true.step + true.item * 64)}
    tokens = {64: 800 * 64}
    for b in range(57, 64):  # as they are read
        seconds[b], tokens[b] = 10 * (true.step + true.item * b) + 9, 10 * b
    left = Ahead(tokens=5_000, steps=300)
    found = pace(seconds, tokens, 13.0)
    assert 1 / 1.5 < found.seconds(left) / true.seconds(left) < 1.5


def test_nothing_is_measured_before_a_token():
    assert pace({}, {}) is None and pace({8: 1.0}, {8: 0}) is None
