"""fit: what it learns against the slow reference, from every kind of data, with caches, schedules and diagnostics."""

import json
import logging
import math
import threading

import numpy as np
import pytest
import reference
from fit_helpers import IMAGES, SlowNetwork, arrays, assert_near, assert_same, images, network, orders

import hebbcore
import loaders
from hebbcore import serialize
from hebbcore.layers import Learner
from hebbcore.training import diagnostics
from hebbcore.training.phases import factor

BATCHED = {"epochs": 2, "learning_rate": 0.1}  # for data that come in batches
IN_ORDER = {**BATCHED, "batch_size": 4, "shuffle": False}
OPTIONS = {**BATCHED, "batch_size": 4, "seed": 3}


def rate_of(layer, rate=0.1):
    return layer.learning_rate or rate


def batches_of(data, order, size=4):
    return [data[order[first : first + size]] for first in range(0, len(order), size)]


@pytest.fixture
def shards(tmp_path):
    """Return uint8 images and the folder of their shards, several small ones."""
    data = images(30, np.uint8)
    loaders.write_shards((data, np.arange(30) % 3), tmp_path / "shards", shard_bytes=1000)
    return data, tmp_path / "shards"


def stream_of(shards, **options):
    return loaders.ShardStream(shards[1], **{"batch_size": 7, "shuffle": True, "seed": 5, **options})


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


def test_a_failed_pass_of_observations_leaves_nothing_behind():
    class Stops:
        def __iter__(self):
            yield images(4, seed=9)
            raise RuntimeError("enough")

    net = network(whiten=True)
    with pytest.raises(RuntimeError, match="enough"):
        hebbcore.fit(net, Stops())
    assert_same(arrays(hebbcore.fit(net, images())), arrays(hebbcore.fit(network(whiten=True), images())))


# Data


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_batches_pairs_and_memory_maps_teach_what_an_array_teaches(tmp_path, mode):
    data = images(dtype=np.float32)
    expected = arrays(hebbcore.fit(network(), data, mode=mode, **IN_ORDER))
    np.save(tmp_path / "data.npy", data)
    batches = batches_of(data, np.arange(len(data)))
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r")
    assert_same(arrays(hebbcore.fit(network(), mapped, mode=mode, **IN_ORDER)), expected)
    for same in (batches, [(x, np.zeros(len(x))) for x in batches], tuple(batches)):
        assert_same(arrays(hebbcore.fit(network(), same, mode=mode, shuffle=False, **BATCHED)), expected)


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_a_stream_teaches_what_its_batches_teach_and_is_left_where_it_was(shards, mode):
    passes = 2 if mode == "together" else 8  # 3 layers twice, 2 batch norms once
    with stream_of(shards) as stream:
        epochs = [[x.copy() for x, _ in stream] for _ in range(passes)]

    class InTurn:
        """Another list of batches each time."""

        def __init__(self):
            self.turns = iter([epochs[0], *epochs])  # fit looks at the first batch before it begins

        def __len__(self):
            return len(epochs[0])

        def __iter__(self):
            return iter(next(self.turns))

    expected = arrays(hebbcore.fit(network(), InTurn(), mode=mode, **BATCHED))
    with stream_of(shards) as stream:
        before = stream.state()
        for _ in range(2):
            assert_same(arrays(hebbcore.fit(network(), stream, mode=mode, **BATCHED)), expected)
            assert stream.state() == before


def test_a_run_does_not_go_on_with_other_pixels(shards, tmp_path):
    with stream_of(shards) as stream:
        hebbcore.fit(network(), stream, run=tmp_path)
    with (
        stream_of(shards, dtype="float32") as stream,
        pytest.raises(ValueError, match=r"holds another training: data.dtype is 'float32' here and 'uint8' there"),
    ):
        hebbcore.fit(network(), stream, run=tmp_path)


