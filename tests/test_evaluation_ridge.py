"""RidgeReadout against scikit-learn's RidgeClassifier in float64, and what chooses its penalty."""

import pickle
import tracemalloc

import numpy as np
import pytest
from ridge_helpers import ALPHAS, problem, same_scores, slow_choice
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hebbcore.evaluation import RidgeReadout, principal_components
from hebbcore.evaluation.ridge import holdout, linear_system, sums
from hebbcore.evaluation.ridge import rows as ridge_rows

pytest_plugins = "ridge_helpers"


# under SCIPY_ARRAY_API=1: fitted arrays are NumPy's, and serve rows of every library
ANY_LIBRARY_MAY_FOLLOW = {"check_array_api_same_namespace": "another library than that of fit is welcome"}


@parametrize_with_checks(
    [RidgeReadout(), RidgeReadout(1.0, standardize=True, fit_intercept=False)],
    expected_failed_checks=lambda _: ANY_LIBRARY_MAY_FOLLOW,
)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4), (np.float16, 1e-4)])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("rows", [120, 12, 9])  # 12 features
@pytest.mark.parametrize("alpha", [0.1, 100])
def test_it_agrees_with_ridge_classifier(dtype, tolerance, classes, fit_intercept, rows, alpha, generator):
    features, labels = problem(generator, rows, classes=classes, dtype=dtype)
    model = RidgeReadout(alpha, fit_intercept=fit_intercept).fit(features, labels)
    expected = RidgeClassifier(alpha, fit_intercept=fit_intercept).fit(features.astype(np.float64), labels)
    np.testing.assert_allclose(model.coef_, np.atleast_2d(expected.coef_), rtol=0, atol=tolerance)
    np.testing.assert_allclose(model.intercept_, np.broadcast_to(expected.intercept_, len(model.coef_)), atol=tolerance)
    same_scores(model, expected, features, tolerance)
    assert (model.alpha_, model.validation_scores_) == (alpha, None)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize("rows", [120, 10])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardised_it_agrees_with_a_pipeline(rows, classes, dtype, generator):
    features, labels = problem(generator, rows, classes=classes, dtype=dtype, offset=3)
    features[:, 4] = 0.1  # scikit-learn leaves a constant feature unscaled
    expected = make_pipeline(StandardScaler(), RidgeClassifier(2.0)).fit(features.astype(np.float64), labels)
    same_scores(RidgeReadout(2.0, standardize=True).fit(features, labels), expected, features, 1e-4)


@pytest.mark.parametrize("alphas", [1.0, ALPHAS])
def test_features_whose_squares_vanish_are_told_once(alphas, generator, caplog):
    features, labels = problem(generator, 120, classes=3, dtype=np.float32)
    model = RidgeReadout(alphas, standardize=True, validation_fraction=0.3)
    features[:, 2] = 0
    features[:, 3] = 1e-30
    model.fit(features, labels)
    assert "vanish" not in caplog.text
    features[:, :2] *= np.float32(1e-30)
    for fit in (model.fit, lambda x, y: model.fit_stream([(x, y)])):
        caplog.clear()
        fit(features, labels)
        (told,) = [text for text in caplog.messages if "vanish" in text]
        assert "2 of 12 features are so small that their squares vanish" in told
    caplog.clear()
    model.fit(features.astype(np.float64), labels)
    model.set_params(standardize=False).fit(features, labels)
    assert "vanish" not in caplog.text


@pytest.mark.parametrize("offset", [1e2, 1e3])
def test_a_large_mean_does_not_drown_the_deviations_in_float32(offset, generator):
    features, labels = problem(generator, 3000, classes=3, offset=offset)
    expected = RidgeClassifier(1.0).fit(features.astype(np.float64), labels)
    same_scores(RidgeReadout(1.0).fit(features, labels), expected, features, 1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, bool])
