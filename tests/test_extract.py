"""Features into a file: the network's own numbers, and what is refused."""

import json

import h5py
import numpy as np
import pytest
from extract_helpers import COUNT, contents, names, stop_after
from loaders_helpers import make_arrays

import hebbcore
import loaders
from hebbcore import streams
from hebbcore.features import extract
from hebbcore.features.choice import pool_to_grid, require_views
from hebbcore.features.extract import extract_features

pytest_plugins = "extract_helpers"


@pytest.mark.parametrize("layer", [None, "conv1", "pool1", "bn1", "fc2", "triangle2"])
def test_features_are_those_of_transform(network, data, stream, tmp_path, layer):
    path = extract_features(network, stream, tmp_path / "f.h5", layer=layer)
    features, labels, attributes = contents(path)
    expected = np.concatenate([network.transform(data[0][i : i + 8], layer) for i in range(0, COUNT, 8)])
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_array_equal(labels, data[1])
    assert (features.dtype, labels.dtype) == (np.float32, np.int64)
    settings = json.loads(attributes["settings"])
    assert settings["layer"] == (layer or "triangle2")
    assert settings["shape"] == list(features.shape[1:])
    assert settings["images"] == COUNT
    assert names(tmp_path) == ["f.h5"]


def test_shards_give_what_arrays_give(network, data, stream, tmp_path):
    loaders.write_shards(data, tmp_path / "shards", shard_bytes=4000)
    shards = loaders.ShardStream(tmp_path / "shards", batch_size=8)
    assert shards.images == stream.images == COUNT
    assert shards.image_shape == stream.image_shape == (8, 10, 3)
    ours = contents(extract_features(network, shards, tmp_path / "a.h5", layer="bn1"))
    theirs = contents(extract_features(network, stream, tmp_path / "b.h5", layer="bn1"))
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


@pytest.mark.parametrize(
    ("options", "images"), [({}, 50), ({"drop_last": True}, 48), ({"part": (1, 3)}, 17), ({"subset": 11}, 11)]
)
def test_a_stream_knows_its_images(data, tmp_path, options, images):
    loaders.write_shards(data, tmp_path)
    stream = loaders.ShardStream(tmp_path, batch_size=8, **options)
    assert stream.images == images == sum(len(labels) for _, labels in stream)


def test_float16_halves_the_file(network, data, stream, tmp_path):
    features, _, _ = contents(extract_features(network, stream, tmp_path / "f.h5", dtype="float16"))
    assert features.dtype == np.float16
    expected = np.concatenate([network.transform(data[0][i : i + 8]) for i in range(0, COUNT, 8)])
    np.testing.assert_array_equal(features, expected.astype(np.float16))


def test_what_does_not_fit_float16_is_told(stream, tmp_path):
    network = hebbcore.Network([hebbcore.Conv(3, 3, name="huge")], (8, 10, 3), device="cpu")
    network["huge"].weights *= 1e9
    with pytest.raises(OverflowError, match=r'extract: a feature of huge does not fit float16; use dtype="float32"'):
        extract_features(network, stream, tmp_path / "f.h5", dtype="float16")
    assert names(tmp_path) == []
    assert contents(extract_features(network, stream, tmp_path / "f.h5"))[0].max() > 65504


def test_what_does_not_fit_float32_is_told(stream, tmp_path):
    """Features of a network of float64 became infinite in the file."""
    layers = [hebbcore.Conv(3, 3), hebbcore.Power(6, name="huge")]
    network = hebbcore.Network(layers, (8, 10, 3), device="cpu", precision="float64")
    network["conv1"].weights *= 1e9
    with pytest.raises(OverflowError, match=r"extract: a feature of huge does not fit float32; scale the data\."):
        extract_features(network, stream, tmp_path / "f.h5")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("few", "told"), [(49, True), (1, True), (0, False)])
