"""FewLabelClassifier on digits beside a ridge on the labelled alone: labels named by it, wrong ones, skewed classes."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, make_moons

from hebbcore.classify import FewLabelClassifier
from hebbcore.classify.linear import labelled_predictor

DRAWS = 3


@pytest.fixture(scope="module")
def digits():
    """A classifier fitted to all digits without labels, and their classes."""
    data = load_digits()
    return FewLabelClassifier().fit(data.data.astype(np.float32), np.full(len(data.target), -1)), data.target


@pytest.fixture(scope="module")
def skewed():
    """The same of classes of falling sizes, the first 20 times the last."""
    data = load_digits()
    kept = [np.flatnonzero(data.target == c)[: int(174 * 20 ** (-c / 9))] for c in range(10)]
    chosen = np.concatenate(kept)
    features = data.data[chosen].astype(np.float32)
    return FewLabelClassifier().fit(features, np.full(len(chosen), -1)), data.target[chosen]


def right(model, true, where, given=None):
    """Return the share of right guesses among images without labels, of the model and of the ridge, in percent."""
    y = np.full(len(true), -1)
    y[where] = true[where] if given is None else given
    model.relearn(y)
    hidden = y < 0
    coef, intercept = labelled_predictor(model._images.rows[where], np.unique(y[where], return_inverse=True)[1], 10)
    ridge = (model._images.rows @ coef + intercept)[:, : len(model.classes_)].argmax(axis=1)
    guesses = model.transduction_, model.classes_[ridge]
    return [100 * np.mean(found[hidden] == true[hidden]) for found in guesses]


def at_random(true, count, draw):
    return np.random.default_rng(draw).permutation(len(true))[:count]


@pytest.mark.parametrize(("count", "more", "than_random"), [(10, 10, 20), (40, 5, -1)])
def test_images_that_it_names_are_worth_more_than_random_ones(digits, count, more, than_random):
    model, true = digits
    found = []
    for draw in range(DRAWS):
        model._seed = draw
        model.relearn(np.full(len(true), -1))
        where = model.suggest(count)
        found.append([*right(model, true, where), *right(model, true, at_random(true, count, draw))])
    named, ridge, random, _ = np.mean(found, axis=0)
    assert named > ridge + more
    assert named > random + than_random


@pytest.mark.parametrize(("count", "more"), [(40, 20), (100, 10)])
def test_a_fifth_of_the_labels_wrong_costs_it_less(digits, count, more):
    model, true = digits
    found = []
    for draw in range(DRAWS):
        where, random = at_random(true, count, draw), np.random.default_rng(draw)
        given = true[where].copy()
        given[::5] = (given[::5] + random.integers(1, 10, len(given[::5]))) % 10
        found.append(right(model, true, where, given))
    few, ridge = np.mean(found, axis=0)
    assert few > ridge + more


@pytest.mark.parametrize(("count", "more"), [(40, 1), (100, 0)])
def test_skewed_classes_are_no_worse(skewed, count, more):
    model, true = skewed
    few, ridge = np.mean([right(model, true, at_random(true, count, draw)) for draw in range(DRAWS)], axis=0)
    assert few > ridge + more


@pytest.mark.parametrize(
    ("data", "least"), [(make_moons(400, noise=0.08, random_state=0), 97), (load_iris(return_X_y=True), 88)]
)
def test_classes_of_few_features_that_no_plane_parts(data, least):
    features, true = data
    found = []
    for draw in range(DRAWS):
        order, y = np.random.default_rng(draw).permutation(len(true)), np.full(len(true), -1)
        for number in np.unique(true):
            chosen = order[true[order] == number][:3]
            y[chosen] = number
        model = FewLabelClassifier().fit(features, y)
        found.append(100 * np.mean(model.transduction_[y < 0] == true[y < 0]))
        np.testing.assert_array_equal(model.predict(features)[y < 0], model.transduction_[y < 0])
    assert np.mean(found) > least
