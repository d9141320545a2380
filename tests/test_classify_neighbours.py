"""Where FewLabelClassifier looks for neighbours: approximate ones, the choice between them and exact ones, and CUDA."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cupy_helpers import cupy  # noqa: F401
from sklearn.datasets import make_blobs

import hebbcore
from hebbcore.classify import FewLabelClassifier, neighbours, space
from hebbcore.classify.approximate import nearest_approximately
from hebbcore.engine import backend, devices
from hebbcore.evaluation.ridge.meter import SILENT
from hebbcore.features.choice import Features
from hebbcore.labelling import features as labelling
from hebbcore.labelling.features import placed


def rows_in_clusters(generator, n=3000, d=16):
    rows = generator.standard_normal((20, d))[generator.integers(0, 20, n)] + generator.standard_normal((n, d))
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def problem(n=600):
    """Return features (n, 20), true classes, and y with three labels of each."""
    features, true = make_blobs(n, 20, centers=4, cluster_std=3.0, random_state=0)
    y = np.full(n, -1)
    for number in range(4):
        y[np.flatnonzero(true == number)[:3]] = number
    return features.astype(np.float32), true, y


def test_approximate_neighbours_are_nearly_all_of_the_nearest(generator):
    pytest.importorskip("faiss")
    rows = rows_in_clusters(generator)
    exact, squares = neighbours.nearest(rows, 10)
    found, near = nearest_approximately(rows, 10)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]) > 9.8
    assert (found != np.arange(len(rows))[:, None]).all()
    assert all(len(set(row)) == 10 for row in found)
    assert (np.diff(near, axis=1) >= 0).all()
    same = (exact == found).all(axis=1)
    np.testing.assert_array_equal(near[same], squares[same])
    np.testing.assert_array_equal(nearest_approximately(rows, 10)[0], found)


@pytest.mark.parametrize("n", [3, 40])
def test_approximate_neighbours_of_few_rows_and_of_duplicates(generator, n):
    pytest.importorskip("faiss")
    rows = np.repeat(rows_in_clusters(generator, n), 30, axis=0)
    found, squares = nearest_approximately(rows, 10)
    assert ((found >= 0) & (found != np.arange(len(rows))[:, None])).all()
    assert all(len(set(row)) == 10 for row in found)
    np.testing.assert_allclose(squares, 0, atol=1e-12)
    few = nearest_approximately(rows[::30][:3], 2)[0]
    assert [sorted(row) for row in few.tolist()] == [[1, 2], [0, 2], [0, 1]]


def test_rows_that_an_index_does_not_reach_are_looked_for_exactly(generator, monkeypatch):
    faiss = pytest.importorskip("faiss")
    rows = rows_in_clusters(generator, 200)
    search = faiss.IndexHNSWFlat.search

    def lossy(index, looked_for, count):
        costs, found = search(index, looked_for, count)
        found[::7, 3:] = -1
        return costs, found

    monkeypatch.setattr(faiss.IndexHNSWFlat, "search", lossy)
    found = nearest_approximately(rows, 5)[0]
    np.testing.assert_array_equal(found[::7], neighbours.nearest(rows, 5)[0][::7])


def test_the_search_follows_size_and_device(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_EXACT", 600)
    for given, n, device, wanted in (
        ("auto", 600, "cpu", "exact"),
        ("auto", 601, "cpu", "approximate"),
        ("auto", 601, "cuda", "exact"),
        ("exact", 601, "cpu", "exact"),
        ("approximate", 5, "cuda", "approximate"),
    ):
        assert neighbours.search_for("f", given, n, device) == wanted
    with pytest.raises(ValueError, match=r"neighbours must be one of 'auto', 'exact', 'approximate'; got 'near'"):
        FewLabelClassifier(neighbours="near").fit(*problem()[::2])


def test_a_classifier_on_approximate_neighbours(monkeypatch):
    pytest.importorskip("faiss")
    features, true, y = problem()
    exact = FewLabelClassifier().fit(features, y)
    monkeypatch.setattr(neighbours, "_candidates", None)  # no exact search
    model = FewLabelClassifier(neighbours="approximate").fit(features, y)
    assert np.mean(model.transduction_ == exact.transduction_) > 0.98
    assert np.mean(model.transduction_ == true) > 0.9
    assert FewLabelClassifier.from_state(*model.state()).neighbours == "approximate"
    arrays, settings = model.state()
    del settings["neighbours"]  # as older states are
    assert FewLabelClassifier.from_state(arrays, settings).neighbours == "auto"


def test_neighbours_are_looked_for_in_the_features_that_are_named(generator, monkeypatch):
    monkeypatch.setattr(space, "FEW", 0)
    features, _, y = problem()
    wide = np.hstack([generator.standard_normal((600, 7)), features[:, ::-1]])
    near = np.arange(26, 6, -1)
    expected = FewLabelClassifier().fit(features, y)._images.poisson.state()
    model = FewLabelClassifier(neighbour_features=near).fit(wide, y)
    for name, values in model._images.poisson.state().items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
    assert model._images.rows.shape == (600, 27)  # the ridge sees all
    np.testing.assert_array_equal(model.predict(wide), model.transduction_)
    arrays, settings = model.state()
    assert FewLabelClassifier.from_state(arrays, json.loads(json.dumps(settings))).neighbour_features == near.tolist()
    del settings["neighbour_features"]  # as older states are
    assert FewLabelClassifier.from_state(arrays, settings).neighbour_features is None
    monkeypatch.setattr(space, "_MOST_EXACT", 10)  # the components of many features are iterated
    model.fit(wide, y)
    np.testing.assert_allclose(model._images.poisson.state()["laplacian"], expected["laplacian"], atol=1e-3)


@pytest.mark.parametrize("given", [[], [27], [-1], [[1, 2]], [0.5], "wide", np.ones(27, bool)])
def test_features_that_are_none_are_told(given):
    wide = np.random.default_rng(0).standard_normal((20, 27))
    with pytest.raises(ValueError, match=r"neighbour_features must be None or numbers \(m,\) .*, from 0 to 26"):
        FewLabelClassifier(neighbour_features=given).fit(wide, [0, 1, *[-1] * 18])


@pytest.mark.parametrize(("units", "most"), [((8, 6, 5, 4), 25_000), ((8, 6, 4), 25_000), ((8, 6, 5, 4), 120)])
def test_neighbours_of_the_dictionary_are_looked_for_in_its_wide_branch(units, most, generator, monkeypatch):
    monkeypatch.setattr(labelling, "_MOST", most)
    network = hebbcore.preset("dictionary", image_shape=(16, 16, 1), units=units, device="cpu")
    hebbcore.fit(network, generator.random((30, 16, 16, 1), np.float32), sample=500)
    images = generator.random((3, 16, 16, 1), np.float32)
    chosen = labelling.chosen(network, 30, mirror=True)
    end = max(index for index, name in enumerate(network.names[:-1]) if network.shapes[index][-1] == 8)
    wide = Features(network, network.names[end], chosen.grid, mirror=True).of(images).reshape(3, -1)
    near = labelling.neighbour_features(chosen)
    np.testing.assert_array_equal(labelling.rows_of(chosen, images)[:, near], wide)
    assert labelling.neighbour_features(Features(network, network.names[end])) is None
    chain = hebbcore.Network([hebbcore.Conv(4, 3)], (8, 8, 1), device="cpu")
    assert labelling.neighbour_features(labelling.chosen(chain, 30, mirror=False)) is None


def test_without_faiss_it_says_what_to_install_before_long_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(neighbours, "MOST_EXACT", 599)
    features, true, y = problem()
    with monkeypatch.context() as patch:
        patch.setattr(space, "_statistics", None)
        with pytest.raises(ModuleNotFoundError, match="python -m pip install faiss-cpu"):
            FewLabelClassifier().fit(features, y)
    FewLabelClassifier(neighbours="exact").fit(features, y)
    many = np.repeat(true, 3)
    assert FewLabelClassifier().fit(np.repeat(features, 3, axis=0), many).regime_ == "ridge"  # needs no graph


@pytest.mark.parametrize("columns", [4, 30])
def test_the_smallest_by_passes_are_those_of_a_partition(generator, columns):
    costs = generator.integers(0, 9, (50, columns)).astype(np.float32)
    costs[np.arange(50), generator.integers(0, columns, 50)] = np.inf
    values, where = neighbours._smallest_in_turn(costs.copy(), 3)
    np.testing.assert_array_equal(values, np.sort(costs, axis=1)[:, :3])
    np.testing.assert_array_equal(np.take_along_axis(costs, where, axis=1), values)
    assert all(len(set(row)) == 3 for row in where)


@pytest.fixture(params=["stand-in", pytest.param("GPU", marks=pytest.mark.gpu)])
def cuda(request):
    """Let "cuda" be CuPy's stand-in, which refuses to mix arrays of host and device, then a GPU."""
    return request.getfixturevalue("cupy") if request.param == "stand-in" else None


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("references", [70, 100_000])
def test_cuda_finds_the_neighbours_that_the_cpu_finds(generator, monkeypatch, references):
    monkeypatch.setattr(neighbours, "_REFERENCES", references)
    rows = rows_in_clusters(generator, 500)
    expected, squares = neighbours.nearest(rows, 10)
    found, near = neighbours.nearest(devices.to_device(rows, "cuda"), 10)
    assert isinstance(found, np.ndarray)
    assert np.mean(found == expected) > 0.999  # two at nearly the same distance may change places
    np.testing.assert_allclose(near, squares, rtol=1e-4)
    some = np.array([3, 499])
    np.testing.assert_array_equal(neighbours.nearest(devices.to_device(rows, "cuda"), 10, of=some)[0], found[some])


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("shape", [(200, 12), (40, 90)])
def test_cuda_finds_the_components_that_the_cpu_finds(generator, monkeypatch, shape):
    monkeypatch.setattr(space, "_NUMBERS", 500)
    features = (generator.standard_normal(shape) * np.arange(1, shape[1] + 1) + 100).astype(np.float32)
    features[:, 3] = 7  # constant
    expected = space.learned_space(features, SILENT, most=8)
    there = devices.to_device(features, "cuda")
    found = space.learned_space(there, SILENT, most=8)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-4)
    np.testing.assert_allclose(expected.ridge_rows(there), expected.ridge_rows(features), atol=1e-4)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("search", ["auto", "approximate"])
