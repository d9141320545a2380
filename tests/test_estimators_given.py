"""What scikit-learn transformers are given: images that are no array yet, tables, parameters set between parts."""

import pickle

import h5py
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

import hebbcore
from hebbcore.estimators import HebbianNetworkTransformer, HebbianTransformer
from hebbcore.training.steps import Steps

LAYER = {"units": 12, "kernel_size": 3, "image_shape": (8, 8, 1), "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    """Return 400 digits as rows of 64 numbers in 0…1, and their labels."""
    data = load_digits()
    return (data.data[:400] / 16).astype(np.float32), data.target[:400]


class Lazy:
    """Images that can only become an array, as those of xarray and of h5py."""

    def __init__(self, images):
        self.shape, self._images = images.shape, images

    def __len__(self):
        return len(self._images)

    def __array__(self, dtype=None, copy=None):
        return np.array(self._images, dtype)


@pytest.mark.parametrize("form", ["lazy", "h5py", "list of images", "nested lists"])
def test_images_that_are_not_yet_an_array(digits, form, tmp_path):
    images = digits[0][:50].reshape(-1, 8, 8, 1)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"] = images
        given = {
            "lazy": Lazy(images), "h5py": file["images"], "list of images": list(images),
            "nested lists": images.tolist(),
        }[form]  # fmt: skip
        transformer = HebbianTransformer(units=4, kernel_size=3, random_state=0, epochs=1).fit(given)
        expected = clone(transformer).fit(images.astype(np.float64) if form == "nested lists" else images)
        np.testing.assert_array_equal(transformer.transform(given), expected.transform(np.asarray(given)))


def test_no_images_are_refused_in_words(digits):
    images = digits[0].reshape(-1, 8, 8, 1)
    transformer = HebbianTransformer(units=4, kernel_size=3, random_state=0, epochs=1).fit(images)
    with pytest.raises(ValueError, match=r"Found array with 0 sample"):
        transformer.transform(images[:0])


@pytest.mark.parametrize("kind", ["UInt8", "uint8[pyarrow]", "Float32", "float[pyarrow]"])
def test_a_table_of_nullable_numbers_is_read_as_the_same_numbers_of_numpy(digits, kind):
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    rows = digits[0][:60]
    plain = pandas.DataFrame(np.round(rows * 255).astype(np.uint8) if "int" in kind.lower() else rows)
    table = plain.astype(kind)
    transformer = HebbianNetworkTransformer([hebbcore.Dense(4)], random_state=0).fit(table)
    np.testing.assert_array_equal(transformer.transform(table), clone(transformer).fit(plain).transform(plain))
    np.testing.assert_array_equal(transformer.transform(table), transformer.transform(plain))
    table.iloc[3, 5] = pandas.NA
    with pytest.raises(ValueError, match="contains NaN"):
        transformer.transform(table)


def test_flags_are_read_as_0_and_1(digits):
    rows = (digits[0] > 0.5).astype(np.float64)
    transformer = HebbianTransformer(**LAYER, epochs=1).fit(rows)
    np.testing.assert_array_equal(transformer.transform(rows == 1), transformer.transform(rows))
    of_fractions = HebbianTransformer(**LAYER, epochs=1).fit(digits[0])
    np.testing.assert_array_equal(of_fractions.transform(rows == 1), of_fractions.transform(rows))


@pytest.mark.parametrize("unit", ["datetime64[s]", "timedelta64[s]"])
def test_dates_are_no_images(digits, unit):
    dates = (255 * digits[0]).astype(np.int64).astype(unit)
    transformer = HebbianTransformer(**LAYER, epochs=1)
    for fitted in (transformer.fit(digits[0]).transform, transformer.fit):
        with pytest.raises(TypeError, match=r"HebbianTransformer: X must be an array of numbers, got ndarray"):
            fitted(dates)


def test_numbers_of_another_scale_than_those_of_fit_are_refused(digits):
    pixels = (digits[0] * 15).astype(np.uint8)
    transformer = HebbianTransformer(**LAYER).fit(pixels)
    for other in (pixels.astype(int), pixels.tolist()):
        with pytest.raises(ValueError, match="X must have the scale of what was learned from, uint8, got int64"):
            transformer.transform(other)
        with pytest.raises(ValueError, match="give uint8, or numbers of that scale"):
            transformer.partial_fit(other)
    np.testing.assert_allclose(transformer.transform(pixels / 255), transformer.transform(pixels), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="from, int64, got uint8"):
        HebbianTransformer(**LAYER).fit(pixels.astype(int)).transform(pixels)
    bright = (digits[0] * 255).astype(np.uint8)
    with pytest.raises(ValueError, match="from, uint8, got float32 up to 255 or so"):
        transformer.transform(bright.astype(np.float32))
    with pytest.raises(ValueError, match="from, float64 up to 255 or so, got uint8"):
        HebbianTransformer(**LAYER).fit(bright.astype(float)).transform(bright)
    HebbianTransformer(**LAYER).fit(bright / 255).transform(bright)


@pytest.mark.parametrize(
    "transformer",
    [
        HebbianTransformer(**LAYER, learning_rate=0.01),
        HebbianNetworkTransformer([hebbcore.Conv(6, 3)], image_shape=(8, 8, 1), learning_rate=0.01, random_state=0),
    ],
)
def test_a_rate_set_between_parts_has_its_effect(digits, transformer):
    rows, _ = digits
    moved = []
    for rate in (0.01, 0.1):
        model = pickle.loads(pickle.dumps(clone(transformer).partial_fit(rows[:200])))
        before = model.network_["conv1"].weights.copy()
        model.set_params(learning_rate=rate).partial_fit(rows[200:])
        moved.append(np.abs(model.network_["conv1"].weights - before).max())
    assert moved[1] > 3 * moved[0] > 0


def test_a_rate_set_in_the_network_between_parts_stays(digits):
    one = HebbianTransformer(4, rule="swta", random_state=0).partial_fit(digits[0][:100])
    (learner,) = one.network_.learners.values()
    learner.learning_rate = 0.0123
    one.partial_fit(digits[0][:100])
    assert learner.learning_rate == 0.0123
    one.set_params(learning_rate=0.1).partial_fit(digits[0][:100])
    assert learner.learning_rate == 0.1


def test_what_a_network_is_made_of_cannot_be_set_between_parts(digits):
    rows, _ = digits
    layer = HebbianTransformer(**LAYER, rule=hebbcore.KWTA(2)).partial_fit(rows)
    layer.set_params(kernel_size=3, rule=hebbcore.KWTA(2), mirror=True, batch_size=50).partial_fit(rows)
    for changed in ({"units": 20}, {"rule": "swta"}, {"device": "cpu"}, {"power": 0.5}, {"random_state": 1}):
        before, name = layer.get_params(), next(iter(changed))
        with pytest.raises(ValueError, match=rf"partial_fit: {name} was set from .* after the network was made"):
            layer.set_params(**changed).partial_fit(rows)
        layer.set_params(**{name: before[name]}).partial_fit(rows)
    network = HebbianNetworkTransformer([hebbcore.Conv(4, 3)], image_shape=(8, 8, 1)).fit(rows)
    pickle.loads(pickle.dumps(network)).partial_fit(rows)
    with pytest.raises(ValueError, match="partial_fit: network was set from"):
        network.set_params(network=[hebbcore.Conv(5, 3)]).partial_fit(rows)
    assert network.fit(rows).transform(rows).shape == (400, 6 * 6 * 5)


def test_whitening_needs_an_epsilon(digits):
    with pytest.raises(
        ValueError, match="HebbianTransformer: epsilon must be a number above 0, got None; whiten=False"
    ):
        HebbianTransformer(**LAYER, epsilon=None).fit(digits[0])


def test_layers_that_say_the_same_are_the_same_network(digits):
    rows = digits[0][:100].reshape(-1, 8, 8, 1)

    def layers(units=4):
        return [hebbcore.Conv(units, 3, hebbcore.KWTA(2)), hebbcore.Pool(2)]

    given = layers()
    network = HebbianNetworkTransformer(given, random_state=0).partial_fit(rows)
    network.set_params(network=layers()).partial_fit(rows)
    assert network.parts_ == 2
    given[0].units = 5
    for other in (layers(5), layers()[:1], given):
        with pytest.raises(ValueError, match=r"partial_fit: network was set from .*'units': 4"):
            network.set_params(network=other).partial_fit(rows)


@pytest.mark.parametrize("bad", [{"units": 0}, {"learning_rate": "fast"}, {"image_shape": (7, 7, 1)}])
def test_a_fit_that_fails_changes_nothing(digits, bad):
    rows = digits[0][:100]
    layer = HebbianTransformer(**LAYER, epochs=1).fit(rows)
    before, features = dict(vars(layer)), layer.transform(rows)
    for method in ("fit", "partial_fit"):
        with pytest.raises((ValueError, TypeError)):
            getattr(layer.set_params(image_shape=None, kernel_size=None, **bad), method)(rows[:, :16])
        layer.set_params(image_shape=(8, 8, 1), kernel_size=3, units=12, learning_rate=None)
        assert {name: value for name, value in vars(layer).items() if value is not before.get(name)}.keys() <= {
            "image_shape"
        }
        np.testing.assert_array_equal(layer.transform(rows), features)
    new = HebbianTransformer(**{**LAYER, **bad})
    with pytest.raises((ValueError, TypeError)):
        new.partial_fit(rows)
    assert not hasattr(new, "n_features_in_")
    new.set_params(**LAYER, learning_rate=None).partial_fit(rows)


def test_a_layer_that_learns_from_labels_is_refused(digits):
    layers = [hebbcore.Conv(4, 3, rule="hpca"), hebbcore.Dense(10, rule="supervised", name="classes")]
    with pytest.raises(ValueError, match=r"Transformer: classes learns from labels, but .* put a classifier"):
        HebbianNetworkTransformer(layers, image_shape=(8, 8, 1)).fit(*digits)


@pytest.mark.parametrize("branched", [False, True])
def test_layers_that_have_weights_are_refused_since_they_would_be_lost(digits, branched):
    rows, layer = digits[0][:100].reshape(-1, 8, 8, 1), hebbcore.Conv(4, 1)
    layers = [hebbcore.Branches([layer], [hebbcore.Relu()])] if branched else [layer]
    transformer = HebbianNetworkTransformer(layers).fit(rows)
    assert layer.weights is None
    hebbcore.fit(hebbcore.Network(layers), rows)
    with pytest.raises(
        ValueError, match=r"NetworkTransformer: conv1 has what it learned in a network, but fit begins anew"
    ):
        transformer.fit(rows)


def test_layers_that_have_statistics_are_refused_too(digits):
    """What they had learned was lost without a word."""
    rows, layers = digits[0][:100].reshape(-1, 8, 8, 1), [hebbcore.Whiten(3), hebbcore.Conv(4, 1)]
    hebbcore.fit(hebbcore.Network(layers), rows)
    with pytest.raises(ValueError, match=r"NetworkTransformer: whiten1 has what it learned in a network, but fit begi"):
        HebbianNetworkTransformer([layers[0], hebbcore.Conv(4, 1)]).fit(rows)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_part_that_fails_half_way_changes_nothing(digits, interrupted, monkeypatch):
    rows, _ = digits
    layer = HebbianTransformer(4, rule="hpca", random_state=0, device="cpu").partial_fit(rows)
    expected, learn, steps = layer.transform(rows), Steps.learn, []

    def learn_twice(*given):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(learn(*given))

    if interrupted:
        monkeypatch.setattr(Steps, "learn", learn_twice)
    else:
        layer.set_params(learning_rate=50.0)  # with which weights diverge
    with pytest.raises(KeyboardInterrupt if interrupted else FloatingPointError):
        layer.partial_fit(rows)
    np.testing.assert_array_equal(layer.transform(rows), expected)
    assert layer.parts_ == 1


class Masking:
    """Images whose arrays are masked, as variables of netCDF4."""

    def __init__(self, images):
        self.shape, self.dtype, self._images = images.shape, images.dtype, images

    def __array__(self, dtype=None, copy=None):
        return self._images

    def __len__(self):
        return len(self._images)


def test_masks_inside_of_other_things_are_not_dropped(digits):
    images = digits[0].reshape(-1, 8, 8, 1)[:40]
    layer = HebbianTransformer(4, 3, random_state=0, device="cpu").fit(images)
    masked = np.ma.masked_equal(images, images[0, 4, 4, 0])
    for given in (list(masked), [list(image) for image in masked], Masking(masked)):
        for function in (layer.fit, layer.transform, layer.network_.transform):
            with pytest.raises(TypeError, match=r"must not be masked"):
                function(given)
    expected = layer.transform(images)
    np.testing.assert_array_equal(layer.transform(Masking(np.ma.array(images))), expected)  # whose mask hides nothing
    with pytest.raises(TypeError, match=r"must not be masked"):
        layer.transform(list(masked.reshape(40, -1)))


def test_the_order_of_bytes_decides_nothing(digits):
    rows = digits[0][:40]
    layer = HebbianTransformer(4, random_state=0, device="cpu")
    expected, found = layer.fit_transform(rows), layer.fit_transform(rows.astype(">f4"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_whole_numbers_without_a_zero_are_of_their_own_scale(digits, dtype):
    """Minus the least of them, 1, is the largest number of their dtype."""
    rows = digits[0][:40]
    layer = HebbianTransformer(4, random_state=0, device="cpu").fit(rows)
    numbers = np.ceil(rows + 1).astype(dtype)
    np.testing.assert_array_equal(layer.transform(numbers), layer.transform(numbers.astype(float)))


@pytest.mark.gpu
def test_cupy_arrays_have_no_names_of_columns_and_are_not_empty(digits):
    cupy, pandas = pytest.importorskip("cupy"), pytest.importorskip("pandas")
    rows = digits[0][:40]
    layer = HebbianTransformer(4, random_state=0).fit(pandas.DataFrame(rows, columns=list(map(str, range(64)))))
    layer.fit(cupy.asarray(rows))
    assert not hasattr(layer, "feature_names_in_")
    for method in (layer.fit, layer.transform):
        with pytest.raises(ValueError, match=r"^HebbianTransformer: X must not be empty, got shape \(0, 64\)"):
            method(cupy.asarray(rows[:0]))
