"""BatchNorm and Whiten alone against the slow references."""

import dataclasses

import numpy as np
import pytest
import reference
from layers_helpers import DTYPES, built, close, forward

from hebbcore import BatchNorm, Whiten
from hebbcore.layers.batch_norm import column_moments

pytest_plugins = "layers_helpers"


# Batch normalisation


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("modified", [False, True])
@pytest.mark.parametrize("shape", [(3, 2, 2, 3), (5, 4), (1, 2, 3, 2)])
def test_batch_norm_in_training_and_after(backend_module, shape, modified, dtype, generator):
    layer = built(BatchNorm(modified, momentum=0.3, epsilon=0.01), shape[1:], dtype)
    options = {"modified": modified, "momentum": 0.3, "epsilon": 0.01}
    mean, variance = np.zeros(shape[-1]), np.ones(shape[-1])
    for training in (False, True, True, False):
        x = (3 * generator.normal(size=shape) * np.arange(1, shape[-1] + 1) + 5).astype(dtype)
        expected, mean, variance = reference.batch_norm(x, mean, variance, training=training, **options)
        close(forward(layer, x, training), expected, dtype)
        close(layer.mean, mean, dtype)
        close(layer.variance, variance, dtype)


@pytest.mark.parametrize("modified", [False, True])
def test_batch_norm_of_one_row_uses_the_running_statistics(backend_module, modified, generator):
    layer = built(BatchNorm(modified), (3,))
    forward(layer, generator.normal(1, 2, (6, 3)), training=True)
    mean, variance = layer.mean.copy(), layer.variance.copy()
    row = generator.normal(size=(1, 3))
    expected, _, _ = reference.batch_norm(row, mean, variance, training=False, modified=modified)
    close(forward(layer, row, training=True), expected)
    np.testing.assert_array_equal(layer.mean, mean)
    np.testing.assert_array_equal(layer.variance, variance)


def test_batch_norm_of_a_constant_channel_is_finite(backend_module):
    x = np.full((4, 2, 2, 2), 7, np.float32)
    np.testing.assert_array_equal(forward(built(BatchNorm(), (2, 2, 2), np.float32), x, training=True), 0)


def test_batch_norm_in_float32_far_from_zero(backend_module, generator):
    x = (1000 + generator.normal(size=(40, 3))).astype(np.float32)
    mean, squares = column_moments(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(squares / 40, exact.var(axis=0), rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(4,), (3, 1, 5), (1, 1)])
def test_batch_norm_after_a_pass_of_its_own(backend_module, sizes, dtype, generator):
    layer = built(BatchNorm(), (2, 2, 3), dtype)
    batches = [(generator.normal(size=(n, 2, 2, 3)) * n + 9).astype(dtype) for n in sizes]
    layer.observe(batches[0])
    layer.forget()
    for x in batches:
        layer.observe(x)
        np.testing.assert_array_equal(layer.mean, 0)  # only the end of the pass counts
    layer.settle()
    rows = np.concatenate(batches).reshape(-1, 3).astype(np.float64)
    close(layer.mean, rows.mean(axis=0), dtype)
    close(layer.variance, rows.var(axis=0, ddof=1), dtype)


def halfway(layer, batches, shape):
    """Observe the batches with a new layer taking over from a checkpoint after the first; return it, settled."""
    layer.observe(batches[0])
    other = built(dataclasses.replace(layer), shape)
    other.restore({name: array.copy() for name, array in layer.arrays().items()})
    for x in batches[1:]:
        layer.observe(x)
        other.observe(x)
    layer.settle()
    other.settle()
    return other


@pytest.mark.parametrize("layer", [BatchNorm(), Whiten((2, 1)), Whiten()], ids=["norm", "patches", "images"])
def test_a_pass_goes_on_from_a_checkpoint_with_the_same_bits(layer, generator):
    shape = (3, 2, 2)
    built(layer, shape)
    other = halfway(layer, [generator.normal(size=(3, *shape)) for _ in range(3)], shape)
    assert set(layer.arrays()) == set(other.arrays())
    assert not any("observed" in name for name in layer.arrays())
    for name, array in layer.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])
    other.observe(generator.normal(size=(3, *shape)))
    other.restore(layer.arrays())
    assert not any("observed" in name for name in other.arrays())  # what was under way is gone
    x = generator.normal(size=(2, *shape))
    np.testing.assert_array_equal(forward(layer, x), forward(other, x))


