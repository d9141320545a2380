"""Readouts choose within the labelled rows; baselines against scikit-learn and plain linear algebra."""

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifierCV, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from hebbcore.evaluation import (
    READOUTS,
    RidgeReadout,
    ValidationSplit,
    baselines,
    kmeans_centres,
    labelled_subset,
    make_readout,
    principal_components,
    random_filters,
    random_patches,
    sgd_stream,
)
from hebbcore.evaluation.readouts import described, few_labels
from hebbcore.evaluation.ridge import sums


@pytest.fixture
def blobs():
    """Return features of very different scales, float32, and labels of three classes."""
    features, labels = make_blobs(240, 5, centers=3, cluster_std=1.5, random_state=0)
    return (features * np.array([1e-2, 1, 1, 1, 1e2])).astype(np.float32), labels


# Readouts by name or by object


@pytest.mark.parametrize("name", READOUTS)
def test_every_readout_learns_and_repeats_itself(name, blobs):
    features, labels = blobs
    train, test = np.arange(0, 160), np.arange(160, 240)
    models = [make_readout(name, seed=4).fit(features[train], labels[train]) for _ in range(2)]
    assert models[0].score(features[test], labels[test]) > 0.95
    np.testing.assert_array_equal(models[0].predict(features), models[1].predict(features))


@pytest.mark.parametrize("name", READOUTS)
def test_labels_outside_the_labelled_rows_change_nothing(name, blobs, generator):
    features, labels = blobs
    labelled = labelled_subset(labels, 0.25, how="stratified")
    expected = make_readout(name).fit(features[labelled], labels[labelled]).predict(features)
    others = np.setdiff1d(np.arange(len(labels)), labelled)
    labels[others] = generator.permutation(labels[others])
    model = make_readout(name).fit(features[labelled], labels[labelled])
    np.testing.assert_array_equal(model.predict(features), expected)


@pytest.mark.parametrize("name", [name for name in READOUTS if isinstance(make_readout(name), GridSearchCV)])
@pytest.mark.parametrize("few", [240, 239])
def test_the_grid_is_searched_on_splits_of_the_labelled_rows(name, few, blobs, monkeypatch):
    features, labels = blobs
    monkeypatch.setattr("hebbcore.evaluation.readouts.base.FEW", few)
    search = make_readout(name, seed=2).fit(features, labels)
    splits = list(search.cv.split(features, labels))
    assert search.n_splits_ == len(splits) == (5 if few == 240 else 1)
    for train, held in splits:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(240))
        np.testing.assert_array_equal(np.bincount(labels[held]), [16, 16, 16])
    for parameters, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        found = []
        for train, held in splits:
            model = make_readout(name, seed=2).estimator.set_params(**parameters).fit(features[train], labels[train])
            found.append(model.score(features[held], labels[held]))
        assert np.mean(found) == pytest.approx(score)
    whole = make_readout(name, seed=2).estimator.set_params(**search.best_params_).fit(features, labels)
    np.testing.assert_array_equal(search.predict(features), whole.predict(features))  # the final fit has all rows


@pytest.mark.parametrize("name", ["logistic", "svm", "sgd", "knn"])
def test_of_values_that_are_right_as_often_the_smallest_is_chosen(name, generator):
    labels = np.repeat([0, 1], 40)
    search = make_readout(name).fit(generator.normal(size=(80, 3)) + 20 * labels[:, None], labels)
    found = search.cv_results_["mean_test_score"]
    ((values,),) = (search.param_grid.values(),)
    assert (found == 1).sum() > 1
    assert [*search.best_params_.values()] == [min(np.asarray(values)[found == 1])]


def test_the_seed_draws_the_split(blobs):
    for fraction in (None, 0.3):
        splits = [next(ValidationSplit(fraction, seed).split(*blobs))[1] for seed in (0, 0, 1)]
        np.testing.assert_array_equal(splits[0], splits[1])
        assert set(splits[0]) != set(splits[2])
    assert ValidationSplit(0.3).get_n_splits() == 1


@pytest.mark.parametrize("counts", [[1, 1, 2], [1, 5, 3], [2, 2, 2], [11, 1, 13], [3, 1, 1]])
def test_few_rows_are_held_out_once_each_but_the_only_one_of_a_class(counts, generator):
    labels = generator.permutation(np.repeat([0, 1, 2], counts))
    split = ValidationSplit(seed=3)
    splits = list(split.split(labels, labels))
    assert len(splits) == split.get_n_splits(None, labels) <= 5
    only = [count == 1 for count in counts]
    held = np.concatenate([held for _, held in splits])
    np.testing.assert_array_equal(np.sort(held), np.flatnonzero(~np.take(only, labels)))
    assert np.ptp([len(held) for _, held in splits]) <= 1
    for train, held in splits:
        assert set(labels[train]) == {0, 1, 2}
        assert len(train) + len(held) == len(labels)


