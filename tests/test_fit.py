"""fit: what it learns against the slow reference, with schedules and statistics, and what it tells."""

import math
import os
import signal
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import reference
from fit_helpers import (
    IMAGES,
    IN_ORDER,
    OPTIONS,
    SlowNetwork,
    arrays,
    assert_near,
    assert_same,
    batches_of,
    images,
    network,
    orders,
    rate_of,
)

import hebbcore
import loaders
from hebbcore import serialize
from hebbcore.engine import winners
from hebbcore.layers import Learner
from hebbcore.training import diagnostics
from hebbcore.training.phases import factor

# What is learned


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_together_is_one_pass_in_which_each_layer_learns_by_its_weights_from_before(dtype):
    data, net = images(dtype=dtype), network()
    slow, order = SlowNetwork(net), orders(len(data), seed=3)
    for _ in range(2):
        for x in batches_of(data / 255 if dtype == np.uint8 else data.astype(float), next(order)):
            slow.learn_together(x, rate_of)
    assert hebbcore.fit(net, data, **OPTIONS) is net
    assert_near(arrays(net), slow.state, 1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_layerwise_each_layer_sees_what_the_finished_layers_before_it_make(dtype):
    data, net = images(dtype=dtype), network()
    slow, order = SlowNetwork(net), orders(len(data), seed=3)
    scaled = data / 255 if dtype == np.uint8 else data
    for i, layer in enumerate(net.layers):
        if isinstance(layer, Learner):
            for _ in range(2):
                for x in batches_of(scaled, next(order)):
                    slow.learn(i, slow.output(i, x), rate_of(layer))
        elif layer.observes:
            next(order)  # a pass of its own
            slow.observe(i, scaled)
    hebbcore.fit(net, data, mode="layerwise", **OPTIONS)
    assert_near(arrays(net), slow.state, 1e-9)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "epochs"])
@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_schedules_slow_every_layer_down(schedule, mode):
    data = images(9)
    net = hebbcore.Network([hebbcore.Dense(3), hebbcore.Dense(2, learning_rate=0.05)], (98,), precision="float64")
    data, slow, order = data.reshape(9, -1), SlowNetwork(net), orders(9)
    for i in [None] if mode == "together" else [0, 1]:
        for epoch in range(3):
            for k, x in enumerate(batches_of(data.reshape(9, 1, 1, -1), next(order))):
                done = (9 * epoch + 4 * k) / 27
                slower = {"linear": 1 - done, "cosine": 0.5 + 0.5 * math.cos(math.pi * done), "epochs": 1 - epoch / 3}
                if i is None:
                    slow.learn_together(x, lambda layer, s=slower[schedule]: rate_of(layer) * s)
                else:
                    slow.learn(i, slow.output(i, x), rate_of(net.layers[i]) * slower[schedule])
    hebbcore.fit(net, data, epochs=3, batch_size=4, learning_rate=0.1, schedule=schedule, mode=mode)
    assert_near(arrays(net), slow.state, 1e-10)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0]),
        ("cosine", [1, (2 + math.sqrt(2)) / 4, 0.5, 0]),
        ("epochs", [1, 0.8, 0.6, 0.2]),
    ],
)
def test_the_factor_of_a_schedule(schedule, expected):
    places = [(0, 0.0), (1, 0.25), (2, 0.5), (4, 1.0)]
    actual = [factor(schedule, epoch, 5, done) for epoch, done in places]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    assert factor(schedule, 4, 5, 1.3) >= 0  # a length that was estimated too low


def test_a_schedule_needs_to_know_the_end():
    class Endless:
        def __iter__(self):
            return iter([images()])

    with pytest.raises(ValueError, match="needs data with a length"):
        hebbcore.fit(network(), Endless(), schedule="linear")
    before = network()
    after = hebbcore.fit(network(), Endless(), schedule="epochs", epochs=2)
    assert not np.array_equal(after["conv1"].weights, before["conv1"].weights)


# Whitening and statistics


def slow_whitening(data, epsilon, contrast):
    """Return the mean patch and the matrix of patches of 2×2."""
    patches = reference.patches(data, 2)
    patches = patches - patches.mean(axis=1, keepdims=True)
    patches /= np.sqrt(patches.var(axis=1, keepdims=True) + contrast)
    values, vectors = np.linalg.eigh(np.cov(patches.T, bias=True))
    return patches.mean(axis=0), vectors @ np.diag((values + epsilon) ** -0.5) @ vectors.T


