"""The scikit-learn transformers, by scikit-learn's own checks and in use."""

import pickle

import h5py
import joblib
import numpy as np
import pytest
import reference
from conftest import SHARED
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import hebbcore
from hebbcore.estimators import HebbianNetworkTransformer, HebbianTransformer

# under SCIPY_ARRAY_API=1: fitted arrays are NumPy's, and serve images of every library
ANY_LIBRARY_MAY_FOLLOW = {"check_array_api_same_namespace": "another library than that of fit is welcome"}
LAYER = {"units": 12, "kernel_size": 3, "image_shape": (8, 8, 1), "random_state": 0}


@parametrize_with_checks(
    [
        HebbianTransformer(units=5),
        HebbianTransformer(units=5, whiten=True, activation="split", threshold=0.1, power=0.5, rule="softhebb"),
        HebbianNetworkTransformer(),
        HebbianNetworkTransformer(
            [hebbcore.BatchNorm(), hebbcore.Dense(4), hebbcore.BatchNorm(), hebbcore.Dense(3)], mode="layerwise"
        ),
    ],
    expected_failed_checks=lambda _: ANY_LIBRARY_MAY_FOLLOW,
)
@pytest.mark.filterwarnings("ignore:fit. fc1. the data have only")  # two numbers have two contrasts
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    """Return 400 digits as rows of 64 numbers in 0…1, and their labels."""
    data = load_digits()
    return (data.data[:400] / 16).astype(np.float32), data.target[:400]


def test_a_layer_equals_the_network_it_is(digits):
    rows, _ = digits
    images = rows.reshape(-1, 8, 8, 1)
    transformer = HebbianTransformer(
        **LAYER, rule=hebbcore.KWTA(k=2), learning_rate=0.2, whiten=True, epsilon=0.05, activation="triangle", pool=2,
        power=0.5, epochs=2, batch_size=50,
    )  # fmt: skip
    features = transformer.fit_transform(rows)
    seed = np.random.RandomState(0).randint(2**31)
    network = hebbcore.Network(
        [
            hebbcore.Whiten(3, epsilon=0.05),
            hebbcore.Conv(12, 1, hebbcore.KWTA(2), learning_rate=0.2, linear=True, initial_weights="patches"),
            hebbcore.Triangle(), hebbcore.GridPool(2), hebbcore.Power(0.5),
        ],
        (8, 8, 1), seed=seed,
    )  # fmt: skip
    hebbcore.fit(network, images, epochs=2, batch_size=50, seed=seed)
    np.testing.assert_array_equal(features, network.transform(images).reshape(400, -1))
    assert features.shape == (400, 2 * 2 * 12)
    assert features.dtype == np.float32


@pytest.mark.parametrize("activation", ["rule", "triangle", "split"])
@pytest.mark.parametrize("whiten", [False, True])
def test_flattened_images_and_images_give_the_same(digits, activation, whiten):
    rows, _ = digits
    images = rows.reshape(-1, 8, 8, 1)
    threshold = 0.2 if activation == "split" else 0.0
    flat = HebbianTransformer(**LAYER, activation=activation, whiten=whiten, threshold=threshold).fit(rows)
    given = clone(flat).set_params(image_shape=None).fit(images)
    np.testing.assert_array_equal(flat.transform(rows), given.transform(images))
    np.testing.assert_array_equal(flat.transform(images), given.transform(rows.reshape(-1, 8, 8, 1)))
    assert flat.n_features_in_ == given.n_features_in_ == 64
    doubled = 2 if activation == "split" or (activation == "rule" and not whiten) else 1
    assert flat.transform(rows).shape == (400, 6 * 6 * 12 * doubled)
    assert len(flat.get_feature_names_out()) == 6 * 6 * 12 * doubled


