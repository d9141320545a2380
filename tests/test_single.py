"""Small batches take the way of one chunk by one thread: it learns what the way of many chunks does."""

import numpy as np
import pytest
import threadpoolctl

import hebbcore
from hebbcore.engine import parallel, update
from hebbcore.engine.patches import Geometry
from hebbcore.engine.update import BatchedUpdate
from hebbcore.rules import as_rule

UNTAUGHT = [name for name, kind in hebbcore.RULES.items() if not kind.supervised]


def updater(rule, images, kernel, units, memories=None):
    """Return what computes the changes of a layer of float32 weights."""
    geometry = Geometry.of("test", images.shape, kernel, 1, 0, "zeros")
    return BatchedUpdate(as_rule("test", rule), geometry, units, "float32", 2**24, "test", memories=memories)


def change(updates, images, weights, **more):
    """Return ΔW."""
    delta, scale = updates.delta(images, weights, **more)
    return delta * scale


@pytest.fixture
def images(generator):
    """Return float32 images."""
    return generator.normal(size=(4, 8, 8, 3)).astype(np.float32)


@pytest.fixture
def weights(generator):
    """Return float32 weights of 3 × 3 kernels."""
    return generator.normal(size=(16, 27)).astype(np.float32)


@pytest.mark.parametrize("rule", UNTAUGHT)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_it_learns_what_many_chunks_do(rule, dtype, images, weights):
    images = (100 + 20 * images).astype(dtype) if dtype == np.uint8 else images
    one, many = updater(rule, images, 3, 16), updater(rule, images, 3, 16)
    found = change(one, images, weights)
    assert (one._ready.single is None) == hebbcore.RULES[rule].pairs
    out = np.empty((144, 16), np.float32)  # asked for the output, the other way is taken
    expected = change(many, images, weights, out=out)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_batches_of_other_shapes_and_layers_that_share_the_memory_take_turns(images, weights, generator):
    memories, vectors = [], generator.normal(size=(9, 1, 1, 40)).astype(np.float32)
    others = generator.normal(size=(30, 40)).astype(np.float32)
    conv, dense = updater("hpca", images, 3, 16, memories), updater("swta", vectors, 1, 30, memories)
    turns = [
        (conv, images, weights),
        (dense, vectors, others),
        (conv, images[:2], weights),
        (dense, vectors[1:], others),
    ]
    alone = [
        change(updater(rule, x, kernel, len(w)), x, w)
        for (_, x, w), rule, kernel in zip(turns, ["hpca", "swta"] * 2, [3, 1] * 2, strict=True)
    ]
    for _ in range(2):
        for (layer, x, w), expected in zip(turns, alone, strict=True):
            np.testing.assert_array_equal(change(layer, x, w), expected)


def test_images_that_are_no_longer_contiguous_are_read_as_they_are(images, weights):
    layer = updater("kwta", images, 3, 16)
    change(layer, images, weights)
    np.testing.assert_array_equal(
        change(layer, images[:, ::-1], weights), change(layer, np.ascontiguousarray(images[:, ::-1]), weights)
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_a_limit_of_blas_changes_no_bit_of_the_smallest_steps(images, weights, threads):
    """They set none themselves: BLAS takes one thread anyhow."""
    expected = [change(updater(rule, images, 3, 16), images, weights) for rule in UNTAUGHT]
    with threadpoolctl.threadpool_limits(threads, user_api="blas"):
        found = [change(updater(rule, images, 3, 16), images, weights) for rule in UNTAUGHT]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_product_of_a_step_without_a_limit_is_large():
    """Few multiplications of the scores can mean many of HPCA's decay, which BLAS would cut among its threads."""
    few, many = np.zeros((9, 1, 1, 10), np.float32), np.zeros((60, 1, 1, 10), np.float32)
    assert updater("hpca", few, 1, 30)._is_for_one_thread(9)
    assert not updater("hpca", many, 1, 400)._is_for_one_thread(60)  # N · K · K
    assert not updater("hpca", few, 1, 400)._is_for_one_thread(9)  # K · K · D
    assert not updater("hpca", few, 1, 1)._is_for_one_thread(9)  # vectors


def test_the_orders_of_a_small_decay_agree(images, weights, tune, monkeypatch):
    by_kernel = change(updater("hpca", images, 3, 16), images, weights)
    tune(lower_products=0)
    by_product = change(updater("hpca", images, 3, 16), images, weights)
    np.testing.assert_allclose(by_kernel, by_product, rtol=0, atol=1e-6 * np.abs(by_product).max())
    tune(split_products=1, thread_units=1)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        in_parts = updater("hpca", images, 3, 16)
        found = change(in_parts, images, weights)
        assert in_parts._ready.single._in_parts == (parallel.threads() > 1)  # one where there is one core
    np.testing.assert_allclose(by_kernel, found, rtol=0, atol=1e-6 * np.abs(by_product).max())
    monkeypatch.setattr(update, "scatter_is_cheaper", lambda *sizes: True)
    scattered = change(updater("krotov", images, 3, 16), images, weights)
    monkeypatch.setattr(update, "scatter_is_cheaper", lambda *sizes: False)
    multiplied = change(updater("krotov", images, 3, 16), images, weights)
    np.testing.assert_allclose(scattered, multiplied, rtol=0, atol=1e-6)