def test_whole_numbers_are_features_too(dtype, generator):
    features = generator.integers(0, 120, (40, 5)).astype(dtype)
    labels = generator.integers(0, 3, 40)
    expected = RidgeClassifier(1.0).fit(features.astype(np.float64), labels)
    same_scores(RidgeReadout(1.0).fit(features, labels), expected, features, 1e-6)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize(("rows", "features"), [(120, 12), (30, 40)])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_penalty_is_chosen_on_held_out_rows_and_the_final_fit_has_all(rows, features, classes, generator):
    features, labels = problem(generator, rows, features, classes, np.float64, noise=0.4)
    options = {"validation_fraction": 0.3, "random_state": 5}
    model = RidgeReadout(ALPHAS, **options).fit(features, labels)
    held = holdout.validation_rows(labels, 0.3, np.random.RandomState(5))
    expected = slow_choice(features, labels, held, ALPHAS)
    np.testing.assert_allclose(model.validation_scores_, expected)
    assert model.alpha_ == max(alpha for alpha, score in zip(ALPHAS, expected, strict=True) if score == max(expected))
    final = RidgeClassifier(model.alpha_).fit(features, labels)
    np.testing.assert_allclose(model.coef_, np.atleast_2d(final.coef_), atol=1e-9)


@pytest.mark.parametrize("rows", [200, 30])  # 12 and 40 features
def test_held_out_labels_choose_and_do_nothing_else(rows, generator, monkeypatch):
    features, labels = problem(generator, rows, 12 if rows == 200 else 40, 3, np.float64)
    held = np.arange(rows) % 5 == 4
    monkeypatch.setattr(ridge_rows, "validation_rows", lambda *arguments: held)
    for _ in range(3):
        model = RidgeReadout(ALPHAS, validation_fraction=0.2).fit(features, labels)
        # the models of slow_choice have not seen the held-out labels, whatever these are
        np.testing.assert_allclose(model.validation_scores_, slow_choice(features, labels, held, ALPHAS))
        labels = np.where(held, generator.integers(0, 3, rows), labels)


def test_held_out_rows_are_a_share_of_each_class(generator):
    codes = generator.permutation(np.repeat([0, 1, 2, 3], [50, 10, 2, 1]))
    held = holdout.validation_rows(codes, 0.2, np.random.RandomState(1))
    np.testing.assert_array_equal(np.bincount(codes[held], minlength=4), [10, 2, 1, 0])
    other = holdout.validation_rows(codes, 0.2, np.random.RandomState(2))
    assert (held != other).any()


def test_the_largest_of_equally_good_penalties_wins(generator):
    features = np.repeat(np.eye(2), 20, axis=0)
    model = RidgeReadout((1e-3, 10.0, 0.1), validation_fraction=0.1).fit(features, np.repeat([0, 1], 20))
    np.testing.assert_array_equal(model.validation_scores_, [1, 1, 1])
    assert model.alpha_ == 10.0


def test_penalties_that_rounding_swallows_are_left_out(monkeypatch):
    square = np.array([[4.0, 4.0], [-4.0, -4.0], [4.0, 4.0], [-4.0, -4.0]])  # FᵀF = 64 throughout: the factor is exact
    features, labels = np.tile(square, (2, 1)), [1, 0] * 4
    monkeypatch.setattr(ridge_rows, "validation_rows", lambda *arguments: np.arange(8) > 3)
    for fraction, times in ((0.5, 1), (None, 2)):  # without one all rows count
        model = RidgeReadout((1e-30, 1.0, 1e-40), fit_intercept=False, validation_fraction=fraction)
        scores = model.fit(np.tile(features, (times, 1)), labels * times).validation_scores_
        np.testing.assert_array_equal(scores, [np.nan, scores[1], np.nan])
        assert (scores[1] == 1) == (fraction is not None)
        assert model.alpha_ == 1.0
    with pytest.raises(ValueError, match=r"RidgeReadout.fit: alpha=1e-30 is too small for rounding .*; raise it"):
        RidgeReadout(1e-30, fit_intercept=False).fit(square, [1, 0, 1, 0])
    with pytest.raises(ValueError, match="all alphas up to 1e-30 are too small for rounding; add larger ones"):
        RidgeReadout((1e-40, 1e-30), fit_intercept=False, validation_fraction=0.5).fit(features, labels)
    with pytest.raises(ValueError, match="all alphas up to 1e-30 are too small for rounding; add larger ones"):
        RidgeReadout((1e-40, 1e-30), fit_intercept=False).fit(np.tile(features, (2, 1)), labels * 2)