@pytest.mark.parametrize("whiten", [False, True])
def test_mirrored_features(digits, whiten):
    rows, _ = digits
    mirrored = rows.reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)
    plain = HebbianTransformer(**LAYER, whiten=whiten, pool=2).fit(rows)
    both = HebbianTransformer(**LAYER, whiten=whiten, pool=2, mirror=True).fit(rows)
    expected = (plain.transform(rows) + plain.transform(mirrored)) / 2
    np.testing.assert_allclose(both.transform(rows), expected, rtol=1e-5, atol=1e-6)
    network = HebbianNetworkTransformer([hebbcore.Conv(4, 3)], mirror=True, image_shape=(8, 8, 1)).fit(rows)
    np.testing.assert_allclose(network.transform(rows), network.transform(mirrored), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["hpca", "kwta", "swta"])
def test_split_sees_responses_of_both_signs(digits, rule):
    rows, _ = digits
    features = HebbianTransformer(**LAYER, rule=rule, whiten=True, activation="split", pool=1).fit_transform(rows)
    assert (features.reshape(400, 2, 12).mean(axis=(0, 2)) > 0).all()


def test_uint8_is_read_as_0_to_1(digits):
    rows = np.round(digits[0] * 255).astype(np.uint8)
    bytes_ = HebbianTransformer(**LAYER).fit(rows)
    floats = HebbianTransformer(**LAYER).fit((rows / np.float32(255)).astype(np.float32))
    np.testing.assert_allclose(bytes_.transform(rows), floats.transform(rows / np.float32(255)), rtol=1e-5, atol=1e-6)


def test_pipeline_grid_search_and_union(digits):
    rows, labels = digits
    pipe = make_pipeline(
        HebbianTransformer(**LAYER, rule="kwta", whiten=True, activation="split", pool=3),
        StandardScaler(),
        RidgeClassifierCV(),
    )
    assert pipe.fit(rows[:300], labels[:300]).score(rows[300:], labels[300:]) > 0.85
    search = GridSearchCV(pipe, {"hebbiantransformer__units": [2, 12]}, cv=2).fit(rows, labels)
    assert search.best_params_ == {"hebbiantransformer__units": 12}
    union = FeatureUnion(
        [("a", HebbianTransformer(**LAYER, pool=1)), ("b", HebbianTransformer(units=5, random_state=0))]
    )
    assert union.fit_transform(rows).shape == (400, 12 + 5)


@pytest.mark.parametrize("dump", ["pickle", "joblib"])
def test_what_is_stored_and_read_again_gives_the_same(digits, dump, tmp_path):
    rows, _ = digits
    transformer = HebbianTransformer(**LAYER, whiten=True, activation="split", pool=2).fit(rows)
    if dump == "pickle":
        again = pickle.loads(pickle.dumps(transformer))
    else:
        joblib.dump(transformer, tmp_path / "transformer")
        again = joblib.load(tmp_path / "transformer")
    np.testing.assert_array_equal(again.transform(rows), transformer.transform(rows))
    again.partial_fit(rows)  # and goes on learning
    assert not np.array_equal(again.transform(rows), transformer.transform(rows))


def test_set_output(digits):
    pandas = pytest.importorskip("pandas")
    frame = HebbianTransformer(**LAYER, pool=1).set_output(transform="pandas").fit_transform(digits[0])
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns)[:2] == ["hebbiantransformer0", "hebbiantransformer1"]
    layers = [hebbcore.Conv(4, 3, name="first"), hebbcore.GridPool(2)]
    network = HebbianNetworkTransformer(layers, image_shape=(8, 8, 1)).fit(digits[0]).set_params(layer="first")
    assert network.set_output(transform="pandas").transform(digits[0]).shape == (400, 6 * 6 * 4)


def test_partial_fit_goes_on_from_part_to_part(digits):
    rows, _ = digits
    transformer = HebbianTransformer(**LAYER, whiten=True)
    transformer.partial_fit(rows[:200])
    whitening, weights = (transformer.network_[name] for name in ("whiten1", "conv1"))
    matrix, before = whitening.matrix.copy(), weights.weights.copy()
    transformer.partial_fit(rows[200:])
    np.testing.assert_array_equal(whitening.matrix, matrix)  # what the weights were learned for
    assert not np.array_equal(weights.weights, before)
    assert transformer.parts_ == 2


