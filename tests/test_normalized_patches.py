"""Learning from directions: patches of norm 1, while outputs are of the patches as they are."""

import dataclasses

import numpy as np
import pytest
import reference
from fit_helpers import arrays, assert_same, images
from test_rules import STATELESS, assert_close, parameters

import hebbcore
from hebbcore.engine.output import Output
from hebbcore.engine.patches import Geometry, patches_at
from hebbcore.engine.update import BatchedUpdate

SIZE = 2 * 3 * 2  # of a patch


def directions(rows):
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def pictures(generator, dtype):
    """Return images of very different brightness, one of zeros and one with a corner of zeros."""
    found = generator.normal(size=(4, 2, 4, 2)) * np.array([1, 20, 0, 0.1])[:, None, None, None]
    found[1, :, :3] = 0
    return found.astype(dtype)


def check(rule, dtype, generator):
    x, W = pictures(generator, dtype), directions(generator.normal(size=(5, SIZE))).astype(dtype)
    g = dataclasses.replace(Geometry.of("test", x.shape, (2, 3), 1, 0, "zeros"), normalized=True)
    name, params = parameters(rule)
    rows = reference.patches(x, (2, 3))
    out = np.empty((len(rows), 5), dtype)
    delta, scale = BatchedUpdate(rule, g, 5, np.dtype(dtype).name, 2**20, "test").delta(x, W, out)
    assert_close(delta * scale, reference.delta(directions(rows), W.astype(np.float64), name, **params), dtype)
    assert_close(out, reference.output(rows, W.astype(np.float64), name, **params), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", STATELESS, ids=repr)
def test_a_rule_learns_from_directions_and_puts_out_its_answer_to_patches(rule, dtype, generator):
    check(rule, dtype, generator)


@pytest.mark.parametrize("rule", [hebbcore.KWTA(), hebbcore.HPCA()], ids=repr)
def test_directions_by_the_kernels_of_cuda_too(rule, backend_module, generator):
    check(rule, np.float32, generator)


@pytest.mark.parametrize("response", ["rule", "cosine", "cosine-exp"])
def test_the_output_of_a_step_is_the_same_to_the_bit(response, generator):
    x, W = pictures(generator, np.float32), generator.normal(size=(5, SIZE)).astype(np.float32)
    g = Geometry.of("test", x.shape, (2, 3), 1, 0, "zeros")
    outs = []
    for normalized in (False, True):
        rule = hebbcore.KWTA()
        update = BatchedUpdate(
            rule, dataclasses.replace(g, normalized=normalized), 5, "float32", 2**20, "test",
            output=Output(rule, response=response, width=0.4),
        )  # fmt: skip
        outs.append(np.empty((len(x) * g.positions, 5), np.float32))
        update.delta(x, W, outs[-1])
    np.testing.assert_array_equal(*outs)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_dense_layer_does_not_change_what_it_learns_from(blocked, generator, monkeypatch):
    monkeypatch.setattr("hebbcore.engine.update.blocked_is_cheaper", lambda *sizes: blocked)
    x, W = generator.normal(size=(6, 1, 1, 4)), generator.normal(size=(3, 4))
    g = dataclasses.replace(Geometry.of("test", x.shape, 1, 1, 0, "zeros"), normalized=True)
    before = x.copy()
    delta, scale = BatchedUpdate(hebbcore.HPCA(), g, 3, "float64", 2**20, "test").delta(x, W)
    np.testing.assert_array_equal(x, before)
    assert_close(delta * scale, reference.delta(directions(x.reshape(6, 4)), W, "hpca"), np.float64)


def test_patches_taken_one_by_one_are_directions_too(backend_module, generator):
    x = pictures(generator, np.float64)
    g = Geometry.of("test", x.shape, (2, 3), 1, 0, "zeros")
    places = np.arange(len(x) * g.positions)
    found = patches_at(x, dataclasses.replace(g, normalized=True), places, x.dtype)
    assert_close(found, directions(reference.patches(x, (2, 3))), np.float64)


@pytest.mark.parametrize("start", ["patches", "k-means++"])
def test_starts_a_bias_and_revivals_see_directions(start):
    """Images of any contrast teach the same: all that a rule sees of them is their directions."""
    data = images(24)
    dimmed = data * np.random.default_rng(0).choice([0.25, 1, 4], (len(data), 1, 1, 1))
    trained = []
    for given in (data, dimmed):
        layer = hebbcore.Conv(
            6, 7, "kwta", initial_weights=start, conscience=0.1, revival=1.0, learning_rate=0.5, normalize_patches=True
        )
        network = hebbcore.Network([layer], data.shape[1:], precision="float64", device="cpu")
        trained.append(hebbcore.fit(network, given, epochs=3, batch_size=8))
    first, second = (directions(network["conv1"].weights.reshape(6, -1)) for network in trained)
    np.testing.assert_allclose(first, second, atol=1e-12)


def test_the_measured_rate_is_that_of_directions():
    data = images(24)
    rates = []
    for given in (data, 8 * data):
        layer = hebbcore.Conv(3, 3, "hpca", learning_rate="auto", normalize_patches=True)
        network = hebbcore.Network([layer], data.shape[1:], precision="float64", device="cpu")
        rates.append(arrays(hebbcore.fit(network, given)))
    assert_same(*rates)  # a factor of 8 changes no bit


def test_it_is_no_default_and_must_be_a_flag():
    assert not hebbcore.Conv(2, 3).normalize_patches
    with pytest.raises(TypeError, match="normalize_patches must be"):
        hebbcore.Dense(2, normalize_patches=1)
