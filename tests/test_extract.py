"""Features into a file: the network's own numbers, whatever interrupts the extraction."""

import json
import os
import signal
import time

import h5py
import numpy as np
import pytest
from loaders_helpers import make_arrays

import hebbcore
import loaders
from hebbcore import files
from hebbcore.features import extract
from hebbcore.features import storage as features
from hebbcore.features.choice import pool_to_grid
from hebbcore.features.extract import extract_features
from hebbcore.files import locked_file

COUNT = 50


@pytest.fixture(scope="module")
def network():
    layers = [
        hebbcore.Conv(6, 3), hebbcore.Pool(2), hebbcore.BatchNorm(), hebbcore.Dense(7, "swta"), hebbcore.Triangle()
    ]  # fmt: skip
    network = hebbcore.Network(layers, (8, 10, 3), seed=3, device="cpu")
    return hebbcore.fit(network, make_arrays(20)[0], batch_size=5, learning_rate=0.1)


@pytest.fixture(scope="module")
def data():
    return make_arrays(COUNT, seed=1)


@pytest.fixture
def stream(data):
    return loaders.ArrayStream(*data, batch_size=8)


def contents(path):
    with h5py.File(path) as file:
        return file["features"][...], file["labels"][...], dict(file.attrs)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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


def test_progress_counts_images(network, stream, tmp_path):
    seen = []
    extract_features(network, stream, tmp_path / "new" / "folder" / "f.h5", progress=seen.append)
    assert seen == [8, 16, 24, 32, 40, 48, 50]


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


def other_network(network):
    layers = [
        hebbcore.Conv(6, 3),
        hebbcore.Pool(2),
        hebbcore.BatchNorm(),
        hebbcore.Dense(7, "swta"),
        hebbcore.Triangle(),
    ]
    return hebbcore.Network(layers, (8, 10, 3), seed=4, device="cpu")


OTHERS = [
    ("layer", lambda network, data: (network, loaders.ArrayStream(*data, 8), {"layer": "bn1"})),
    ("dtype", lambda network, data: (network, loaders.ArrayStream(*data, 8), {"dtype": "float16"})),
    ("mirror", lambda network, data: (network, loaders.ArrayStream(*data, 8), {"mirror": True})),
    ("batches", lambda network, data: (network, loaders.ArrayStream(*data, 9), {})),
    ("labels", lambda network, data: (network, loaders.ArrayStream(data[0], data[1][::-1], 8), {})),
    ("images", lambda network, data: (network, loaders.ArrayStream(data[0][::-1], data[1], 8), {})),
    ("weights", lambda network, data: (other_network(network), loaders.ArrayStream(*data, 8), {})),
]


@pytest.mark.parametrize("change", [change for _, change in OTHERS], ids=[name for name, _ in OTHERS])
def test_other_settings_never_mix(network, data, stream, tmp_path, change):
    path = extract_features(network, stream, tmp_path / "f.h5")
    before = path.read_bytes()
    other, images, options = change(network, data)
    with pytest.raises(FileExistsError, match=r"f.h5 exists and holds something else; remove it or name another file"):
        extract_features(other, images, path, **options)
    assert path.read_bytes() == before
    stop_after(network, stream, tmp_path / "g.h5", 2)
    with pytest.raises(ValueError, match=r"g.h5.partial is of another extraction; finish that one, or remove it"):
        extract_features(other, images, tmp_path / "g.h5", **options)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"batch": 1}', '{"batch": null, "done": 8, "settings": {}}'])
def test_a_damaged_note_of_how_far_it_got_is_named(network, stream, tmp_path, text):
    stop_after(network, stream, tmp_path / "f.h5", 2)
    (tmp_path / "f.h5.progress").write_text(text)
    with pytest.raises(ValueError, match=r"f\.h5\.progress does not say how far .*f\.h5\.partial got .*; remove both"):
        extract_features(network, stream, tmp_path / "f.h5")


def test_other_pixels_never_mix(network, data, tmp_path):
    loaders.write_shards(data, tmp_path / "shards", shard_bytes=4000)
    options = [{}, {"dtype": "float32"}, {"dtype": "float32", "normalize": "stored"}]
    one, *others = [loaders.ShardStream(tmp_path / "shards", batch_size=8, **given) for given in options]
    path = extract_features(network, one, tmp_path / "f.h5")
    stop_after(network, one, tmp_path / "g.h5", 2)
    for other in others:
        with pytest.raises(FileExistsError, match="holds something else"):
            extract_features(network, other, path)
        with pytest.raises(ValueError, match=r"g.h5.partial is of another extraction"):
            extract_features(network, other, tmp_path / "g.h5")


@pytest.mark.parametrize("content", [b"", b"something", b"\x89HDF\r\n\x1a\n damaged"])
def test_files_of_others_are_never_overwritten(network, stream, tmp_path, content):
    (tmp_path / "f.h5").write_bytes(content)
    with pytest.raises(FileExistsError, match="holds something else"):
        extract_features(network, stream, tmp_path / "f.h5")
    assert (tmp_path / "f.h5").read_bytes() == content