def test_the_ridge_readout_is_scaled_and_seeded():
    model = make_readout("ridge", seed=3)
    assert isinstance(model, RidgeReadout)
    assert (model.standardize, model.random_state) == (True, 3)


def test_an_object_is_cloned_and_seeded(blobs):
    original = make_pipeline(StandardScaler(), SGDClassifier())
    copy = make_readout(original, seed=7)
    assert copy is not original
    assert copy.get_params()["sgdclassifier__random_state"] == 7
    assert original.get_params()["sgdclassifier__random_state"] is None
    assert make_readout(SGDClassifier(random_state=1), seed=7).random_state == 1
    assert make_readout(LogisticRegression(C=3)).C == 3


@pytest.mark.parametrize("kind", [list, np.array])
def test_what_scikit_learn_leaves_out_of_a_text_tells_readouts_apart(kind):
    alphas = [1 + number / 7 for number in range(1200)]
    others = [*alphas[:600], 0.5, *alphas[601:]]
    for holds in (lambda alphas: alphas, lambda alphas: make_pipeline(StandardScaler(), alphas)):
        one, same, other = (holds(RidgeClassifierCV(kind(some))) for some in (alphas, alphas, others))
        assert str(one) == str(other)
        assert described(one) == described(same) != described(other)
    assert described(RidgeClassifierCV()) == "RidgeClassifierCV()"
    one, same = (make_pipeline(FunctionTransformer(lambda x: x), RidgeClassifierCV()) for _ in range(2))
    assert str(one) != str(same)  # as in two processes
    assert described(one) == described(same)
    assert described("svm") == "svm"


def test_a_ridge_readout_is_found_in_whatever_holds_it():
    class RidgeReadoutOfMine(SGDClassifier):
        pass

    many = [FunctionTransformer(kw_args={"note": "x" * 900}) for _ in range(9)]  # their text is shortened
    for readout in (
        "ridge",
        RidgeReadout(),
        make_pipeline(*many, RidgeReadout(), *many),
        GridSearchCV(RidgeReadout(), {}),
    ):
        assert few_labels(readout) == 5_000
    assert few_labels("svm") == 1_000
    assert few_labels(RidgeReadoutOfMine()) == 0


@pytest.mark.parametrize(
    ("readout", "error", "message"),
    [
        ("rigde", ValueError, "readout must be one of 'ridge', 'logistic', .*; got 'rigde'. Did you mean 'ridge'"),
        (Ridge(), TypeError, "readout must be a scikit-learn classifier or one of 'ridge', .*; got Ridge"),
        (LogisticRegression, TypeError, "readout must be a scikit-learn classifier or one of"),
        (3, TypeError, "readout must be a scikit-learn classifier or one of .*; got 3"),
    ],
)
def test_bad_readouts_are_refused(readout, error, message):
    with pytest.raises(error, match=f"make_readout: {message}"):
        make_readout(readout)


def test_one_row_a_class_leaves_nothing_to_choose_by():
    with pytest.raises(ValueError, match="make_readout: to choose a penalty some class must have two labelled rows"):
        make_readout("logistic").fit(np.eye(3), [0, 1, 2])


# A stream


def test_sgd_over_a_stream_is_scaling_and_partial_fits(blobs):
    features, labels = blobs
    batches = [(features[i : i + 50], labels[i : i + 50]) for i in range(0, 240, 50)]
    model = sgd_stream(batches, epochs=3, alpha=1e-3, seed=1)
    scaler, expected = StandardScaler().fit(features), SGDClassifier(alpha=1e-3, random_state=1)
    for _ in range(3):
        for rows, names in batches:
            expected.partial_fit(scaler.transform(rows), names, classes=[0, 1, 2])
    wanted = expected.decision_function(scaler.transform(features))
    np.testing.assert_allclose(model.decision_function(features), wanted, rtol=1e-3, atol=1e-3)
    assert model.score(features, labels) > 0.95


def test_sgd_knows_classes_that_do_not_come(blobs):
    features, labels = blobs
    model = sgd_stream([(features, np.array(["x", "y", "z"])[labels])], classes=["z", "w", "x", "y"])
    np.testing.assert_array_equal(model.classes_, ["w", "x", "y", "z"])


