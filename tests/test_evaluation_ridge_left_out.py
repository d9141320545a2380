"""RidgeReadout of few rows: each is left out in turn to choose the penalty, against scikit-learn and the slow way."""

import itertools
import logging

import numpy as np
import pytest
from ridge_helpers import ALPHAS, cut, problem
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from hebbcore.evaluation import RidgeReadout, make_readout
from hebbcore.evaluation.ridge import holdout
from hebbcore.evaluation.ridge.calibration import sharpness
from hebbcore.evaluation.ridge.systems import RowsSystem, SumsSystem

pytest_plugins = "ridge_helpers"

FORMS = [(60, 12, SumsSystem), (12, 60, RowsSystem), (20, 20, SumsSystem)]  # rows, features
SMALL = 640  # bytes, in which no matrix of these has room


@pytest.fixture
def left_out(monkeypatch):
    """Collect the scores of left-out rows for each penalty, and the systems that gave them."""
    found, systems = [], []
    for system in (RowsSystem, SumsSystem):

        def noted(self, *rest, of=system.left_out):
            systems.append(type(self))
            found.append(of(self, *rest))
            return found[-1]

        monkeypatch.setattr(system, "left_out", noted)
    return found, systems


def targets_of(labels):
    targets = np.where(np.equal.outer(labels, np.unique(labels)), 1.0, -1.0)
    return targets[:, 1:] if targets.shape[1] == 2 else targets


def slow_scores(features, labels, alpha, weights, units, **options):
    """Return the scores of each row by Ridge of the others, and of what is left of its own weight."""
    targets, found = targets_of(labels), []
    for row in range(len(labels)):
        rest = weights.copy()
        rest[row] -= units[row]
        model = Ridge(alpha, **options).fit(features, targets, sample_weight=rest)
        found.append(model.predict(features[row : row + 1]).reshape(-1))
    return np.array(found)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize(("rows", "features", "system"), FORMS)
