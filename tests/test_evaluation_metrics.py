"""Metrics and labelled subsets against loops and known values."""

import itertools

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from hebbcore.evaluation import FRACTIONS, confusion_matrix, labelled_subset, mean_interval, top_k_accuracy

# Top-k


def slow_top_k(scores, labels, k, classes):
    hits = 0
    for row, label in zip(scores, labels, strict=True):
        ranked = sorted(range(len(row)), key=lambda i: (-row[i], i))
        hits += label in [classes[i] for i in ranked[:k]]
    return hits / len(scores)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("classes", [None, ["b", "a", "e", "d", "c"], [10, 30, -5, 2, 3]])
def test_top_k_agrees_with_a_loop_ties_included(k, classes, generator):
    scores = generator.integers(0, 3, (200, 5)).astype(np.float32)
    names = list(range(5)) if classes is None else classes
    labels = np.array(names)[generator.integers(0, 5, 200)]
    assert top_k_accuracy(scores, labels, k, classes) == pytest.approx(slow_top_k(scores, labels, k, names))


def test_top_1_is_the_accuracy_of_argmax(generator):
    scores, labels = generator.integers(0, 2, (100, 4)), generator.integers(0, 4, 100)
    assert top_k_accuracy(scores, labels) == pytest.approx((scores.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones(3), [0, 1, 2]), ValueError, r"scores must be \(n, features\) .* got shape \(3,\)"),
        ((np.eye(3), [0, 1]), ValueError, "labels must have one label for each of the 3 rows of scores"),
        ((np.eye(3), [0, 1, 2], 4), ValueError, r"k must be at most the number of classes \(3\), got 4"),
        ((np.eye(3), [0, 1, 2], 0), ValueError, "k must be at least 1, got 0"),
        ((np.eye(3), [0, 1, 3]), ValueError, "label 3 has no column of scores; pass the estimator's classes_"),
        ((np.eye(3), [0, 1, 2], 1, [0, 1]), ValueError, r"classes must name the 3 columns of scores, got shape \(2,\)"),
        ((np.eye(2) * np.nan, [0, 1]), ValueError, r"scores must be finite, but scores\[0\] is not"),
    ],
)
def test_bad_scores_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"top_k_accuracy: {message}"):
        top_k_accuracy(*arguments)


def test_the_confusion_matrix_is_scikit_learns():
    assert confusion_matrix is sklearn.metrics.confusion_matrix


# Intervals


@pytest.mark.parametrize("confidence", [0.95, 0.5])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_students(count, confidence, generator):
    values = generator.normal(size=count)
    mean, half_width = mean_interval(iter(values), confidence)
    low, high = stats.t.interval(confidence, count - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose((mean - half_width, mean + half_width), (low, high))


def test_a_known_interval_and_how_it_prints():
    interval = mean_interval([75.0, 76, 77])
    assert interval.half_width == pytest.approx(4.302652729911275 / 3**0.5)
    assert str(interval) == "76.0 ± 2.5"
    assert str(mean_interval([50])) == "50.0 ± inf"
    assert mean_interval([3.0, 3.0]) == (3.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), ValueError, "values must hold at least one figure, got none"),
        (([1, np.nan],), ValueError, "values must be finite, got nan"),
        ((["1"],), TypeError, "values must be a number, got '1'"),
        (([1, 2], 1.0), ValueError, "confidence must be between 0 and 1, got 1.0"),
    ],
)
def test_bad_figures_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"mean_interval: {message}"):
        mean_interval(*arguments)


# Labelled subsets


@pytest.mark.parametrize("how", ["published", "stratified"])
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_a_fraction_of_the_rows(how, fraction, generator):
    labels = generator.permutation(np.arange(2000) % 4)
    chosen = labelled_subset(labels, fraction, 3, how)
    assert len(chosen) == len(np.unique(chosen)) == round(2000 * fraction)
    np.testing.assert_array_equal(chosen, labelled_subset(labels, len(chosen), 3, how))
    assert fraction == 1 or set(chosen) != set(labelled_subset(labels, fraction, 4, how))
    if how == "published":
        np.testing.assert_array_equal(chosen, np.random.default_rng(3).permutation(2000)[: len(chosen)])
    else:
        np.testing.assert_array_equal(np.bincount(labels[chosen]), len(chosen) // 4)


@pytest.mark.parametrize("how", ["published", "stratified"])
def test_smaller_subsets_are_parts_of_larger_ones(how, generator):
    labels = generator.permutation(np.arange(1000) % 5)
    subsets = [labelled_subset(labels, fraction, 0, how) for fraction in FRACTIONS]
    for small, large in itertools.pairwise(subsets):
        assert set(small) < set(large)


@pytest.mark.parametrize("size", [4, 5, 7, 20, 77, 111])
def test_unequal_classes_keep_their_shares_and_one_row_at_least(size, generator):
    counts = np.array([100, 1, 8, 2])
    labels = np.array(["d", "a", "c", "b"])[generator.permutation(np.repeat(np.arange(4), counts))]
    chosen = labelled_subset(labels, size, 0, "stratified")
    assert len(chosen) == size
    quotas = np.array([(labels[chosen] == name).sum() for name in "dacb"])
    assert (quotas >= 1).all()
    assert (quotas <= counts).all()
    assert (quotas[1:] <= np.maximum(1, np.ceil(counts[1:] * size / 111))).all()


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ([100, 60, 1, 1, 1], 10, [5, 2, 1, 1, 1]),  # shares 6.1, 3.7 and three of 0.06
        ([50, 30, 20], 7, [4, 2, 1]),  # 3.5, 2.1, 1.4
        ([3, 100], 103, [3, 100]),
    ],
)
def test_rows_go_to_those_farthest_below_their_share_and_come_from_those_farthest_above(counts, size, expected):
    labels = np.repeat(np.arange(len(counts)), counts)
    chosen = labelled_subset(labels, size, 0, "stratified")
    np.testing.assert_array_equal(np.bincount(labels[chosen]), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1, 0, 1], 5), ValueError, r"size must be at most the number of rows \(4\), got 5"),
        (([0, 1, 0, 1], 0), ValueError, "size must be at least 1, got 0"),
        (([0, 1, 0, 1], 1.5), ValueError, "size as a fraction must be at most 1, got 1.5; write rows as an int"),
        (([0, 1, 0, 1], 0.0), ValueError, "size must be above 0, got 0.0"),
        (([0, 1, 0, 1], "all"), TypeError, "size must be a number, got 'all'"),
        (([0, 1, 0, 1], 0.1), ValueError, "0 of 4 rows cannot cover 2 classes; ask for more rows"),
        (([0, 1, 0, 1], 1, 0, "stratified"), ValueError, "1 of 4 rows cannot cover 2 classes"),
        (
            ([0] * 99 + [7], 3),
            ValueError,
            r"1 of 2 classes have no row among the 3, the first is 7; take more rows, ano",
        ),
        (([0, 1], 2, 0, "random"), ValueError, "how must be one of 'published', 'stratified'; got 'random'"),
        (([[0, 1]], 1), ValueError, r"labels must have one label for each of the 2 rows of labels, got shape \(1, 2\)"),
    ],
)
def test_bad_subsets_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"labelled_subset: {message}"):
        labelled_subset(*arguments)