def test_the_seed_decides(digits):
    rows, _ = digits
    features = [HebbianTransformer(**{**LAYER, "random_state": seed}).fit_transform(rows) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(features[0], features[1])
    assert not np.array_equal(features[0], features[2])


def test_a_preset_and_its_layers(digits, generator):
    images = generator.integers(0, 256, (6, 32, 32, 3), np.uint8)
    transformer = HebbianNetworkTransformer(
        "fasthebb-6", rule="swta", preprocess="normalize", layer="bn2", batch_size=3
    )
    features = transformer.fit_transform(images)
    assert features.shape == (6, 12 * 12 * 128)
    assert transformer.network_.names[0] == "input"
    flat = clone(transformer).set_params(image_shape=(32, 32, 3), random_state=0)
    assert flat.fit_transform(images.reshape(6, -1)).shape == (6, 12 * 12 * 128)


def test_layers_are_copied_not_trained(digits):
    layers = [hebbcore.Dense(7, "softhebb")]
    HebbianNetworkTransformer(layers).fit(digits[0])
    assert layers[0].weights is None


@pytest.mark.parametrize(
    ("transformer", "error", "message"),
    [
        (HebbianTransformer(kernel_size=3), ValueError, "kernel_size is for images; give image_shape"),
        (HebbianTransformer(image_shape=(8, 8)), ValueError, r"image_shape must be \(height, width, channels\)"),
        (HebbianTransformer(image_shape=(8, 9, 1)), ValueError, r"makes 72 features, but X has 64"),
        (HebbianTransformer(image_shape=64), ValueError, r"image_shape must be \(height, width, channels\), got 64"),
        (HebbianTransformer(activation="relu"), ValueError, "activation must be one of 'rule', 'triangle', 'split'"),
        (HebbianTransformer(rule="kwtaa"), ValueError, "Did you mean 'kwta'"),
        (HebbianTransformer(units=0), ValueError, "units must be at least 1"),
        (HebbianTransformer(whiten=1), TypeError, "whiten must be true or false"),
        (HebbianTransformer(pool=2), ValueError, "needs images"),
        (HebbianTransformer(power=np.ones(2)), TypeError, "HebbianTransformer: power must be a number, got array"),
        (HebbianTransformer(initial_weights=np.ones((4, 64))), ValueError, "Dense: initial_weights must be one of"),
        (HebbianTransformer(mirror=True), ValueError, r"mirror is for images, but the network takes vectors \(64,\)"),
        (HebbianTransformer(mirror=1), TypeError, "mirror must be true or false"),
        (HebbianTransformer(device="gpu"), ValueError, "device must be one of"),
        (HebbianNetworkTransformer("fasthebb6"), ValueError, "Did you mean 'fasthebb-6'"),
        (HebbianNetworkTransformer(rule="hpca"), ValueError, "rule, preprocess and units go with a preset's name"),
        (HebbianNetworkTransformer(hebbcore.Network([hebbcore.Dense(3)])), TypeError, "a list of layers, got Network"),
        (HebbianNetworkTransformer(layer="bn7"), ValueError, "layer must be one of 'bn1', 'fc1'"),
    ],
)
def test_bad_parameters_are_said_when_fitting(transformer, error, message, digits):
    with pytest.raises(error, match=message):
        transformer.fit(digits[0])


def test_grey_images_without_their_channel_are_told(digits):
    with pytest.raises(ValueError, match=r"X\[\.\.\., None\] gives grey images"):
        HebbianTransformer().fit(digits[0].reshape(-1, 8, 8))


def test_images_of_another_shape_are_refused(digits):
    rows, _ = digits
    transformer = HebbianTransformer(**LAYER).fit(rows)
    with pytest.raises(ValueError, match="X must be images of image_shape"):
        transformer.transform(rows.reshape(-1, 4, 16, 1))


@pytest.mark.gpu
def test_cupy_in_cupy_out(digits):
    cupy = pytest.importorskip("cupy")
    rows = cupy.asarray(digits[0])
    transformer = HebbianTransformer(**LAYER, whiten=True, activation="split", pool=2).fit(rows)
    features = transformer.transform(rows)
    assert isinstance(features, cupy.ndarray)
    host = HebbianTransformer(**LAYER, whiten=True, activation="split", pool=2, device="cpu").fit(digits[0])
    np.testing.assert_allclose(cupy.asnumpy(features), host.transform(digits[0]), rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float16])
