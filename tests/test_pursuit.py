"""Units that win a patch one after the other: what they learn, who is counted, and what stays as it was."""

import numpy as np
import pytest
import reference

import hebbcore
from hebbcore import SignedWTA, checkpoint, serialize
from hebbcore.engine import winners
from hebbcore.engine.kernels import cpu
from hebbcore.engine.patches import Geometry
from hebbcore.engine.update import BatchedUpdate


def close(actual, expected, relative=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * max(1e-30, np.abs(expected).max()))


@pytest.mark.parametrize("workspace", ["20 KiB", "60 KiB", "16 MiB"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("k", [2, 5, 20])
def test_chunks_and_threads_do_not_change_what_is_learned(k, kind, threads, workspace, generator, monkeypatch, tune):
    """k = 20 exceeds the 12 units: a unit wins again."""
    images = generator.normal(size=(400, 1, 1, 9) if kind == "dense" else (20, 6, 7, 1))
    weights = generator.normal(size=(12, 1, 1, 9) if kind == "dense" else (12, 3, 3, 1))
    before = images.copy()
    monkeypatch.setattr("hebbcore.engine.parallel.threads", lambda: threads)
    tune(thread_patches=16, thread_products=1, split_products=1)
    expected = reference.weight_update(images, weights, "signedwta", k=k)
    close(hebbcore.weight_update(images, weights, SignedWTA(k), workspace=workspace), expected)
    np.testing.assert_array_equal(images, before)


def test_ties_zeros_and_a_unit_that_wins_again(backend_module):
    """Units 0 and 1 are the same; units 2 and 3 are not orthogonal, so that what one leaves the other wins in part."""
    weights = np.array([[1.0, 0, 0], [1, 0, 0], [0, 0.6, 0.8], [0, 0, 1]])
    patches = np.array([[3.0, 0, 0], [0, 0, 0], [0, 2, 1], [1, 5, 5], [-4, 0, 4]])
    for k in (2, 7):
        expected = reference.delta(patches, weights, "signedwta", k=k)
        assert not expected[1].any()
        close(hebbcore.weight_update(patches, weights, SignedWTA(k)), expected)


def test_what_is_left_by_rounding_teaches_nobody(backend_module):
    """Unit 1 would move by what is left, divided by its share of it: further than it is long."""
    weights, patches = np.array([[1.0, 0, 0], [0, 0.6, 0.8]]), np.array([[3.0, 3e-5, 0]])
    np.testing.assert_allclose(hebbcore.weight_update(patches, weights, SignedWTA(2)), [[0, 1e-5, 0], [0, 0, 0]])


def test_one_winner_is_what_it_was(generator):
    """By the kernel of one winner, bit for bit."""
    X, W = generator.normal(size=(50, 8)).astype(np.float32), generator.normal(size=(6, 8)).astype(np.float32)
    gate, decay, norms = X @ W.T, np.zeros((1, 6), np.float32), np.empty(6, np.float32)
    cpu.norms(W, norms)
    cpu.signed_wta(gate, norms, np.empty(50, np.int64), decay)
    outer = np.zeros((6, 8), np.float32)
    outer += gate.T @ X
    expected = (outer - decay[0][:, None] * W) * (1 / decay[0])[:, None]
    found = hebbcore.weight_update(X, W, SignedWTA(k=1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(found, hebbcore.weight_update(X, W, "signedwta"))


def test_the_output_is_that_of_the_whole_patch(generator):
    images, weights = generator.normal(size=(5, 6, 6, 2)), generator.normal(size=(7, 3, 3, 2))
    one, eight = (hebbcore.HebbianLayer(weights, SignedWTA(k), precision="float64") for k in (1, 8))
    np.testing.assert_array_equal(one.transform(images), eight.transform(images))
    geometry = Geometry.of("test", images.shape, 3, 1, 0, "zeros")
    out = np.empty((5 * 16, 7))
    BatchedUpdate(SignedWTA(8), geometry, 7, "float64", 2**20, "test").delta(images, weights.reshape(7, -1), out)
    close(out, one.transform(images).reshape(-1, 7))


def atoms_found(weights, atoms):
    """How many of the atoms a unit resembles, up to the sign."""
    units = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return int((np.abs(atoms @ units.T).max(axis=1) > 0.97).sum())


def test_it_finds_the_atoms_of_sparse_combinations(generator):
    """Of which five, about as strong as one another, make a patch: it resembles none of them much."""
    atoms = generator.normal(size=(48, 32))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    signs, active = generator.choice([-1, 1], (4000, 48)), generator.random((4000, 48)).argsort(axis=1) < 5
    patches = (signs * active * generator.uniform(1, 1.5, (4000, 48))) @ atoms
    options = {"learning_rate": 0.5, "batch_size": 500, "epochs": 20, "initial_weights": "patches", "device": "cpu"}
    one, five = (
        atoms_found(hebbcore.train_layer(patches, 48, rule=SignedWTA(k), seed=1, **options).weights, atoms)
        for k in (1, 5)
    )
    assert one <= 5
    assert five >= 40


def test_the_winners_of_all_turns_are_counted(generator):
    """On one patch in three."""
    X, W = generator.normal(size=(120, 5)), generator.normal(size=(6, 5))
    X[0] = 0
    rule, expected = SignedWTA(3), np.zeros(6, int)
    for x in X[3::3]:
        r = x
        for _ in range(3):
            y = W @ r / np.linalg.norm(W, axis=1)
            i = np.abs(y).argmax()
            expected[i] += 1
            r = r - y[i] * W[i] / np.linalg.norm(W[i])
    responses = X @ W.T / np.linalg.norm(W, axis=1)
    before = responses.copy()
    np.testing.assert_array_equal(winners.wins(rule, responses, W), expected)
    np.testing.assert_array_equal(responses, before)
    assert winners.wins(rule, responses).sum() == 119  # the first winners


def test_a_unit_that_wins_later_turns_alone_is_neither_dead_nor_revived(recwarn):
    """Unit 1 is in every patch, and never the strongest."""
    data = np.tile(np.array([[5.0, 1, 0], [-4, 1, 0]]), (600, 1))
    start = np.array([[1.0, 0, 0], [0, 1, 0]])
    options = {"initial_weights": start, "learning_rate": 0.5, "batch_size": 10, "revival": 5.0, "device": "cpu"}
    layer = hebbcore.train_layer(data, 2, rule=SignedWTA(2), **options)
    np.testing.assert_allclose(np.abs(layer.weights[1]), [0, 1, 0], atol=0.3)
    assert not [w for w in recwarn if "won none" in str(w.message)]


def test_winners_in_turn_and_of_either_sign_are_counted_whatever_is_put_out():
    """Of 800 rows, or 400 where two win in turn: unit 1 wins second turns alone, unit 0 by −y too."""
    data = np.tile(np.array([[5.0, 1, 0], [-4, 1, 0], [-4, 1, 0]]), (800, 1))[:800]
    for rule, dead in [(SignedWTA(2), 1), (SignedWTA(1), 2)]:
        network = hebbcore.Network([hebbcore.Dense(3, rule, response="cosine-exp")], (3,), device="cpu")
        network["fc1"].weights = np.eye(3)
        records = []
        hebbcore.fit(network, data, epochs=1, batch_size=400, learning_rate=1e-9, callback=records.append)
        told = records[-1]["layers"]["fc1"]
        assert (told["winners"], told["dead"], told["pass_dead"]) == (800, dead, dead)
        assert told["pass_winners"] == 800 // rule.k


def test_nothing_but_k_is_written_down_and_only_where_it_is_used(tmp_path):
    assert serialize.rule_table("test", SignedWTA()) == {"name": "signedwta"}
    assert serialize.rule_table("test", SignedWTA(8)) == {"name": "signedwta", "k": 8}
    assert serialize.rule_of({"name": "signedwta"}, "rule") == SignedWTA(1)
    assert serialize.rule_of({"name": "signedwta", "k": 8}, "rule") == SignedWTA(8)
    network = hebbcore.Network([hebbcore.Dense(4, SignedWTA(3))], (6,))
    checkpoint.save(tmp_path / "net.h5", network)
    assert checkpoint.load(tmp_path / "net.h5")["fc1"].rule == SignedWTA(3)


@pytest.mark.parametrize("k", [0, 1.5, "two"])
def test_k_that_is_no_number_of_winners_is_refused(k):
    with pytest.raises((ValueError, TypeError), match="SignedWTA: k must be"):
        SignedWTA(k)


def test_a_patch_of_nan_reaches_no_other_memory(generator):
    weights = generator.normal(size=(4, 3))
    patches = np.full((2, 3), np.nan)
    found = hebbcore.weight_update(patches, weights, SignedWTA(2), check_finite=False)
    assert np.isnan(found[0]).all()
