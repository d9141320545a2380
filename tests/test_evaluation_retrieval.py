"""Retrieval against loops over sorted distances."""

import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hebbcore.evaluation import METRICS, retrieval, retrieval_scores


def slow_distances(database, queries, metric):
    """Return distances (queries, database) in float64, of each pair by itself."""
    database, queries = database.astype(np.float64), queries.astype(np.float64)
    if metric == "hamming":
        mean = database.mean(axis=0)
        return np.array([[sum((x > mean) != (y > mean)) for y in database] for x in queries])
    if metric == "euclidean":
        return np.array([[((x - y) ** 2).sum() for y in database] for x in queries])
    lengths = [[np.linalg.norm(x) * np.linalg.norm(y) for y in database] for x in queries]
    return np.array([[1 - x @ y / (n or 1) for y, n in zip(database, row, strict=True)]
                     for x, row in zip(queries, lengths, strict=True)])  # fmt: skip


def slow_scores(distances, labels, wanted, k):
    """Return precision@k and mAP@k, one neighbour after the other."""
    precisions, averages = [], []
    for row, label in zip(distances, wanted, strict=True):
        neighbours = sorted(range(len(row)), key=lambda i: (row[i], i))[:k]
        relevant, total = 0, 0.0
        for place, i in enumerate(neighbours, start=1):
            if labels[i] == label:
                relevant += 1
                total += relevant / place
        precisions.append(relevant / k)
        averages.append(total / max(1, relevant))
    return np.mean(precisions), np.mean(averages)


def least_workspace(*arguments, **options):
    """Return the smallest workspace that the function says it needs."""
    with pytest.raises(ValueError, match="workspace must be at least") as caught:
        retrieval_scores(*arguments, workspace=1, **options)
    return str(caught.value).split('"')[1]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("workspace", ["256 MiB", "8 KiB", "least"])
def test_it_agrees_with_loops(metric, dtype, workspace, generator):
    labels, wanted = generator.integers(0, 3, 60), generator.integers(0, 3, 17)
    database = (generator.normal(size=(60, 5)) + labels[:, None]).astype(dtype)
    queries = (generator.normal(size=(17, 5)) + wanted[:, None]).astype(dtype)
    ks = (1, 7, 60)
    if metric == "euclidean":
        database, queries = database + 50, queries + 50  # far from zero: float32 must not lose the differences
    arguments = database, labels, queries, wanted
    if workspace == "least":
        workspace = least_workspace(*arguments, k=ks, metric=metric)
    result = retrieval_scores(*arguments, k=ks, metric=metric, workspace=workspace)
    assert result.k == ks
    distances = slow_distances(database, queries, metric)
    expected = [slow_scores(distances, labels, wanted, k) for k in ks]
    np.testing.assert_allclose(result.precision, [p for p, _ in expected], rtol=1e-12)
    np.testing.assert_allclose(result.mean_average_precision, [a for _, a in expected], rtol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("length", [1, 7, 100])  # of a block of the database
@pytest.mark.parametrize("k", [1, 4, 30])
def test_of_equal_distances_the_lower_index_comes_first(metric, length, k, generator, monkeypatch):
    database = generator.integers(-1, 2, (30, 2)).astype(np.float32)  # at most 9 different rows, exact distances
    database[0] = 0
    if metric == "cosine":  # along the axes: lengths of 1 and 2, exact quotients
        database *= np.array([1, 0], np.float32)
        database[::3] = database[::3, ::-1] * 2
    queries = np.array([[1, 0], [0, 2], [0, 0]], np.float32)
    search = retrieval._Search("test", database, queries, k, metric, 2**28)
    monkeypatch.setattr(search, "_length", length)
    monkeypatch.setattr(search, "_rows", 2)
    found = np.concatenate([neighbours for _, neighbours in search.blocks()])
    if metric == "euclidean":
        monkeypatch.setattr(search, "_mean", np.zeros(2, np.float32))  # whole numbers
        found = np.concatenate([neighbours for _, neighbours in search.blocks()])
    expected = np.argsort(slow_distances(database, queries, metric), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found, expected)


def test_by_default_k_is_100_and_the_rows_of_a_class(generator):
    features, labels = generator.normal(size=(600, 3)), np.arange(600) % 4
    assert retrieval_scores(features, labels, features[:5], labels[:5]).k == (100, 150)
    few = retrieval_scores(features[:30], labels[:30], features[:5], labels[:5])
    assert few.k == (30, 8)
    for each in (retrieval_scores(features[:400], labels[:400], features[:5], labels[:5]),
                 retrieval_scores(features, labels, features[:5], labels[:5], k=[100, 100])):  # fmt: skip
        assert each.k == (100,)
        assert len(each.precision) == len(each.mean_average_precision) == 1


def test_labels_may_be_text_and_features_bytes(generator):
    names = np.array(["cat", "dog"])[generator.integers(0, 2, 20)]
    features = generator.integers(0, 256, (20, 4)).astype(np.uint8)
    result = retrieval_scores(features, names, features[:6], names[:6], k=3)
    expected = slow_scores(slow_distances(features, features[:6], "euclidean"), names, names[:6], 3)
    np.testing.assert_allclose((result.precision[0], result.mean_average_precision[0]), expected)


def test_scores_are_the_same_however_features_lie_in_memory():
    digits, labels = load_digits(return_X_y=True)
    features = (digits / 16).astype(np.float32)  # many distances are equal, but for rounding
    one, other = (
        retrieval_scores(rows[:1000], labels[:1000], rows[1000:], labels[1000:])
        for rows in (features, np.asfortranarray(features))
    )
    assert one == other


def test_no_relevant_neighbour_counts_nothing():
    result = retrieval_scores(np.eye(3), [0, 0, 0], np.eye(3)[:1], [1], k=2)
    assert (result.precision, result.mean_average_precision) == ((0.0,), (0.0,))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("features", "k"), [(4, 10), (300, 10), (4, 1000)])
