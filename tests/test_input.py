"""What the public functions accept, and how they refuse the rest."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CUDA_STATUS

import hebbcore
from hebbcore import HPCA, KWTA, SWTA, HardWTA, Krotov, Rule, SoftHebb, train_layer, weight_update
from hebbcore.training.batches import is_array

IMAGES = np.random.default_rng(1).random((10, 6, 5, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(2).normal(size=(4, 3, 2, 3)).astype(np.float32)
DENSE_WEIGHTS = WEIGHTS.reshape(4, 18)


def train(data=IMAGES, units=4, kernel_size=(3, 2), **options):
    """Train a small layer in the order of the data."""
    batches = {"shuffle": False, "batch_size": 4} if is_array(data) else {}
    return train_layer(data, units, kernel_size, **{**batches, "device": "cpu", **options})


def batches_of(images, size=4):
    return [images[i : i + size] for i in range(0, len(images), size)]


def refused(error, parts, function, *arguments, **options):
    """Assert that a call raises, with a message that holds the parts."""
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


# Accepted data


class OnlyArray:
    """Converts by __array__ and in no other way."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)


class OnlyDLPack:
    """Converts by DLPack and in no other way."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Stream:
    """Batches that can be iterated again and again."""

    def __init__(self, batches):
        self._batches = batches
        self.epochs = 0

    def __iter__(self):
        self.epochs += 1
        yield from self._batches


class ExhaustedLater:
    """A re-iterable by its looks that gives nothing from the second loop on."""

    def __init__(self, batches):
        self._iterator = iter(batches)

    def __iter__(self):
        yield from self._iterator


def memory_mapped(images, folder):
    np.save(folder / "images.npy", images)
    mapped = np.load(folder / "images.npy", mmap_mode="r")
    assert not mapped.flags.writeable
    return mapped


def read_only(images, folder):
    copy = images.copy()
    copy.flags.writeable = False
    return copy


def torch_tensor(images, folder):
    return pytest.importorskip("torch").from_numpy(images.copy())


ARRAYS = {
    "fortran": lambda images, folder: np.asfortranarray(images),
    "every second of a larger array": lambda images, folder: np.repeat(images, 2, axis=0)[::2],
    "negative strides": lambda images, folder: np.ascontiguousarray(images[::-1, :, ::-1])[::-1, :, ::-1],
    "channels-first view": lambda images, folder: np.moveaxis(np.moveaxis(images, -1, 1).copy(), 1, -1),
    "big-endian": lambda images, folder: images.astype(images.dtype.newbyteorder(">")),
    "memory-mapped": memory_mapped,
    "read-only": read_only,
    "only __array__": lambda images, folder: OnlyArray(images),
    "only __array__, read-only": lambda images, folder: OnlyArray(read_only(images, folder)),
    "only DLPack": lambda images, folder: OnlyDLPack(images.copy()),
    "torch": torch_tensor,
}
ITERABLES = {
    "list of batches": batches_of,
    "list of (images, labels)": lambda images: [(batch, np.arange(len(batch))) for batch in batches_of(images)],
    "list of (images, labels, more)": lambda images: [(batch, None, "more") for batch in batches_of(images)],
    "tuple of batches": lambda images: tuple(batches_of(images)),
    "stream": lambda images: Stream(batches_of(images)),
    "list of objects that convert": lambda images: [OnlyArray(batch) for batch in batches_of(images)],
    "list of Fortran batches": lambda images: [np.asfortranarray(batch) for batch in batches_of(images)],
}
DTYPES = {"float16": 1, "float32": 1, "float64": 1, "uint8": 255}


def images_of(dtype):
    return (IMAGES * DTYPES[dtype]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("kernel_size", [(3, 2), None])
def test_an_array_may_come_in_any_form(tmp_path, kind, dtype, kernel_size):
    images = images_of(dtype)
    expected = train(images, kernel_size=kernel_size, epochs=2, rule="swta").weights
    actual = train(ARRAYS[kind](images, tmp_path), kernel_size=kernel_size, epochs=2, rule="swta").weights
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("kind", ARRAYS)
def test_weight_update_and_transform_take_an_array_in_any_form(tmp_path, kind):
    images = ARRAYS[kind](IMAGES, tmp_path)
    np.testing.assert_array_equal(weight_update(images, WEIGHTS, "swta"), weight_update(IMAGES, WEIGHTS, "swta"))
    layer = hebbcore.HebbianLayer(WEIGHTS, HPCA())
    np.testing.assert_array_equal(layer.transform(images), layer.transform(IMAGES))


@pytest.mark.parametrize("kind", [kind for kind in ARRAYS if kind != "memory-mapped"])
def test_weights_may_come_in_any_form(tmp_path, kind):
    weights = ARRAYS[kind](WEIGHTS, tmp_path)
    np.testing.assert_array_equal(weight_update(IMAGES, weights, "hpca"), weight_update(IMAGES, WEIGHTS, "hpca"))
    np.testing.assert_array_equal(
        train(initial_weights=weights).weights,
        train(initial_weights=WEIGHTS).weights,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ITERABLES)
def test_batches_give_the_weights_of_the_array(kind, dtype):
    images = images_of(dtype)
    expected = train(images, epochs=3).weights
    np.testing.assert_array_equal(train(ITERABLES[kind](images), epochs=3).weights, expected)


def test_a_generator_is_enough_for_one_epoch():
    actual = train((batch for batch in batches_of(IMAGES)), epochs=1).weights
    np.testing.assert_array_equal(actual, train().weights)


def test_a_stream_is_read_once_an_epoch():
    stream = Stream(batches_of(IMAGES))
    train(stream, epochs=3)
    assert stream.epochs == 3


def test_batches_of_a_stream_may_be_dense():
    vectors = IMAGES.reshape(10, -1)
    actual = train(batches_of(vectors), kernel_size=None).weights
    assert actual.shape == (4, 90)
    np.testing.assert_array_equal(actual, train(vectors, kernel_size=None).weights)


def test_a_dense_layer_flattens_images():
    expected = train(IMAGES.reshape(10, -1), kernel_size=None)
    actual = train(IMAGES, kernel_size=None)
    assert actual.kernel_size is None
    np.testing.assert_array_equal(actual.weights, expected.weights)
    np.testing.assert_array_equal(actual.transform(IMAGES), expected.transform(IMAGES.reshape(10, -1)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_dtypes_differ_only_by_rounding(dtype):
    np.testing.assert_allclose(train(images_of(dtype)).weights, train().weights, atol=1e-4)


def test_uint8_means_zero_to_one():
    images = images_of("uint8")
    np.testing.assert_array_equal(train(images).weights, train(images / np.float32(255)).weights)


def test_precision_float64_computes_in_float64():
    weights = train(precision="float64").weights
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights, train().weights, atol=1e-6)
    assert not np.array_equal(weights, weights.astype(np.float32))


# Order, seeds, and what is left alone


@pytest.mark.parametrize("rule", hebbcore.RULES)
def test_the_same_seed_gives_the_same_bits(rule):
    first, again = (train(rule=rule, seed=3, shuffle=True, epochs=2).weights for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, train(rule=rule, seed=4, shuffle=True, epochs=2).weights)


def test_a_generator_as_seed_goes_on():
    first = train(seed=np.random.default_rng(3)).weights
    np.testing.assert_array_equal(first, train(seed=3).weights)


def images_per_step(**options):
    """Return what each step learned from: each image has its own feature, which HardWTA's only unit picks up."""
    data = np.eye(8, dtype=np.float32)
    seen, before = [], np.zeros((1, 8))

    def note(step):
        nonlocal before
        seen.append(int(np.argmax(step.weights[0] - before)))
        before = step.weights - 0

    train_layer(
        data, 1, rule=HardWTA(adaptive_power=None), batch_size=1, learning_rate=0.1,
        initial_weights=np.zeros((1, 8), np.float32), callback=note, device="cpu", **options,
    )  # fmt: skip
    return seen