# Memory


def test_memory_is_one_matrix_of_features(generator, monkeypatch):
    monkeypatch.setattr(linear_system, "_TILE", 64)
    monkeypatch.setattr(sums, "_BLOCK_ROWS", 32)
    features, labels = generator.normal(size=(64, 500)).astype(np.float32), np.arange(64) % 3

    class Stream:
        def __iter__(self):
            return iter([(features, labels)] * 10)

    tracemalloc.start()
    RidgeReadout(1.0).fit_stream(Stream())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * 500 * 500 * 8


def test_a_fitted_readout_keeps_no_sums(generator):
    features, labels = problem(generator, features=100)
    for model in (RidgeReadout().fit(features, labels), RidgeReadout().fit_stream([(features, labels)])):
        assert len(pickle.dumps(model)) < 100 * 100 * 8


# Refusals


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alphas": 0}, ValueError, "RidgeReadout.fit: alphas must be above 0, got 0"),
        ({"alphas": (1.0, -1.0)}, ValueError, "RidgeReadout.fit: alphas must be above 0, got -1.0"),
        ({"alphas": "auto"}, TypeError, "RidgeReadout.fit: alphas must be a number or some numbers, got 'auto'"),
        ({"alphas": None}, TypeError, "RidgeReadout.fit: alphas must be a number or some numbers, got None"),
        ({"alphas": []}, ValueError, "RidgeReadout.fit: alphas must name at least one penalty, got none"),
        (
            {"alphas": iter([1.0])},
            TypeError,
            "alphas must be a number or some numbers, .* a list can be read more than",
        ),
        ({"alphas": np.array(1.0)}, TypeError, "alphas must be a number or some numbers, got array"),
        ({"class_weight": np.ones(3)}, ValueError, 'class_weight must be a dict, "balanced" or None, got array'),
        ({"validation_fraction": 1}, ValueError, "RidgeReadout.fit: validation_fraction must be below 1, got 1"),
        ({"validation_fraction": 0}, ValueError, "RidgeReadout.fit: validation_fraction must be above 0, got 0"),
        ({"fit_intercept": "no"}, TypeError, "RidgeReadout.fit: fit_intercept must be true or false, got 'no'"),
        ({"standardize": "false"}, TypeError, "RidgeReadout.fit: standardize must be true or false, got 'false'"),
    ],
)
def test_bad_options_are_refused(options, error, message, generator):
    with pytest.raises(error, match=message):
        RidgeReadout(**options).fit(*problem(generator))


def test_names_of_features_are_those_of_the_last_fit(generator, tmp_path):
    pandas = pytest.importorskip("pandas")
    features, labels = problem(generator)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    model = RidgeReadout()
    for fit in (lambda: model.fit_stream([(features, labels)]), lambda: model.fit(mapped, labels)):
        model.fit(pandas.DataFrame(features).add_prefix("f"), labels)
        assert len(model.feature_names_in_) == features.shape[1]
        fit()
        assert not hasattr(model, "feature_names_in_")
        model.predict(features)


def test_flags_of_a_grid_are_taken(generator):
    model = RidgeReadout(fit_intercept=np.bool_(False), standardize=np.bool_(True)).fit(*problem(generator))
    assert not model.intercept_.any()