class Stop(Exception):
    pass


def stop_after(network, stream, path, batches, **options):
    """Extract, and fail after so many batches."""
    seen = []

    def stop(done):
        seen.append(done)
        if len(seen) == batches:
            raise Stop

    with pytest.raises(Stop):
        extract_features(network, stream, path, progress=stop, **options)


@pytest.mark.parametrize("kind", ["arrays", "shards"])
def test_an_extraction_goes_on_where_it_was_noted(network, data, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)
    if kind == "shards":
        loaders.write_shards(data, tmp_path / "shards", shard_bytes=4000)

    def stream():
        if kind == "shards":
            return loaders.ShardStream(tmp_path / "shards", batch_size=8)
        return loaders.ArrayStream(*data, batch_size=8)

    whole = extract_features(network, stream(), tmp_path / "whole.h5").read_bytes()
    path = tmp_path / "f.h5"
    one = stream()
    stop_after(network, one, path, 5)
    assert not path.exists()
    note = json.loads((tmp_path / "f.h5.progress").read_text())
    assert (note["batch"], note["done"]) == (5, 40)
    seen = []
    extract_features(network, one, path, progress=seen.append)  # with the stream that was left in the middle
    assert seen == [48, 50]
    assert path.read_bytes() == whole
    assert not (tmp_path / "f.h5.progress").exists()
    path.unlink()
    stop_after(network, stream(), path, 3)
    extract_features(network, stream(), path)
    assert path.read_bytes() == whole


def test_what_an_earlier_version_began_goes_on(network, data, stream, tmp_path, monkeypatch, caplog):
    expected = contents(extract_features(network, stream, tmp_path / "new.h5"))
    path, partial = tmp_path / "f.h5", tmp_path / "f.h5.partial"
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)
    stop_after(network, stream, path, 3)
    note = json.loads((tmp_path / "f.h5.progress").read_text())
    del note["digest"]
    (tmp_path / "f.h5.progress").write_text(json.dumps(note))
    with h5py.File(partial) as file:
        arrays = {name: file[name][...] for name in ("features", "labels")}
    with h5py.File(partial, "w") as file:  # without a line before the HDF5
        for name, array in arrays.items():
            file[name] = array
        file.attrs["settings"] = json.dumps(note["settings"])
    seen = []
    found = contents(extract_features(network, stream, path, progress=seen.append))
    assert seen[0] == 32
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert not features.verify(path)
    extract_features(network, stream, path)
    assert "has no digest" in caplog.text


def test_an_old_note_does_not_speak_for_a_new_file(network, data, stream, tmp_path, monkeypatch):
    path = tmp_path / "f.h5"
    whole = extract_features(network, stream, path).read_bytes()
    settings = json.loads(contents(path)[2]["settings"])
    path.unlink()
    # a note that everything is done, and a kill in the moment after the new partial file was made
    (tmp_path / "f.h5.progress").write_text(json.dumps({"settings": settings, "batch": 7, "done": COUNT}))

    def killed(*arguments):
        raise Stop

    monkeypatch.setattr(features.Growing, "save", killed)
    monkeypatch.setattr(features.Growing, "drop", lambda self: None)
    with pytest.raises(Stop):
        extract_features(network, stream, path)
    monkeypatch.undo()
    extract_features(network, stream, path)
    assert path.read_bytes() == whole


