"""Each layer of a network alone against the slow references, on the CPU and through CUDA's kernels."""

import dataclasses
import math
import re

import numpy as np
import pytest
import reference
from oracles.layers import nystrom
from oracles.layers.conv import cosine_response
from oracles.layers.scale import scale

import hebbcore
from hebbcore import (
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GridPool,
    Network,
    Nystrom,
    Pool,
    Power,
    Scale,
    Split,
    Triangle,
    Whiten,
)
from hebbcore.engine import parallel
from hebbcore.layers import Site
from hebbcore.layers.batch_norm import column_moments
from hebbcore.layers.whiten import signed

DTYPES = [np.float32, np.float64]
POOLS = [  # window, stride, padding
    (1, None, 0),
    (2, None, 0),
    ((3, 2), (1, 3), (1, 1)),
    (4, 2, 1),
    ((2, 3), (3, 1), (1, 0)),
    ((5, 6), 1, 0),
    (2, (5, 6), 1),  # the stride skips pixels
]


@pytest.fixture
def three_threads(monkeypatch, tune):
    """Share the rows of every array among threads."""
    monkeypatch.setattr(parallel, "threads", lambda: 3)
    tune(split_numbers=1, thread_patches=4)


def built(layer, shape, dtype=np.float64, workspace=2**24):
    layer.name = layer.name or "it"
    layer.build(Site("cpu", np.dtype(dtype).name, workspace), shape, np.random.default_rng(1))
    return layer


def forward(layer, x, training=False, dtype=None):
    """Return the layer's output for (n, H, W, C) or (n, features), as the network calls it, in the given rank."""
    given = x if x.ndim == 4 else x.reshape(len(x), 1, 1, -1)
    shape = layer.output_shape(x.shape[1:])
    if layer.in_place:
        out = given = given.copy()
    else:
        full = shape if len(shape) == 3 else (1, 1, *shape)
        out = np.full((len(x), *full), np.nan, dtype or x.dtype)
    before = given.copy()
    layer.forward(given, out, training)
    if not layer.in_place:
        np.testing.assert_array_equal(given, before)
    return out.reshape(len(x), *shape)


def close(actual, expected, dtype=np.float64, relative=1):
    exact = relative * (1e-12 if dtype == np.float64 else 1e-5)
    assert np.shape(actual) == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=exact * max(1e-30, np.abs(expected).max()))


# Pools and functions of one place


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(("window", "stride", "padding"), POOLS)
def test_pool(backend_module, window, stride, padding, kind, dtype, generator):
    images = generator.normal(size=(2, 5, 6, 2)).astype(dtype)
    slow = reference.max_pool if kind == "max" else reference.average_pool
    out = forward(built(Pool(window, stride, padding, kind), (5, 6, 2), dtype), images)
    assert out.dtype == dtype
    close(out, slow(images, window, stride, padding), dtype)


def test_a_pools_padding_never_wins_but_lowers_the_average():
    images = np.full((1, 2, 2, 1), -3.0)
    corner = {kind: forward(built(Pool(4, 2, 1, kind), (2, 2, 1)), images).item() for kind in ("max", "average")}
    assert corner == {"max": -3, "average": -3 * 4 / 16}


