"""RidgeReadout against scikit-learn's RidgeClassifier in float64, and what chooses its penalty."""

import contextlib
import pickle
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hebbcore.evaluation import RidgeReadout
from hebbcore.evaluation.ridge import holdout, linear_system, sums
from hebbcore.evaluation.ridge import rows as ridge_rows

ALPHAS = (0.01, 1.0, 100.0)


@parametrize_with_checks([RidgeReadout(), RidgeReadout(1.0, standardize=True, fit_intercept=False)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.fixture
def tiny_pieces(monkeypatch):
    """Make every loop over pieces run more than once on small arrays."""
    monkeypatch.setattr(linear_system, "_TILE", 3)
    monkeypatch.setattr(linear_system, "_COPIED", 2)
    monkeypatch.setattr(sums, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(ridge_rows, "_BLOCK_BYTES", 8 * 12 * 5)
    monkeypatch.setattr("hebbcore.evaluation.ridge.systems._COLUMNS", 5)


def problem(generator, rows=120, features=12, classes=4, dtype=np.float32, offset=0.0, noise=1.0):
    """Return features of overlapping classes, some of them correlated and of different sizes, and labels."""
    labels = generator.permutation(np.arange(rows) % classes)
    centres = generator.normal(size=(classes, features))
    values = centres[labels] + noise * generator.normal(size=(rows, features)) @ generator.normal(size=(features,) * 2)
    return (values * np.linspace(0.3, 3, features) + offset).astype(dtype), labels


def cut(features, labels, *ends):
    """Return the rows as batches that end at these rows."""
    return [(features[i:j], labels[i:j]) for i, j in zip([0, *ends], [*ends, len(labels)], strict=True)]


def same_scores(model, expected, features, tolerance):
    actual = model.decision_function(features)
    wanted = expected.decision_function(np.asarray(features, np.float64))
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(model.predict(features), expected.classes_[_first_largest(wanted)])


def _first_largest(scores):
    return (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)


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


# The penalty


def slow_choice(features, labels, held, alphas, **options):
    """Return the accuracies of RidgeClassifier on held-out rows."""
    rest = ~held
    models = [RidgeClassifier(alpha, **options).fit(features[rest], labels[rest]) for alpha in alphas]
    return [model.score(features[held], labels[held]) for model in models]


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
        model = RidgeReadout(ALPHAS).fit(features, labels)
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
    model = RidgeReadout((1e-3, 10.0, 0.1)).fit(features, np.repeat([0, 1], 20))
    np.testing.assert_array_equal(model.validation_scores_, [1, 1, 1])
    assert model.alpha_ == 10.0


def test_penalties_that_rounding_swallows_are_left_out(monkeypatch):
    square = np.array([[4.0, 4.0], [-4.0, -4.0], [4.0, 4.0], [-4.0, -4.0]])  # FᵀF = 64 throughout: the factor is exact
    features, labels = np.tile(square, (2, 1)), [1, 0] * 4
    monkeypatch.setattr(ridge_rows, "validation_rows", lambda *arguments: np.arange(8) > 3)
    model = RidgeReadout((1e-30, 1.0, 1e-40), fit_intercept=False).fit(features, labels)
    np.testing.assert_array_equal(model.validation_scores_, [np.nan, 1, np.nan])
    assert model.alpha_ == 1.0
    with pytest.raises(ValueError, match=r"RidgeReadout.fit: alpha=1e-30 is too small for rounding .*; raise it"):
        RidgeReadout(1e-30, fit_intercept=False).fit(square, [1, 0, 1, 0])
    with pytest.raises(ValueError, match="all alphas up to 1e-30 are too small for rounding; add larger ones"):
        RidgeReadout((1e-40, 1e-30), fit_intercept=False).fit(features, labels)


# Streams


@pytest.mark.parametrize("alphas", [1.0, ALPHAS])
def test_how_a_stream_is_cut_does_not_change_a_bit(alphas, generator, monkeypatch):
    monkeypatch.setattr(sums, "_BLOCK_ROWS", 16)
    features, labels = problem(generator, 100)
    models = [
        RidgeReadout(alphas, standardize=True).fit_stream(cut(features, labels, *ends))
        for ends in ([], [1, 2, 50], range(1, 100), [99])
    ]
    for model in models[1:]:
        np.testing.assert_array_equal(model.coef_, models[0].coef_)
        np.testing.assert_array_equal(model.intercept_, models[0].intercept_)
        assert model.alpha_ == models[0].alpha_


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize("names", [["b", "a", "d", "c"], [7, 1, 3, 5], ["yes", "no"]])
def test_a_stream_gives_what_its_rows_give(names, generator):
    features, codes = problem(generator, 90, classes=len(names))
    labels = np.array(names)[codes]
    expected = RidgeClassifier(3.0).fit(features.astype(np.float64), labels)
    batches = cut(features, labels, 1, 30, 31)
    for classes in (None, names):
        model = RidgeReadout(3.0).fit_stream(batches, classes)
        np.testing.assert_array_equal(model.classes_, np.sort(names))
        assert model.n_features_in_ == 12
        same_scores(model, expected, features, 1e-4)


def held_out_of(holdout_, batches):
    """Pass batches whose features are their row numbers; return the numbers that were held out at the end, and not."""
    trained = [holdout_.split(features, labels, np.ones(len(labels)))[0] for features, labels in batches]
    held = [rows for rows, _, _ in holdout_.rows()]
    return tuple(np.concatenate([np.zeros((0, 1)), *parts])[:, 0].astype(int) for parts in (held, trained))


@pytest.mark.parametrize("limit", [10**6, 40])
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_a_stream_holds_out_a_share_of_each_class_and_never_its_first_row(limit, fraction, generator, monkeypatch):
    monkeypatch.setattr(holdout, "HELD_BYTES", limit * 8)
    labels = generator.integers(0, 3, 1000)
    rows = np.arange(1000.0)[:, None]
    stream = holdout.StreamHoldout(rows, fraction, np.random.RandomState(0))
    held, trained = held_out_of(stream, cut(rows, labels, *range(10, 1000, 10)))
    np.testing.assert_array_equal(np.sort(np.concatenate([held, trained])), np.arange(1000))
    firsts = [np.flatnonzero(labels == label)[0] for label in range(3)]
    assert not np.isin(firsts, held).any()
    shares = np.bincount(labels[held], minlength=3) / np.bincount(labels)
    if limit > 1000:
        np.testing.assert_allclose(shares, fraction, atol=0.005)
    else:
        assert 20 <= stream.count == len(held) <= 40
        np.testing.assert_allclose(shares, shares.mean(), atol=0.005)
    other = holdout.StreamHoldout(rows, fraction, np.random.RandomState(1))
    assert not np.array_equal(np.sort(held_out_of(other, cut(rows, labels))[0]), np.sort(held))


@pytest.mark.parametrize("limit", [10**6, 8])
def test_a_stream_chooses_by_its_held_out_rows(limit, generator, monkeypatch):
    features, labels = problem(generator, 150, classes=3, dtype=np.float64)
    monkeypatch.setattr(holdout, "HELD_BYTES", limit * features[0].nbytes)
    names = np.array(["c", "a", "b"])[labels]
    batches = cut(features, names, 40, 80)
    model = RidgeReadout(ALPHAS).fit_stream(batches)
    numbered = cut(np.arange(150.0)[:, None], labels, 40, 80)
    monkeypatch.setattr(holdout, "HELD_BYTES", limit * 8)
    first_seen = {label: code for code, label in enumerate(dict.fromkeys(labels.tolist()))}
    numbered = [(rows, np.array([first_seen[label] for label in part.tolist()])) for rows, part in numbered]
    held = np.zeros(150, bool)
    stream = holdout.StreamHoldout(numbered[0][0], 0.1, np.random.RandomState(0))
    held[held_out_of(stream, numbered)[0]] = True
    np.testing.assert_allclose(model.validation_scores_, slow_choice(features, names, held, ALPHAS))
    np.testing.assert_allclose(model.coef_, RidgeClassifier(model.alpha_).fit(features, names).coef_, atol=1e-9)


def test_a_stream_is_read_once(generator):
    features, labels = problem(generator)
    batches = cut(features, labels, 60)
    expected = RidgeReadout().fit_stream(batches)
    np.testing.assert_array_equal(RidgeReadout().fit_stream(iter(batches)).coef_, expected.coef_)


# partial_fit


@pytest.mark.parametrize("alphas", [1.0, ALPHAS])
def test_partial_fits_add_up(alphas, generator):
    features, labels = problem(generator, 150)
    batches = cut(features, labels, 50, 51, 110)
    expected = RidgeReadout(alphas).fit_stream(batches)
    silent, used = RidgeReadout(alphas), RidgeReadout(alphas)
    for rows, names in batches:
        silent.partial_fit(rows, names, classes=None)
        used.partial_fit(rows, names).predict(rows)  # what an intermediate solution adds must not stay
        used = pickle.loads(pickle.dumps(used))
    np.testing.assert_array_equal(silent.coef_, expected.coef_)
    np.testing.assert_allclose(used.coef_, expected.coef_, atol=1e-4)
    assert silent.alpha_ == used.alpha_ == expected.alpha_


def test_partial_fit_starts_anew_after_fit(generator):
    features, labels = problem(generator)
    model = RidgeReadout(1.0).fit(features + 1, labels)
    model.partial_fit(features, labels)
    np.testing.assert_array_equal(model.coef_, RidgeReadout(1.0).fit_stream([(features, labels)]).coef_)
    model.fit(features, labels)
    np.testing.assert_allclose(model.coef_, RidgeReadout(1.0).partial_fit(features, labels).coef_)


def test_classes_may_turn_up_late_or_never(generator):
    features, labels = problem(generator)
    order = np.argsort(labels, kind="stable")
    model = RidgeReadout(1.0)
    for rows, names in cut(features[order], labels[order], 30, 60, 90):
        model.partial_fit(rows, names)
    same_scores(model, RidgeClassifier(1.0).fit(features.astype(np.float64), labels), features, 1e-4)
    absent = RidgeReadout(1.0).partial_fit(features, labels, classes=[9, 3, 2, 1, 0])
    np.testing.assert_array_equal(absent.classes_, [0, 1, 2, 3, 9])
    np.testing.assert_allclose(absent.coef_[:4], model.coef_, atol=1e-5)
    np.testing.assert_allclose(absent.coef_[4], 0, atol=1e-9)
    assert absent.intercept_[4] == pytest.approx(-1)
    assert set(absent.predict(features)) <= {0, 1, 2, 3}


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
        ({"validation_fraction": 1}, ValueError, "RidgeReadout.fit: validation_fraction must be below 1, got 1"),
        ({"validation_fraction": 0}, ValueError, "RidgeReadout.fit: validation_fraction must be above 0, got 0"),
    ],
)
def test_bad_options_are_refused(options, error, message, generator):
    with pytest.raises(error, match=message):
        RidgeReadout(**options).fit(*problem(generator))


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
        ([(X, Y + 0.5)], ValueError, r"Unknown label type: labels must be classes, got fractions or NaN \(float64\)"),
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
        RidgeReadout((1.0, 2.0)).fit_stream(batches)


def test_labels_outside_the_classes_given_are_refused():
    with pytest.raises(ValueError, match="fit_stream: label 1 is not among the 2 classes given as classes=; list all"):
        RidgeReadout(1.0).fit_stream([(X, Y)], classes=[0, 2])
    with pytest.raises(ValueError, match="fit_stream: classes must be 2 or more different labels, got"):
        RidgeReadout(1.0).fit_stream([(X, Y)], classes=[0, 0])
    model = RidgeReadout(1.0).partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"partial_fit: classes must stay those of the first call, \[0 1\], got"):
        model.partial_fit(X, Y, classes=[0, 2])