def test_a_network_is_built_for_the_first_batch():
    net = hebbcore.Network([hebbcore.Dense(2)], device="cpu")
    hebbcore.fit(net, images().reshape(10, -1))
    assert net["fc1"].weights.shape == (2, 98)


def test_batches_of_changing_size_up_and_down():
    data, net = images(), network()
    slow = SlowNetwork(net)
    batches = [data[:1], data[1:6], data[6:8], data[8:]]
    for x in batches[1:]:
        slow.learn_together(x, rate_of)
    hebbcore.fit(net, batches[1:], **{**BATCHED, "epochs": 1})
    assert_near(arrays(net), slow.state, 1e-9)
    assert np.isfinite(hebbcore.fit(network(), batches, **BATCHED)["bn1"].variance).all()


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (iter([images()]), ValueError, "iterator"),
        ((x for x in [images()]), ValueError, "iterator"),
        ([], ValueError, "no batch"),
        (images()[:0], ValueError, "empty"),
        (images()[..., :1], ValueError, r"images must be \(n, 7, 7, 2\)"),
        ([images(), images()[:, 1:]], ValueError, r"images must be \(n, 7, 7, 2\)"),
        (list(images()), ValueError, r"got shape \(7, 7, 2\)\. Stack images into one array"),
        (3, TypeError, "data must be an array"),
        ([images().astype(complex)], TypeError, "complex"),
    ],
)
@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_data_that_do_not_do_are_refused(data, error, message, mode):
    with pytest.raises(error, match=message):
        hebbcore.fit(network(), data, mode=mode)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_nan_in_the_data_is_refused(bad, mode):
    data, net = images(), network()
    before = arrays(net)
    data[5, 2, 1, 0] = bad
    with pytest.raises(ValueError, match=r"data must be finite, but data\[5\]"):
        hebbcore.fit(net, data, mode=mode)
    assert_same(arrays(net), before)
    with pytest.raises(ValueError, match=r"data must be finite, but data\[1\]"):
        hebbcore.fit(net, batches_of(data, np.arange(10)), mode=mode)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be above 0"),
        ({"schedule": "lineal"}, ValueError, "Did you mean 'linear'"),
        ({"mode": "greedy"}, ValueError, "mode must be one of"),
        ({"cache": "ram"}, ValueError, "cache must be one of"),
        ({"cache_bytes": "many"}, ValueError, "cache_bytes must be bytes"),
        ({"log_seconds": -1}, ValueError, "log_seconds must be at least 0"),
        ({"checkpoint_minutes": 0}, ValueError, "checkpoint_minutes must be above 0"),
        ({"keep": 0}, ValueError, "keep must be at least 1"),
        ({"statistics_images": 0}, ValueError, "statistics_images must be at least 1"),
        ({"shuffle": 1}, TypeError, "shuffle must be true or false"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(options, error, message, tmp_path):
    with pytest.raises(error, match=f"fit: .*{message}|fit: {message}"):
        hebbcore.fit(network(), images(), run=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_learn_is_refused():
    with pytest.raises(TypeError, match="network must be a Network"):
        hebbcore.fit(hebbcore.Conv(2, 2), images())
    with pytest.raises(ValueError, match="nothing to learn"):
        hebbcore.fit(hebbcore.Network([hebbcore.Pool(2)]), images())


def test_a_stream_that_fails_says_so_and_leaves_no_thread(shards):
    class Fails:
        def __iter__(self):
            yield images(4)
            yield images(4)
            raise OSError("the disk is gone")

    before = set(threading.enumerate())
    for mode in ("together", "layerwise"):
        with pytest.raises(OSError, match="the disk is gone"):
            hebbcore.fit(network(), Fails(), mode=mode)

    def stop(record):
        raise RuntimeError("stop")

    with stream_of(shards) as stream, pytest.raises(RuntimeError, match="stop"):
        hebbcore.fit(network(), stream, callback=stop, log_seconds=0)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in left if name.startswith(("hebbcore-data", "loaders"))]


def test_damaged_shards_are_an_error_of_the_training(shards):
    path = sorted(shards[1].glob("*.h5"))[-1]
    content = bytearray(path.read_bytes())
    at = content.index(shards[0][-1].tobytes()[:20])
    content[at] ^= 1
    path.write_bytes(content)
    with stream_of(shards) as stream, pytest.raises(ValueError, match=path.name):
        hebbcore.fit(network(), stream, epochs=2)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_no_checkpoint_holds_weights_that_diverged(tmp_path):
    net = hebbcore.Network([hebbcore.Dense(4, hebbcore.HPCA("identity"))], (98,))
    data = images(200).reshape(200, -1)
    with pytest.raises(FloatingPointError, match=r"weights of fc1 (diverge|became NaN).* lower its learning rate"):
        hebbcore.fit(net, data, learning_rate=1e6, batch_size=2, run=tmp_path, checkpoint_minutes=1e-9, keep=2)
    found = sorted((tmp_path / "checkpoints").glob("*.h5"))
    assert found
    for path in found:
        assert np.abs(hebbcore.load(path)["fc1"].weights).max() < 1e4


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_weights_that_diverge_are_an_error(mode):
    def made():
        return hebbcore.Network([hebbcore.Dense(4, hebbcore.HPCA("identity"), name="first"), hebbcore.Dense(2)], (98,))

    data, options = images(40).reshape(40, -1), {"learning_rate": 1e6, "batch_size": 2, "mode": mode}
    with pytest.raises(FloatingPointError, match=r"weights of first diverge: a unit's norm is .* after step 1; lower"):
        hebbcore.fit(made(), data, epochs=3, **options)
    records = []
    net = hebbcore.fit(made(), data, check_finite=False, log_seconds=0, callback=records.append, **options)
    assert not np.isfinite(net["first"].weights).all()
    assert records[-1]["layers"][net.names[-1] if mode == "layerwise" else "first"]["change"] is None
    json.dumps(records, allow_nan=False)


# Caches


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("whiten", [False, True])
def test_a_cache_changes_the_time_only(precision, whiten, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"mode": "layerwise", **OPTIONS}
    expected = arrays(hebbcore.fit(network(whiten, precision), images(), **options))
    for cache in ("memory", "disk"):
        net = hebbcore.fit(network(whiten, precision), images(), cache=cache, **options)
        assert_near(arrays(net), expected, 1e-12 if precision == "float64" else 2e-4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"subset": 17, "subset_seed": 2}, {"shuffle_buffer": 900}])
