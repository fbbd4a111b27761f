"""The throughput model: by hand, beside TokenRouter's published predictions, and two ways."""

import pytest

from r2r.errors import ConfigError
from r2r.throughput import Forward, Pair, Timed, Turns, best, exact, expected, simulated

# arXiv 2610.12242: p = 0.35, an SLM step 6.0 ms, an LLM step 27.9 ms, one on each GPU.
TOKENROUTER = Pair(Forward({1: 0.006}), Forward({1: 0.0279}))
PREDICTED = {2: [99.0, 110.3], 3: [142.3, 158.1, 151.9], 4: [187.2, 195.4, 207.9, 190.7]}
GROWING = Forward({1: 1.0, 8: 2.0})


@pytest.mark.parametrize("way", [exact, simulated])
@pytest.mark.parametrize("requests", PREDICTED)
def test_tokenrouters_predictions(requests, way):
    turns, said = Turns.routed(0.35), PREDICTED[requests]
    found = [way(TOKENROUTER, turns, requests, enough=n + 1) for n in range(len(said))]
    assert found == pytest.approx(said, rel=0.015)
    assert found.index(max(found)) == said.index(max(said))
    assert best(TOKENROUTER, turns, requests)[0] == said.index(max(said)) + 1


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("handoff", [0.05, 0.35])
@pytest.mark.parametrize("requests", [2, 4, 6])
def test_the_chain_and_the_simulation_agree(requests, handoff, together):
    pair = Pair(GROWING, Forward({1: 3.0, 8: 4.0}), together=together)
    for enough in {1, 2, requests}:
        one = exact(pair, Turns.routed(handoff), requests, enough=enough)
        other = simulated(pair, Turns.routed(handoff), requests, enough=enough, calls=20_000)
        assert other == pytest.approx(one, rel=0.02)


def test_one_request_waits_for_nobody():
    pair = Pair(Forward({1: 1.0}), Forward({1: 5.0}), handoff=0.5)
    assert expected(pair, Turns.routed(0.1), 1) == pytest.approx(10 / (10 + 5.5))
    drafts = Turns(steps=4, tokens=3.2, fixed=True)
    assert expected(pair, drafts, 1) == pytest.approx(3.2 / (4 + 5.5))
    stitched = Turns(steps=20, tokens=25, forwards=6)
    assert expected(pair, stitched, 1) == pytest.approx(25 / (20 + 30.5))
    for turns in (Turns.routed(0.1), drafts, stitched):
        alone = simulated(pair, turns, 1, calls=40_000)
        assert alone == pytest.approx(expected(pair, turns, 1), rel=0.02)


def test_requests_of_one_device_share_its_time():
    """In turns, all that hand over at once, forwards that cost the same for any number."""
    pair = Pair(Forward({1: 1.0}), Forward({1: 5.0}), together=False)
    drafts = Turns(steps=4, tokens=3.0, fixed=True)
    assert simulated(pair, drafts, 8) == pytest.approx(8 * 3 / 9, rel=0.01)


def test_side_by_side_is_never_slower_than_in_turns():
    for requests in (1, 3, 8):
        rates = [
            simulated(Pair(GROWING, GROWING, together=together), Turns.routed(0.2), requests)
            for together in (True, False)
        ]
        assert rates[0] >= 0.99 * rates[1]


def test_the_way_to_the_llm_costs_time():
    rates = [
        simulated(Pair(GROWING, GROWING, handoff=way), Turns.routed(0.2), 4) for way in (0.0, 2.0)
    ]
    assert rates[1] < 0.9 * rates[0]


def test_a_forward_between_and_beyond_what_was_measured():
    forward = Forward({1: 1.0, 4: 1.6, 8: 3.2})
    assert [forward(n) for n in (1, 2, 4, 6, 8, 12)] == pytest.approx([1, 1.2, 1.6, 2.4, 3.2, 4.8])
    assert Forward({4: 2.0})(99) == 2.0
    assert Timed(forward, forward, forward, 8).alone(8) == pytest.approx(8 / 3.2)
    for wrong in ({}, {1: 0.0}):
        with pytest.raises(ConfigError, match="above 0"):
            Forward(wrong)


def test_what_the_model_does_not_hold_is_refused():
    pair = Pair(GROWING, GROWING)
    with pytest.raises(ConfigError, match="1 to 4, got 5"):
        simulated(pair, Turns.routed(0.1), 4, enough=5)
    with pytest.raises(ConfigError, match="use simulated"):
        exact(pair, Turns(steps=4, tokens=3, fixed=True), 2)
    with pytest.raises(ConfigError, match="use simulated"):
        exact(Pair(Forward({1: 0.0071}), Forward({1: 0.31, 64: 0.97})), Turns.routed(0.1), 64)
    with pytest.raises(ConfigError, match="at least 1"):
        Turns(steps=0.5, tokens=1)
