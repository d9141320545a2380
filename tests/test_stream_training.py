"""Training from shards is training from the same batches in memory, and from a stream that knows their number alone."""

import re

import numpy as np
import pytest
from fit_helpers import images

import hebbcore
import loaders
from hebbcore.evaluation.evaluate import evaluate
from hebbcore.training import steps


def test_a_layer_learns_from_a_stream_what_it_learns_from_its_batches(tmp_path, capsys):
    generator = np.random.default_rng(0)
    pixels, labels = generator.integers(0, 256, (50, 10, 9, 3), np.uint8), generator.integers(0, 4, 50)
    loaders.write_shards((pixels, labels), tmp_path / "shards", shard_bytes=4000)
    options = {"batch_size": 16, "shuffle": True, "seed": 3}
    with loaders.ShardStream(tmp_path / "shards", **options) as stream:
        batches = [batch.copy() for _ in range(2) for batch, _ in stream]
    settings = {"units": 6, "kernel_size": 3, "rule": "swta", "learning_rate": 0.5}
    expected = hebbcore.train_layer(batches, **settings)
    with loaders.ShardStream(tmp_path / "shards", **options) as stream:
        begin = stream.state()
        layer = hebbcore.train_layer(stream, epochs=2, progress=True, **settings)
        assert stream.state() == begin
        np.testing.assert_array_equal(layer.weights, expected.weights)
        again = hebbcore.train_layer(stream, epochs=2, **settings)
        np.testing.assert_array_equal(again.weights, expected.weights)
        assert re.search(r"100/100 \[\d\d:\d\d<", capsys.readouterr().err)  # twice the 50 images: a time left
        stream.restore({**begin, "batch": 2})
        hebbcore.train_layer(stream, progress=True, **settings)
        assert re.search(r"18.0/18.0 \[\d\d:\d\d<", capsys.readouterr().err)  # what is left of the epoch


class Counted:
    """Batches of any sizes, of which only the number is known; it may begin within an epoch."""

    def __init__(self, batches, first):
        self.batches, self.epoch, self.batch = batches, 0, first

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        first, self.batch = self.batch, 0
        yield from self.batches[first:]
        self.epoch += 1

    def state(self):
        return {"epoch": self.epoch, "batch": self.batch}

    def restore(self, state):
        self.epoch, self.batch = state["epoch"], state["batch"]


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("mode", ["together", "layerwise"])
@pytest.mark.parametrize("sizes", [(1, 3, 2, 4), (4, 1, 1, 2)])
def test_a_schedule_goes_by_batches_where_images_are_not_known(sizes, mode, first, monkeypatch):
    """Whatever the size of the first batch, the rate falls to the end, and not long before."""
    done, factor = [], steps.factor
    monkeypatch.setattr(steps, "factor", lambda *given: done.append(given[-1]) or factor(*given))
    stream = Counted([images()[:size] for size in sizes], first)
    net = hebbcore.Network([hebbcore.Conv(4, 3, "kwta")], device="cpu")
    hebbcore.fit(net, stream, mode=mode, schedule="linear", epochs=2)
    assert done == pytest.approx(np.arange(8 - first) / (8 - first))


@pytest.mark.parametrize("layers", [[], [hebbcore.Whiten(3, epsilon=0.1)]])
def test_the_bar_ends_full_where_the_first_pass_has_fewer_images_than_are_looked_at(layers, capsys):
    stream = loaders.ArrayStream(images(30), np.zeros(30, int), 8)
    stream.restore({**stream.state(), "batch": 2})
    net = hebbcore.Network([*layers, hebbcore.Conv(4, 3, "kwta")], device="cpu")
    hebbcore.fit(net, stream, mode="layerwise", sample=50, statistics_images=20, epochs=2, progress=True)
    assert ("74.0/74.0" if layers else "42.0/42.0") in capsys.readouterr().err  # 14 and thrice 20; or thrice 14