def test_shuffling_sees_every_image_once_an_epoch_in_a_new_order():
    seen = images_per_step(epochs=3)
    epochs = [seen[:8], seen[8:16], seen[16:]]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(8)]}) == 4


def test_without_shuffling_images_come_in_order():
    assert images_per_step(epochs=2, shuffle=False) == [*range(8), *range(8)]


def test_the_order_depends_on_the_seed():
    assert images_per_step(seed=1) == images_per_step(seed=1)
    assert images_per_step(seed=1) != images_per_step(seed=2)


def test_the_first_weights_do_not_depend_on_shuffling():
    first = []
    for shuffle in (False, True):
        train(shuffle=shuffle, batch_size=10, callback=lambda step: first.append(step.weights.copy()))
    np.testing.assert_allclose(*first, rtol=1e-5)


@pytest.mark.parametrize("rule", [*hebbcore.RULES, HPCA("tanh"), HPCA("identity")])
@pytest.mark.parametrize("workspace", ["256 MiB", "8 KiB"])
@pytest.mark.parametrize("kernel_size", [(3, 2), (1, 1), (6, 5), None])
def test_arguments_are_never_modified(rule, workspace, kernel_size):
    images = IMAGES.copy()
    shape = (4, *(kernel_size or ()), 3 if kernel_size else 90)
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    kept = weights.copy()
    weight_update(images, weights, rule, workspace=workspace)
    layer = train(images, kernel_size=kernel_size, rule=rule, initial_weights=weights, workspace=workspace)
    layer.transform(images, workspace=workspace)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(weights, kept)
    assert not np.shares_memory(layer.weights, weights)
    assert not np.array_equal(layer.weights, weights)


