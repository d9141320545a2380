"""Weights of rows and classes, and probabilities, of RidgeReadout."""

import itertools
import tracemalloc

import numpy as np
import pytest
from ridge_helpers import ALPHAS
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from hebbcore.evaluation import RidgeReadout, sgd_stream
from hebbcore.evaluation.ridge import holdout
from hebbcore.evaluation.ridge import rows as ridge_rows

pytest_plugins = "ridge_helpers"


def problem(generator, rows=120, features=12, classes=4, dtype=np.float64, noise=1.0):
    """Return features of overlapping classes of different sizes, and labels."""
    labels = np.minimum(generator.integers(0, classes + 2, rows), classes - 1)
    labels[:classes] = np.arange(classes)
    values = 0.4 * generator.normal(size=(classes, features))[labels] + noise * generator.normal(size=(rows, features))
    return (values * np.linspace(0.3, 3, features) + 1).astype(dtype), labels


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4)])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("rows", [120, 9])  # 12 features
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.25}])
@pytest.mark.parametrize("weighted", [True, False])
def test_weights_agree_with_ridge_classifier(
    dtype, tolerance, classes, fit_intercept, rows, class_weight, weighted, generator
):
    features, labels = problem(generator, rows, classes=classes, dtype=dtype)
    weights = generator.uniform(0.1, 4, rows) if weighted else None
    options = {"fit_intercept": fit_intercept, "class_weight": class_weight}
    model = RidgeReadout(2.0, **options).fit(features, labels, sample_weight=weights)
    expected = RidgeClassifier(2.0, **options).fit(features.astype(np.float64), labels, sample_weight=weights)
    np.testing.assert_allclose(model.coef_, np.atleast_2d(expected.coef_), rtol=0, atol=tolerance)
    np.testing.assert_allclose(model.intercept_, np.broadcast_to(expected.intercept_, len(model.coef_)), atol=tolerance)
    assert model.score(features, labels, weights) == pytest.approx(
        accuracy_score(labels, model.predict(features), sample_weight=weights)
    )
    if class_weight == "balanced":
        return
    cut = [slice(0, 1), slice(1, 5), slice(5, rows)]
    batches = [(features[part], labels[part], None if weights is None else weights[part]) for part in cut]
    streamed = RidgeReadout(2.0, **options).fit_stream(batches)
    np.testing.assert_allclose(streamed.coef_, np.atleast_2d(expected.coef_), rtol=0, atol=tolerance)
    partial = RidgeReadout(2.0, **options)
    for rows_, names, some in batches:
        partial.partial_fit(rows_, names, sample_weight=some)
    np.testing.assert_array_equal(partial.coef_, streamed.coef_)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize("rows", [120, 10])
def test_weighted_deviations_standardise(rows, generator):
    features, labels = problem(generator, rows)
    features[:, 4] = 0.5  # scikit-learn leaves a constant feature unscaled
    weights = generator.uniform(0.1, 4, rows)
    expected = make_pipeline(StandardScaler(), RidgeClassifier(2.0))
    with np.errstate(invalid="ignore"):  # the variance of the constant is below 0 by rounding there
        expected.fit(features, labels, standardscaler__sample_weight=weights, ridgeclassifier__sample_weight=weights)
    model = RidgeReadout(2.0, standardize=True).fit(features, labels, weights)
    np.testing.assert_allclose(
        model.decision_function(features), expected.decision_function(features), rtol=0, atol=1e-9
    )


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize("alphas", [1.0, ALPHAS])
@pytest.mark.parametrize("rows", [90, 8])
@pytest.mark.parametrize("class_weight", [None, {1: 5.0}])
@pytest.mark.parametrize("fraction", [0.3, None])
def test_whole_weights_are_repeated_rows(alphas, rows, class_weight, fraction, generator):
    for _ in range(5):
        features, labels = problem(generator, rows, classes=3)
        weights = generator.integers(0, 4, rows)
        weights[:3] = 2
        model = RidgeReadout(alphas, class_weight=class_weight, validation_fraction=fraction)
        order = generator.permutation(rows)
        weighted = clone(model).fit(features[order], labels[order], weights[order])
        repeated = clone(model).fit(features.repeat(weights, axis=0), labels.repeat(weights))
        assert weighted.alpha_ == repeated.alpha_
        np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-9)
        if alphas is ALPHAS:
            np.testing.assert_allclose(weighted.validation_scores_, repeated.validation_scores_)
            np.testing.assert_allclose(weighted.predict_proba(features), repeated.predict_proba(features))