@pytest.mark.parametrize(
    ("batches", "options", "error", "message"),
    [
        (
            iter([]),
            {},
            ValueError,
            "batches is an iterator, which can be read once, but 2 passes are needed; pass some",
        ),
        ([], {}, ValueError, "batches gave no batch"),
        (
            [(np.eye(2), [1, 1])],
            {},
            ValueError,
            r"labels must have at least 2 classes, got 1 \(1\); add rows of others",
        ),
        ([(np.eye(2), [0, 1])], {"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ([(np.eye(2), [0, 1])], {"alpha": 0}, ValueError, "alpha must be above 0, got 0"),
        ([(np.eye(2), [0, 1])], {"classes": [0, 2]}, ValueError, "label 1 is not among the 2 classes given"),
        ([(np.eye(2), [0, 1]), (np.eye(3), [0, 1, 0])], {}, ValueError, "batch 1 has 3 features, but 2 were expected"),
    ],
)
def test_bad_streams_are_refused(batches, options, error, message):
    with pytest.raises(error, match=f"sgd_stream: {message}"):
        sgd_stream(batches, **options)


# Baselines


def test_random_filters_have_length_1_and_repeat(generator):
    filters = random_filters(200, 27, generator)
    assert (filters.shape, filters.dtype) == ((200, 27), np.float32)
    np.testing.assert_allclose(np.linalg.norm(filters, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(filters.mean(axis=0), 0, atol=0.1)
    np.testing.assert_array_equal(filters, random_filters(200, 27, np.random.default_rng(0)))


def test_random_patches_are_different_rows_and_none_is_zero(generator):
    patches = generator.normal(size=(30, 6))
    patches[::3] = 0
    chosen = random_patches(patches, 20, generator)
    assert (chosen.shape, chosen.dtype) == ((20, 6), np.float32)
    cosines = chosen @ (patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-9)).T
    assert sorted(cosines.argmax(axis=1)) == [i for i in range(30) if i % 3]
    np.testing.assert_allclose(cosines.max(axis=1), 1, rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"random_patches: units must be at most the number of patches that are not ze"
    ):
        random_patches(patches, 21, generator)


def test_kmeans_centres_are_scikit_learns(blobs):
    features, _ = blobs
    centres = kmeans_centres(features, 3, 5)
    model = MiniBatchKMeans(3, batch_size=baselines._KMEANS_BATCH, n_init=1, random_state=5).fit(features)
    np.testing.assert_allclose(centres, model.cluster_centers_, rtol=1e-6)
    assert centres.dtype == np.float32
    with pytest.raises(
        ValueError, match=r"kmeans_centres: units must be at most the number of patches \(240\), got 300"
    ):
        kmeans_centres(features, 300, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("ends", [[], [1, 2, 90], [150]])
def test_principal_components_are_those_of_all_rows(dtype, ends, generator, monkeypatch):
    monkeypatch.setattr(sums, "_BLOCK_ROWS", 16)
    patches = (generator.normal(size=(200, 8)) * 2.0 ** np.arange(8) / 8 + 100).clip(0, 255).astype(dtype)
    components = principal_components(np.split(patches, ends), 4)
    expected = PCA(4, svd_solver="full").fit(patches.astype(np.float64)).components_
    expected *= np.sign(np.take_along_axis(expected, np.abs(expected).argmax(axis=1)[:, None], axis=1))
    np.testing.assert_allclose(components, expected, atol=1e-4)
    assert components.dtype == np.float32


@pytest.mark.parametrize(
    ("batches", "units", "error", "message"),
    [
        ([], 1, ValueError, "patch_batches gave no batch; pass something that can be iterated again"),
        (5, 1, TypeError, r"patch_batches must be an iterable of arrays \(n, size\); write one as \[patches\]"),
        (np.eye(3), 1, ValueError, r"patches must be \(n, features\) with at least one of each, got shape \(3,\)"),
        ([np.eye(3), np.eye(4)], 1, ValueError, "patches changed from 3 to 4 numbers"),
        ([np.eye(3)], 3, ValueError, r"units must be at most the number of directions in the patches \(2\), got 3"),
        ([np.eye(3)], 0, ValueError, "units must be at least 1, got 0"),
    ],
)
def test_bad_patches_are_refused(batches, units, error, message):
    with pytest.raises(error, match=f"principal_components: {message}"):
        principal_components(batches, units)


@pytest.mark.parametrize("arguments", [(0, 3), (3, 0)])
def test_sizes_are_checked(arguments, generator):
    with pytest.raises(ValueError, match=r"random_filters: (units|size) must be at least 1, got 0"):
        random_filters(*arguments, generator)


@pytest.mark.parametrize("rows", [4, 22])
def test_neighbours_of_too_few_rows_are_refused_in_words(rows):
    features, labels = np.random.default_rng(0).normal(size=(rows, 3)), np.arange(rows) % 2
    left = {4: 3, 22: 17}[rows]
    with pytest.raises(
        ValueError, match=rf"make_readout: knn needs 20 rows besides those held out .*, got {left}; label"
    ):
        make_readout("knn").fit(features, labels)
    with pytest.raises(ValueError, match="make_readout: 2 of 4 labels are below 0"):
        make_readout("knn").fit(features[:4], [0, -1, 1, -1])


@pytest.mark.parametrize(
    ("fraction", "message"), [(1.0, "must be below 1, got 1.0"), (-0.5, "must be above 0, got -0.5")]
)
def test_fractions_that_hold_out_nothing_or_all_are_refused(fraction, message):
    X, y = np.ones((6, 2)), np.arange(6) % 2
    with pytest.raises(ValueError, match=f"ValidationSplit: fraction {message}"):
        next(ValidationSplit(fraction).split(X, y))