def test_transform_does_not_modify_the_weights():
    layer = train(rule="swta")
    before = layer.weights.copy()
    layer.transform(IMAGES)
    np.testing.assert_array_equal(layer.weights, before)


# Callback, progress, batches


@pytest.mark.parametrize("as_stream", [False, True])
def test_the_callback_hears_of_each_batch_in_order(as_stream):
    steps, weights = [], []

    def note(step):
        steps.append((step.epoch, step.step, step.images))
        weights.append(step.weights.copy())

    data = Stream(batches_of(IMAGES)) if as_stream else IMAGES
    layer = train(data, epochs=2, callback=note)
    assert steps == [(0, 0, 4), (0, 1, 8), (0, 2, 10), (1, 3, 14), (1, 4, 18), (1, 5, 20)]
    assert hebbcore.Step._fields == ("epoch", "step", "images", "weights")
    assert {w.shape for w in weights} == {(4, 3, 2, 3)}
    np.testing.assert_array_equal(weights[-1], layer.weights)
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(weights))


def test_the_callback_sees_the_live_weights():
    arrays = []
    layer = train(callback=lambda step: arrays.append(step.weights))
    assert all(array is layer.weights for array in arrays)


def test_the_last_batch_may_be_smaller_than_the_others():
    weights = WEIGHTS.copy()
    for batch in (IMAGES[:4], IMAGES[4:8], IMAGES[8:]):
        weights += np.float32(0.1) * weight_update(batch, weights, "hpca")
    actual = train(initial_weights=WEIGHTS, learning_rate=0.1).weights
    np.testing.assert_allclose(actual, weights, rtol=1e-5, atol=1e-6)


def test_a_batch_size_above_the_number_of_images_takes_all_at_once():
    np.testing.assert_array_equal(train(batch_size=1000).weights, train(batch_size=10).weights)


@pytest.mark.parametrize(("data", "total"), [(IMAGES, "20.0/20.0"), (batches_of(IMAGES), "24.0")])
def test_progress_writes_a_bar_to_stderr(capsys, data, total):
    train(data, epochs=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert total in err
    assert "img/s" in err


def test_without_progress_nothing_is_written(capfd):
    train(epochs=2)
    assert capfd.readouterr() == ("", "")


# Devices


def test_devices_says_what_was_found():
    cpu, cuda = hebbcore.devices()
    assert cpu == ("cpu", True, f"NumPy {np.__version__}")
    assert (cpu.name, cuda.name) == ("cpu", "cuda")
    assert isinstance(cuda.works, bool)
    assert len(cuda.detail) > 10


def test_auto_is_the_best_device_that_works():
    cuda = hebbcore.devices()[1]
    layer = train_layer(IMAGES, 2, 3, device="auto")
    assert isinstance(layer.weights, np.ndarray) is not cuda.works


def test_to_device_leaves_arrays_that_are_there():
    assert hebbcore.to_device(IMAGES, "cpu") is IMAGES
    layer = train()
    assert layer.to_device("cpu").weights is layer.weights


def test_cuda_that_does_not_work_says_why():
    works, why = hebbcore.devices()[1][1:]
    if works:
        pytest.skip(f"a GPU works: {why}")
    refused(RuntimeError, ["train_layer: ", '"cuda"', why, "cpu"], train, device="cuda")
    refused(RuntimeError, ["to_device: ", why], hebbcore.to_device, IMAGES, "cuda")
    refused(RuntimeError, ["to_device: ", why], train().to_device, "cuda")


@pytest.mark.parametrize(("bits", "why"), [(0x3F80, "Some GPU, 1 device(s)"), (0, "wrong result"), (None, "no NVVM")])
def test_cuda_works_only_if_numba_runs_a_kernel(bits, why, monkeypatch):
    def bfloat16(array):
        if bits is None:
            raise RuntimeError("no NVVM")
        return np.full(array.shape, bits, np.uint16)

    runtime = SimpleNamespace(getDeviceCount=lambda: 1, getDeviceProperties=lambda device: {"name": b"Some GPU"})
    cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ones=np.ones, cuda=cuda, __version__="14", ndarray=()))
    monkeypatch.setattr("hebbcore.engine.kernels.cuda.bfloat16", bfloat16)
    works, detail = CUDA_STATUS.__wrapped__()
    assert works is (bits == 0x3F80)
    assert why in detail


# Refused images, the same for all functions

LAYER = hebbcore.HebbianLayer(WEIGHTS, HPCA())
FUNCTIONS = {
    "weight_update": lambda images: weight_update(images, WEIGHTS, "hpca"),
    "train_layer": train,
    "transform": LAYER.transform,
}
RANKS = "(n, height, width, channels) or (n, features)"
NUMBERS = "uint8 (read as 0…1), float16, float32 or float64"