def test_cupy_numbers_are_read_as_numpys(dtype, generator):
    cupy = pytest.importorskip("cupy")
    rows = generator.integers(0, 9, (30, 5)).astype(dtype)
    expected = HebbianTransformer(4, device="cpu", random_state=0).fit(rows).transform(rows)
    transformer = HebbianTransformer(4, random_state=0).fit(cupy.asarray(rows))
    for features in (transformer.transform(cupy.asarray(rows)), transformer.transform(rows)):
        assert features.dtype == expected.dtype
        np.testing.assert_allclose(cupy.asnumpy(features), expected, atol=1e-4)


@pytest.mark.gpu
def test_bad_cupy_arrays_are_refused(generator):
    cupy = pytest.importorskip("cupy")
    rows = cupy.asarray(generator.integers(0, 256, (30, 5)))
    with pytest.raises(ValueError, match=r"X must be \(n, height, width, channels\) or \(n, features\)"):
        HebbianTransformer(4).fit(rows[0])
    with pytest.raises(TypeError, match="X must be an array of numbers"):
        HebbianTransformer(4).fit(rows.astype(complex))
    with pytest.raises(ValueError, match="X must have the scale of what was learned from, int64, got uint8"):
        HebbianTransformer(4).fit(rows).transform(rows.astype(np.uint8))


# What the defaults are worth


def random_directions(transformer, seed):
    """Return a copy of a fitted transformer whose units have random directions."""
    copy = pickle.loads(pickle.dumps(transformer))
    (learner,) = copy.network_.learners.values()
    weights = np.random.default_rng(seed).normal(size=learner.weights.shape)
    weights /= np.linalg.norm(weights.reshape(len(weights), -1), axis=1).reshape(-1, *[1] * (weights.ndim - 1))
    learner.restore({"weights": weights.astype(learner.weights.dtype)})
    return copy


def right(transformer, layer, images, labels, train, test):
    """Return which test images a ridge readout of the layer's output gets right."""
    features = transformer.network_.transform(images, layer).reshape(len(images), -1)
    readout = make_pipeline(StandardScaler(), RidgeClassifier(100))
    return readout.fit(features[train], labels[train]).predict(features[test]) == labels[test]


def gains(images, labels, folds, rule, whiten, **options):
    """Return, for pool=2 and no pooling, how many more test images learned units get right than random ones.

    In standard errors of that number under the hypothesis that both are as good (McNemar): the root of the number of
    images that one of both gets right.
    """
    differences = {"pool=2": [], "pool=None": []}
    for seed, (train, test) in enumerate(folds):
        transformer = HebbianTransformer(rule=rule, whiten=whiten, pool=2, random_state=seed, device="cpu", **options)
        transformer.fit(images[train])
        random = random_directions(transformer, seed)
        *_, before, last = transformer.network_.names
        for name, layer in (("pool=2", last), ("pool=None", before)):
            learned, drawn = (right(kind, layer, images, labels, train, test) for kind in (transformer, random))
            differences[name] += [*(learned.astype(int) - drawn)]
    return {name: sum(values) / max(1, np.sum(np.abs(values))) ** 0.5 for name, values in differences.items()}


COMBINATIONS = [(rule, whiten) for whiten in (True, False) for rule in reference.UNSUPERVISED]


@pytest.mark.parametrize(("rule", "whiten"), COMBINATIONS)
def test_no_default_is_worse_than_random_filters_on_digits(rule, whiten):
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[..., None]
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(images, data.target)
    found = gains(images, data.target, folds, rule, whiten, units=24, kernel_size=5)
    assert min(found.values()) > -2, found


