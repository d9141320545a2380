"""Layers without parameters alone against the slow references, and what every layer refuses."""

import math
import re

import numpy as np
import pytest
import reference
from layers_helpers import DTYPES, built, close, forward

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
from hebbcore.engine.moments import column_moments

pytest_plugins = "layers_helpers"

POOLS = [  # window, stride, padding
    (1, None, 0),
    (2, None, 0),
    ((3, 2), (1, 3), (1, 1)),
    (4, 2, 1),
    ((2, 3), (3, 1), (1, 0)),
    ((5, 6), 1, 0),
    (2, (5, 6), 1),  # the stride skips pixels
]


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