@pytest.mark.parametrize("alphas", [1.0, ALPHAS])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("rows", [120, 9])
@pytest.mark.parametrize("fraction", [0.1, None])
def test_weight_zero_is_no_row(alphas, class_weight, rows, fraction, generator):
    features, labels = problem(generator, rows, classes=2)
    weights = (generator.random(rows) < 0.7).astype(float)
    weights[[0, 1, 2, 3]] = 1
    labels[2:4] = [0, 1]
    features[weights == 0] *= 1e3
    kept = weights > 0
    model = RidgeReadout(alphas, class_weight=class_weight, validation_fraction=fraction)
    weighted, left = clone(model).fit(features, labels, weights), clone(model).fit(features[kept], labels[kept])
    np.testing.assert_allclose(weighted.coef_, left.coef_, atol=1e-12)
    if alphas is ALPHAS:
        np.testing.assert_array_equal(weighted.validation_scores_, left.validation_scores_)
    if class_weight is None and rows == 120:
        streamed = clone(model).fit_stream([(features, labels, weights)])
        np.testing.assert_array_equal(streamed.coef_, clone(model).fit_stream([(features[kept], labels[kept])]).coef_)


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 4.0}])
def test_the_penalty_is_chosen_by_weighted_accuracy(class_weight, generator, monkeypatch):
    features, labels = problem(generator, 150, classes=3)
    weights = generator.uniform(0.1, 5, 150)
    held = generator.random(150) < 0.4
    monkeypatch.setattr(ridge_rows, "validation_rows", lambda *arguments: held)
    model = RidgeReadout(ALPHAS, class_weight=class_weight, validation_fraction=0.4).fit(features, labels, weights)
    whole = weights * compute_sample_weight(class_weight, labels)
    parts = [
        RidgeClassifier(alpha).fit(features[~held], labels[~held], whole[~held]).score(
            features[held], labels[held], whole[held]
        )
        for alpha in ALPHAS
    ]  # fmt: skip
    np.testing.assert_allclose(model.validation_scores_, parts)
    assert len(set(parts)) > 1


def test_streams_weigh_their_held_out_rows(generator, monkeypatch):
    features, labels = problem(generator, 200, classes=3)
    weights = generator.uniform(0.1, 5, 200)
    model = RidgeReadout(ALPHAS, validation_fraction=0.1)
    found = clone(model).fit_stream([(features, labels, weights)])
    other = clone(model).fit_stream(
        [(features[:70], labels[:70], weights[:70]), (features[70:], labels[70:], weights[70:])]
    )
    np.testing.assert_array_equal(found.validation_scores_, other.validation_scores_)
    np.testing.assert_allclose(found.predict_proba(features), other.predict_proba(features))
    assert not np.array_equal(
        found.validation_scores_, clone(model).fit_stream([(features, labels)]).validation_scores_
    )
    final = RidgeClassifier(found.alpha_).fit(features, labels, weights)
    np.testing.assert_allclose(found.coef_, final.coef_, atol=1e-9)
    monkeypatch.setattr(holdout, "HELD_BYTES", 8 * features[0].nbytes)  # rows that are given up keep their weights
    thinned = RidgeReadout(found.alpha_ * np.ones(2), validation_fraction=0.1).fit_stream(
        [(features[i : i + 9], labels[i : i + 9], weights[i : i + 9]) for i in range(0, 200, 9)]
    )
    np.testing.assert_allclose(thinned.coef_, final.coef_, atol=1e-9)