def all_functions(bad):
    """Parametrise over functions × bad inputs."""

    def decorate(test):
        return pytest.mark.parametrize("function", FUNCTIONS)(pytest.mark.parametrize(*bad)(test))

    return decorate


@all_functions(
    (
        ("images", "error", "parts"),
        [
            (IMAGES[0, 0, 0], ValueError, [RANKS, "(3,)"]),
            (np.float32(3), ValueError, [RANKS, "()"]),
            (IMAGES[0], ValueError, [RANKS, "(6, 5, 3)", "images[None]"]),
            (IMAGES[None], ValueError, [RANKS, "(1, 10, 6, 5, 3)"]),
            (IMAGES[:0], ValueError, ["empty", "(0, 6, 5, 3)"]),
            (IMAGES[:, :0], ValueError, ["empty", "(10, 0, 5, 3)"]),
            (IMAGES.astype(np.int32), TypeError, [NUMBERS, "int32"]),
            (IMAGES.astype(np.int8), TypeError, [NUMBERS, "int8"]),
            (IMAGES > 0.5, TypeError, [NUMBERS, "bool"]),
            (IMAGES.astype(complex), TypeError, ["array of numbers", "complex128"]),
            (IMAGES.astype(object), TypeError, ["array of numbers", "object"]),
            (np.ma.masked_less(IMAGES, 0.5), TypeError, ["must not be masked", ".filled(0)"]),
            (np.full(IMAGES.shape, "a"), TypeError, ["array of numbers", "<U1"]),
            (np.zeros(IMAGES.shape, "M8[s]"), TypeError, ["array of numbers", "datetime64"]),
            (OnlyArray(IMAGES[0]), ValueError, [RANKS, "(6, 5, 3)"]),
            (OnlyDLPack(IMAGES.astype(np.int64)), TypeError, [NUMBERS, "int64"]),
            (IMAGES.reshape(10, -1), ValueError, ["(n, height, width, channels)", "90)"]),
            (IMAGES[:, :2], ValueError, ["kernel_size 3×2", "padded image 2×5"]),
            (IMAGES[:, :, :1], ValueError, ["kernel_size 3×2", "padded image 6×1"]),
            (None, TypeError, ["NoneType"]),
            (3, (TypeError, ValueError), ["int", "got"]),
            ("images.npy", TypeError, ["str"]),
            ({"images": IMAGES}, TypeError, ["dict"]),
            ([[1.0, 2.0], [1.0]], (TypeError, ValueError), ["got"]),
            ([IMAGES[:2], IMAGES[:3, 1:]], (TypeError, ValueError), ["got", "("]),
        ],
    ),
)
def test_bad_images_are_refused(function, images, error, parts):
    if isinstance(images, int) and function != "train_layer":
        parts = ["got", "()"]
    if isinstance(images, list) and len(images[1]) == 3 and function == "train_layer":
        parts = ["data changed", "(6, 5)", "(5, 5)"]
    message = refused(error, parts, FUNCTIONS[function], images)
    assert message.startswith(f"{function}: {'data' if function == 'train_layer' else 'images'}") or any(
        text in message for text in ("kernel_size", "data changed")
    )


@pytest.mark.parametrize("function", ["weight_update", "transform"])
@pytest.mark.parametrize(("images", "came"), [(IMAGES[..., :2], 2), (np.moveaxis(IMAGES, -1, 1), 5)])
def test_convolutional_weights_refuse_other_channels(function, images, came):
    parts = [f"{function}: images have {came} channels", "weights 3", "(4, 3, 2, 3)", "np.moveaxis(images, 1, -1)"]
    refused(ValueError, parts, FUNCTIONS[function], images)


@pytest.mark.parametrize("shape", [(10, 17), (10, 3, 3, 3)])
def test_dense_weights_refuse_other_features(shape):
    images, size = np.zeros(shape, np.float32), int(np.prod(shape[1:]))
    parts = [f"images have {size} features", "weights 18", "(4, 18)"]
    refused(ValueError, ["weight_update: ", *parts], weight_update, images, DENSE_WEIGHTS, "hpca")
    refused(ValueError, ["transform: ", *parts], hebbcore.HebbianLayer(DENSE_WEIGHTS, HPCA()).transform, images)


def test_convolutional_weights_refuse_a_list_of_vectors():
    weights = WEIGHTS[:, :1, :1]
    refused(ValueError, ["(n, height, width, channels)"], weight_update, [[0.5, 0.5, 0.5]], weights, "hpca")


# NaN and infinity