def kill_at_a_random_moment(network, data, path, seconds):
    """Extract in a forked child, and kill it; returns whether it was still at work."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            extract._SAVE_SECONDS = 0
            slow = lambda done: time.sleep(0.002)  # noqa: E731
            extract_features(network, loaders.ArrayStream(*data, batch_size=8), path, layer="bn1", progress=slow)
            status = 0
        finally:
            os._exit(status)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kills_at_random_moments_leave_the_same_file(network, data, tmp_path, generator):
    stream = loaders.ArrayStream(*data, batch_size=8)
    whole = extract_features(network, stream, tmp_path / "whole.h5", layer="bn1").read_bytes()
    kills, in_the_middle = 0, 0
    for attempt in range(60):  # a busy machine needs more than twelve
        if attempt >= 12 and kills > 6 and in_the_middle > 2:
            break
        path = tmp_path / f"f{attempt}.h5"
        for _ in range(3):
            kills += kill_at_a_random_moment(network, data, path, generator.uniform(0, 0.03))
            note = path.with_name(f"{path.name}.progress")
            in_the_middle += note.exists() and 0 < json.loads(note.read_text())["done"] < COUNT
        extract_features(network, loaders.ArrayStream(*data, batch_size=8), path, layer="bn1")
        assert path.read_bytes() == whole
        assert not list(tmp_path.glob(f"f{attempt}.h5.*"))
    assert kills > 6
    assert in_the_middle > 2


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


def test_two_processes_do_not_extract_into_one_file(network, stream, tmp_path):
    path = tmp_path / "f.h5"
    held = locked_file(path, "extracting into")

    def other(done):
        with pytest.raises(BlockingIOError, match=r"another process is extracting into .*f.h5; wait for it or stop it"):
            extract_features(network, stream, path)
        extract_features(network, stream, tmp_path / "g.h5")  # another file of the folder
        assert names(tmp_path) == [".f.h5.lock", "f.h5.partial", "f.h5.progress", "g.h5"]
        raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            extract_features(network, stream, path, progress=other)
        assert names(tmp_path) == ["f.h5.partial", "f.h5.progress", "g.h5"]
    with held, pytest.raises(BlockingIOError, match="another process"):
        extract_features(network, stream, path)
    (tmp_path / ".f.h5.lock").touch()  # as a kill leaves it
    extract_features(network, stream, path)
    assert names(tmp_path) == ["f.h5", "g.h5"]


def test_a_lock_that_its_holder_removes_is_taken_anew(tmp_path, monkeypatch):
    path, flock, holders = tmp_path / "f.h5", files.fcntl.flock, []

    def late(descriptor, kind):
        holders.append(descriptor)
        if len(holders) == 1:  # the holder ends between the opening of its file and the locking
            (tmp_path / ".f.h5.lock").unlink()
        flock(descriptor, kind)

    monkeypatch.setattr(files.fcntl, "flock", late)
    with locked_file(path, "extracting into"):
        assert len(holders) == 2
        with pytest.raises(BlockingIOError), locked_file(path, "extracting into"):
            pass
    assert names(tmp_path) == []


def test_a_file_that_another_process_finishes_meanwhile_is_kept(network, stream, tmp_path, monkeypatch):
    path = extract_features(network, stream, tmp_path / "f.h5")
    before, exists, asked = path.stat().st_mtime_ns, extract.Path.exists, []

    def late(self):
        asked.append(self)
        return len(asked) > 1 and exists(self)

    monkeypatch.setattr(extract.Path, "exists", late)
    assert extract_features(network, stream, path) == path
    assert path.stat().st_mtime_ns == before


# ArrayStream


def test_an_array_stream_gives_everything_in_order(data):
    stream = loaders.ArrayStream(*data, batch_size=8)
    assert len(stream) == 7
    np.testing.assert_array_equal(stream.labels, data[1])
    for _ in range(2):
        batches = list(stream)
        assert [len(images) for images, _ in batches] == [8] * 6 + [2]
        np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), data[0])
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), data[1])


def test_an_array_stream_goes_on_from_its_state(data):
    stream = loaders.ArrayStream(*data, batch_size=8)
    start = stream.state()
    assert (start["epoch"], start["batch"]) == (0, 0)
    list(stream)
    assert stream.state()["epoch"] == 1
    other = loaders.ArrayStream(data[0].copy(), data[1].copy(), batch_size=8)
    other.restore(json.loads(json.dumps({**start, "epoch": 4, "batch": 5})))
    assert (other.state()["epoch"], other.state()["batch"]) == (4, 5)
    np.testing.assert_array_equal(np.concatenate([images for images, _ in other]), data[0][40:])
    assert other.state()["epoch"] == 5
    assert sum(len(labels) for _, labels in other) == COUNT


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda images, labels: (images[1:], labels[1:], 8), "shape, checksum"),
        (lambda images, labels: (images, labels, 9), "batch_size"),
        (lambda images, labels: (images[::-1], labels, 8), "checksum"),
        (lambda images, labels: (images, labels + 1, 8), "checksum"),
    ],
)
def test_the_state_of_other_arrays_is_refused(data, change, differs):
    state = loaders.ArrayStream(*data, 8).state()
    with pytest.raises(ValueError, match=rf"the state belongs to other arrays \({differs} differ\)"):
        loaders.ArrayStream(*change(*data)).restore(state)


@pytest.mark.parametrize("labels", [np.zeros((3, 1), int), np.zeros(3), np.array([b"cat"] * 3), np.zeros(3, bool)])
def test_labels_are_integers(labels):
    with pytest.raises(ValueError, match=r"ArrayStream: labels must be \(n,\) integers, got \(3,"):
        loaders.ArrayStream(np.zeros((3, 2, 2, 1), np.uint8), labels)


@pytest.mark.parametrize(
    ("count", "labels", "batch_size", "message"),
    [
        (3, 4, 8, "images and labels must have one length above 0, got 3 and 4"),
        (0, 0, 8, "images and labels must have one length above 0, got 0 and 0"),
        (3, 3, 0, "batch_size must be an integer >= 1, got 0"),
        (3, 3, True, "batch_size must be an integer >= 1, got True"),
        (3, 3, 2.0, r"batch_size must be an integer >= 1, got 2\.0"),
    ],
)
def test_wrong_arguments_of_an_array_stream(count, labels, batch_size, message):
    with pytest.raises(ValueError, match=f"ArrayStream: {message}"):
        loaders.ArrayStream(np.zeros((count, 2, 2, 1), np.uint8), np.zeros(labels, int), batch_size)