def test_what_float16_rounds_to_nothing_is_told(data, tmp_path, caplog, few, told):
    network = hebbcore.Network([hebbcore.Pool(2, kind="average", name="mean")], (8, 10, 3), device="cpu")
    images = data[0].astype(np.float32)
    images[1 : 1 + few] *= 1e-10
    images[0] = 0  # which float16 keeps
    stream = loaders.ArrayStream(images, data[1], batch_size=8)
    for dtype in extract.DTYPES:
        extract_features(network, stream, tmp_path / f"{dtype}.h5", dtype=dtype)
        assert ("extract: the features of" in caplog.text) == (told and dtype == "float16")
    assert f"{few} of {COUNT} images are all below 3e-06" in caplog.text or not told


@pytest.mark.parametrize("dtype", extract.DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("image", "left"), [(3, []), (30, ["f.h5.partial", "f.h5.progress"])])
def test_nan_and_infinity_are_told(data, tmp_path, value, image, left, dtype):
    network = hebbcore.Network([hebbcore.Pool(2, kind="average", name="mean")], (8, 10, 3), device="cpu")
    images = data[0].astype(np.float32)
    images[image, 4, 4, 1] = value
    images[image - 1, 4, 4, 1] = 1e6  # which float16 cannot hold
    stream = loaders.ArrayStream(images, data[1], batch_size=8)
    with pytest.raises(FloatingPointError, match=rf"extract: mean made NaN or infinity of image {image} \(counted"):
        extract_features(network, stream, tmp_path / "f.h5", dtype=dtype)
    assert names(tmp_path) == left
    stream = loaders.ArrayStream(images, data[1], 8, [f"a/{i}.png" for i in range(len(images))])
    with pytest.raises(FloatingPointError, match=rf"extract: mean made NaN or infinity of image a/{image}\.png; clean"):
        extract_features(network, stream, tmp_path / "named.h5", dtype=dtype)


def test_a_shuffled_stream_is_refused(network, data, tmp_path):
    loaders.write_shards(data, tmp_path / "shards", shard_bytes=4000)
    stream = loaders.ShardStream(tmp_path / "shards", shuffle=True)
    with pytest.raises(ValueError, match=r"extract: stream must be in its stored order, .* shuffle=False"):
        extract_features(network, stream, tmp_path / "f.h5")
    assert names(tmp_path) == ["shards"]


