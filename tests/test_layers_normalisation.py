"""BatchNorm and Whiten alone against the slow references."""

import dataclasses

import numpy as np
import pytest
import reference
from layers_helpers import DTYPES, built, close, forward
from oracles.layers.scale import scale

from hebbcore import BatchNorm, Scale, Whiten
from hebbcore.engine.moments import column_moments
from hebbcore.layers.whiten import signed

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


@pytest.mark.parametrize("row", [0, 7])
def test_moments_in_float32_of_rows_of_which_one_lies_far_from_the_others(backend_module, generator, row):
    x = generator.normal(size=(4000, 3)).astype(np.float32)
    x[row] = 1000
    mean, squares = column_moments(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(squares / 4000, exact.var(axis=0), rtol=1e-5)


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


@pytest.mark.parametrize(
    "layer", [BatchNorm(), Scale(), Whiten((2, 1)), Whiten()], ids=["norm", "scale", "patches", "images"]
)
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


# A common scale


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 2, 3, 4), (5, 3), (1, 2)])
def test_scale_in_training_and_after(backend_module, shape, dtype, generator):
    layer, variance = built(Scale(momentum=0.3), shape[1:], dtype), 1.0
    for training in (True, True, False):
        x = (generator.normal(size=shape) * generator.uniform(0.5, 4, shape[-1]) + 2).astype(dtype)
        expected, variance = scale(x, variance, training=training, momentum=0.3)
        close(forward(layer, x, training), expected, dtype)
        close(layer.variance, [variance], dtype)


@pytest.mark.parametrize("sizes", [(7,), (3, 1, 4)])
def test_scale_after_a_pass_of_its_own(backend_module, sizes, generator):
    layer = built(Scale(), (2, 2, 3))
    x = generator.normal(size=(sum(sizes), 2, 2, 3)) * [1, 5, 0.1] + [0, 9, -3]
    layer.observe(x)
    layer.forget()
    for part in np.split(x, np.cumsum(sizes)[:-1]):
        layer.observe(part)
    layer.settle()
    close(layer.variance, [x.var()])
    out = forward(layer, x)
    assert out.std() == pytest.approx(1)
    np.testing.assert_array_equal(np.sign(out), np.sign(x))


def test_what_does_not_vary_is_not_scaled(backend_module):
    x = np.full((2, 2, 2, 3), 3.0)
    np.testing.assert_array_equal(forward(built(Scale(), (2, 2, 3)), x, training=True), x)


# Whitening

WHITENED = [  # shape of the images, options
    ((4, 5, 2), {"kernel_size": (2, 3)}),
    ((4, 4, 1), {"kernel_size": 3, "stride": (1, 2), "padding": 1, "contrast": None, "epsilon": 0.01}),
    ((3, 4, 2), {"kernel_size": 2, "padding": (1, 0), "padding_mode": "reflect", "contrast": 0.0}),
    ((2, 3, 2), {"contrast": None}),
    ((2, 2, 2), {}),
    ((5,), {}),
    ((2, 3, 2), {"contrast": None, "relative": True, "epsilon": 0.01}),
    ((4, 5, 2), {"kernel_size": (2, 3), "contrast": None, "components": 7, "relative": True}),
    ((5,), {"components": 2}),
    ((4, 4, 3), {"kernel_size": 3, "padding": 1, "padding_mode": "edge", "contrast": None, "centre": True}),
    ((4, 3, 1), {"kernel_size": (1, 3), "centre": True, "relative": True}),
]
OF_THE_MATRIX = ("epsilon", "relative", "components", "centre")


def patches_of(images, kernel_size=None, stride=1, padding=0, padding_mode="zeros", contrast=10 / 255**2, **others):
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
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 3, 1), {"kernel_size": 2}),
        ((2,), {}),
        ((2, 3, 1), {"kernel_size": 2, "components": 3, "contrast": None}),
        ((2, 2, 2), {"kernel_size": 3, "padding": 1, "padding_mode": "edge", "centre": True, "relative": True}),
    ],
)
def test_whiten_on_both_kernels(backend_module, shape, options, dtype, generator):
    check_whiten(shape, options, dtype, generator, (2, 1))