def test_a_cache_of_a_stream(shards, options, tmp_path):
    settings = {"mode": "layerwise", **BATCHED}
    with stream_of(shards, **options) as stream:
        expected = arrays(hebbcore.fit(network(), stream, **settings))
        for cache in ("memory", "disk"):
            net = hebbcore.fit(network(), stream, cache=cache, run=tmp_path / cache, **settings)
            assert_near(arrays(net), expected, 1e-12)
            assert sorted(path.name for path in (tmp_path / cache).iterdir()) == [
                "checkpoints",
                "config.json",
                "metrics.jsonl",
            ]


def test_finished_layers_are_computed_once_with_a_cache(monkeypatch):
    count, run = 0, hebbcore.Conv.forward

    def counted(self, x, out, training):
        nonlocal count
        count += len(x)
        run(self, x, out, training)

    monkeypatch.setattr(hebbcore.Conv, "forward", counted)
    hebbcore.fit(network(), images(), mode="layerwise", cache="memory", epochs=5)
    assert count == 2 * 20  # each convolution once for each of 10 images, and again to look at the trained features


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_outputs_too_large_for_the_cache_are_computed_again(cache, caplog, tmp_path):
    options = {"mode": "layerwise", **OPTIONS}
    expected = arrays(hebbcore.fit(network(), images(), **options))
    # 10 images, float64: pool1 and bn1 put out 9 × 4 numbers, conv2 and those after it 4 × 3
    for size, too_large in ((2880, []), (2879, ["bn1", "conv2"]), (959, ["bn1", "conv2", "bn2", "fc3"])):
        caplog.clear()
        net = network()
        with caplog.at_level(logging.WARNING, "hebbcore"):
            hebbcore.fit(net, images(), cache=cache, cache_bytes=size, run=tmp_path / str(size), **options)
        assert_near(arrays(net), expected, 1e-12)
        said = [record.message.split(",")[0] for record in caplog.records]
        bytes_of = {"bn1": "2.9 KiB", "conv2": "2.9 KiB", "bn2": "960 B", "fc3": "960 B"}
        assert said == [f"fit: the inputs of {name} take {bytes_of[name]}" for name in too_large]