@pytest.mark.parametrize("kind", ["max", "average"])
def test_grid_pool(backend_module, kind, generator):
    images = generator.normal(size=(2, 5, 7, 3))
    out = forward(built(GridPool((2, 3), kind), (5, 7, 3)), images)
    combine = np.max if kind == "max" else np.mean
    for i, rows in enumerate((slice(0, 2), slice(2, 5))):
        for j, columns in enumerate((slice(0, 2), slice(2, 4), slice(4, 7))):
            close(out[:, i, j], combine(images[:, rows, columns], axis=(1, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [0.7, 1.0, 1.4])
@pytest.mark.parametrize("shape", [(2, 3, 2, 5), (3, 7), (1, 1)])
def test_triangle(backend_module, shape, power, dtype, generator):
    u = generator.normal(size=shape).astype(dtype)
    out = forward(built(Triangle(power), shape[1:], dtype), u)
    close(out, reference.triangle(u, power), dtype)


@pytest.mark.parametrize("threshold", [0, 0.25])
def test_split_and_power_put_together_what_they_were_given(backend_module, threshold, generator):
    u = generator.normal(size=(2, 2, 3, 4))
    split = forward(built(Split(threshold), (2, 3, 4)), u)
    np.testing.assert_array_equal(split[..., :4] - split[..., 4:], np.sign(u) * np.maximum(abs(u) - threshold, 0))
    assert (split >= 0).all()
    root = forward(built(Power(), (2, 3, 4)), u)
    close(root * abs(root), u)


def test_flatten_keeps_the_order(generator):
    images = generator.normal(size=(2, 3, 4, 5))
    np.testing.assert_array_equal(forward(Flatten(), images), [image.flatten() for image in images])


@pytest.mark.usefixtures("three_threads")
def test_layers_share_their_rows_among_threads(generator):
    images = generator.normal(size=(7, 5, 6, 3))
    close(forward(built(Pool(2), (5, 6, 3)), images), reference.max_pool(images, 2))
    close(forward(built(Triangle(0.7), (5, 6, 3)), images), reference.triangle(images, 0.7))
    expected, mean, variance = reference.batch_norm(images, np.zeros(3), np.ones(3), training=True)
    norm = built(BatchNorm(), (5, 6, 3))
    close(forward(norm, images, training=True), expected)
    close(norm.mean, mean)
    close(norm.variance, variance)
    many = generator.normal(size=(5000, 2)) + 7  # several cells of moments in several threads
    mean, squares = column_moments(many)
    close(mean, many.mean(axis=0))
    close(squares, ((many - many.mean(axis=0)) ** 2).sum(axis=0))


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


# Layers with a rule

CONVOLUTIONS = [{}, {"stride": (1, 2), "padding": (1, 0)}, {"padding": 1, "padding_mode": "reflect"}]
RULES = ["hpca", "swta", "kwta", "softhebb", "krotov"]


@pytest.mark.parametrize("dtype", [np.uint8, *DTYPES])
@pytest.mark.parametrize("options", CONVOLUTIONS)
@pytest.mark.parametrize("rule", RULES)
def test_conv_learns_and_puts_out_what_the_weights_before_say(rule, options, dtype, generator):
    check_conv(rule, options, dtype, generator.integers(0, 256, (2, 4, 3, 2)))


@pytest.mark.parametrize("dtype", [np.uint8, *DTYPES])
@pytest.mark.parametrize("rule", ["hpca", "swta", "softhebb"])
def test_conv_on_both_kernels(backend_module, rule, dtype, generator):
    check_conv(rule, {"padding": (0, 1)}, dtype, generator.integers(0, 256, (1, 3, 2, 2)))


def check_conv(rule, options, dtype, pixels):
    work = np.float64 if dtype == np.float64 else np.float32
    images = pixels.astype(np.uint8)
    images = images if dtype == np.uint8 else (images / 255).astype(dtype)
    layer = built(Conv(3, 2, rule, **options), images.shape[1:], work)
    before = layer.weights.copy()
    assert before.dtype == work
    expected = reference.output(reference.patches(images, 2, **options), before.reshape(3, -1), rule)
    out = forward(layer, images, dtype=work)
    close(out, expected.reshape(out.shape), work)
    again, pixels = np.full_like(out, np.nan), images.copy()
    change = layer.learn(images, again, 0.05, measure=True)
    close(again, out, work)
    after = reference.step(images, before, rule, 0.05, **options)
    close(layer.weights, after, work)
    assert change == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-3)
    np.testing.assert_array_equal(images, pixels)


@pytest.mark.parametrize("rule", [hebbcore.SoftHebb(p=3), *hebbcore.RULES])
def test_a_linear_layer_learns_alike_and_puts_out_responses_of_both_signs(backend_module, rule, tmp_path, generator):
    images = generator.normal(size=(2, 3, 4, 2))
    plain, linear = built(Conv(3, 2, rule), (3, 4, 2)), built(Conv(3, 2, rule, linear=True), (3, 4, 2))
    flat = linear.weights.reshape(3, 8).copy()
    x = reference.patches(images, 2)
    if linear.rule.needs_norms:
        expected = x @ (flat / np.linalg.norm(flat, axis=1, keepdims=True)).T
    else:
        expected = x @ linear.rule.projection(flat).T
    assert (expected < 0).any()
    out = forward(linear, images)
    close(out, expected.reshape(out.shape))
    close(linear.as_layer().transform(images), out)
    hebbcore.save(tmp_path / "layer.h5", linear.as_layer())
    close(hebbcore.load(tmp_path / "layer.h5").transform(images), out)
    again = np.full_like(out, np.nan)
    linear.learn(images, again, 0.05, measure=False)
    close(again, out)
    plain.learn(images, None, 0.05, measure=False)
    close(linear.weights, plain.weights)
    vectors = generator.normal(size=(3, 8))
    dense = built(Dense(3, rule, linear=True), (8,))
    norms = np.linalg.norm(dense.weights, axis=1) if dense.rule.needs_norms else 1
    close(forward(dense, vectors), vectors @ dense.rule.projection(dense.weights).T / norms)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("rule", RULES)
def test_dense_learns_from_vectors_and_flattened_images(backend_module, rule, n, generator):
    for shape in ((8,), (2, 2, 2)):
        x = generator.normal(size=(n, *shape))
        layer = built(Dense(4, rule), shape)
        before = layer.weights.copy()
        assert before.shape == (4, 8)
        flat = x.reshape(n, 8)
        out = np.full((n, 1, 1, 4), np.nan)
        assert layer.learn(x.reshape(n, *((1, 1, 8) if x.ndim == 2 else shape)), out, 0.05, measure=False) is None
        close(out[:, 0, 0], reference.output(flat, before, rule))
        close(layer.weights, reference.step(flat, before, rule, 0.05))
        close(forward(layer, x), reference.output(flat, layer.weights, rule))


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("workspace", [2**13, 2**24])
def test_the_output_of_a_step_is_put_together_from_threads_and_pieces(rule, workspace, generator):
    images = generator.normal(size=(5, 6, 5, 2))
    layer = built(Conv(4, 3, rule), (6, 5, 2), workspace=workspace)
    before = layer.weights.copy()
    out = np.full((5, 4, 3, 4), np.nan)
    layer.learn(images, out, 0.05, measure=False)
    expected = reference.output(reference.patches(images, 3), before.reshape(4, -1), rule)
    close(out, expected.reshape(out.shape))
    close(layer.weights, reference.step(images, before, rule, 0.05))


def test_the_blocked_order_of_hpca_also_gives_the_output(generator, monkeypatch, tune):
    monkeypatch.setattr("hebbcore.engine.update.blocked_is_cheaper", lambda *sizes: True)
    tune(block_units={"cpu": 2})
    for x in (generator.normal(size=(3, 7)), generator.integers(0, 256, (3, 7)).astype(np.uint8)):
        layer, pixels = built(Dense(5), (7,)), x.copy()
        before, out = layer.weights.copy(), np.full((3, 1, 1, 5), np.nan)
        layer.learn(x[:, None, None], out, 0.1, measure=False)
        close(out[:, 0, 0], reference.output(x if x.dtype != np.uint8 else x / 255, before, "hpca"))
        close(layer.weights, reference.step(x, before, "hpca", 0.1))
        np.testing.assert_array_equal(x, pixels)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ["hpca", "kwta", "signedwta", "softhebb"])