@pytest.mark.parametrize("memory", [SMALL, "4 GiB"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-8)])
def test_errors_and_coefficients_are_those_of_ridge_cv(
    rows, features, system, memory, classes, fit_intercept, dtype, tolerance, generator, left_out
):
    x, labels = problem(generator, rows, features, classes, dtype, offset=2)
    alphas = ALPHAS if rows != features else (1.0, 10.0, 100.0)  # a smaller one leaves float32 few digits there
    for weights in (None, generator.uniform(0.1, 4, rows)):
        left_out[0].clear()
        options = {"fit_intercept": fit_intercept, "memory": memory}
        model = RidgeReadout(alphas, **options).fit(x, labels, weights)
        assert set(left_out[1]) == {system}
        expected = RidgeCV(alphas, fit_intercept=fit_intercept, store_cv_results=True)
        expected.fit(x.astype(np.float64), targets_of(labels), weights)
        errors = np.stack([(targets_of(labels) - scores) ** 2 for scores in left_out[0]], axis=-1)
        errors *= 1 if weights is None else weights[:, None, None]
        wanted = expected.cv_results_.reshape(errors.shape)
        np.testing.assert_allclose(errors, wanted, rtol=0, atol=tolerance * wanted.max())
        assert alphas[errors.mean(axis=(0, 1)).argmin()] == expected.alpha_
        coefficients = Ridge(model.alpha_, fit_intercept=fit_intercept)
        coefficients.fit(x.astype(np.float64), targets_of(labels), weights)
        np.testing.assert_allclose(model.coef_, np.atleast_2d(coefficients.coef_), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize(("rows", "features"), [(30, 12), (12, 30)])
@pytest.mark.parametrize("class_weight", [None, {1: 3.0}, "balanced"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_unit_of_a_weighted_row_is_left_out(rows, features, class_weight, whole, generator, left_out):
    x, labels = problem(generator, rows, features, 3, np.float64)
    weights = generator.integers(1, 4, rows).astype(float) if whole else generator.uniform(0.1, 4, rows)
    factors = {"balanced": rows / (3 * np.bincount(labels)), None: np.ones(3)}.get(
        class_weight if isinstance(class_weight, str) else None, np.ones(3)
    )
    if isinstance(class_weight, dict):
        factors = np.array([1.0, 3.0, 1.0])
    factor = factors[labels]
    RidgeReadout(ALPHAS, class_weight=class_weight).fit(x, labels, weights)
    for alpha, found in zip(ALPHAS, left_out[0], strict=True):
        units = factor if whole else factor * weights
        np.testing.assert_allclose(found, slow_scores(x, labels, alpha, factor * weights, units), atol=1e-8)


@pytest.mark.parametrize(("rows", "features"), [(60, 12), (12, 60)])
def test_scales_are_those_of_all_rows(rows, features, generator, left_out):
    x, labels = problem(generator, rows, features, 3, np.float64, offset=3)
    x[:, 4] = 0.1  # a constant feature stays unscaled
    make_readout("ridge").fit(x, labels)
    scaled = StandardScaler().fit_transform(x)
    for alpha, found in zip(RidgeReadout().alphas, left_out[0], strict=True):
        one = np.ones(rows)
        if alpha >= 0.1:
            np.testing.assert_allclose(found, slow_scores(scaled, labels, alpha, one, one), atol=1e-7)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_penalty_that_makes_left_out_labels_most_likely_is_chosen(classes, weighted, generator, left_out):
    x, labels = problem(generator, 80, 12, classes, np.float64, noise=0.6)
    weights = generator.uniform(0.5, 2, 80) if weighted else np.ones(80)
    model = RidgeReadout((0.1, 10.0, 1000.0)).fit(x, labels, weights)
    likely, factors = [], []
    for scores in left_out[0]:
        both = scores if classes > 2 else np.concatenate([-scores, scores], axis=1)

        def logs(factor, both=both):
            return factor * both - np.log(np.exp(factor * both).sum(axis=1, keepdims=True))

        def own(factor, logs=logs):
            return weights @ logs(factor)[np.arange(80), labels]

        def loss(factor, logs=logs, own=own):  # a row's weight is spread over all classes
            return -own(factor) - weights @ logs(factor).mean(axis=1) / weights.sum()

        factors.append(minimize_scalar(loss, bounds=(1e-3, 50), method="bounded", options={"xatol": 1e-9}).x)
        likely.append(own(factors[-1]) / weights.sum())
    np.testing.assert_allclose(model.validation_scores_, likely, rtol=1e-6)
    best = int(np.argmax(likely))
    assert model.alpha_ == (0.1, 10.0, 1000.0)[best]
    powers = np.exp(factors[best] * np.stack(np.broadcast_arrays(*decisions(model, x)), axis=1))
    np.testing.assert_allclose(model.predict_proba(x), powers / powers.sum(axis=1, keepdims=True), atol=1e-6)


def decisions(model, features):
    scores = model.decision_function(features)
    return (-scores, scores) if scores.ndim == 1 else scores.T


def test_the_number_of_rows_decides(generator, monkeypatch):
    monkeypatch.setattr(holdout, "FEW", 50)
    x, labels = problem(generator, 51, 12, 3)
    found = {rows: RidgeReadout(ALPHAS).fit(x[:rows], labels[:rows]).validation_scores_ for rows in (50, 51)}
    assert (found[50] < 0).all()
    held = RidgeReadout(ALPHAS, validation_fraction=holdout.FRACTION).fit(x, labels)
    np.testing.assert_array_equal(found[51], held.validation_scores_)
    weights = np.r_[2, np.ones(49)]  # 51 rows
    doubled = RidgeReadout(ALPHAS).fit(x[:50], labels[:50], weights)
    assert (doubled.validation_scores_ >= 0).all()
    assert (RidgeReadout(ALPHAS).fit(x[:50], labels[:50], weights / 2).validation_scores_ < 0).all()
    assert (RidgeReadout(ALPHAS, validation_fraction=0.3).fit(x[:20], labels[:20]).validation_scores_ >= 0).all()


@pytest.mark.parametrize("names", [["b", "a", "c"], [7, 1, 3], ["yes", "no"]])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("features", [12, 80])
def test_a_stream_of_few_rows_is_their_array(names, weighted, features, generator):
    x, codes = problem(generator, 60, features, len(names))
    labels = np.array(names)[codes]
    weights = generator.uniform(0.5, 2, 60) if weighted else np.ones(60)
    model = RidgeReadout(ALPHAS, class_weight={names[0]: 2.0}, standardize=True)
    expected = clone(model).fit(x, labels, weights)
    for ends in ([], [1, 30, 31]):
        edges = itertools.pairwise([0, *ends, 60])
        batches = [(x[i:j], labels[i:j], weights[i:j]) for i, j in edges]
        partial = clone(model)
        for some, theirs, own in batches:
            reused = some.copy()
            partial.partial_fit(reused, theirs, sample_weight=own)
            reused[...] = np.nan  # as loaders that fill the same buffer do
            if len(partial.classes_) > 1:
                partial.predict(some)
        for found in (clone(model).fit_stream(iter(batches)), partial):
            np.testing.assert_array_equal(found.validation_scores_, expected.validation_scores_)
            np.testing.assert_array_equal(found.coef_, expected.coef_)
            np.testing.assert_array_equal(found.predict_proba(x), expected.predict_proba(x))


@pytest.mark.parametrize("kept", [True, False])
def test_a_stream_of_more_rows_is_held_out_from(kept, generator, monkeypatch):
    x, labels = problem(generator, 120, 12, 3)
    model = RidgeReadout(ALPHAS, memory="4 GiB" if kept else 8 * 60 * x[0].nbytes)
    if kept:
        monkeypatch.setattr(holdout, "FEW", 60)
    expected = RidgeReadout(ALPHAS, validation_fraction=holdout.FRACTION).fit_stream([(x, labels)])
    for ends in ([], [7, 59, 61], [60]):
        found = clone(model).fit_stream(cut(x, labels, *ends))
        np.testing.assert_array_equal(found.validation_scores_, expected.validation_scores_)
        np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-5)
        whole = clone(model).fit_stream(cut(x[:60], labels[:60], 30))
        assert (whole.validation_scores_ < 0).all()


@pytest.mark.parametrize("rows", [60, 100])  # of 100 and 60 features: both systems
@pytest.mark.parametrize(("dtype", "small"), [(np.float32, 0.3), (np.float64, 1e-9)])
def test_a_penalty_within_the_rounding_is_not_chosen(rows, dtype, small):
    alphas = (small, 3 * small, 10 * small, 1e4, 1e5)
    for seed in range(4):
        random = np.random.default_rng(seed)
        hidden = random.normal(size=(rows, 20))
        labels = (hidden[:, 0] + 0.5 * random.normal(size=len(hidden)) > 0).astype(int)
        x = (30 * hidden @ random.normal(size=(20, 160 - rows))).astype(dtype)  # of rank 20
        model = RidgeReadout(alphas).fit(x, labels)
        assert model.alpha_ >= 1e4
        assert np.isnan(model.validation_scores_[:3]).all()
        np.testing.assert_array_equal(model.coef_, RidgeReadout(alphas[3:]).fit(x, labels).coef_)
    with pytest.raises(ValueError, match="are too small for rounding; add larger ones"):
        RidgeReadout(alphas[:3]).fit(x, labels)


def test_penalties_far_below_independent_rows_stay(generator):
    x, labels = 30 * generator.normal(size=(20, 60)), np.arange(20) % 2
    for options in ({}, {"fit_intercept": False}, {"standardize": True}):
        assert not np.isnan(RidgeReadout(**options).fit(x.astype(np.float32), labels).validation_scores_).any()


def test_classes_that_do_not_come_are_never_taken(generator):
    x, labels = problem(generator, 60, 12, 3)
    model = RidgeReadout(ALPHAS).fit_stream([(x, labels)], classes=[5, 0, 1, 2])
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 5])
    np.testing.assert_allclose(model.coef_[:3], RidgeReadout(model.alpha_).fit(x, labels).coef_, atol=1e-5)
    assert 5 not in model.predict(x)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [0, 0, 1]])
