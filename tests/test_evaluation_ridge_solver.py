"""What solves RidgeReadout's systems, on the CPU, on CuPy's stand-in and on a GPU."""

import tracemalloc

import numpy as np
import pytest
from cupy_helpers import cupy  # noqa: F401
from ridge_helpers import ALPHAS, problem
from sklearn.base import clone

from hebbcore.engine import devices
from hebbcore.evaluation import RidgeReadout
from hebbcore.evaluation.ridge import linear_system, path, tiled
from hebbcore.evaluation.ridge.linear_system import solve_with_forms
from hebbcore.evaluation.ridge.meter import SILENT

pytest_plugins = "ridge_helpers"


PLACES = [  # of the matrix, of what computes, and whether that is a stand-in
    ("cpu", "cpu", False), ("cuda", "cuda", True), ("cpu", "cuda", True),
    *(pytest.param((home, "cuda", False), marks=pytest.mark.gpu) for home in ("cuda", "cpu")),
]  # fmt: skip


def on_host(array):
    return np.array(devices.to_device(array, "cpu"))


@pytest.fixture
def small_tiles(monkeypatch):
    for name in ("_CUDA_TILE", "_LARGE_TILE", "_TILE"):
        monkeypatch.setattr(linear_system, name, 3)
    for module, name, value in (
        (linear_system, "_COPIED", 2),
        (linear_system, "_MANY", 0),
        (tiled, "_COPIED", 2),
        (tiled, "_WIDE", 2),
        (tiled, "_LITTLE", 1),
        (tiled, "_SOLVED", 2),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture(params=PLACES, ids=str)
def places(request, small_tiles):
    """Return what brings a matrix, and all else, to where they are to be."""
    home, here, stand_in = request.param
    if stand_in:
        request.getfixturevalue("cupy")
    return [lambda array, to=to: None if array is None else devices.to_device(array, to) for to in (home, here)]


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("subtract", [False, True])
def test_systems_are_solved_from_the_lower_triangle(places, size, subtract, generator):
    rows, right = generator.normal(size=(size, 20)), generator.normal(size=(2, size)).T
    home, here = places
    matrix = home(np.zeros((size, size)))
    linear_system.add_products(matrix, here(rows))
    if size > 1:
        linear_system.add_cross_products(matrix[1:, :1], here(rows[1:]), here(rows[:1]))
    expected = rows @ rows.T
    expected[1:, 0] *= 2
    expected[0, 1:] *= 2
    np.testing.assert_allclose(np.tril(on_host(matrix)), np.tril(expected))
    matrix[tuple(map(home, np.triu_indices(size, 1)))] = np.nan
    before, added = np.tril(on_host(matrix)), 9 * size + generator.random(size)
    minus = 0.1 * generator.normal(size=size) if subtract else None
    whole = expected + np.diag(added) - (np.outer(minus, minus) if subtract else 0)
    columns = generator.normal(size=(size, 2))
    below = np.concatenate([np.zeros((size // 2, 2)), columns[size // 2 :]])
    forms = np.concatenate([(some * np.linalg.solve(whole, some)).sum(axis=0) for some in (columns, below)])
    given = here(added), here(right), here(minus)
    for _ in range(2):
        some = [(0, here(columns)), (size // 2, here(columns[size // 2 :]))]
        found, of_inverse = solve_with_forms(matrix, *given, iter(some), 5, SILENT)
        assert isinstance(found, type(given[0]))
        np.testing.assert_allclose(on_host(found), np.linalg.solve(whole, right))
        np.testing.assert_allclose(on_host(of_inverse), forms)
        np.testing.assert_array_equal(np.tril(on_host(matrix)), before)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        solve_with_forms(matrix, here(-100.0 * size - added), *given[1:], (), 5, SILENT)
    np.testing.assert_array_equal(np.tril(on_host(matrix)), before)


def test_a_matrix_that_is_not_finite_is_refused(places):
    matrix, right = np.array([[1.0, 0.0], [np.nan, 1.0]]), np.ones((2, 1))
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        solve_with_forms(places[0](matrix), places[1](np.zeros(2)), places[1](right), None, (), 5, SILENT)


def test_no_second_matrix_is_made_on_a_gpu(cupy, monkeypatch, generator):  # noqa: F811
    monkeypatch.setattr(linear_system, "_CUDA_TILE", 64)
    rows, right = generator.normal(size=(700, 700)), generator.normal(size=(700, 3))
    matrix, *given = (devices.to_device(array, "cuda") for array in (rows @ rows.T, np.ones(700), right, right[:, 0]))
    tracemalloc.start()
    solve_with_forms(matrix, *given[:2], 0.01 * given[2], (), 64, SILENT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < matrix.nbytes / 4


@pytest.mark.parametrize("cuda", ["stand-in", pytest.param("GPU", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("rows", "features"), [(100, 20), (30, 100)])
@pytest.mark.parametrize(("memory", "where"), [("4 GiB", "in the memory of the host"), (2000, "on the disk")])
def test_a_matrix_that_a_gpu_cannot_hold_is_kept_elsewhere(
    cuda, rows, features, memory, where, request, generator, monkeypatch, caplog
):
    if cuda == "stand-in":
        request.getfixturevalue("cupy")
    monkeypatch.setattr(path, "_blocks", lambda equations: 30)
    # of float32 the sums are rounded in other blocks there
    x, labels = problem(generator, rows, features, classes=3, dtype=np.float64)
    model = RidgeReadout(ALPHAS[::2], standardize=True, validation_fraction=0.3, memory=memory)
    here = devices.to_device(x, "cuda")
    for free, kept in ((2**30, False), (1000, True)):
        monkeypatch.setattr(devices, "free_bytes", lambda free=free: free)
        for fit in (lambda given: clone(model).fit(given, labels), lambda given: model.fit_stream([(given, labels)])):
            expected = fit(x)
            coef, predicted = expected.coef_, expected.predict(x)
            caplog.clear()
            fitted = fit(here)
            assert isinstance(fitted.coef_, type(here))
            np.testing.assert_allclose(on_host(fitted.coef_), coef, atol=1e-9)
            np.testing.assert_array_equal(fitted.predict(here), predicted)
            told = [message for message in caplog.messages if "RidgeReadout: a matrix of" in message]
            assert all(f"the 1000 B that are free on the GPU; it is kept {where}, which" in one for one in told)
            assert bool(told) == kept


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [200, 10])
def test_cupy_arrays_give_what_numpy_arrays_give(rows, generator):
    gpu = pytest.importorskip("cupy")
    features, labels = problem(generator, rows, classes=3)
    expected = RidgeReadout(ALPHAS, standardize=True, validation_fraction=0.3).fit(features, labels)
    device = gpu.asarray(features), gpu.asarray(labels)
    fitted = clone(expected).fit(*device)
    assert isinstance(fitted.coef_, gpu.ndarray)
    np.testing.assert_allclose(fitted.coef_.get(), expected.coef_, atol=1e-4)
    np.testing.assert_array_equal(fitted.predict(device[0]), expected.predict(features))
    with pytest.raises(TypeError, match=r"features are on cpu but weights on cuda; move one"):
        fitted.predict(features)
    if rows == 200:
        streamed, expected = (clone(expected).fit_stream([(x, labels)]) for x in (device[0], features))
        np.testing.assert_allclose(streamed.coef_.get(), expected.coef_, atol=1e-4)


@pytest.mark.gpu
def test_labels_of_cupy_features_may_be_text(generator):
    gpu = pytest.importorskip("cupy")
    features, labels = problem(generator, 200, classes=3)
    names = np.array(["ant", "bee", "cow"])[labels]
    expected = RidgeReadout().fit(features, names).predict(features)
    for given in (names, names.tolist()):
        fitted = RidgeReadout().fit(gpu.asarray(features), given)
        np.testing.assert_array_equal(fitted.predict(gpu.asarray(features)), expected)