def spoiled(array, value=np.nan):
    copy = array.copy()
    copy[(2, *(-1,) * (array.ndim - 1))] = value
    return copy


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("weight_update: images", lambda value, **o: weight_update(spoiled(IMAGES, value), WEIGHTS, "swta", **o)),
        ("weight_update: weights", lambda value, **o: weight_update(IMAGES, spoiled(WEIGHTS, value), "swta", **o)),
        ("train_layer: data", lambda value, **o: train(spoiled(IMAGES, value), **o).weights),
        ("train_layer: data", lambda value, **o: train([IMAGES, spoiled(IMAGES, value)], **o).weights),
        ("train_layer: data", lambda value, **o: train(spoiled(IMAGES.astype(np.float16), value), **o).weights),
        (
            "train_layer: initial_weights",
            lambda value, **o: train(initial_weights=spoiled(WEIGHTS, value), **o).weights,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity_are_found_unless_told_not_to_look(name, call, value):
    refused(ValueError, [name, "must be finite", "[2] holds NaN or infinity", "check_finite=False"], call, value)
    assert not np.isfinite(call(value, check_finite=False)).all()


def test_nan_is_found_beyond_the_first_piece_that_is_looked_at():
    images = np.zeros((40, 400, 400, 1), np.float32)
    images[37, 5, 5, 0] = np.nan
    refused(ValueError, ["data[37] holds NaN"], train, images)


def test_nan_in_an_array_is_found_before_any_step():
    steps = []
    refused(ValueError, ["must be finite"], train, spoiled(IMAGES), batch_size=1, callback=steps.append)
    assert steps == []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_diverge_are_reported():
    options = {"rule": HPCA("identity"), "learning_rate": 1e30, "epochs": 3}
    refused(
        FloatingPointError,
        [
            "train_layer: ",
            "the weights of the layer diverge",
            "lower its learning rate, 1e+30",
        ],
        train,
        **options,
    )
    assert not np.isfinite(train(check_finite=False, **options).weights).all()


# Rules


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("train_layer", lambda rule: train(rule=rule)),
        ("weight_update", lambda rule: weight_update(IMAGES, WEIGHTS, rule)),
    ],
)
@pytest.mark.parametrize(
    ("rule", "error", "parts"),
    [
        ("hcpa", ValueError, [*map(repr, hebbcore.RULES), "'hcpa'", "Did you mean 'hpca'?"]),
        ("SWTA", ValueError, ["rule must be one of", "'SWTA'"]),
        ("backprop", ValueError, ["rule must be one of", "'backprop'"]),
        (HPCA, TypeError, ["instance", "class HPCA", "HPCA()"]),
        (Rule, TypeError, ["instance", "class Rule"]),
        (int, TypeError, ["rule must be a Rule or one of 'hpca'", "int"]),
        (object(), TypeError, ["rule must be a Rule or one of 'hpca'", "object"]),
        (None, TypeError, ["rule must be a Rule or one of 'hpca'", "None"]),
        (KWTA(5), ValueError, ["k must be between 1 and the number of units (4)", "5"]),
        (Krotov(rank=5), ValueError, ["rank must be at most the number of units (4)", "5"]),
    ],
)
def test_bad_rules_are_refused(function, call, rule, error, parts):
    assert refused(error, parts, call, rule).startswith(f"{function}: ")


@pytest.mark.parametrize("rule", [SWTA, SoftHebb])
@pytest.mark.parametrize(
    ("temperature", "error", "expected"),
    [
        (0, ValueError, "above 0, got 0"),
        (-0.5, ValueError, "above 0, got -0.5"),
        (float("nan"), ValueError, "finite, got nan"),
        (float("inf"), ValueError, "finite, got inf"),
        (True, TypeError, "a number, got True"),
        ("0.1", TypeError, "a number, got '0.1'"),
        (None, TypeError, "a number, got None"),
    ],
)
def test_bad_temperatures_are_refused(rule, temperature, error, expected):
    refused(error, [f"{rule.__name__}: temperature must be {expected}"], rule, temperature=temperature)


