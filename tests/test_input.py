"""What the public functions accept, the order they learn in, what they tell and where they compute."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from conftest import CUDA_STATUS
from input_helpers import ARRAYS, IMAGES, WEIGHTS, OnlyArray, Stream, batches_of, refused, train

import hebbcore
from hebbcore import HPCA, HardWTA, train_layer, weight_update

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


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_of_numpy_is_an_array_of_vectors():
    """Its rows stay matrices, and its products are those of matrices."""
    vectors = IMAGES.reshape(len(IMAGES), -1)
    weights = vectors[:4].copy()
    for function in (
        lambda rows: train(rows, kernel_size=None, epochs=2, rule="swta").weights,
        lambda rows: weight_update(rows, weights, "softhebb"),
        lambda rows: weight_update(vectors, rows[:4], "softhebb"),
        lambda rows: hebbcore.HebbianLayer(weights, HPCA()).transform(rows),
        lambda rows: hebbcore.fit(hebbcore.Network([hebbcore.Dense(4, rule="swta")]), rows).transform(rows),
    ):
        np.testing.assert_array_equal(function(np.asmatrix(vectors)), function(vectors))


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


@pytest.mark.parametrize("rule", reference.UNSUPERVISED)
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


@pytest.mark.parametrize("rule", [*reference.UNSUPERVISED, HPCA("tanh"), HPCA("identity")])
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


@pytest.mark.parametrize(("data", "total"), [(IMAGES, "20.0/20.0"), (batches_of(IMAGES), "20.0/20.0")])
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