def slow_grid(images, cells):
    count, height, width, channels = images.shape
    out = np.zeros((count, cells, cells, channels))
    for n in range(count):
        for i in range(cells):
            for j in range(cells):
                rows = range(height * i // cells, height * (i + 1) // cells)
                columns = range(width * j // cells, width * (j + 1) // cells)
                total = sum(images[n, y, x].astype(np.float64) for y in rows for x in columns)
                out[n, i, j] = total / (len(rows) * len(columns))
    return out


@pytest.mark.parametrize(("height", "width", "cells"), [(6, 8, 1), (6, 8, 2), (7, 5, 3), (5, 5, 5), (9, 4, 4)])
def test_the_grid_matches_slow_loops(generator, height, width, cells):
    images = generator.normal(size=(3, height, width, 2)).astype(np.float32)
    np.testing.assert_allclose(pool_to_grid(images, cells), slow_grid(images, cells), rtol=1e-5, atol=1e-6)


def test_pooled_features(network, data, stream, tmp_path):
    path = extract_features(network, stream, tmp_path / "f.h5", layer="conv1", pool=4)
    features = contents(path)[0]
    assert features.shape == (COUNT, 4, 4, 6)
    np.testing.assert_allclose(features, slow_grid(network.transform(data[0], "conv1"), 4), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", [None, 2])
def test_mirrored_features(network, data, stream, tmp_path, pool):
    path = extract_features(network, stream, tmp_path / "f.h5", layer="pool1", pool=pool, mirror=True)
    both = [network.transform(images, "pool1") for images in (data[0], data[0][:, :, ::-1].copy())]
    expected = (both[0] + both[1]) / 2
    expected = expected if pool is None else slow_grid(expected, pool)
    np.testing.assert_allclose(contents(path)[0], expected, rtol=1e-5, atol=1e-6)


def slow_views(images, shifts):
    """Return images, and what is seen of each through a frame that is moved, over its outermost pixels repeated."""
    sides, padded = images.shape[1:3], np.pad(images, ((0, 0), (shifts, shifts), (shifts, shifts), (0, 0)), "edge")
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return [np.ascontiguousarray(padded[:, y * shifts :, x * shifts :][:, : sides[0], : sides[1]]) for y, x in corners]


@pytest.mark.parametrize("pool", [None, 2])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shifts", [1, 3])
def test_shifted_features(network, data, stream, tmp_path, pool, mirror, shifts):
    path = extract_features(network, stream, tmp_path / "f.h5", layer="pool1", pool=pool, mirror=mirror, shifts=shifts)
    views = slow_views(data[0], shifts)
    np.testing.assert_array_equal(views[0], data[0])
    if mirror:
        views += [view[:, :, ::-1].copy() for view in views]
    expected = np.mean([network.transform(view, "pool1") for view in views], axis=0)
    expected = expected if pool is None else slow_grid(expected, pool)
    found, _, attributes = contents(path)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert json.loads(attributes["settings"])["shifts"] == shifts


def test_files_without_shifts_are_as_they_were(network, stream, tmp_path):
    path = extract_features(network, stream, tmp_path / "f.h5")
    assert "shifts" not in json.loads(contents(path)[2]["settings"])


@pytest.mark.parametrize("shifts", [8, -1])
def test_shifts_beyond_the_images_are_refused(network, stream, tmp_path, shifts):
    with pytest.raises(ValueError, match=r"extract: shifts must be "):
        extract_features(network, stream, tmp_path / "f.h5", shifts=shifts)
    vectors = hebbcore.Network([hebbcore.Dense(3)], (5,), device="cpu")
    with pytest.raises(ValueError, match=r"evaluate: shifts must be 0, or below .* got 1 for images of \(5,\)"):
        require_views("evaluate", vectors, False, 1)


def test_progress_counts_images(network, stream, tmp_path):
    seen = []
    extract_features(network, stream, tmp_path / "new" / "folder" / "f.h5", progress=seen.append)
    assert seen == [0, 8, 16, 24, 32, 40, 48, 50]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "conv2"}, r"extract: layer must be one of 'conv1', .*; got 'conv2'. Did you mean 'conv1'\?"),
        ({"layer": 1}, r"extract: layer must be one of"),
        ({"dtype": "float8"}, r"extract: dtype must be one of 'float32', 'float16'; got 'float8'"),
        (
            {"layer": "conv1", "pool": 7},
            r"extract: pool must be at most the sides of conv1's output \(6, 8, 6\), got 7",
        ),
        ({"layer": "fc2", "pool": 1}, r"extract: pool must be at most the sides of fc2's output \(7,\), got 1"),
        ({"layer": "conv1", "pool": 0}, r"extract: pool must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(network, stream, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        extract_features(network, stream, tmp_path / "f.h5", **options)
    assert names(tmp_path) == []


def test_images_of_another_shape_leave_nothing_behind(network, tmp_path):
    stream = loaders.ArrayStream(*make_arrays(5, 8, 9))
    with pytest.raises(ValueError, match=r"extract: images must be \(8, 10, 3\), as the network .*, got \(8, 9, 3\)"):
        extract_features(network, stream, tmp_path / "f.h5")
    assert names(tmp_path) == []


def test_images_that_cannot_be_read_leave_nothing_behind(network, tmp_path):
    images, labels = make_arrays(5)
    with pytest.raises(TypeError, match=r"transform: images must be uint8 .* got int64"):
        extract_features(network, loaders.ArrayStream(images.astype(np.int64), labels), tmp_path / "f.h5")
    assert names(tmp_path) == []


def test_a_finished_file_is_kept(network, stream, tmp_path):
    path = extract_features(network, stream, tmp_path / "f.h5")
    before = path.stat().st_mtime_ns
    (tmp_path / "f.h5.progress").write_text("{}")  # as a kill after the last rename leaves it
    seen = []
    assert extract_features(network, stream, path, progress=seen.append) == path
    assert seen == []
    assert path.stat().st_mtime_ns == before
    assert names(tmp_path) == ["f.h5"]


def test_the_space_on_the_disk_is_taken_at_once(network, stream, tmp_path):
    stop_after(network, stream, tmp_path / "f.h5", 1, layer="conv1")
    taken = (tmp_path / "f.h5.partial").stat()
    assert taken.st_blocks * 512 >= taken.st_size > COUNT * 6 * 8 * 6 * 4


class Endless:
    """Many images without holding them."""

    image_shape = (8, 10, 3)

    def __init__(self, images):
        self.images, self.first = images, 0
        self.batch = np.zeros((64, 8, 10, 3), np.uint8)

    def state(self):
        return {"endless": True, "epoch": 0, "batch": self.first}

    def restore(self, state):
        self.first = state["batch"]

    def __iter__(self):
        for start in range(self.first * 64, self.images, 64):
            count = min(64, self.images - start)
            yield self.batch[:count], np.arange(start, start + count)


def test_memory_does_not_grow_with_the_images(network, tmp_path):
    import tracemalloc

    peaks = []
    for images in (640, 6400):
        tracemalloc.start()
        extract_features(network, Endless(images), tmp_path / f"{images}.h5", layer="conv1")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = (tmp_path / "6400.h5").stat().st_size
    assert size > 6400 * 6 * 8 * 6 * 4
    assert peaks[1] < peaks[0] + size / 10
    assert (contents(tmp_path / "6400.h5")[1] == np.arange(6400)).all()


def test_a_stream_of_fewer_images_than_it_says_is_refused(network, tmp_path):
    class Short(Endless):
        def __iter__(self):
            yield from list(super().__iter__())[:-1]

    with pytest.raises(ValueError, match=r"extract: the stream gave 64 images instead of 100"):
        extract_features(network, Short(100), tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.parametrize("kind", [list, np.array])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_names_of_images_and_classes_of_any_kind(network, data, tmp_path, kind, as_bytes):
    """As h5py has them, bytes, and in arrays."""
    known = {"names": [f"ä{number}" for number in range(COUNT)], "class_names": ["cat", "dög"]}
    stream = loaders.ArrayStream(data[0], np.arange(COUNT) % 2, batch_size=8)
    given = {name: kind([text.encode() if as_bytes else text for text in texts]) for name, texts in known.items()}
    path = extract_features(network, Told(stream, **given), tmp_path / "f.h5")
    with h5py.File(path) as file:
        assert [list(file[name].asstr()) for name in ("names", "classes")] == list(known.values())
    extract_features(network, Told(stream, **given), path)
    assert streams.image_at(Told(stream, **given), 3) == "image ä3"


class Told:
    """A stream that says more than another does."""

    def __init__(self, stream, **known):
        vars(self).update(known)
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __iter__(self):
        return iter(self._stream)


@pytest.mark.parametrize("label", [np.inf, 1e300, np.uint64(2**64 - 1)])
def test_labels_that_would_wrap_are_refused(network, data, tmp_path, label):
    class Labelled(Told):
        def __iter__(self):
            return ((images, np.full(len(images), label)) for images, _ in self._stream)

    stream = loaders.ArrayStream(*data, batch_size=8)
    with pytest.raises(ValueError, match=r"^extract: labels must be below 2\*\*63, got "):
        extract_features(network, Labelled(stream), tmp_path / "f.h5")
    assert names(tmp_path) == []