# Whitening

WHITENED = [  # shape of the images, options
    ((4, 5, 2), {"kernel_size": (2, 3)}),
    ((4, 4, 1), {"kernel_size": 3, "stride": (1, 2), "padding": 1, "contrast": None, "epsilon": 0.01}),
    ((3, 4, 2), {"kernel_size": 2, "padding": (1, 0), "padding_mode": "reflect", "contrast": 0.0}),
    ((2, 3, 2), {"contrast": None}),
    ((2, 2, 2), {}),
    ((5,), {}),
]


def patches_of(images, kernel_size=None, stride=1, padding=0, padding_mode="zeros", contrast=10 / 255**2, epsilon=0.1):
    """Return the patches that Whiten makes, before whitening."""
    if kernel_size is None:
        rows = reference.patches(images.reshape(len(images), 1, 1, -1), 1)
    else:
        rows = reference.patches(images, kernel_size, stride, padding, padding_mode)
    return rows if contrast is None else reference.contrast_normalised(rows, contrast)


@pytest.mark.parametrize("dtype", [np.uint8, *DTYPES])
@pytest.mark.parametrize(("shape", "options"), WHITENED)
def test_whiten(shape, options, dtype, generator):
    check_whiten(shape, options, dtype, generator, (4, 3))


@pytest.mark.parametrize("dtype", [np.uint8, *DTYPES])
@pytest.mark.parametrize(("shape", "options"), [((2, 3, 1), {"kernel_size": 2}), ((2,), {})])
def test_whiten_on_both_kernels(backend_module, shape, options, dtype, generator):
    check_whiten(shape, options, dtype, generator, (2, 1))


def check_whiten(shape, options, dtype, generator, sizes):
    work = np.float64 if dtype == np.float64 else np.float32
    batches = [generator.integers(0, 256, (n, *shape)).astype(np.uint8) for n in sizes]
    if dtype != np.uint8:
        batches = [(batch / 100).astype(dtype) for batch in batches]
    layer = built(Whiten(**options), shape, work)
    four = [x if x.ndim == 4 else x[:, None, None] for x in batches]
    np.testing.assert_array_equal(layer.matrix, np.eye(len(layer.mean)))
    layer.observe(four[0])
    layer.forget()
    for x in four:
        layer.observe(x)
    layer.settle()
    seen = np.concatenate([patches_of(x, **options) for x in batches])
    mean, matrix = reference.zca(seen, options.get("epsilon", 0.1))
    close(layer.mean, mean, work, 10)
    close(layer.matrix, matrix, work, 10)
    out = forward(layer, batches[1], dtype=work)
    expected = (patches_of(batches[1], **options) - mean) @ matrix
    close(out, expected.reshape(out.shape), work, 100)


def test_whitened_patches_are_white(generator):
    mixed = generator.normal(size=(400, 6)) @ generator.normal(size=(6, 6)) + 3
    layer = built(Whiten(epsilon=1e-9, contrast=None), (6,))
    layer.observe(mixed[:, None, None])
    layer.settle()
    out = forward(layer, mixed)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(out.T, bias=True), np.eye(6), atol=1e-6)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("workspace", [2**15, 2**24])
def test_whiten_in_threads_and_small_pieces(workspace, generator):
    images = generator.normal(size=(9, 6, 7, 2))
    layer = built(Whiten(3), (6, 7, 2), workspace=workspace)
    layer.observe(images)
    layer.settle()
    seen = patches_of(images, 3)
    mean, matrix = reference.zca(seen, 0.1)
    close(layer.matrix, matrix, relative=10)
    close(forward(layer, images), ((seen - mean) @ matrix).reshape(9, 4, 5, 18), relative=100)
