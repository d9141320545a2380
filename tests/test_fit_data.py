"""fit learns from every kind of data alike, with and without a cache, and refuses what does not do."""

import itertools
import json
import logging
import threading

import numpy as np
import pytest
from fit_helpers import (
    BATCHED,
    IN_ORDER,
    OPTIONS,
    SlowNetwork,
    arrays,
    assert_near,
    assert_same,
    batches_of,
    images,
    network,
    rate_of,
)

import hebbcore
import loaders
from hebbcore.layers.chain import Chain
from hebbcore.layers.learner import Learner
from hebbcore.training import steps


@pytest.fixture
def shards(tmp_path):
    """Return uint8 images and the folder of their shards, several small ones."""
    data = images(30, np.uint8)
    loaders.write_shards((data, np.arange(30) % 3), tmp_path / "shards", shard_bytes=1000)
    return data, tmp_path / "shards"


def stream_of(shards, **options):
    seed = {"seed": 5} if options.get("shuffle", True) else {}
    return loaders.ShardStream(shards[1], **{"batch_size": 7, "shuffle": True, **seed, **options})


# Data


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_batches_pairs_and_memory_maps_teach_what_an_array_teaches(tmp_path, mode):
    data = images(dtype=np.float32)
    expected = arrays(hebbcore.fit(network(), data, mode=mode, **IN_ORDER))
    np.save(tmp_path / "data.npy", data)
    batches = batches_of(data, np.arange(len(data)))
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r")
    assert_same(arrays(hebbcore.fit(network(), mapped, mode=mode, **IN_ORDER)), expected)
    lists = [[x, np.zeros(len(x))] for x in batches], [[x] for x in batches]  # as PyTorch's DataLoader gives them
    for same in (batches, [(x, np.zeros(len(x))) for x in batches], tuple(batches), *lists):
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


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_schedules_go_by_the_images_of_an_epoch_not_by_those_of_the_first_batch(shards, mode):
    data, options = shards[0], {**BATCHED, "schedule": "linear", "mode": mode}
    batches = batches_of(data, np.arange(len(data)))
    assert len(batches[-1]) < len(batches[0])
    expected = arrays(hebbcore.fit(network(), data, **{**IN_ORDER, **options}))
    assert_same(arrays(hebbcore.fit(network(), batches, **options)), expected)
    labels, size = np.arange(len(data)) % 3, len(batches[0])
    assert_same(arrays(hebbcore.fit(network(), loaders.ArrayStream(data, labels, size), **options)), expected)
    skips = {"shuffle": False, "on_error": "skip", "batch_size": size}  # a stream that does not tell its order
    with stream_of(shards, **skips) as stream:
        assert stream.order(0) is None
        assert_same(arrays(hebbcore.fit(network(), stream, **options)), expected)


def test_a_small_first_batch_does_not_end_a_schedule_early(monkeypatch):
    data, done, factor = images(), [], steps.factor
    monkeypatch.setattr(steps, "factor", lambda *given: done.append(given[-1]) or factor(*given))
    cuts = [0, 1, 6, 8, len(data)]
    batches = [data[first:end] for first, end in itertools.pairwise(cuts)]
    hebbcore.fit(network(), batches, **{**BATCHED, "schedule": "linear", "epochs": 1})
    assert done == [first / len(data) for first in cuts[:-1]]


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_a_schedule_ends_with_a_training_whose_stream_is_within_an_epoch(mode, epochs, monkeypatch):
    done, factor, records = [], steps.factor, []
    monkeypatch.setattr(steps, "factor", lambda *given: done.append(given[-1]) or factor(*given))
    data, labels = np.repeat(images(), 3, axis=0), np.zeros(3 * len(images()), int)
    stream = loaders.ArrayStream(data, labels, 3)
    stream.restore({**stream.state(), "batch": 4})
    options = {"mode": mode, "schedule": "linear", "epochs": epochs, "callback": records.append, "log_seconds": 0}
    hebbcore.fit(hebbcore.Network([hebbcore.Conv(4, 3, "kwta")]), stream, **options)
    total = epochs * len(data) - 4 * 3
    assert done == pytest.approx(np.arange(0, total, 3) / total)
    assert records[-1]["images"] == total


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


def test_no_checkpoint_holds_weights_that_diverged(tmp_path):
    net = hebbcore.Network([hebbcore.Dense(4, hebbcore.HPCA("identity"))], (98,))
    data = images(200).reshape(200, -1)
    with pytest.raises(FloatingPointError, match=r"weights of fc1 (diverge|became NaN).* lower its learning rate"):
        hebbcore.fit(net, data, learning_rate=1e6, batch_size=2, run=tmp_path, checkpoint_minutes=1e-9, keep=2)
    found = sorted((tmp_path / "checkpoints").glob("*.h5"))
    assert found
    for path in found:
        assert np.abs(hebbcore.load(path)["fc1"].weights).max() < 1e4


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_weights_that_diverge_are_an_error(mode):
    def made():
        return hebbcore.Network([hebbcore.Dense(4, hebbcore.HPCA("identity"), name="first"), hebbcore.Dense(2)], (98,))

    data, options = images(40).reshape(40, -1), {"learning_rate": 1e6, "batch_size": 2, "mode": mode}
    with pytest.raises(FloatingPointError, match=r"weights of first diverge: a unit's norm is .* after step 1; lower"):
        hebbcore.fit(made(), data, epochs=3, **options)
    records = []
    with pytest.raises(RuntimeWarning, match="encountered"):  # which nobody looks at but NumPy
        hebbcore.fit(made(), data, check_finite=False, **options)
    with np.errstate(over="ignore", invalid="ignore"):
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
    count = 0

    def counted(run):
        def counting(self, x, *rest):
            nonlocal count
            count += len(x) if isinstance(getattr(self, "_head", self), hebbcore.Conv) else 0
            run(self, x, *rest)

        return counting

    monkeypatch.setattr(Learner, "forward", counted(Learner.forward))
    monkeypatch.setattr(Chain, "forward", counted(Chain.forward))  # a convolution and what follows it
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

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        hebbcore.fit(network(), images(), mode="layerwise", cache="disk", run=tmp_path)