@pytest.mark.parametrize(("weight", "singly"), [(0.3, True), (1.0, True), (1.5, False), (2.0, False)])
def test_arrays_and_streams_count_weights_alike(weight, singly, generator, monkeypatch):
    monkeypatch.setattr(holdout, "FEW", 150)
    features, labels = problem(generator, 120)
    weights = np.full(120, weight)
    model = RidgeReadout(ALPHAS)
    fits = clone(model).fit(features, labels, weights), clone(model).fit_stream([(features, labels, weights)])
    for fitted in fits:
        assert (fitted.validation_scores_ < 0).all() == singly  # likelihoods, else accuracies
    if singly:
        np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)


def test_sgd_stream_takes_weights(generator):
    features, labels = problem(generator, 200, classes=3, noise=0.3)
    weights = np.where(labels == 2, 0.0, 1.0)
    kept = labels != 2
    features[:, 4] = 0.5
    weighted = sgd_stream([(features, labels, weights)])
    alone = sgd_stream([(features[kept], labels[kept])])
    np.testing.assert_array_equal(weighted["classifier"].coef_, alone["classifier"].coef_)
    heavy = sgd_stream([(features, labels, np.where(labels == 0, 50.3, 1.0))])
    assert (heavy.predict(features) == 0).sum() > (sgd_stream([(features, labels)]).predict(features) == 0).sum()


X, Y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("options", "weights", "message"),
    [
        ({}, [1, 1, 1], r"sample_weight must be one number for each of the 4 rows, or 1D, got shape \(3,\)"),
        ({}, [1, 1, 1, -1], "sample_weight must be finite and not below 0; weight 0 leaves a row out"),
        ({}, [1, 1, 1, np.nan], "sample_weight must be finite"),
        ({}, list("abcd"), "sample_weight must be one number"),
        ({}, np.zeros(4), "sample_weight is zero for every labelled row"),
        ({}, [1, 0, 1, 0], r"labels must have at least 2 classes, got 1 class \(0\)"),
        ({"class_weight": {0: 2.0, 7: 1.0}}, None, r"class_weight has 7, which is no class; they are \[0 1\]"),
        ({"class_weight": {0: 0}}, None, "class_weight of 0 must be above 0, got 0"),
        ({"class_weight": "auto"}, None, "class_weight must be a dict, \"balanced\" or None, got 'auto'"),
        ({"class_weight": [1, 2]}, None, 'class_weight must be a dict, "balanced" or None'),
    ],
)
def test_bad_weights_are_refused(options, weights, message):
    with pytest.raises(ValueError, match=f"RidgeReadout.fit: {message}"):
        RidgeReadout(1.0, **options).fit(X, Y, weights)


def test_balanced_streams_are_refused():
    for use in (lambda model: model.fit_stream([(X, Y)]), lambda model: model.partial_fit(X, Y)):
        with pytest.raises(
            ValueError, match="class_weight must be a dict or None, got 'balanced': how many rows a class"
        ):
            use(RidgeReadout(1.0, class_weight="balanced"))
    with pytest.raises(ValueError, match="class_weight has 7, which is no class"):
        RidgeReadout(1.0, class_weight={7: 2.0}).fit_stream([(X, Y)])


