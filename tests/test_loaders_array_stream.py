"""ArrayStream: everything in order, its state, and what it refuses."""

import json

import numpy as np
import pytest
from extract_helpers import COUNT

import loaders

pytest_plugins = "extract_helpers"


def test_an_array_stream_gives_everything_in_order(data):
    stream = loaders.ArrayStream(*data, batch_size=8)
    assert len(stream) == 7
    np.testing.assert_array_equal(stream.labels, data[1])
    for _ in range(2):
        batches = list(stream)
        assert [len(images) for images, _ in batches] == [8] * 6 + [2]
        np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), data[0])
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), data[1])


def test_an_array_stream_has_names_if_it_is_given_them(data):
    names = [f"{number}.png" for number in range(COUNT)]
    assert loaders.ArrayStream(*data, names=names).names == names
    assert loaders.ArrayStream(*data).names is None
    assert loaders.ArrayStream(*data, names=names).state() == loaders.ArrayStream(*data).state()
    with pytest.raises(ValueError, match=f"names must be one for each of the {COUNT} images, got 3"):
        loaders.ArrayStream(*data, names=names[:3])


def test_an_array_stream_has_names_of_classes_if_it_is_given_them(data):
    names = [f"class {number}" for number in range(data[1].max() + 1)]
    assert loaders.ArrayStream(*data, class_names=names).class_names == names
    assert loaders.ArrayStream(*data).class_names is None
    assert loaders.ArrayStream(*data, class_names=names).state() == loaders.ArrayStream(*data).state()
    with pytest.raises(ValueError, match=rf"label {data[1].max()} has no name among the 1 class_names"):
        loaders.ArrayStream(*data, class_names=names[:1])


def test_an_array_stream_takes_lists_and_columns_of_a_table(data):
    pandas = pytest.importorskip("pandas")
    images, labels = data
    names = [f"{number}.png" for number in range(COUNT)]
    shuffled = np.random.default_rng(0).permutation(COUNT)
    columns = (pandas.Series(values, index=shuffled) for values in (labels, names))
    for given, called in ((labels.tolist(), tuple(names)), columns):
        stream = loaders.ArrayStream(images, given, batch_size=8, names=called)
        assert stream.state() == loaders.ArrayStream(images, labels, batch_size=8).state()
        assert [stream.names[number] for number in range(COUNT)] == names
        np.testing.assert_array_equal(np.concatenate([some for _, some in stream]), labels)
    listed = loaders.ArrayStream(list(images), labels)
    np.testing.assert_array_equal(next(iter(listed))[0], images)
    with pytest.raises(ValueError, match=r"labels must be \(n,\) integers, got \(\) int64"):
        loaders.ArrayStream(images, 3)


class Lazy:
    """An array that lies elsewhere, as one of Zarr or Dask: it has a shape, and gives slices, but no len."""

    def __init__(self, array):
        self._array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, which):
        self.most = max(self.most, self._array[which].nbytes)
        return self._array[which]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("all of it is read at once")


def test_an_array_stream_reads_arrays_that_lie_elsewhere_piece_by_piece(data, monkeypatch):
    images, labels = data
    monkeypatch.setattr("loaders.streams.array_stream._PIECE_BYTES", 4 * images[0].nbytes)
    lazy = Lazy(images)
    stream, wanted = loaders.ArrayStream(lazy, labels, 8), loaders.ArrayStream(images, labels, 8)
    assert lazy.most == 4 * images[0].nbytes
    assert (len(stream), stream.images, stream.image_shape) == (7, COUNT, images.shape[1:])
    assert stream.state() == wanted.state()
    for (found, theirs), (kept, own) in zip(stream, wanted, strict=True):
        np.testing.assert_array_equal(found, kept)
        np.testing.assert_array_equal(theirs, own)


@pytest.mark.parametrize("images", [np.array(7), np.array([[[["a"]]]]), np.zeros((1, 2, 2, 1), object)])
def test_images_of_an_array_stream_are_numbers(images):
    """The checksum of objects is one of where they lie, which no other process has."""
    with pytest.raises(TypeError, match=r"ArrayStream: images must be an array \(n, H, W, C\) of numbers, got \("):
        loaders.ArrayStream(images, [0])


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


@pytest.mark.parametrize("place", [{"batch": -1}, {"batch": 99}, {"batch": 1.5}, {"epoch": -1}, {"epoch": None}])
def test_a_position_that_no_batch_has_is_refused(data, place):
    stream = loaders.ArrayStream(*data, batch_size=8)
    with pytest.raises(ValueError, match=r"ArrayStream\.restore: epoch and batch must be a position"):
        stream.restore(stream.state() | place)
    with pytest.raises(TypeError, match=r"ArrayStream\.restore: state must be a dict from state\(\), got list"):
        stream.restore([1])


@pytest.mark.parametrize("names", [set, dict.fromkeys, "".join])
def test_names_without_an_order_are_refused(data, names):
    with pytest.raises(TypeError, match="ArrayStream: names must be in the images' order, such as a list, got "):
        loaders.ArrayStream(*data, names=names(map(chr, range(COUNT))))


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


@pytest.mark.parametrize("masked", ["images", "labels"])
def test_masks_are_refused_not_dropped(data, masked, tmp_path):
    images, labels = data
    given = (np.ma.masked_less(images, 9), labels) if masked == "images" else (images, np.ma.masked_equal(labels, 1))
    for function, call in (
        ("ArrayStream", lambda: loaders.ArrayStream(*given)),
        ("write_shards", lambda: loaders.write_shards(given, tmp_path / "shards")),
    ):
        with pytest.raises(TypeError, match=rf"{function}: {masked} must not be masked; {masked}\.filled"):
            call()
