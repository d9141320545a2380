"""Conscience and revival against slow references, and the warning that names dead units."""

import numpy as np
import pytest
import reference
from test_rules import VARIANTS, assert_close, batch, parameters

import hebbcore
from hebbcore.engine import winners
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.patches import Geometry
from hebbcore.engine.rivalry import Rivalry
from hebbcore.engine.update import BatchedUpdate
from hebbcore.engine.winners import Tally, spread

BIASED = [rule for rule in VARIANTS if rule.takes_bias]


def slow_delta(X, W, rule, bias):
    """ΔW of one batch with a bias a unit, in units of a cosine: the winners by what is biased alone."""
    name, params = parameters(rule)
    return reference.delta(X, W, name, bias=bias, **params)


def delta(X, W, rule, bias=None):
    """ΔW of one batch by the engine, with a bias a unit."""
    geometry = Geometry.of("test", (1, 1, 1, 4), 1, 1, 0, "zeros")
    update = BatchedUpdate(rule, geometry, 5, X.dtype.name, 2**20, "test")
    change, scale = update.delta(X.reshape(12, 1, 1, 4), W, None, bias)
    return change * scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", BIASED, ids=repr)
def test_a_bias_changes_who_wins_and_nothing_else(rule, dtype, backend_module, generator):
    X, W = batch(generator, (12, 4), dtype), batch(generator, (5, 4), dtype)
    bias = generator.uniform(-0.3, 0.3, 5).astype(dtype)
    found = delta(X, W, rule, bias)
    assert_close(found, slow_delta(X.astype(np.float64), W.astype(np.float64), rule, bias.astype(np.float64)), dtype)
    assert not np.allclose(delta(X, W, rule), found, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", BIASED, ids=repr)
@pytest.mark.parametrize("most", [2, 1e4])
def test_a_large_bias_leaves_what_is_won(rule, dtype, most, generator):
    X, W = batch(generator, (12, 4), dtype), batch(generator, (5, 4), dtype)
    bias = generator.uniform(-most, most, 5).astype(dtype)
    expected = slow_delta(X.astype(np.float64), W.astype(np.float64), rule, bias.astype(np.float64))
    assert_close(delta(X, W, rule, bias), expected, dtype)


@pytest.mark.parametrize("rule", BIASED, ids=repr)
def test_a_bias_against_a_unit_never_makes_it_win_more(rule, generator):
    X, W = batch(generator, (12, 4), np.float64), batch(generator, (5, 4), np.float64)
    if rule.winners_in_turn() > 1:
        pytest.skip("the winners of before leave more of a patch to the next")
    shares = []
    for of_the_first in (0.0, -0.3, -1.0, -1.5, -4.0):
        norms = Norms(X, np.linalg.norm(W, axis=1))
        gate = rule.biased_gate(X @ W.T, norms, np.array([of_the_first, -1.0, -1.0, -1.0, -1.0]))
        shares.append(float((gate.values[:, 0] != 0).sum() if rule.signed else gate.values[:, 0].sum()))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


class SlowRivalry:
    """Shares of wins, idle times, and bias, as the docstrings say them."""

    def __init__(self, units, conscience):
        self.shares, self.idle, self.conscience = [1 / units] * units, [0.0] * units, conscience

    def bias(self):
        units = len(self.shares)
        return np.array([self.conscience * max(1 - units * share, -1) for share in self.shares])

    def count(self, winners):
        units = len(self.shares)
        keep = (1 - 1 / (10 * units)) ** len(winners)
        for i in range(units):
            won = winners.count(i)
            self.shares[i] = keep * self.shares[i] + (1 - keep) * won / len(winners)
            self.idle[i] = 0 if won else self.idle[i] + len(winners) / units


@pytest.mark.parametrize(
    "rule", [hebbcore.KWTA(), hebbcore.SignedWTA(), hebbcore.HardWTA(adaptive_power=None)], ids=repr
)
def test_a_training_with_conscience_and_revival(rule, backend_module, generator):
    """The engine against the slow rule, the slow rivalry and, for patches of revived units, the batch itself."""
    W = generator.normal(size=(6, 4)) + 3 * np.eye(6, 4)
    W[5] = [-30.0, 0.01, 0.01, 0.01] if not rule.signed else [0.01, -0.01, 0.01, 0.01]
    batches = [np.abs(batch(generator, (20, 4), np.float64)) for _ in range(5)]
    geometry = Geometry.of("test", (1, 1, 1, 4), 1, 1, 0, "zeros")
    update = BatchedUpdate(rule, geometry, 6, "float64", 2**20, "test")
    conscience, name = 0.2 if rule.takes_bias else 0.0, parameters(rule)[0]
    slow, weights = SlowRivalry(6, conscience), W.copy()
    rivalry = Rivalry(rule, geometry, weights, conscience, 7.0, 3)
    revived = set()
    for X in batches:
        change = slow_delta(X, weights, rule, slow.bias()) if conscience else reference.delta(X, weights, name)
        expected = weights + 0.1 * change
        response = reference.output(X, weights, name)
        if isinstance(rule, hebbcore.KWTA):
            response = X @ weights.T / np.linalg.norm(weights, axis=1)
        slow.count([*(abs(response) if rule.signed else response).argmax(axis=1)])
        bias = rivalry.bias(np.dtype(np.float64))
        images, tally = X.reshape(20, 1, 1, 4), Tally(rule, weights, spread(20, 1))
        rivalry.take(images, np.dtype(np.float64))
        delta, scale, _ = update.begin(images, weights, None, bias, tally=tally)()
        rivalry.count(tally.total)
        weights = weights + 0.1 * delta * scale
        before = weights.copy()
        rivalry.revive(weights)
        for i in range(6):
            if slow.idle[i] >= 7:
                directions = X / np.linalg.norm(X, axis=1, keepdims=True)
                assert (directions @ weights[i] / np.linalg.norm(weights[i])).max() > 1 - 1e-9
                expected[i], slow.idle[i], slow.shares[i] = weights[i], 0, 1 / 6
                revived.add(i)
            else:
                np.testing.assert_array_equal(weights[i], before[i])
        np.testing.assert_allclose(weights, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(rivalry.arrays()["rivalry_shares"], slow.shares)
        np.testing.assert_allclose(rivalry.arrays()["rivalry_idle"], slow.idle)
    assert revived


def photographs(count=300):
    """Return patches that are bright all over, as of photographs."""
    generator = np.random.default_rng(0)
    return (0.5 + 0.1 * generator.normal(size=(count, 30))).astype(np.float32).clip(0, 1)


def settings(**options):
    return {"rule": "kwta", "learning_rate": 0.1, "batch_size": 10, "device": "cpu", "epochs": 4} | options


def test_train_layer_names_dead_units_and_the_remedies_help():
    data = photographs()
    with pytest.warns(
        UserWarning, match=r"train_layer: \d+ of 20 units of the layer won none of the .* patches"
    ) as told:
        hebbcore.train_layer(np.tile(data, (4, 1)), 20, **settings())
    assert told[0].filename == __file__
    for remedy in ({"initial_weights": "patches"}, {"initial_weights": "k-means++"}, {"revival": 5.0}):
        hebbcore.train_layer(np.tile(data, (4, 1)), 20, **settings(**remedy))


def test_fit_names_dead_units_of_each_layer():
    def net(**options):
        layers = [hebbcore.Dense(20, "kwta", learning_rate=0.1, **options), hebbcore.Dense(4)]
        return hebbcore.Network(layers, (30,), device="cpu")

    data = np.tile(photographs(), (4, 1))
    with pytest.warns(UserWarning, match=r"fit: \d+ of 20 units of fc1 won none of the 1,200 patches") as told:
        hebbcore.fit(net(), data)
    assert len(told) == 1
    assert told[0].filename == __file__
    hebbcore.fit(net(initial_weights="patches"), data)


def test_rules_of_ones_own_may_compete():
    class Own(hebbcore.Rule):
        competes = True

        def gate(self, scores, norms):
            return Gate(scores, scores.sum(axis=0))

    with pytest.raises(ValueError, match=r"conscience is for rules .* that define biased_gate; Own does not"):
        hebbcore.train_layer(np.ones((5, 3)), 2, **settings(rule=Own(), conscience=0.1))
    layer = hebbcore.train_layer(np.eye(5), 2, **settings(rule=Own(), initial_weights="patches", learning_rate=1e-9))
    assert layer.weights.shape == (2, 5)


def test_a_gate_of_ones_own_in_the_place_of_signed_wtas_has_its_effect_or_is_refused():
    """With a conscience, and with several winners in turn, SignedWTA's own way was taken."""

    class Own(hebbcore.SignedWTA):
        def gate(self, scores, norms):
            return Gate(0 * scores, 0 * scores[0], np.ones_like(scores[0]))

    class Biased(Own):
        def biased_gate(self, scores, norms, bias):
            return self.gate(scores, norms)

    with pytest.raises(ValueError, match=r"conscience is for rules .* that define biased_gate; Own does not"):
        hebbcore.Dense(2, Own(), conscience=0.1)
    with pytest.raises(ValueError, match=r"^Own\.gate has no effect where units win in turn"):
        hebbcore.Dense(2, Own(k=2))
    for rule, conscience in ((Own(), 0.0), (Biased(), 0.1)):
        network = hebbcore.Network([hebbcore.Dense(2, rule, conscience=conscience)], (5,), device="cpu")
        before = network["fc1"].weights.copy()
        np.testing.assert_array_equal(hebbcore.fit(network, np.eye(5))["fc1"].weights, before)


@pytest.mark.parametrize("k", [2, 3])
def test_a_unit_that_wins_as_one_of_several_has_won(k, generator):
    scores = generator.permuted(np.tile([5.0, 3.0, 2.0, -1.0], (50, 1)), axis=1).astype(np.float32)
    scores[:5] = 1  # nobody wins these
    found = winners.wins(hebbcore.KWTA(k), scores)
    expected = (scores[5:] >= sorted([5, 3, 2, -1])[-k]).sum(axis=0)
    assert found.tolist() == expected.tolist()
    assert winners.patches_of(hebbcore.KWTA(k), found) == 45
    assert winners.wins(hebbcore.KWTA(4), scores).tolist() == [45] * 4


def test_revival_leaves_a_unit_that_always_wins_second():
    X = np.random.default_rng(0).uniform([1, 0], [2, 0.2], (64, 1, 1, 2)).astype(np.float32)
    weights = np.array([[1, 0.05], [1, 3], [-1, -1]], np.float32)[:, None, None, :]  # the second is never the first

    def learned(revival):
        layer = hebbcore.Conv(3, 1, hebbcore.KWTA(2), revival=revival)
        network, records = hebbcore.Network([layer], (1, 1, 2)), []
        layer.weights = weights
        hebbcore.fit(
            network, X, batch_size=16, learning_rate=1e-6, callback=records.append, log_seconds=0, shuffle=False
        )
        return layer.weights, records[-1]["layers"]["conv1"]

    (left, told), (kept, _) = learned(0), learned(40)  # at the last step
    assert (told["dead"], told["pass_dead"], told["pass_winners"]) == (1, 1, 64)
    np.testing.assert_allclose(left[:2], kept[:2], atol=1e-4)
    assert kept[2].min() > 0 > left[2].max()  # it won nothing, and starts anew from a patch


def test_a_unit_starts_anew_from_a_patch_whose_square_is_a_number(generator):
    """Of one that is so small that float32 has a digit of it a unit of another length was made."""
    patches, weights = generator.random((200, 4)).astype(np.float32), np.eye(4, dtype=np.float32)
    patches[:190] *= np.float32(5e-23)
    rivalry = Rivalry(
        hebbcore.SignedWTA(), Geometry.of("test", (1, 1, 1, 4), 1, 1, 0, "zeros"), weights, 0.0, 1.0, seed=0
    )
    rivalry.take(patches.reshape(200, 1, 1, 4), weights.dtype)
    rivalry.count(np.array([200.0, 0, 0, 0]))
    rivalry.revive(weights)
    np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1, atol=1e-6)