def test_one_row_a_class_leaves_nothing_to_choose_by():
    with pytest.raises(ValueError, match=r"RidgeReadout.fit: to choose among 2 alphas some rows must be held out"):
        RidgeReadout((1.0, 2.0)).fit(np.eye(3), [0, 1, 2])
    assert RidgeReadout(1.0).fit(np.eye(3), [0, 1, 2]).score(np.eye(3), [0, 1, 2]) == 1


def test_unfitted_it_has_no_weights():
    for name in ("coef_", "intercept_", "alpha_", "validation_scores_"):
        assert not hasattr(RidgeReadout(), name)
    with pytest.raises(NotFittedError):
        RidgeReadout().predict(X)


# The solver


@pytest.fixture
def cupyx(monkeypatch):
    """Stand in for CuPy's Cholesky, which reads the lower triangle and tells of failure only if it is asked to."""
    raises = []

    @contextlib.contextmanager
    def errstate(linalg):
        raises.append(linalg == "raise")
        yield
        raises.pop()

    def posv(matrix, right):
        factor, info = scipy.linalg.lapack.dpotrf(matrix, lower=1)
        if info and raises and raises[-1]:
            raise np.linalg.LinAlgError("Error reported by potrf in cuSOLVER")
        return scipy.linalg.lapack.dpotrs(factor, right, lower=1)[0]

    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(errstate=errstate, lapack=SimpleNamespace(posv=posv)))