class Says:
    """Batches of a list that says how many images an epoch has, or how many batches."""

    def __init__(self, batches, **said):
        self.batches, self.said = batches, said
        if "images" in said:
            self.images = said["images"]

    def __iter__(self):
        return iter(self.batches)


class SaysLength(Says):
    def __len__(self):
        return self.said["length"]


@pytest.mark.parametrize("mode", ["together", "layerwise"])
@pytest.mark.parametrize(
    ("kind", "said", "told"), [(Says, {"images": 12}, 12), (Says, {"images": 0}, 0), (SaysLength, {"length": 3}, 12)]
)
def test_data_that_give_more_than_they_say_end_a_schedule_early_with_a_warning(kind, said, told, mode):
    data = kind([images()[:4]] * 5, **said)
    net = hebbcore.Network([hebbcore.Conv(4, 3, "kwta")], device="cpu")
    with pytest.warns(UserWarning, match=f"{told} images until here, but 20 came: schedule='linear' ends") as caught:
        hebbcore.fit(net, data, mode=mode, schedule="linear", epochs=2)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("kind", [Says, SaysLength])
def test_data_that_say_what_they_give_are_not_warned_of(kind):
    data = kind([images()[:4]] * 5, images=20, length=5)
    for schedule in ("linear", "constant"):
        net = hebbcore.Network([hebbcore.Conv(4, 3, "kwta")], device="cpu")
        hebbcore.fit(net, data, schedule=schedule, epochs=2)
    hebbcore.fit(net, Says(data.batches, images=1), epochs=2)


class OneMemory:
    """Forty images in batches of 8 that lie in the same memory, one after the other, and so do their labels."""

    images, image_shape = 40, (6, 6, 1)

    def __init__(self, fresh):
        self.fresh, self.place = fresh, (0, 0)
        self.pixels = np.random.default_rng(0).random((40, 6, 6, 1), np.float32)

    def __iter__(self):
        memory, labels = np.empty((8, 6, 6, 1), np.float32), np.empty(8, np.int64)
        for batch in range(self.place[1], 5):
            memory[...], labels[...] = self.pixels[8 * batch : 8 * batch + 8], [batch % 2] * 8
            yield (memory.copy(), labels.copy()) if self.fresh else (memory, labels)

    def state(self):
        return {"memory": 1, "epoch": self.place[0], "batch": self.place[1]}

    def restore(self, state):
        self.place = state["epoch"], state["batch"]


@pytest.mark.parametrize("options", [{}, {"mode": "layerwise"}, {"mode": "layerwise", "sample": 200}])
def test_batches_may_lie_in_the_same_memory(options):
    """The next one was read into it while this one was learned."""
    found = []
    for fresh in (True, False):
        net = hebbcore.Network([hebbcore.Conv(3, 3), hebbcore.BatchNorm()], device="cpu")
        hebbcore.fit(net, OneMemory(fresh), epochs=2, **options)
        found.append([*net["conv1"].weights.ravel(), *net["bn1"].mean])
    np.testing.assert_array_equal(*found)


def test_a_start_from_patches_of_an_iterator_whose_batches_lie_in_the_same_memory():
    options = {"rule": "swta", "initial_weights": "patches", "device": "cpu"}
    layers = [hebbcore.train_layer(iter(OneMemory(fresh)), 100, 3, **options) for fresh in (True, False)]
    np.testing.assert_array_equal(*(layer.weights for layer in layers))


def test_labels_that_lie_in_the_same_memory_are_those_of_their_images(tmp_path):
    net = hebbcore.Network([hebbcore.Conv(3, 3)], (6, 6, 1), device="cpu")
    options = {"fractions": [1], "baselines": [], "queries": 0}
    found = [
        evaluate(net, OneMemory(fresh), OneMemory(fresh), tmp_path / str(fresh), **options) for fresh in (True, False)
    ]
    assert found[0] == found[1]