@pytest.mark.skipif(not (SHARED / "data/cifar10.h5").exists(), reason="needs CIFAR-10 in ../shared")
@pytest.mark.parametrize(("rule", "whiten"), COMBINATIONS)
def test_no_default_is_worse_than_random_filters_on_photographs(rule, whiten):
    with h5py.File(SHARED / "data/cifar10.h5") as file:
        images, labels = file["train/images"][:2000], file["train/labels"][:2000]
    folds = [(np.arange(1000), np.arange(1000, 2000))]
    found = gains(images, labels, folds, rule, whiten, units=32, kernel_size=6, stride=4)
    assert min(found.values()) > -2, found


def test_without_whitening_units_that_compete_answer_by_the_power_of_krotov_and_hopfield(digits):
    rows, _ = digits
    for rule in reference.UNSUPERVISED:
        layers = HebbianTransformer(**LAYER, rule=rule, whiten=False).fit(rows).network_.layers[2:]
        if rule in ("hpca", "softhebb"):
            assert not any(isinstance(layer, hebbcore.Split) for layer in layers)
        elif rule == "ica":
            assert [type(layer) for layer in layers] == [hebbcore.Split]
        else:
            split, relu = layers
            assert isinstance(split, hebbcore.Split)
            assert relu.power == 4.5
    (split,) = HebbianTransformer(**LAYER, activation="split", whiten=False).fit(rows).network_.layers[2:]
    assert isinstance(split, hebbcore.Split)
    assert len(HebbianTransformer(12, whiten=False, random_state=0).fit(rows).network_.layers) == 2  # vectors


@pytest.mark.parametrize("rule", ["softhebb", "hardwta", "krotov", "signedwta"])
def test_features_are_not_linear_where_the_rules_output_is(rule, digits):
    rows, _ = digits
    transformer = HebbianTransformer(**LAYER, rule=rule, pool=2).fit(rows)
    sums = [transformer.transform(scale * rows[:1] + (1 - scale) * rows[1:2]) for scale in (0, 0.5, 1)]
    assert transformer.transform(rows).min() >= 0
    assert abs(sums[1] - (sums[0] + sums[2]) / 2).max() > 1e-3


def test_epochs_make_250_steps_of_few_images_and_one_pass_of_many():
    transformer = HebbianTransformer()
    passes = {count: transformer._epochs(np.empty((count, 1))) for count in (1, 100, 1600, 10_000, 50_000)}
    assert passes == {1: 10, 100: 10, 1600: 10, 10_000: 2, 50_000: 1}
    assert HebbianTransformer(epochs=3)._epochs(np.empty((1, 1))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.1}, 'threshold=0.1 has no effect without activation="split"; leave it out'),
        ({"threshold": 0.1, "activation": "triangle"}, "threshold=0.1 has no effect"),
        ({"epsilon": 0.2, "whiten": False}, "epsilon=0.2 has no effect without whiten=True"),
        ({"stride": 2}, "stride=2 has no effect without kernel_size"),
        ({"rule": "hpca", "conscience": 0.1}, "conscience is for rules whose units compete"),
        ({"rule": "supervised"}, "rule must learn without labels, and Supervised needs them"),
    ],
)
def test_settings_without_effect_are_refused(options, message, digits):
    with pytest.raises(ValueError, match=message):
        HebbianTransformer(**options).fit(digits[0])


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("kernel_size", [None, 12])
def test_hpca_learns_by_default_whatever_the_size_of_its_patches(whiten, kernel_size, generator):
    """Large patches have large eigenvalues: a rate that fits small ones would make their weights diverge."""
    images = generator.integers(0, 256, (200, 1, 1, 3)) * np.ones((1, 16, 16, 1)) + generator.normal(
        0, 9, (200, 16, 16, 3)
    )
    images = np.clip(images, 0, 255).astype(np.uint8)
    transformer = HebbianTransformer(8, kernel_size, rule="hpca", whiten=whiten, random_state=0, device="cpu").fit(
        images
    )
    (layer,) = transformer.network_.learners.values()
    assert np.linalg.norm(layer.weights.reshape(8, -1), axis=1).max() < 1.5