def test_a_cache_needs_data_known_by_their_number(shards):
    with pytest.raises(ValueError, match="fit: cache needs data"):
        hebbcore.fit(network(), [images()], mode="layerwise", cache="memory")
    for options in ({"drop_last": True}, {"part": (0, 2)}, {"on_error": "skip"}):
        with stream_of(shards, **options) as stream, pytest.raises(ValueError, match="fit: cache needs data"):
            hebbcore.fit(network(), stream, mode="layerwise", cache="memory")
    with stream_of(shards) as stream:
        stream.restore({**stream.state(), "batch": 1})  # the first epoch lacks a batch
        with pytest.raises(ValueError, match="fit: cache needs data"):
            hebbcore.fit(network(), stream, mode="layerwise", cache="memory")


def test_an_error_while_a_cache_is_filled_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, seen = images(), []

    def fail(self, first, outputs):
        seen.append(list(tmp_path.iterdir()))
        raise RuntimeError("in the middle")

    monkeypatch.setattr("hebbcore.training.cache.CachedBatches.fill", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        hebbcore.fit(network(), data, mode="layerwise", cache="disk")
    assert seen == [[]]
    assert not list(tmp_path.iterdir())


def test_a_disk_too_full_for_the_cache_is_an_error(tmp_path, monkeypatch):
    def full(descriptor, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        hebbcore.fit(network(), images(), mode="layerwise", cache="disk", run=tmp_path)


# Telling


def test_records_hold_what_a_slow_count_finds():
    data, net, records = images(6), network(), []
    slow, order = SlowNetwork(net), orders(6)
    hebbcore.fit(net, data, epochs=2, batch_size=3, learning_rate=0.1, log_seconds=0, callback=records.append)
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert [record["images"] for record in records] == [3, 6, 9, 12]
    assert [record["epoch"] for record in records] == [0, 0, 1, 1]
    for record, x in zip(records, [x for _ in range(2) for x in batches_of(data, next(order), 3)], strict=True):
        assert record["phase"] == 0
        assert 0 < record["seconds"] < 60
        assert record["images_per_second"] > 0
        assert record["seconds_left"] == pytest.approx((12 - record["images"]) / record["images_per_second"], abs=0.06)
        before, outputs = {**slow.state}, {}
        forward = slow.forward

        def noted(i, *arguments, forward=forward, outputs=outputs):
            outputs[slow.names[i]] = forward(i, *arguments)
            return outputs[slow.names[i]]

        slow.forward = noted
        slow.learn_together(x, rate_of)
        slow.forward = forward
        assert list(record["layers"]) == ["conv1", "conv2", "fc3"]
        for name, told in record["layers"].items():
            old, new = before[f"{name}/weights"], slow.state[f"{name}/weights"]
            norms = [math.sqrt((w**2).sum()) for w in new]
            wins = [0] * len(new)
            for row in outputs[name].reshape(-1, len(new)):
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
    assert lines == records
    assert lines[-1]["seconds_left"] == 0


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
