"""One layer alone: built, run forward and compared."""

import numpy as np
import pytest

from hebbcore.engine import parallel
from hebbcore.layers import Site

DTYPES = [np.float32, np.float64]


@pytest.fixture
def three_threads(monkeypatch, tune):
    """Share the rows of every array among threads."""
    monkeypatch.setattr(parallel, "threads", lambda: 3)
    tune(split_numbers=1, thread_patches=4, thread_products=1)


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
