"""GaussianPool: what holds for every map and stride, the same bits however it is cut, and its memory."""

import pickle

import numpy as np
import pytest
import reference

import hebbcore
from hebbcore.engine import parallel
from hebbcore.engine.memory import Memory

SIZES = [
    *((side, side, stride) for side in (1, 2, 3, 8, 27, 40) for stride in (1, 2, 5, 9, 12)),
    (16, 16, 6), (1, 9, 2), (7, 4, (1, 3)), (5, 40, (12, 4)), (3, 2, 10**6),
]  # fmt: skip


def pooled(images, stride, precision="float64", workspace="64 MiB"):
    network = hebbcore.Network(
        [hebbcore.GaussianPool(stride)], images.shape[1:], device="cpu", precision=precision, workspace=workspace
    )
    return network.transform(images)


def close(actual, expected, precision="float64"):
    exact = 1e-13 if precision == "float64" else 2e-6
    np.testing.assert_allclose(actual, expected, rtol=0, atol=exact * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_it_is_its_definition_for_any_size_and_stride(precision, generator):
    for _ in range(30):
        height, width = generator.integers(1, 41, 2).tolist()
        stride = tuple(generator.integers(1, 13, 2).tolist())
        images = generator.normal(size=(2, height, width, int(generator.integers(1, 6)))).astype(precision)
        expected = reference.oracle("layers", "gaussianpool").output(images, {}, stride)
        out = pooled(images, stride, precision)
        assert out.shape == expected.shape
        close(out, expected, precision)


@pytest.mark.parametrize(("height", "width", "stride"), SIZES)
def test_it_keeps_what_is_constant_is_symmetric_and_linear(height, width, stride, generator):
    a, b = generator.normal(size=(2, 3, height, width, 2))
    out = pooled(a, stride)
    close(pooled(np.full((1, height, width, 2), 2.5), stride), np.full((1, *out.shape[1:]), 2.5))
    close(pooled(a[:, ::-1], stride), out[:, ::-1])
    close(pooled(a[:, :, ::-1], stride), out[:, :, ::-1])
    close(pooled(2 * a - 3 * b, stride), 2 * out - 3 * pooled(b, stride))


def test_cudas_kernels_pool_alike(backend_module, generator):
    images = generator.normal(size=(2, 7, 5, 3))
    close(pooled(images, (3, 2)), reference.oracle("layers", "gaussianpool").output(images, {}, (3, 2)))


def test_the_weights_of_a_window_are_those_of_the_distance_up_to_the_stride():
    line = np.eye(9).reshape(9, 1, 9, 1)  # one pixel of each image is 1
    weights = pooled(line, (1, 4))[:, 0, :, 0].T  # centres 0, 4, 8
    half = np.exp(-(np.arange(5) ** 2) / 16)
    full = np.concatenate([half[::-1], half[1:]])
    close(weights[0], np.concatenate([half / half.sum(), np.zeros(4)]))
    close(weights[1], full / full.sum())
    close(weights[2], weights[0][::-1])


def test_what_lies_outside_a_window_does_not_matter_even_nan():
    images = np.ones((1, 9, 9, 1))
    images[0, 8, 8] = np.nan
    out = pooled(images, 4)[0, :, :, 0]
    assert np.isnan(out[1:, 1:]).all()
    close(np.concatenate([out[0], out[:, 0]]), np.ones(6))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_batch_threads_and_workspace_change_no_bit(precision, generator, monkeypatch, tune):
    images = generator.normal(size=(7, 13, 10, 5)).astype(precision)
    whole = pooled(images, (2, 3), precision)
    single = np.concatenate([pooled(image[None], (2, 3), precision) for image in images])
    np.testing.assert_array_equal(single, whole)
    monkeypatch.setattr(parallel, "threads", lambda: 3)
    tune(split_numbers=1)
    for workspace in ("64 MiB", 5000, 1):  # all images of a thread at once, some, one line of an image
        np.testing.assert_array_equal(pooled(images, (2, 3), precision, workspace), whole)


def test_what_lies_between_fits_the_workspace(generator, monkeypatch, tune):
    laid_out, lay_out = [], Memory.lay_out
    monkeypatch.setattr(Memory, "lay_out", lambda self, *given: laid_out.append(given[1]) or lay_out(self, *given))
    monkeypatch.setattr(parallel, "threads", lambda: 2)
    tune(split_numbers=1)
    pooled(generator.normal(size=(8, 20, 20, 4)), 3, workspace=10_000)
    assert len(laid_out) == 2
    assert 0 < sum(size for parts in laid_out for size in parts.values()) <= 10_000


def test_read_only_images_and_pickles_pool_alike(generator):
    images = generator.normal(size=(3, 6, 5, 2))
    network = hebbcore.Network([hebbcore.GaussianPool(2)], images.shape[1:], device="cpu", precision="float64")
    before = images.copy()
    images.setflags(write=False)
    out = network.transform(images)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(network)).transform(images), out)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(("stride", "error"), [(0, ValueError), ((1, -2), ValueError), (1.5, TypeError)])
def test_an_impossible_stride_is_refused(stride, error):
    with pytest.raises(error, match="GaussianPool: stride must be"):
        hebbcore.GaussianPool(stride)


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="gaussianpool1 needs images"):
        hebbcore.Network([hebbcore.GaussianPool(2)], (8,), device="cpu")
