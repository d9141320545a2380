"""What solves RidgeReadout's systems, and CUDA."""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from ridge_helpers import ALPHAS, problem
from sklearn.base import clone

from hebbcore.evaluation import RidgeReadout
from hebbcore.evaluation.ridge import linear_system
from hebbcore.evaluation.ridge.meter import SILENT


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


def in_place(*given):
    return linear_system._solve_in_place(*given, 3, SILENT)


@pytest.mark.parametrize("solver", [in_place, linear_system._solve_whole])
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
    columns = generator.normal(size=(size, 2))
    forms = (columns * np.linalg.solve(whole, columns)).sum(axis=0)
    for _ in range(2):
        found, of_inverse = solver(matrix, added, right, minus, iter([(0, columns)]))
        np.testing.assert_allclose(found, np.linalg.solve(whole, right))
        np.testing.assert_allclose(of_inverse, forms)
        np.testing.assert_array_equal(np.tril(matrix), before)


@pytest.mark.parametrize(("cuda", "message"), [(False, "not positive definite"), (True, "reported by potrf")])
def test_a_matrix_that_is_not_positive_is_refused_and_stays(cuda, message, cupyx, monkeypatch):
    matrix = np.array([[1.0, np.nan], [2.0, 1.0]])
    if cuda:
        monkeypatch.setattr(linear_system, "_solve_in_place", lambda *given: linear_system._solve_whole(*given[:5]))
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