def check_whiten(shape, options, dtype, generator, sizes):
    work = np.float64 if dtype == np.float64 else np.float32
    batches = [generator.integers(0, 256, (n, *shape)).astype(np.uint8) for n in sizes]
    if dtype != np.uint8:
        batches = [(batch / 100).astype(dtype) for batch in batches]
    layer = built(Whiten(**options), shape, work)
    four = [x if x.ndim == 4 else x[:, None, None] for x in batches]
    outputs = layer.matrix.shape[1]  # before it has learned, they are numbers of the patch
    first = (len(layer.mean) - outputs) // 2 if options.get("centre") else 0
    np.testing.assert_array_equal(layer.matrix, np.eye(len(layer.mean))[:, first : first + outputs])
    layer.observe(four[0])
    layer.forget()
    for x in four:
        layer.observe(x)
    layer.settle()
    seen = np.concatenate([patches_of(x, **options) for x in batches])
    whitening = {key: value for key, value in options.items() if key in OF_THE_MATRIX}
    mean, matrix = reference.whitening(seen, shape[-1], **whitening)
    close(layer.mean, mean, work, 10)
    close(layer.matrix, matrix, work, 10)
    out = forward(layer, batches[1], dtype=work)
    expected = (patches_of(batches[1], **options) - mean) @ matrix
    close(out, expected.reshape(out.shape), work, 100)


def test_principal_components_are_white_and_the_largest(generator):
    stds = np.array([1.0, 5, 3, 0.1])
    turned, _ = np.linalg.qr(generator.normal(size=(4, 4)))
    mixed = generator.normal(size=(5000, 4)) * stds @ turned + 3
    layer = built(Whiten(epsilon=1e-9, contrast=None, components=2), (4,))
    layer.observe(mixed[:, None, None])
    layer.settle()
    out = forward(layer, mixed)
    np.testing.assert_allclose(np.cov(out.T, bias=True), np.eye(2), atol=1e-6)
    assert np.abs(turned[[1, 2]] @ (layer.matrix / np.linalg.norm(layer.matrix, axis=0))).round(2).tolist() == [
        [1, 0], [0, 1],
    ]  # fmt: skip


def test_the_sign_of_a_component_does_not_hang_on_rounding():
    vector = np.array([[0.1], [-0.7], [0.7], [0.1]])
    for rounded in (vector, -vector, vector * [[1], [1 + 1e-15], [1], [1]], -vector * [[1], [1], [1 + 1e-15], [1]]):
        np.testing.assert_allclose(signed(rounded), -vector)


def test_whiten_of_data_that_do_not_vary_is_finite():
    layer = built(Whiten(relative=True, contrast=None), (3,))
    layer.observe(np.full((5, 1, 1, 3), 2.0))
    layer.settle()
    np.testing.assert_array_equal(forward(layer, np.full((2, 3), 2.0)), 0)


@pytest.mark.parametrize("far", [300, 10_000])
def test_whiten_in_float32_far_from_zero(backend_module, far, generator):
    """Products about 0 would round away how patches vary: variances came out 100 times too large."""
    x = generator.normal(size=(50, 4, 4, 2))
    x[:, 1:] += 0.8 * x[:, :-1]
    x = (far + x).astype(np.float32)
    put_out = []
    for dtype in DTYPES:
        layer = built(Whiten(2, contrast=None, epsilon=0.01), x.shape[1:], dtype)
        for part in (x[:20], x[20:]):
            layer.observe(part)
        layer.settle()
        put_out.append(forward(layer, x, dtype=dtype))
    np.testing.assert_allclose(*put_out, atol=1e-6 * far)


@pytest.mark.parametrize("far", [300, 10_000])
def test_whiten_in_float32_of_one_number_far_from_zero_among_others(backend_module, far, generator):
    x = generator.normal(size=(4000, 3)) * [1, far, 5 * far] + [3 * far, 0, 0]
    layer = built(Whiten(epsilon=1e-9, contrast=None), (3,), np.float32)
    layer.observe(x.astype(np.float32)[:, None, None])
    layer.settle()
    out = forward(layer, x, dtype=np.float32)
    np.testing.assert_allclose(np.cov(out.T, bias=True), np.eye(3), atol=1e-2)


def test_relative_whitening_does_not_depend_on_the_scale(generator):
    x, outputs = generator.normal(size=(50, 1, 1, 6)) ** 3, []
    for size in (1, 1000):
        layer = built(Whiten(relative=True, contrast=None, epsilon=0.01), (6,))
        layer.observe(size * x)
        layer.settle()
        outputs.append(forward(layer, size * x))
    close(*outputs, relative=10)


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