@pytest.mark.parametrize("response", ["cosine", "cosine-exp"])
def test_a_response_is_the_same_while_learning(backend_module, response, rule, dtype, generator):
    images = generator.normal(size=(2, 3, 4, 2)).astype(dtype)
    images[0] = 0  # patches of zeros
    width = 0.7 if response == "cosine-exp" else None
    layer = built(Conv(3, 2, rule, response=response, width=width), (3, 4, 2), dtype)
    expected = cosine_response(reference.patches(images, 2), layer.weights.reshape(3, -1), response, 0.7)
    close(forward(layer, images).reshape(-1, 3), expected, dtype)
    learned, out = built(Conv(3, 2, rule), (3, 4, 2), dtype), np.empty((2, 2, 3, 3), dtype)
    learned.learn(images, None, 0.1, measure=False)
    layer.learn(images, out, 0.1, measure=False)
    close(out.reshape(-1, 3), expected, dtype)
    np.testing.assert_array_equal(layer.weights, learned.weights)  # what is put out changes nothing
    with pytest.raises(ValueError, match=f'it: a layer alone has the response of its rule, .*"{response}"'):
        layer.as_layer()


def test_the_cosine_of_a_rule_with_scores_of_its_own_is_by_these(generator):
    images, rule = generator.normal(size=(2, 3, 4, 2)), hebbcore.Krotov(p=3.0)
    layer = built(Conv(3, 2, rule, response="cosine"), (3, 4, 2))
    weights = layer.weights.reshape(3, -1)
    expected = cosine_response(reference.patches(images, 2), np.sign(weights) * weights**2, "cosine")
    close(forward(layer, images).reshape(-1, 3), expected)