def test_memory_stays_within_the_workspace(metric, features, k, generator):
    database = generator.normal(size=(5000, features)).astype(np.float32)
    queries = generator.normal(size=(300, features)).astype(np.float32)
    labels, wanted = generator.integers(0, 5, 5000), generator.integers(0, 5, 300)
    retrieval_scores(database[:20], labels[:20], queries, wanted, k=1, metric=metric)  # what is loaded once
    tracemalloc.start()
    retrieval_scores(database, labels, queries, wanted, k=k, metric=metric, workspace="2 MiB")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20  # all distances: 6 MB


DATA, CLASSES = np.eye(4, dtype=np.float32), np.arange(4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"queries": DATA[:, :3]}, ValueError, "queries must have the database's 4 features, got 3; use one layer"),
        ({"database": DATA[None]}, ValueError, r"database must be \(n, features\) .* got shape \(1, 4, 4\)"),
        ({"queries": DATA * np.nan}, ValueError, r"queries must be finite, but queries\[0\] is not"),
        ({"query_labels": [1]}, ValueError, "query_labels must have one label for each of the 4 rows of queries, got"),
        ({"database_labels": DATA}, ValueError, "database_labels must have one label for each of the 4 rows of data"),
        ({"query_labels": list("0123")}, TypeError, "query_labels are texts, but database_labels numbers"),
        (
            {"database_labels": np.array(list("0123"), object)},
            TypeError,
            "query_labels are numbers, but database_labels",
        ),
        ({"k": 5}, ValueError, r"k must be between 1 and the rows of the database \(4\), got 5"),
        ({"k": []}, ValueError, r"k must be between 1 and the rows of the database \(4\), got \[\]"),
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 1.5}, TypeError, "k must be an integer, got 1.5"),
        ({"metric": "cosin"}, ValueError, "metric must be one of .*; got 'cosin'. Did you mean 'cosine'"),
        ({"workspace": 10}, ValueError, 'workspace must be at least "[0-9]+ B" for one query with k = 2, got "10 B"'),
        ({"workspace": "10 XB"}, ValueError, "workspace must be bytes or text like"),
    ],
)
def test_bad_arguments_are_refused(changes, error, message):
    arguments = {"database": DATA, "database_labels": CLASSES, "queries": DATA, "query_labels": CLASSES, "k": 2}
    with pytest.raises(error, match=f"retrieval_scores: {message}"):
        retrieval_scores(**{**arguments, **changes})


@pytest.mark.gpu
@pytest.mark.parametrize("metric", METRICS)
def test_cupy_arrays_give_what_numpy_arrays_give(metric, generator):
    cupy = pytest.importorskip("cupy")
    labels, features = generator.integers(0, 3, 500), generator.normal(size=(500, 8)).astype(np.float32)
    options = {"k": (1, 50), "metric": metric, "workspace": "1 MiB"}
    expected = retrieval_scores(features, labels, features[:40], labels[:40], **options)
    device = cupy.asarray(features), cupy.asarray(labels)
    actual = retrieval_scores(*device, device[0][:40], device[1][:40], **options)
    np.testing.assert_allclose(actual.precision, expected.precision, atol=1e-3)
    np.testing.assert_allclose(actual.mean_average_precision, expected.mean_average_precision, atol=1e-3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("power", [-120, -80, 60, 110])
def test_the_scale_of_features_does_not_matter(metric, power, generator):
    labels, wanted = generator.integers(0, 3, 60), generator.integers(0, 3, 17)
    database, queries = (generator.normal(size=(len(of), 5)) + of[:, None] for of in (labels, wanted))
    near, far = (
        retrieval_scores(*(
            each for rows, names in ((database, labels), (queries, wanted))
            for each in ((rows * scale).astype(np.float32), names)
        ), k=(1, 7), metric=metric)
        for scale in (1, 2.0**power)
    )  # fmt: skip
    assert near == far