# Probabilities


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weighted", [True, False])
def test_probabilities_are_those_most_likely_on_the_held_out_rows(classes, weighted, generator, monkeypatch):
    features, labels = problem(generator, 600, classes=classes)
    weights = generator.uniform(0.5, 2, 600) if weighted else np.ones(600)
    held = np.arange(600) % 3 == 0
    monkeypatch.setattr(ridge_rows, "validation_rows", lambda *arguments: held)
    model = RidgeReadout((5.0, 5.0), validation_fraction=0.3).fit(features, labels, weights)
    rest = RidgeClassifier(5.0).fit(features[~held], labels[~held], weights[~held])

    def scores_of(fitted, rows):
        scores = fitted.decision_function(rows)
        return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores

    def likely(factor, rows, fitted):
        powers = np.exp(factor * scores_of(fitted, rows))
        return powers / powers.sum(axis=1, keepdims=True)

    def loss(factor):
        found, total = likely(factor, features[held], rest), weights[held].sum()
        even = -(np.log(found).mean(axis=1) * weights[held]).sum() / total
        return log_loss(labels[held], found, normalize=False, sample_weight=weights[held]) + even

    best = minimize_scalar(loss, bounds=(1e-3, 50), method="bounded", options={"xatol": 1e-10}).x
    found = model.predict_proba(features)
    np.testing.assert_allclose(found, likely(best, features, model), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(model.classes_[found.argmax(axis=1)], model.predict(features))


def test_probabilities_are_calibrated(generator):
    features, labels = problem(generator, 6000, classes=3)
    model = RidgeReadout().fit(features[:3000], labels[:3000])
    found = model.predict_proba(features[3000:])
    sure = found.max(axis=1)
    right = found.argmax(axis=1) == labels[3000:]
    edges = np.quantile(sure, [0, 0.25, 0.5, 0.75, 1])
    for low, high in itertools.pairwise(edges):
        some = (sure >= low) & (sure <= high)
        assert abs(sure[some].mean() - right[some].mean()) < 0.06
    held = RidgeReadout(validation_fraction=0.1).fit_stream([(features[:3000], labels[:3000])])
    streamed = held.predict_proba(features[3000:])
    np.testing.assert_allclose(streamed, found, atol=0.1)


@pytest.mark.parametrize("flipped", [False, True])
def test_rows_that_are_all_right_or_all_wrong_have_finite_probabilities(flipped, generator, monkeypatch):
    features = np.concatenate([generator.normal(-5, 1, (40, 2)), generator.normal(5, 1, (40, 2))])
    labels, held = np.repeat([0, 1], 40), np.arange(80) % 4 == 0
    if flipped:
        labels[held] = 1 - labels[held]
    monkeypatch.setattr(ridge_rows, "validation_rows", lambda *arguments: held)
    model = RidgeReadout((1.0, 2.0), validation_fraction=0.25)
    found = model.fit(features[:, :1], labels).predict_proba(features[:, :1])
    assert np.isfinite(found).all()
    assert (found.max() < 0.51) == flipped


@pytest.mark.parametrize("alphas", [1.0, [1.0], np.float32(2)])
def test_without_held_out_rows_there_are_no_probabilities(alphas, generator):
    model = RidgeReadout(alphas).fit(*problem(generator))
    assert not hasattr(model, "predict_proba")
    with pytest.raises(AttributeError) as error:
        model.predict_proba(X)
    assert "give several alphas" in str(error.value.__cause__)


def test_many_classes_take_a_bounded_memory(generator, monkeypatch):
    monkeypatch.setattr(ridge_rows, "_BLOCK_BYTES", 2**18)
    classes, features = 400, 4
    rows = generator.normal(size=(20_000, features)).astype(np.float32)
    labels = np.arange(20_000) % classes
    tracemalloc.start()
    model = RidgeReadout(ALPHAS).fit_stream(
        [(rows[i : i + 4000], labels[i : i + 4000]) for i in range(0, 20_000, 4000)]
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.predict_proba(rows[:3]).shape == (3, classes)
    assert peak < 12e6  # the scores of the held-out rows together take 6.4 MB, of a batch 12.8 MB


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [200, 10])
@pytest.mark.parametrize("whole", [True, False])
def test_weights_and_probabilities_of_cupy_arrays(rows, whole, generator):
    cupy = pytest.importorskip("cupy")
    features, labels = problem(generator, rows, classes=3, dtype=np.float32)
    labels[3:6] = [0, 1, 2]
    weights = generator.integers(1, 4, rows).astype(float) if whole else generator.uniform(0.5, 2, rows)
    fraction = None if rows == 10 else 0.3
    model = RidgeReadout(ALPHAS, class_weight="balanced", validation_fraction=fraction)
    expected = clone(model).fit(features, labels, weights)
    fitted = clone(model).fit(cupy.asarray(features), cupy.asarray(labels), cupy.asarray(weights))
    assert fitted.alpha_ == expected.alpha_
    found = fitted.predict_proba(cupy.asarray(features))
    assert isinstance(found, cupy.ndarray)
    np.testing.assert_allclose(found.get(), expected.predict_proba(features), atol=1e-3)
    score = fitted.score(cupy.asarray(features), cupy.asarray(labels), cupy.asarray(weights))
    assert score == pytest.approx(expected.score(features, labels, weights), abs=0.02)