def nystrom_network(**options):
    layers = [
        Conv(5, 2, "kwta", response="cosine-exp", width=0.5, learning_rate=0.5), Pool(2, kind="average"), Nystrom(0.01)
    ]  # fmt: skip
    return Network(layers, (5, 5, 2), device="cpu", precision="float64", **options)


def test_nystrom_follows_the_units(backend_module, generator, tmp_path):
    images, network = generator.normal(size=(6, 5, 5, 2)), nystrom_network()
    conv, _, whitening = network.layers

    def check():
        codes = network.transform(images, "pool1")
        kernel = nystrom.kernel(conv.weights.reshape(5, -1), 0.5) + 0.01 * np.eye(5)
        close(whitening.matrix @ kernel @ whitening.matrix, np.eye(5), relative=100)
        close(whitening.matrix, whitening.matrix.T, relative=100)
        assert np.linalg.eigvalsh(whitening.matrix).min() > 0  # of the square roots this one
        close(network.transform(images), codes @ whitening.matrix, relative=100)

    check()
    drawn = whitening.matrix
    hebbcore.fit(network, images, mode="layerwise", batch_size=3)
    assert not np.allclose(whitening.matrix, drawn)
    check()
    kept = whitening.matrix
    network.transform(images)
    assert whitening.matrix is kept
    hebbcore.save(tmp_path / "network.h5", network)
    back = hebbcore.load(tmp_path / "network.h5", device="cpu")
    np.testing.assert_array_equal(back["nystrom1"].matrix, kept)
    conv.weights = generator.normal(size=conv.weights.shape)
    check()
    conv.weights[1] = 2 * conv.weights[0]  # units of one direction, and of none
    conv.weights[2] = 0
    assert np.isfinite(whitening.matrix).all()


def test_nystrom_approximates_the_kernel_of_patches_where_there_are_units(generator):
    patches = generator.normal(size=(4, 1, 1, 6))
    layers = [Conv(4, 1, "kwta", response="cosine-exp"), Nystrom(1e-12)]
    network = Network(layers, (1, 1, 6), device="cpu", precision="float64")
    network.layers[0].weights = 3 * patches
    codes, x = network.transform(patches).reshape(4, 4), patches.reshape(4, 6)
    lengths = np.linalg.norm(x, axis=1)
    close(codes @ codes.T, nystrom.kernel(x, 0.36) * np.outer(lengths, lengths), relative=1e5)


def test_a_learner_alone_shares_its_weights_and_takes_those_of_a_checkpoint(generator):
    x = generator.normal(size=(2, 4, 4, 2))
    layer = built(Conv(3, 2, "swta", stride=2, padding=1, padding_mode="reflect"), (4, 4, 2))
    alone = layer.as_layer()
    assert alone.weights is layer.weights
    np.testing.assert_array_equal(alone.transform(x), forward(layer, x))
    weights = generator.normal(size=layer.weights.shape)
    layer.restore({"weights": weights})
    layer.learn(x, None, 0.1, measure=False)
    assert layer.arrays()["weights"] is layer.weights is weights  # taken, not copied, and changed in place
    assert not np.array_equal(alone.weights, weights)