@pytest.mark.parametrize("rule", [SoftHebb, HardWTA, Krotov])
@pytest.mark.parametrize(
    ("p", "error", "expected"),
    [
        (1.9, ValueError, "at least 2, got 1.9"),
        (-3, ValueError, "at least 2, got -3"),
        (float("nan"), ValueError, "finite, got nan"),
        (True, TypeError, "a number, got True"),
        ("2", TypeError, "a number, got '2'"),
    ],
)
def test_bad_exponents_are_refused(rule, p, error, expected):
    refused(error, [f"{rule.__name__}: p must be {expected}"], rule, p=p)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HPCA("rleu"), ValueError, "HPCA: activation must be one of 'relu', 'tanh', 'identity'; got 'rleu'. "
         "Did you mean 'relu'?"),
        (lambda: HPCA(None), ValueError, "HPCA: activation must be one of 'relu', 'tanh', 'identity'; got None"),
        (lambda: SWTA(competition="pwer"), ValueError, "SWTA: competition must be one of 'exp', 'power'; got 'pwer'. "
         "Did you mean 'power'?"),
        (lambda: KWTA(0), ValueError, "KWTA: k must be at least 1, got 0"),
        (lambda: KWTA(1.0), TypeError, "KWTA: k must be an integer, got 1.0"),
        (lambda: KWTA(True), TypeError, "KWTA: k must be an integer, got True"),
        (lambda: Krotov(rank=1), ValueError, "Krotov: rank must be at least 2, got 1"),
        (lambda: Krotov(rank=2.5), TypeError, "Krotov: rank must be an integer, got 2.5"),
        (lambda: Krotov(strength=-1), ValueError, "Krotov: strength must be at least 0, got -1"),
        (lambda: SoftHebb(adaptive_power=0), ValueError, "SoftHebb: adaptive_power must be above 0, got 0"),
        (lambda: HardWTA(adaptive_power="x"), TypeError, "HardWTA: adaptive_power must be a number, got 'x'"),
    ],
)  # fmt: skip
def test_bad_parameters_of_rules_are_refused(make, error, message):
    refused(error, [message], make)


# Options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"units": 0}, ValueError, "units must be at least 1, got 0"),
        ({"units": 1.5}, TypeError, "units must be an integer, got 1.5"),
        ({"units": True}, TypeError, "units must be an integer, got True"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": "2"}, TypeError, "epochs must be an integer, got '2'"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        ({"shuffle": "no"}, TypeError, "shuffle must be true or false, got 'no'"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be above 0, got 0"),
        ({"learning_rate": -1e-3}, ValueError, "learning_rate must be above 0, got -0.001"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be finite, got nan"),
        ({"learning_rate": "1e-3"}, TypeError, "learning_rate must be a number, got '1e-3'"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
        ({"kernel_size": (3, 3, 3)}, ValueError, "kernel_size must be one integer or a (height, width) pair, got (3,"),
        ({"kernel_size": "3"}, TypeError, "kernel_size must be an integer, got '3'"),
        ({"kernel_size": 7}, ValueError, "kernel_size 7×7 is larger than the padded image 6×5"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"stride": (1, 2, 3)}, ValueError, "stride must be one integer or a (height, width) pair, got (1, 2, 3)"),
        ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        ({"padding": 1.0}, TypeError, "padding must be an integer, got 1.0"),
        ({"padding_mode": "reflekt"}, ValueError, "'zeros', 'reflect', 'edge'; got 'reflekt'. Did you mean 'reflect'?"),
        ({"padding": 5, "padding_mode": "reflect"}, ValueError, "smaller than the image (6×5), got 5×5"),
        ({"kernel_size": None, "stride": 2}, ValueError, "stride and padding are for convolutions"),
        ({"kernel_size": None, "padding": 1}, ValueError, "stride and padding are for convolutions"),
        ({"device": "gpu"}, ValueError, "device must be one of 'auto', 'cpu', 'cuda'; got 'gpu'"),
        ({"device": "cdua"}, ValueError, "Did you mean 'cuda'?"),
        ({"precision": "tf32"}, ValueError, "precision 'tf32' needs CUDA"),
        ({"precision": "bf16"}, ValueError, "precision 'bf16' needs CUDA"),
        ({"precision": "float23"}, ValueError, "'bf16'; got 'float23'. Did you mean 'float32'?"),
        ({"precision": np.float32}, ValueError, "precision must be one of 'float32'"),
        ({"workspace": "lots"}, ValueError, 'workspace must be bytes or text like "256 MiB" or "2 GB", got \'lots\''),
        ({"workspace": "3 parsecs"}, ValueError, "got '3 parsecs'"),
        ({"workspace": "-1 MiB"}, ValueError, "got '-1 MiB'"),
        ({"workspace": 0}, ValueError, "workspace must be at least 1, got 0"),
        ({"workspace": 1e6}, TypeError, "workspace must be an integer, got 1000000.0"),
        ({"initial_weights": WEIGHTS[:3]}, ValueError, "must be (4, 3, 2, channels), got shape (3, 3, 2, 3)"),
        ({"initial_weights": WEIGHTS[:, :2]}, ValueError, "must be (4, 3, 2, channels), got shape (4, 2, 2, 3)"),
        ({"initial_weights": DENSE_WEIGHTS}, ValueError, "must be (4, 3, 2, channels), got shape (4, 18)"),
        ({"initial_weights": WEIGHTS, "kernel_size": None}, ValueError, "must be (4, features), got shape (4, 3, 2, 3"),
        ({"initial_weights": WEIGHTS[..., :2]}, ValueError, "data have 3 channels but the weights 2"),
        ({"initial_weights": DENSE_WEIGHTS, "kernel_size": None}, ValueError, "data have 90 features but the weights"),
        ({"initial_weights": WEIGHTS.astype(int)}, TypeError, "initial_weights must be float32 or float64, got int64"),
        ({"initial_weights": "random"}, ValueError, "initial_weights must be one of 'rule', 'patches', 'k-means"),
    ],
)  # fmt: skip
def test_bad_options_of_train_layer_are_refused_before_any_step(options, error, message):
    steps = []
    text = refused(error, [message], train, callback=steps.append, **options)
    assert text.startswith("train_layer: ")
    assert steps == []