@pytest.mark.parametrize("mode", ["together", "layerwise"])
@pytest.mark.parametrize("limit", [3, 4, 6, 100])
def test_whitening_looks_at_no_more_than_statistics_images(mode, limit):
    data, net = images(), network(whiten=True)
    seen = data[next(orders(len(data), seed=3))][:limit]
    hebbcore.fit(net, data, mode=mode, statistics_images=limit, **OPTIONS)
    mean, matrix = slow_whitening(seen, 0.01, 0.01)
    np.testing.assert_allclose(net["whiten1"].mean, mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(net["whiten1"].matrix, matrix, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("limit", [5, 8])
def test_batch_norm_looks_at_no_more_than_statistics_images(limit):
    data, net = images(), network()
    hebbcore.fit(net, data, mode="layerwise", statistics_images=limit, shuffle=False, batch_size=4)
    slow = SlowNetwork(net)
    slow.observe(2, data[:limit])
    slow.observe(4, data[:limit])
    assert_near(arrays(net), slow.state, 1e-10)


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_whitened_images_are_what_the_next_layer_learns_from(mode):
    data, net = images(), network(whiten=True)
    hebbcore.fit(net, data, mode=mode, **IN_ORDER)
    conv = serialize.layer_of(serialize.layer_table("test", net.layers[1]), "conv1")
    alone = hebbcore.Network([conv], (6, 6, 8), precision="float64")
    alone.layers[0].restore({"weights": network(whiten=True)["conv1"].weights})
    hebbcore.fit(alone, net.transform(data, "whiten1"), **{**IN_ORDER, "learning_rate": None})
    np.testing.assert_allclose(alone.layers[0].weights, net["conv1"].weights, rtol=1e-10, atol=1e-10)


def test_what_still_changes_cannot_be_whitened():
    def late():
        return hebbcore.Network([hebbcore.Conv(3, 2), hebbcore.Whiten(), hebbcore.Dense(2)], IMAGES[1:])

    with pytest.raises(ValueError, match=r'whiten1 comes after layers that learn.*mode="layerwise"'):
        hebbcore.fit(late(), images())
    net = hebbcore.fit(late(), images(), mode="layerwise")
    assert not np.array_equal(net["whiten1"].matrix, late()["whiten1"].matrix)


def test_what_still_changes_has_no_statistics_for_a_layer_of_ones_own():
    """It was told that it cannot whiten."""

    @dataclass(eq=False)
    class Centred(hebbcore.Layer):
        observes = True
        name: str = ""

    net = hebbcore.Network([hebbcore.Conv(3, 2), Centred(), hebbcore.Dense(2)], IMAGES[1:])
    with pytest.raises(ValueError, match=r"centred1 comes after layers that learn, and cannot take statistics of what"):
        hebbcore.fit(net, images())


@pytest.mark.parametrize("kind", [hebbcore.BatchNorm, hebbcore.Scale])
def test_what_statistics_still_change_cannot_be_whitened(kind):
    """Whitened as it was before them, and not as the units then see it, was what a Whiten behind them put out."""
    data = 3 + 0.2 * images()
    net = hebbcore.Network([kind(), hebbcore.Whiten(2, contrast=None), hebbcore.Conv(3, 1)], IMAGES[1:])
    with pytest.raises(ValueError, match=rf"fit: whiten1 comes after {net.names[0]}, and cannot .* put whiten1"):
        hebbcore.fit(net, data)
    hebbcore.fit(net, data, mode="layerwise", batch_size=4)
    np.testing.assert_allclose(net.transform(data, "whiten1").mean(axis=(0, 1, 2)), 0, atol=1e-3)
    hebbcore.fit(net, data, batch_size=4)  # it is whitened as it is


def test_a_failed_pass_of_observations_leaves_nothing_behind():
    class Stops:
        def __iter__(self):
            yield images(4, seed=9)
            raise RuntimeError("enough")

    net = network(whiten=True)
    with pytest.raises(RuntimeError, match="enough"):
        hebbcore.fit(net, Stops())
    assert_same(arrays(hebbcore.fit(net, images())), arrays(hebbcore.fit(network(whiten=True), images())))


# Telling


def test_records_hold_what_a_slow_count_finds():
    data, net, records = images(6), network(), []
    slow, order = SlowNetwork(net), orders(6)
    hebbcore.fit(net, data, epochs=2, batch_size=3, learning_rate=0.1, log_seconds=0, callback=records.append)
    passes = dict.fromkeys(net.learners, 0)
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert [record["images"] for record in records] == [3, 6, 9, 12]
    assert [record["epoch"] for record in records] == [0, 1, 1, 2]  # the last step of a pass is told at its end
    for record, x in zip(records, [x for _ in range(2) for x in batches_of(data, next(order), 3)], strict=True):
        assert record["phase"] == 0
        assert 0 < record["seconds"] < 60
        assert record["images_per_second"] > 0
        assert record["seconds_left"] == pytest.approx((12 - record["images"]) / record["images_per_second"], abs=0.06)
        before, responses = {**slow.state}, {}
        forward = slow.forward

        def noted(i, x, *arguments, forward=forward, responses=responses):
            if slow.names[i] in net.learners:
                responses[slow.names[i]] = slow.response(i, x)
            return forward(i, x, *arguments)

        slow.forward = noted
        slow.learn_together(x, rate_of)
        slow.forward = forward
        assert list(record["layers"]) == ["conv1", "conv2", "fc3"]
        for name, told in record["layers"].items():
            old, new = before[f"{name}/weights"], slow.state[f"{name}/weights"]
            norms = [math.sqrt((w**2).sum()) for w in new]
            wins = [0] * len(new)
            for row in responses[name]:
                if row.max() > row.min():
                    wins[int(row.argmax())] += 1
            shares = [count / sum(wins) for count in wins if count]
            expected = {
                "change": math.sqrt(((new - old) ** 2).sum() / (old**2).sum()),
                "norm_mean": sum(norms) / len(norms),
                "norm_min": min(norms),
                "norm_max": max(norms),
                "dead": wins.count(0),
                "entropy": -sum(p * math.log2(p) for p in shares),
                "winners": sum(wins),
            }
            passes[name] = passes[name] * (record["step"] % 2 == 0) + np.array(wins)
            if record["step"] % 2 == 0 and name != "conv2":  # HPCA's units do not compete
                expected |= {"pass_dead": sum(passes[name] == 0), "pass_winners": sum(passes[name]), "units": len(new)}
            assert told == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_units_of_a_signed_rule_win_by_the_largest_magnitude():
    net = hebbcore.Network([hebbcore.Conv(4, 1, "signedwta", name="it")], (1, 3, 3), precision="float64")
    net["it"].weights[:] = np.array([[-1, 0, 0], [0, 1, 0], [0, 0, -1], [0.6, 0.6, 0.5]]).reshape(4, 1, 1, 3)
    records = []
    data = np.tile(np.eye(3)[None, None], (10, 1, 1, 1))  # each row wins by a unit of its own, the fourth never does
    hebbcore.fit(net, data, batch_size=10, learning_rate=1e-6, callback=records.append, log_seconds=0)
    (told,) = (record["layers"]["it"] for record in records if record["images"] == 10 and record["layers"]["it"])
    assert (told["dead"], told["winners"]) == (1, 30)
    assert told["entropy"] == pytest.approx(math.log2(3), abs=1e-5)


def test_a_single_unit_wins_what_it_answers_to():
    rows = np.array([[0.0], [2], [-1]])
    assert [winners.wins(rule, rows)[0] for rule in (hebbcore.KWTA(), hebbcore.SignedWTA())] == [2, 2]


@pytest.mark.filterwarnings("ignore:fit. . of 3 units of conv1 won none")
def test_at_most_1024_places_of_a_batch_are_looked_at():
    records = []
    net = hebbcore.Network([hebbcore.Conv(3, 1, "swta")], (5, 5, 2))
    hebbcore.fit(
        net, np.random.default_rng(0).random((80, 5, 5, 2)), batch_size=80, callback=records.append, log_seconds=0
    )
    assert [record["layers"]["conv1"]["winners"] for record in records] == [1000]  # every second of 2,000


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_without_a_clock_each_epoch_of_learning_is_told(mode, tmp_path):
    records = []
    hebbcore.fit(network(True), images(), mode=mode, callback=records.append, log_seconds=1e6, run=tmp_path, **OPTIONS)
    names = ["conv1", "conv2", "fc3"]
    layers = [names] * 2 if mode == "together" else [[name] for name in names for _ in range(2)]
    assert [list(record["layers"]) for record in records] == layers
    assert all(told["winners"] > 0 for record in records for told in record["layers"].values())
    assert all(told["change"] > 0 for record in records for told in record["layers"].values())
    assert diagnostics.lines(tmp_path / "metrics.jsonl") == records


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_metrics_tell_each_step_once(mode, tmp_path):
    records = []
    hebbcore.fit(
        network(True, "float32"), images(), mode=mode, callback=records.append, log_seconds=0, run=tmp_path, **OPTIONS
    )
    lines = diagnostics.lines(tmp_path / "metrics.jsonl")
    passes = 3 if mode == "together" else 9  # whitening, and 3 layers twice, 2 batch norms
    assert [line["step"] for line in lines] == list(range(1, 3 * passes + 1))
    ends = [line for line in lines if any("pass_dead" in layer for layer in line["layers"].values())]
    assert [line["step"] for line in ends] == ([6, 9] if mode == "together" else [6, 9, 24, 27])
    assert lines == records
    assert lines[-1]["seconds_left"] == 0


@pytest.mark.parametrize("kind", [list, tuple, "stream"])
def test_metrics_of_batches_tell_each_step_once(kind, tmp_path):
    data = images()
    assert len(data) % 4
    if kind == "stream":
        batches = loaders.ArrayStream(data, np.zeros(len(data), int), 4)
    else:
        batches = kind([data[:4], data[4:5], data[5:]])
    records, steps = [], len(batches)
    hebbcore.fit(network(), batches, epochs=2, callback=records.append, log_seconds=0, run=tmp_path)
    ends = [line["step"] for line in records if any("pass_dead" in layer for layer in line["layers"].values())]
    assert ends == [steps, 2 * steps]
    assert [line["step"] for line in records] == list(range(1, 2 * steps + 1))


@pytest.mark.parametrize("stop", [False, True])
def test_the_end_of_a_pass_whose_last_step_was_told_is_told_too(stop, tmp_path):
    data, records = images(), []

    class Uncounted:  # nobody knows how many batches there are
        def __iter__(self):
            return iter([data[:4], data[4:8], data[8:]])

    def callback(record):
        records.append(record)
        if stop and record["step"] == 3 and len(records) == 3:  # of the last step, before the pass ends
            os.kill(os.getpid(), signal.SIGTERM)

    def train():
        hebbcore.fit(network(), Uncounted(), epochs=2, callback=callback, log_seconds=0, run=tmp_path)

    if stop:
        with pytest.raises(KeyboardInterrupt):
            train()
        assert len(records) == 3
    train()
    assert [record["step"] for record in records] == [1, 2, 3, 3, 4, 5, 6, 6]
    for name in ("conv1", "fc3"):
        for first in (0, 4):
            told, end = [record["layers"][name] for record in records[first : first + 3]], records[first + 3]
            counted = sum(each["winners"] for each in told)
            assert end["layers"][name]["pass_winners"] == end["layers"][name]["winners"] == counted
            assert end["layers"][name]["pass_dead"] == end["layers"][name]["dead"]
    assert diagnostics.lines(tmp_path / "metrics.jsonl") == records


def test_a_training_that_was_stopped_at_the_end_of_a_layers_last_pass_warns_of_its_dead_units(tmp_path):
    data = np.random.default_rng(0).random((20, 8, 8, 2))

    def train(stop=None):
        net = hebbcore.Network([hebbcore.Conv(30, 8, "swta", name="a"), hebbcore.Conv(4, 1, name="b")])
        callback = (lambda record: os.kill(os.getpid(), signal.SIGTERM)) if stop else None
        hebbcore.fit(net, np.tile(data, (60, 1, 1, 1)), mode="layerwise", run=tmp_path, callback=callback)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            train(stop=True)
        train()
    assert "units of a won none" in str(told[0].message)


def test_the_progress_bar_says_what_is_learned_and_ends_full(capsys):
    hebbcore.fit(network(), images(), mode="layerwise", progress=True, statistics_images=7, **OPTIONS)
    text = capsys.readouterr().err
    assert "learning conv1" in text
    assert "74.0/74.0" in text  # 3 layers, 20 images each, and 7 for each batch norm
    assert "observing" in text
    hebbcore.fit(network(), images(), progress=True)
    assert "learning all layers: 100%" in capsys.readouterr().err
    hebbcore.fit(network(), images())
    assert capsys.readouterr() == ("", "")


def test_a_batch_norm_of_images_observes_bytes_as_it_reads_them():
    pictures = images(dtype=np.uint8)
    found = []
    for data in (pictures, pictures / np.float32(255)):
        net = hebbcore.Network([hebbcore.BatchNorm(), hebbcore.Conv(3, 2)], IMAGES[1:], device="cpu")
        found.append(arrays(hebbcore.fit(net, data, mode="layerwise")))
    assert_same(*found)
