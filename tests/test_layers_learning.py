"""Layers with a rule alone against the slow references: what they learn and what they put out."""

import numpy as np
import pytest
import reference
from layers_helpers import DTYPES, built, close, forward
from oracles.layers import nystrom
from oracles.layers.conv import cosine_response

import hebbcore
from hebbcore import Conv, Dense, Network, Nystrom, Pool

pytest_plugins = "layers_helpers"


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


@pytest.mark.parametrize("rule", [hebbcore.SoftHebb(p=3), *reference.UNSUPERVISED])
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


def test_nystrom_is_of_the_units_that_made_the_codes():
    network = Network([Conv(5, 2, hebbcore.SoftHebb(p=3), response="cosine-exp"), Nystrom()], (4, 4, 2), device="cpu")
    conv, whitening = network.layers

    def check():
        weights = conv.weights.reshape(5, -1).astype(float)
        kernel = nystrom.kernel(np.sign(weights) * abs(weights) ** (conv.rule.p - 1), 0.36) + 1e-3 * np.eye(5)
        np.testing.assert_allclose(whitening.matrix @ kernel @ whitening.matrix, np.eye(5), atol=1e-4)

    check()
    conv.rule = hebbcore.SoftHebb(p=4)
    check()


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