@pytest.mark.parametrize(
    ("weights", "options", "error", "message"),
    [
        (WEIGHTS.astype(np.int64), {}, TypeError, "weights must be float32 or float64, got int64"),
        (WEIGHTS.astype(np.uint8), {}, TypeError, "weights must be float32 or float64, got uint8"),
        (WEIGHTS.astype(np.float16), {}, TypeError, "weights must be float32 or float64, got float16"),
        (WEIGHTS > 0, {}, TypeError, "weights must be float32 or float64, got bool"),
        (WEIGHTS[0], {}, ValueError, "(units, features), got shape (3, 2, 3)"),
        (WEIGHTS[:0], {}, ValueError, "got shape (0, 3, 2, 3)"),
        (None, {}, TypeError, "weights must be an array of numbers, got NoneType"),
        (WEIGHTS, {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        (WEIGHTS, {"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        (WEIGHTS, {"padding_mode": "wrap"}, ValueError, "'zeros', 'reflect', 'edge'; got 'wrap'"),
        (WEIGHTS, {"padding": 6, "padding_mode": "reflect"}, ValueError, "smaller than the image (6×5), got 6×6"),
        (WEIGHTS, {"precision": "tf32"}, ValueError, "precision 'tf32' needs CUDA"),
        (WEIGHTS, {"precision": "half"}, ValueError, "'half'"),
        (WEIGHTS, {"workspace": "1 parsec"}, ValueError, "workspace must be bytes or text like"),
        (np.zeros((4, 90), np.float32), {"stride": 2}, ValueError, "stride"),
        (np.zeros((4, 90), np.float32), {"padding": 1}, ValueError, "padding"),
    ],
)
def test_bad_options_of_weight_update_are_refused(weights, options, error, message):
    text = refused(error, [message], weight_update, IMAGES, weights, "hpca", **options)
    assert text.startswith("weight_update: ")


# Workspace


def least_of(message):
    return message.split("use at least ")[1].rstrip(".")


@pytest.mark.parametrize("kernel", [(3, 2), (6, 5), None])
@pytest.mark.parametrize("units", [4, 300])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_least_workspace_that_is_named_works(kernel, units, precision):
    shape = (units, *kernel, 3) if kernel else (units, 90)
    weights = np.random.default_rng(0).normal(size=shape).astype(precision)
    layer = hebbcore.HebbianLayer(weights, SWTA(), precision=precision)
    calls = {
        "weight_update": lambda workspace: weight_update(IMAGES, weights, "swta", workspace=workspace),
        "transform": lambda workspace: layer.transform(IMAGES, workspace=workspace),
        "train_layer": lambda workspace: (
            train(units=units, kernel_size=kernel, precision=precision, workspace=workspace).weights
        ),
    }
    tolerance = 1e-4 if precision == "float32" else 1e-10
    for function, call in calls.items():
        message = refused(ValueError, ["workspace of 16 B is too small", f"{units} units"], call, 16)
        assert message.startswith(f"{function}: ")
        least = least_of(message)
        np.testing.assert_allclose(call(least), call("256 MiB"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("workspace", ["1000000", "1000000b", "1 MB", " 0.5 mib ", "1gb", 10**6, np.int64(10**6)])
def test_a_workspace_is_bytes_or_text(workspace):
    np.testing.assert_allclose(
        weight_update(IMAGES, WEIGHTS, "hpca", workspace=workspace), weight_update(IMAGES, WEIGHTS, "hpca"), rtol=1e-4
    )


# Iterables


@pytest.mark.parametrize(
    ("data", "options", "error", "parts"),
    [
        ([], {}, ValueError, ["data gave no batch in epoch 1"]),
        (Stream([]), {}, ValueError, ["data gave no batch in epoch 1"]),
        (iter([]), {}, ValueError, ["data gave no batch in epoch 1"]),
        (iter(batches_of(IMAGES)), {"epochs": 2}, ValueError, ["iterator", "epochs is 2", "again", "epochs=1"]),
        ((b for b in batches_of(IMAGES)), {"epochs": 2}, ValueError, ["iterator", "epochs is 2"]),
        (ExhaustedLater(batches_of(IMAGES)), {"epochs": 2}, ValueError, ["no batch in epoch 2", "once only"]),
        ([IMAGES, IMAGES[:, 1:]], {}, ValueError, ["data changed", "(6, 5)", "(5, 5)"]),
        ([IMAGES, IMAGES[..., :2]], {}, ValueError, ["data have 2 channels", "weights 3"]),
        ([IMAGES, IMAGES[0]], {}, ValueError, ["data must be", "(6, 5, 3)"]),
        ([IMAGES, IMAGES[:0]], {}, ValueError, ["data must not be empty", "(0, 6, 5, 3)"]),
        ([IMAGES, IMAGES.astype(int)], {}, TypeError, ["data must be uint8", "int64"]),
        ([IMAGES, "labels"], {}, TypeError, ["data must be an array of numbers", "str"]),
        ([()], {}, (TypeError, ValueError), ["data"]),
        ([IMAGES.reshape(10, -1)], {}, ValueError, ["(n, height, width, channels)", "(10, 90)"]),
        ([IMAGES[:, :2]], {}, ValueError, ["kernel_size 3×2", "padded image 2×5"]),
        (b"bytes", {}, TypeError, ["data must be an array", "bytes"]),
        (object(), {}, TypeError, ["data must be an array", "object"]),
        (7, {}, TypeError, ["data must be an array", "int"]),
    ],
)  # fmt: skip
def test_bad_iterables_are_refused(data, options, error, parts):
    assert refused(error, parts, train, data, **options).startswith("train_layer: ")


# The public competition functions

SCORES = np.random.default_rng(3).normal(size=(5, 4))
WTA = {
    "softmax_wta": hebbcore.softmax_wta,
    "k_wta": lambda scores: hebbcore.k_wta(scores, 2),
    "argmax_wta": hebbcore.argmax_wta,
}


@pytest.mark.parametrize("function", WTA)
@pytest.mark.parametrize(
    ("scores", "error", "parts"),
    [
        (SCORES[0], ValueError, ["(patches, units)", "(4,)"]),
        (SCORES[None], ValueError, ["(patches, units)", "(1, 5, 4)"]),
        (SCORES[:0], ValueError, ["not empty", "(0, 4)"]),
        (SCORES.astype(np.float16), TypeError, ["float32 or float64", "float16"]),
        (SCORES.astype(int), TypeError, ["float32 or float64", "int64"]),
        (SCORES > 0, TypeError, ["float32 or float64", "bool"]),
        (SCORES.astype(complex), TypeError, ["array of numbers", "complex128"]),
        ("scores", TypeError, ["array of numbers", "str"]),
        (None, TypeError, ["array of numbers", "NoneType"]),
        (spoiled(SCORES), ValueError, ["finite"]),
        (spoiled(SCORES, -np.inf), ValueError, ["finite"]),
        ([[1.0], [1.0, 2.0]], TypeError, ["array of numbers", "list"]),
    ],
)
def test_bad_scores_are_refused(function, scores, error, parts):
    assert refused(error, parts, WTA[function], scores).startswith(f"{function}: scores must be ")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hebbcore.softmax_wta(SCORES, 0), ValueError, "softmax_wta: temperature must be above 0, got 0"),
        (lambda: hebbcore.softmax_wta(SCORES, np.nan), ValueError, "softmax_wta: temperature must be finite, got nan"),
        (lambda: hebbcore.softmax_wta(SCORES, "1"), TypeError, "softmax_wta: temperature must be a number, got '1'"),
        (lambda: hebbcore.k_wta(SCORES, 0), ValueError, "k_wta: k must be at least 1, got 0"),
        (lambda: hebbcore.k_wta(SCORES, 5), ValueError, "k_wta: k must be between 1 and the number of units (4)"),
        (lambda: hebbcore.k_wta(SCORES, 1.0), TypeError, "k_wta: k must be an integer, got 1.0"),
        (lambda: hebbcore.k_wta(SCORES, True), TypeError, "k_wta: k must be an integer, got True"),
    ],
)  # fmt: skip
def test_bad_parameters_of_competitions_are_refused(call, error, message):
    refused(error, [message], call)


@pytest.mark.parametrize("function", WTA)
@pytest.mark.parametrize("kind", [kind for kind in ARRAYS if kind not in ("channels-first view", "negative strides")])
def test_scores_may_come_in_any_form_and_are_not_modified(tmp_path, function, kind):
    scores = ARRAYS[kind](SCORES, tmp_path)
    before = SCORES.copy()
    np.testing.assert_array_equal(WTA[function](scores), WTA[function](SCORES))
    np.testing.assert_array_equal(SCORES, before)