def test_the_rule_draws_the_first_weights():
    rule = hebbcore.SoftHebb()
    expected = rule.initial_weights(np.random.default_rng(1), 5, 18).reshape(5, 3, 3, 2)
    np.testing.assert_array_equal(built(Conv(5, 3, rule), (4, 4, 2)).weights, expected)
    assert built(Dense(5, rule), (4, 4, 2)).weights.shape == (5, 32)


# Errors

BAD_PARAMETERS = [
    (lambda: Conv(0, 3), ValueError, "Conv: units must be at least 1, got 0."),
    (lambda: Conv(2.5, 3), TypeError, "Conv: units must be an integer, got 2.5."),
    (lambda: Conv(4, (3, 3, 3)), ValueError,
     "Conv: kernel_size must be one integer or a (height, width) pair, got (3, 3, 3)."),
    (lambda: Conv(4, 3, stride=0), ValueError, "Conv: stride must be at least 1, got 0."),
    (lambda: Conv(4, 3, padding=-1), ValueError, "Conv: padding must be at least 0, got -1."),
    (lambda: Conv(4, 3, padding_mode="reflct"), ValueError,
     "Conv: padding_mode must be one of 'zeros', 'reflect', 'edge'; got 'reflct'. Did you mean 'reflect'?"),
    (lambda: Conv(4, 3, "hpka"), ValueError,
     f"Conv: rule must be one of {', '.join(map(repr, hebbcore.RULES))}; got 'hpka'. Did you mean 'hpca'?"),
    (lambda: Conv(4, 3, hebbcore.HPCA), TypeError,
     "Conv: rule must be an instance, got the class HPCA; use HPCA()."),
    (lambda: Conv(4, 3, response="cos"), ValueError,
     "Conv: response must be one of 'rule', 'cosine', 'cosine-exp'; got 'cos'. Did you mean 'cosine'?"),
    (lambda: Conv(4, 3, linear=True, response="cosine"), ValueError,
     'Conv: linear has no effect with response="cosine", which has no activation; leave it out.'),
    (lambda: Conv(4, 3, response="cosine", width=0.5), ValueError,
     'Conv: width has no effect without response="cosine-exp"; leave it out.'),
    (lambda: Dense(4, response="cosine-exp", width=0), ValueError, "Dense: width must be above 0, got 0."),
    (lambda: Conv(4, 3, linear=1), TypeError, "Conv: linear must be true or false, got 1."),
    (lambda: Dense(4, learning_rate=0), ValueError, "Dense: learning_rate must be above 0, got 0."),
    (lambda: Dense(2, hebbcore.Krotov(rank=3)), ValueError,
     "Dense: Krotov's rank must be at most the number of units (2), got 3."),
    (lambda: Pool(0), ValueError, "Pool: window must be at least 1, got 0."),
    (lambda: Pool(2, stride=(1, 0)), ValueError, "Pool: stride must be at least 1, got 0."),
    (lambda: Pool((4, 2), padding=2), ValueError,
     "Pool: padding must be at most half the window (4, 2), got (2, 2); use less padding."),
    (lambda: Pool(2, kind="mean"), ValueError, "Pool: kind must be one of 'max', 'average'; got 'mean'."),
    (lambda: GridPool(0), ValueError, "GridPool: cells must be at least 1, got 0."),
    (lambda: Split(-1), ValueError, "Split: threshold must be at least 0, got -1."),
    (lambda: Power(0), ValueError, "Power: exponent must be above 0, got 0."),
    (lambda: Triangle(-0.5), ValueError, "Triangle: power must be above 0, got -0.5."),
    (lambda: Triangle("1"), TypeError, "Triangle: power must be a number, got '1'."),
    (lambda: BatchNorm(1), TypeError, "BatchNorm: modified must be true or false, got 1."),
    (lambda: BatchNorm(momentum=1.5), ValueError, "BatchNorm: momentum must be above 0 and at most 1, got 1.5."),
    (lambda: Scale(1.5), ValueError, "Scale: momentum must be above 0 and at most 1, got 1.5."),
    (lambda: BatchNorm(epsilon=0), ValueError, "BatchNorm: epsilon must be above 0, got 0."),
    (lambda: Whiten(epsilon=math.nan), ValueError, "Whiten: epsilon must be finite, got nan."),
    (lambda: Whiten(3, contrast=-1), ValueError, "Whiten: contrast must be at least 0, got -1."),
    (lambda: Whiten(padding=1), ValueError,
     "Whiten: stride and padding are for patches; give kernel_size, or leave them out."),
    (lambda: Whiten(components=0), ValueError, "Whiten: components must be at least 1, got 0."),
    (lambda: Whiten(relative=1), TypeError, "Whiten: relative must be true or false, got 1."),
    (lambda: Whiten(relative=True, epsilon=None), ValueError,
     "Whiten: relative is for whitening; give epsilon, or leave it out."),
    (lambda: Whiten(3, components=4, centre=True), ValueError,
     "Whiten: centre is of ZCA, whose outputs are pixels; leave out it or components."),
    (lambda: Whiten((3, 2), centre=True), ValueError,
     "Whiten: centre needs a kernel_size of odd sides, got (3, 2)."),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD_PARAMETERS)