def test_cuda_learns_what_the_cpu_learns(search):
    if search == "approximate":
        pytest.importorskip("faiss")
    features, _, y = problem()
    expected = FewLabelClassifier(neighbours=search).fit(features, y)
    there = devices.to_device(features, "cuda")
    model = FewLabelClassifier(neighbours=search).fit(there, y)
    assert isinstance(model.label_distributions_, np.ndarray)
    assert np.mean(model.transduction_ == expected.transduction_) > 0.99
    np.testing.assert_allclose(model.predict_proba(there), model.predict_proba(features), atol=1e-3)
    assert len(model.suggest(5)) == 5


@pytest.mark.parametrize("fits", [True, False])
def test_features_go_to_the_gpu_if_they_fit(cupy, fits):  # noqa: F811
    features, _, y = problem()
    room = 3 * features.nbytes - (0 if fits else 1)
    cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(memGetInfo=lambda: (room - 100, 10**12)))
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 100)
    network = hebbcore.Network([hebbcore.Flatten()], (4,), device="cuda")
    there = placed(Features(network, network.names[-1]), features)
    assert isinstance(there, cupy.ndarray) == fits
    model, expected = FewLabelClassifier().fit(there, y), FewLabelClassifier().fit(features, y)
    assert np.mean(model.transduction_ == expected.transduction_) > 0.99
    host = hebbcore.Network([hebbcore.Flatten()], (4,), device="cpu")
    assert placed(Features(host, host.names[-1]), features) is features


@pytest.mark.gpu
def test_features_that_fit_a_gpu_are_learned_from_there():
    features, _, y = problem()
    network = hebbcore.Network([hebbcore.Flatten()], (4,), device="cuda")
    there = placed(Features(network, network.names[-1]), features)
    assert devices.free_bytes() > 0
    assert backend.on_cuda(there)
    model, expected = FewLabelClassifier().fit(there, y), FewLabelClassifier().fit(features, y)
    assert np.mean(model.transduction_ == expected.transduction_) > 0.99