def test_a_row_a_class_is_enough(labels, generator):
    x = generator.normal(size=(len(labels), 5))
    model = RidgeReadout().fit(x, labels)
    assert np.isfinite(model.validation_scores_).all()
    assert np.isfinite(model.predict_proba(x)).all()
    np.testing.assert_array_equal(RidgeReadout((0.01, 0.1)).fit(x, labels).predict(x), labels)


@pytest.mark.parametrize("fraction", [0.3, None])
def test_a_choice_at_the_end_of_the_list_is_said(fraction, generator, caplog):
    x, labels = problem(generator, 200, 12, 3, np.float64)
    noisy = np.concatenate([x, generator.normal(size=(200, 180))], axis=1)
    for features, alphas, said in (
        (x, (1e9, 1e3, 1e6), "smallest, 1000; smaller ones"),
        (noisy, (100.0, 1e-3), "largest, 100; larger ones"),
        (x, (1e-6, 1e-3), None),  # equal
        (x, (1e-6, 1.0, 1e9), None),
        (x, (3.0,), None),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hebbcore"):
            RidgeReadout(alphas, validation_fraction=fraction).fit(features, labels)
        wanted = f"RidgeReadout.fit: the best of alphas is the {said} may be better"
        assert caplog.messages == ([] if said is None else [wanted])


def most_likely(scores, codes, weights):
    """Return the factor of scores under which classes are most likely, one row being of all classes alike."""

    def cost(logarithm):
        powers = np.exp(logarithm) * scores
        powers = powers - powers.max(axis=1, keepdims=True)
        likely = powers - np.log(np.exp(powers).sum(axis=1, keepdims=True))
        return -(weights @ likely[np.arange(len(codes)), codes] + weights @ likely.mean(axis=1) / weights.sum())

    return np.exp(minimize_scalar(cost, bounds=(np.log(1e-3), np.log(1e6)), method="bounded").x)


def test_the_factor_of_probabilities_is_the_most_likely_wherever_steps_lead(generator):
    """Of the first scores the first step goes nearly to 0, from where the search has to come back."""
    rows = [[2, -2, 0], [0, -1, 0], [1, -1, 0], [-2, 2, -2], [0, -1, -2], [-1, 1, -2]]
    cases = [(np.array(rows, float), np.array([0, 0, 0, 2, 0, 1]), np.ones(6))]
    for size in (0.01, 0.1, 1, 10):
        for _ in range(25):
            scores, codes = generator.normal(size=(12, 3)), generator.integers(0, 3, 12)
            scores[np.arange(12), codes] += generator.uniform(0, 2)
            cases.append((size * scores, codes, generator.uniform(0.5, 2, 12)))
    for case in cases:
        np.testing.assert_allclose(sharpness([case].copy), most_likely(*case), rtol=1e-4, atol=1e-4)