def test_impossible_parameters(make, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make()


BAD_SHAPES = [
    ([Conv(4, 5)], (4, 6, 3),
     "conv1: kernel_size 5×5 is larger than the padded image 4×6; use a smaller kernel or more padding."),
    ([Conv(4, 3, padding=3, padding_mode="reflect")], (3, 9, 1),
     "conv1: reflect padding must be smaller than the image (3×9), got 3×3."),
    ([Dense(4), Conv(2, 1)], (4, 4, 3),
     "conv2 needs images (height, width, channels), but gets vectors of 4 features."),
    ([Flatten(), Pool(2)], (4, 4, 3), "pool1 needs images (height, width, channels), but gets vectors of 48 features."),
    ([Pool(2, name="shrink"), Pool(3)], (4, 4, 3),
     "pool1: window (3, 3) is larger than the padded image (2, 2); use a smaller one."),
    ([GridPool((2, 5))], (4, 4, 3), "gridpool1: cells (2, 5) are more than the image (4, 4) has pixels; use fewer."),
    ([Conv(2, 3, "kwta"), Nystrom()], (4, 4, 3),
     'nystrom1 needs a Conv or Dense of response="cosine-exp" before it, whose codes it whitens.'),
    ([Conv(2, 3, "kwta", response="cosine-exp"), Split(), Nystrom()], (4, 4, 3),
     "nystrom1 needs the 2 channels of conv1, but gets 4."),
    ([Whiten(2, components=13)], (4, 4, 3),
     "whiten1: patches of 12 numbers have no 13 components; use fewer."),
    ([Whiten(2)], (9,), "whiten1 needs images (height, width, channels), but gets vectors of 9 features."),
    ([Whiten()], (100, 100, 3),
     "whiten1: patches of 30000 numbers are too large to whiten (at most 16384: a covariance of 2 GiB); "
     "use a smaller kernel_size."),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "shape", "message"), BAD_SHAPES)
def test_shapes_that_do_not_fit(layers, shape, message):
    with pytest.raises(ValueError, match=f"^{re.escape('Network: ' + message)}$"):
        Network(layers, shape, device="cpu")


def test_a_workspace_too_small_names_the_layer_and_the_least(generator):
    network = Network([Conv(4, 3)], (8, 8, 3), device="cpu", workspace="1 KiB")
    x = generator.normal(size=(2, 8, 8, 3))
    with pytest.raises(
        ValueError, match=r"^conv1: workspace of 1 KiB is too small .*; use at least ([\d.]+ KiB)\.$"
    ) as e:
        network.transform(x)
    enough = re.search(r"at least ([\d.]+ KiB)", str(e.value))[1]
    assert np.isfinite(Network([Conv(4, 3)], (8, 8, 3), device="cpu", workspace=enough).transform(x)).all()