@pytest.mark.parametrize("solver", [linear_system._solve_in_place, linear_system._solve_whole])
@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("subtract", [False, True])
def test_systems_are_solved_from_the_lower_triangle(solver, size, subtract, generator, monkeypatch, cupyx):
    monkeypatch.setattr(linear_system, "_TILE", 3)
    monkeypatch.setattr(linear_system, "_COPIED", 2)
    rows, right = generator.normal(size=(size, 20)), generator.normal(size=(size, 2))
    matrix = np.zeros((size, size))
    linear_system.add_products(matrix, rows)
    np.testing.assert_allclose(np.tril(matrix), np.tril(rows @ rows.T))
    matrix[np.triu_indices(size, 1)] = np.nan
    before, added = np.tril(matrix), generator.random(size)
    minus = 0.1 * generator.normal(size=size) if subtract else None
    whole = rows @ rows.T + np.diag(added) - (np.outer(minus, minus) if subtract else 0)
    for _ in range(2):
        np.testing.assert_allclose(solver(matrix, added, right, minus), np.linalg.solve(whole, right))
        np.testing.assert_array_equal(np.tril(matrix), before)


@pytest.mark.parametrize(("cuda", "message"), [(False, "not positive definite"), (True, "reported by potrf")])
def test_a_matrix_that_is_not_positive_is_refused_and_stays(cuda, message, cupyx, monkeypatch):
    matrix = np.array([[1.0, np.nan], [2.0, 1.0]])
    if cuda:
        monkeypatch.setattr(linear_system, "_solve_in_place", linear_system._solve_whole)
    with pytest.raises(np.linalg.LinAlgError, match=message):
        linear_system.solve(matrix, np.zeros(2), np.ones((2, 1)))
    np.testing.assert_array_equal(np.tril(matrix), [[1, 0], [2, 1]])


# CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [200, 10])
def test_cupy_arrays_give_what_numpy_arrays_give(rows, generator):
    cupy = pytest.importorskip("cupy")
    features, labels = problem(generator, rows, classes=3)
    expected = RidgeReadout(ALPHAS, standardize=True, validation_fraction=0.3).fit(features, labels)
    device = cupy.asarray(features), cupy.asarray(labels)
    fitted = clone(expected).fit(*device)
    assert isinstance(fitted.coef_, cupy.ndarray)
    np.testing.assert_allclose(fitted.coef_.get(), expected.coef_, atol=1e-4)
    np.testing.assert_array_equal(fitted.predict(device[0]), expected.predict(features))
    with pytest.raises(TypeError, match=r"features are on cpu but weights on cuda; move one"):
        fitted.predict(features)
    if rows == 200:
        streamed, expected = (clone(expected).fit_stream([(x, labels)]) for x in (device[0], features))
        np.testing.assert_allclose(streamed.coef_.get(), expected.coef_, atol=1e-4)


@pytest.mark.gpu
def test_labels_of_cupy_features_may_be_text(generator):
    cupy = pytest.importorskip("cupy")
    features, labels = problem(generator, 200, classes=3)
    names = np.array(["ant", "bee", "cow"])[labels]
    expected = RidgeReadout().fit(features, names).predict(features)
    for given in (names, names.tolist()):
        fitted = RidgeReadout().fit(cupy.asarray(features), given)
        np.testing.assert_array_equal(fitted.predict(cupy.asarray(features)), expected)


@pytest.mark.gpu
def test_cuda_solves_and_refuses_what_the_cpu_does(generator):
    cupy = pytest.importorskip("cupy")
    rows = generator.normal(size=(30, 50))
    matrix, added, minus = rows @ rows.T, generator.uniform(1, 2, 30), generator.normal(size=30)
    matrix[np.triu_indices(30, 1)] = np.nan  # undefined
    right = generator.normal(size=(4, 30)).T
    for less in (None, minus):
        there = [None if array is None else cupy.asarray(array) for array in (matrix, added, right, less)]
        found = linear_system.solve(*there)
        np.testing.assert_array_equal(np.tril(there[0].get()), np.tril(matrix))
        np.testing.assert_allclose(found.get(), linear_system.solve(matrix.copy(), added, right, less), rtol=1e-8)
    for indefinite in ([[1.0, 0.0], [2.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]):
        with pytest.raises(np.linalg.LinAlgError):
            linear_system.solve(cupy.asarray(indefinite), cupy.zeros(2), cupy.ones((2, 1)))
