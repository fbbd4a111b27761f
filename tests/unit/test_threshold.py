import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from r2r.routers.threshold import (
    choose_threshold,
    curve,
    recall_at,
    recall_curve,
    threshold_at,
    threshold_of_share,
)

SIZE = st.shared(st.integers(1, 60), key="size")
# Few distinct values, so that ties between and within the classes are common.
SCORES = arrays(np.float32, SIZE, elements=st.sampled_from([0, 0.125, 0.25, 0.5, 0.75, 1]))
LABELS = arrays(np.int8, SIZE, elements=st.integers(0, 1)).filter(lambda x: x.any())
RECALL = st.floats(0.01, 1)


@given(SCORES, LABELS, RECALL)
def test_no_other_threshold_is_better(
    scores: np.ndarray, labels: np.ndarray, min_recall: float
) -> None:
    chosen = choose_threshold(scores, labels, min_recall)
    routed = scores >= chosen
    assert routed[labels == 1].mean() >= min_recall
    for other in np.unique(scores):
        if (scores >= other)[labels == 1].mean() >= min_recall:
            assert (scores >= other).mean() >= routed.mean()


@given(SCORES, LABELS)
def test_curve_counts_what_is_routed(scores: np.ndarray, labels: np.ndarray) -> None:
    thresholds = np.array([0, 0.3, *np.unique(scores), 1.1])
    found = curve(scores, labels, thresholds)
    for index, threshold in enumerate(thresholds):
        routed = scores >= threshold
        hits = (routed & (labels == 1)).sum()
        assert found.recall[index] == hits / labels.sum()
        assert found.positive_rate[index] == routed.mean()
        assert found.precision[index] == (hits / routed.sum() if routed.any() else 0)


@given(SCORES, st.floats(0.01, 1))
def test_a_share_is_reached_and_no_higher_threshold_reaches_it(
    scores: np.ndarray, share: float
) -> None:
    chosen = threshold_of_share(scores, share)
    assert (scores >= chosen).mean() >= share > (scores > chosen).mean()


@given(SCORES, LABELS, st.sampled_from([0, 0.2, 0.25, 0.6, 1, 1.1]))
def test_a_saved_curve_gives_any_thresholds_recall(
    scores: np.ndarray, labels: np.ndarray, threshold: float
) -> None:
    exact = curve(scores, labels, [threshold]).recall[0]
    assert exact - 0.01 < recall_at(recall_curve(scores, labels), threshold) <= exact


def test_it_is_the_lowest_score_that_must_be_caught() -> None:
    scores = np.linspace(0.01, 1, 100, dtype=np.float32)
    labels = np.zeros(100)
    labels[::5] = 1  # twenty: 0.95 of them are nineteen
    assert choose_threshold(scores, labels, 0.95) == pytest.approx(0.06)


def test_no_divergent_token_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one divergent token"):
        choose_threshold([0.1, 0.2], [0, 0], 0.95)


@pytest.mark.parametrize("recall", [0, -0.1, 1.01])
def test_a_recall_outside_its_range_is_refused(recall: float) -> None:
    with pytest.raises(ValueError, match="min_recall"):
        choose_threshold([0.1], [1], recall)


@given(SCORES, LABELS, st.sampled_from([0.05, 0.5, 0.95, 1]))
def test_a_saved_curve_gives_any_recalls_threshold(
    scores: np.ndarray, labels: np.ndarray, recall: float
) -> None:
    found = threshold_at(recall_curve(scores, labels), recall)
    assert found == choose_threshold(scores, labels, recall)