X, Y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], ValueError, "batches gave no batch; pass something that can be iterated again"),
        (3, TypeError, "batches must be an iterable of .* pairs, got int; wrap a single batch as"),
        (X, TypeError, "batches must be an iterable of .* pairs, got ndarray"),
        ([X], TypeError, "batches must yield .* pairs, but batch 0 is ndarray"),
        ([(X, Y), (X, Y, Y, Y)], TypeError, "batches must yield .* pairs, but batch 1 is tuple of length 4"),
        ([(X[None], Y)], ValueError, r"features must be \(n, features\) .* got shape \(1, 4, 3\); flatten maps"),
        ([(X[:0], Y[:0])], ValueError, r"features must be \(n, features\) with at least one of each"),
        ([(X, Y), (X[:, :2], Y)], ValueError, "batch 1 has 2 features, but 3 were expected from the batches before"),
        ([(X, Y[:3])], ValueError, r"labels must have one label for each of the 4 rows of features, got shape \(3,\)"),
        ([(X, Y + 0.5)], ValueError, r"Unknown label type: labels must be classes, got fractions, infinity or NaN \(f"),
        ([(X, np.where(Y == 1, np.inf, Y))], ValueError, "labels must be classes, got fractions, infinity or NaN"),
        ([(X, Y * 1j)], TypeError, "labels must be integers or text, got complex128"),
        ([(np.where(Y[:, None] == 1, np.nan, X), Y)], ValueError, r"features must be finite, but features\[1\] is not"),
        ([(X, Y * 0)], ValueError, r"labels must have at least 2 classes, got 1 class \(0\); add rows of others"),
        (
            [(X, Y)],
            ValueError,
            "to choose among 2 alphas some rows must be held out, but classes have too few; add rows",
        ),
    ],
)
def test_bad_streams_are_refused(batches, error, message):
    with pytest.raises(error, match=f"RidgeReadout.fit_stream: .*{message}"):
        RidgeReadout((1.0, 2.0), validation_fraction=0.1).fit_stream(batches)


def test_labels_outside_the_classes_given_are_refused():
    with pytest.raises(ValueError, match="fit_stream: label 1 is not among the 2 classes given as classes=; list all"):
        RidgeReadout(1.0).fit_stream([(X, Y)], classes=[0, 2])
    with pytest.raises(ValueError, match="fit_stream: classes must be 2 or more different labels, got"):
        RidgeReadout(1.0).fit_stream([(X, Y)], classes=[0, 0])
    model = RidgeReadout(1.0).partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"partial_fit: classes must stay those of the first call, \[0 1\], got"):
        model.partial_fit(X, Y, classes=[0, 2])


def test_one_row_a_class_leaves_nothing_to_hold_out():
    with pytest.raises(ValueError, match=r"RidgeReadout.fit: to choose among 2 alphas some rows must be held out"):
        RidgeReadout((1.0, 2.0), validation_fraction=0.1).fit(np.eye(3), [0, 1, 2])
    assert RidgeReadout((1.0, 2.0)).fit(np.eye(3), [0, 1, 2]).score(np.eye(3), [0, 1, 2]) == 1
    assert RidgeReadout(1.0).fit(np.eye(3), [0, 1, 2]).score(np.eye(3), [0, 1, 2]) == 1


def test_unfitted_it_has_no_weights():
    for name in ("coef_", "intercept_", "alpha_", "validation_scores_"):
        assert not hasattr(RidgeReadout(), name)
    with pytest.raises(NotFittedError):
        RidgeReadout().predict(X)


@pytest.mark.parametrize("scale", [1e20, 1e37])
@pytest.mark.parametrize("features", [5, 80])
def test_features_whose_squares_float32_does_not_hold_are_refused(scale, features, generator):
    X, y = scale * generator.uniform(0.1, 1, (40, features)), generator.integers(0, 3, 40)
    with pytest.raises(ValueError, match=r"squares leave the range of float32; scale them, .* or give float64"):
        RidgeReadout(1.0).fit(X.astype(np.float32), y)
    with pytest.raises(ValueError, match=r"principal_components: .* squares leave the range of float32"):
        principal_components([X.astype(np.float32)], 2)
    assert RidgeReadout(1.0, standardize=True).fit(X, y).score(X, y) > 1 / 3


@pytest.mark.parametrize("unit", ["datetime64[s]", "timedelta64[s]"])
def test_dates_are_no_features(unit, generator):
    features, labels = problem(generator)
    dates = features.astype(np.int64).astype(unit)
    model = RidgeReadout(1.0).fit(features, labels)
    for method in (lambda: model.predict(dates), lambda: RidgeReadout().fit(dates, labels)):
        with pytest.raises(TypeError, match=r"RidgeReadout\.\w+: X must be an array of numbers, got ndarray"):
            method()
