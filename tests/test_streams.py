"""What is asked of a stream: the loaders' streams have it, and a stream of one's own needs no more than is written."""

import inspect
import itertools
import textwrap

import numpy as np
import pytest
from cupy_helpers import cupy  # noqa: F401

import hebbcore
import loaders
from hebbcore import pairs, streams
from hebbcore.evaluation.evaluate import evaluate
from hebbcore.features.extract import extract_features

SAID = [name for name in vars(streams.Described) if not name.startswith("_")]


def small_network():
    return hebbcore.Network([hebbcore.Conv(4, 3), hebbcore.Pool(2)], (8, 8, 1), device="cpu")


@pytest.fixture
def arrays(generator):
    return generator.integers(0, 256, (40, 8, 8, 1), np.uint8), np.arange(40) % 4


@pytest.fixture
def shards(arrays, tmp_path):
    loaders.write_shards(arrays, tmp_path / "shards")
    with loaders.ShardStream(tmp_path / "shards", batch_size=8) as stream:
        yield stream


def own_stream():
    """Return a stream of the class that the module's docstring shows."""
    text = inspect.getdoc(streams)
    names = {"np": np}
    exec(textwrap.dedent(text[text.index("    class Ramps") :]), names)
    return names["Ramps"]()


def test_the_loaders_streams_have_all_that_is_needed(arrays, shards):
    for stream in (shards, loaders.ArrayStream(*arrays)):
        assert isinstance(stream, streams.Stream)
        assert streams.is_resumable(stream)
    assert [name for name in SAID if not hasattr(shards, name)] == []
    assert len(shards) == 5
    assert not isinstance(list(arrays), streams.Resumable)


def test_a_stream_of_shards_answers_every_question(arrays, shards):
    assert streams.batching_of(shards) == {"batch_size": 8, "shuffle": False}
    assert streams.batches_of(shards) == 5
    np.testing.assert_array_equal(streams.order_of(shards, 0), np.arange(40))
    np.testing.assert_array_equal(streams.labels_of(shards), arrays[1])
    assert len(streams.names_of(shards)) == 40
    assert len(streams.class_names_of(shards)) == 4
    there = streams.at(shards.state(), 1, 2)
    shards.restore(there)
    assert shards.state() == there
    assert {"epoch", "batch", "batch_size"}.isdisjoint(streams.identity_of(shards))
    assert streams.identity_of(shards)["images"] == 40


def test_a_stream_that_says_no_more_than_it_must_leaves_the_others_open():
    stream = own_stream()
    assert isinstance(stream, streams.Stream)
    assert streams.batching_of(stream) == {}
    answers = [streams.batches_of(stream), streams.order_of(stream, 0), streams.labels_of(stream)]
    assert [*answers, streams.names_of(stream)] == [None] * 4
    assert streams.class_names_of(stream) == ()
    assert streams.identity_of(stream) == {"ramps": 1, "images": 40}


def test_all_take_a_stream_of_ones_own(tmp_path):
    network = small_network()
    hebbcore.fit(network, own_stream(), epochs=2, run=tmp_path / "run")
    path = extract_features(network, own_stream(), tmp_path / "features.h5")
    assert path.exists()
    options = {"fractions": [1], "baselines": [], "queries": 0}
    found = evaluate(network, own_stream(), own_stream(), tmp_path / "report", **options)
    assert found["images"]["train"]["labelled"] == 40


def test_what_lacks_something_is_told_what(arrays, tmp_path):
    network, batches = small_network(), [arrays]
    with pytest.raises(
        TypeError, match=r"evaluate: test must be a stream .* but list has no images, state; wrap arrays as"
    ):
        evaluate(network, loaders.ArrayStream(*arrays), batches, tmp_path / "report")
    with pytest.raises(
        TypeError, match=r"extract: stream must .* list has no images, image_shape, state, restore; wrap"
    ):
        extract_features(network, batches, tmp_path / "features.h5")


@pytest.mark.parametrize("shape", [(3, 5), (3, 8, 8), (3, 8, 8, 1), (1, 5)])
@pytest.mark.parametrize("kind", [tuple, list])
def test_a_pair_is_a_tuple_or_a_list_of_images_and_as_many_numbers(kind, shape):
    images, labels = np.zeros(shape), np.arange(len(np.zeros(shape)))
    for pair in (kind([images, labels]), kind([images, labels, labels])):
        assert pairs.images_of(pair) is images
        assert pairs.labels_in(pair) is labels


@pytest.mark.parametrize("shape", [(5,), (5, 5), (8, 8, 1)])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_list_of_vectors_or_images_is_no_pair(count, shape):
    batch = [np.zeros(shape)] * count
    assert pairs.images_of(batch) is batch
    assert pairs.labels_in(batch) is None


class Odd:
    """A stream of one's own whose pairs a function changes."""

    image_shape = (8, 8, 1)

    def __init__(self, change, images=40):
        self.change, self.images, self.place = change, images, (0, 0)

    def __iter__(self):
        pixels = np.arange(40 * 64, dtype=np.uint8).reshape(40, 8, 8, 1)
        for batch in range(self.place[1], 5):
            some = slice(8 * batch, 8 * batch + 8)
            yield self.change(pixels[some], np.arange(40)[some] % 4)

    def state(self):
        return {"odd": 1, "epoch": self.place[0], "batch": self.place[1]}

    def restore(self, state):
        self.place = state["epoch"], state["batch"]


PAIR = r"Odd: each batch must be a pair \(images, labels\)"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: x, TypeError, f"{PAIR}, and labels -1 where there are none, got ndarray without labels"),
        (lambda x, y: (x, None), TypeError, f"{PAIR}, and labels -1 where there are none, got tuple without labels"),
        (lambda x, y: {"images": x, "labels": y}, TypeError, f"{PAIR}, .* got dict without labels"),
        (lambda x, y: (x, y[:-1]), ValueError, rf"{PAIR} of an image at least, and a label each, got 8 and \(7,\)"),
        (lambda x, y: (x, np.eye(4)[y]), ValueError, rf"{PAIR} .* got 8 and \(8, 4\)"),
        (lambda x, y: (x[:0], y[:0]), ValueError, rf"{PAIR} .* got 0 and \(0,\)"),
        (lambda x, y: (x, y.astype(str)), TypeError, f"{PAIR}, and labels numbers of classes, got <U"),
    ],
)
def test_a_batch_that_is_no_pair_is_told(change, error, message, tmp_path):
    """Some ended in errors of Python's and NumPy's, and labels that are texts of numbers were taken for these."""
    with pytest.raises(error, match=message):
        extract_features(small_network(), Odd(change), tmp_path / "features.h5")
    with pytest.raises(error, match=message):
        evaluate(small_network(), Odd(change), own_stream(), tmp_path / "report", baselines=[], queries=0)


def test_what_fit_takes_for_pairs_extract_and_evaluate_do(tmp_path):
    network, plain = small_network(), Odd(lambda x, y: (x, y))
    wanted = extract_features(network, plain, tmp_path / "plain.h5").read_bytes()
    for number, change in enumerate(
        (lambda x, y: (x, y, y), lambda x, y: [x, y], lambda x, y: (x, y.tolist()), lambda x, y: (x, y.astype(">f4")))
    ):
        found = extract_features(network, Odd(change), tmp_path / f"{number}.h5")
        assert found.read_bytes() == wanted
        evaluate(network, Odd(change), plain, tmp_path / f"{number}", fractions=[1], baselines=[], queries=0)


def test_labels_between_two_classes_are_not_rounded(tmp_path):
    with pytest.raises(TypeError, match="extract: labels must be whole numbers, got float64"):
        extract_features(small_network(), Odd(lambda x, y: (x, y + 0.5)), tmp_path / "features.h5")


def test_a_stream_that_gives_more_than_it_says_is_refused(tmp_path):
    for which in ("train", "test"):
        pair = [Odd(lambda x, y: (x, y), 40 if which == "test" else 30), Odd(lambda x, y: (x, y), 30)]
        with pytest.raises(ValueError, match=f"evaluate: {which} gives more images than the 30 that it says"):
            evaluate(small_network(), *pair, tmp_path / which, baselines=[], queries=0)


def plain():
    return Odd(lambda x, y: (x, y))


def saying(**attributes):
    """Return a plain stream that says something else of itself."""
    stream = plain()
    vars(stream).update(attributes)
    return stream


@pytest.mark.parametrize("images", ["40", 40.0, 0, -1, np.zeros((40, 8, 8, 1)), None])
def test_a_number_of_images_that_is_none_is_told(images, tmp_path):
    """Some ended in errors of Python's."""
    told = r"must say how many images there are \(its attribute images\), got "
    with pytest.raises(TypeError, match=f"extract: stream {told}"):
        extract_features(small_network(), saying(images=images), tmp_path / "features.h5")
    with pytest.raises(TypeError, match=f"evaluate: train {told}"):
        evaluate(small_network(), saying(images=images), plain(), tmp_path / "report", baselines=[], queries=0)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"odd": np.arange(3), "epoch": 0, "batch": 0},
            "must return JSON types, which files can hold, got ndarray in it",
        ),
        ("here", "must return a dict"),
        ({"odd": 1}, "must return a dict with the integers epoch and batch, got {'odd': 1}"),
    ],
)
def test_a_state_that_is_none_is_told(state, message, tmp_path):
    stream = saying(state=lambda: state)
    uses = [lambda: hebbcore.fit(small_network(), stream, run=tmp_path / "run")]
    if "integers" not in message:
        uses.append(lambda: extract_features(small_network(), stream, tmp_path / "features.h5"))
        uses.append(lambda: evaluate(small_network(), stream, stream, tmp_path / "r", baselines=[], queries=0))
    for use in uses:
        with pytest.raises(TypeError, match=rf"Odd\.state {message}"):
            use()


def test_a_state_may_hold_numbers_of_numpys(tmp_path):
    """fit took them, and extract and evaluate could not write them."""
    stream = saying(state=lambda: {"odd": np.int64(1), "epoch": np.int64(0), "batch": 0})
    network = hebbcore.fit(small_network(), stream, run=tmp_path / "run")
    extract_features(network, stream, tmp_path / "features.h5")
    found = evaluate(network, stream, stream, tmp_path / "report", fractions=[1], baselines=[], queries=0)
    assert found["settings"]["train"] == {"odd": 1, "images": 40}


def test_labels_of_a_stream_that_are_not_those_of_its_pairs_are_told(tmp_path):
    """What was drawn for few labels went by the ones, and the figures by the others."""
    options = {"fractions": [1], "baselines": [], "queries": 0}
    network, labels = small_network(), np.arange(40) % 4
    assert evaluate(network, saying(labels=labels), plain(), tmp_path / "a", **options)
    with pytest.raises(ValueError, match=r"Odd must give the same labels .* image 0 \(.*\) has 0, and had 3"):
        evaluate(network, saying(labels=labels[::-1]), plain(), tmp_path / "b", **options)
    fewer = np.where(np.arange(40) < 20, labels, -1)
    with pytest.raises(ValueError, match="evaluate: a stream gives more images with a label than the 20 that it said"):
        evaluate(network, saying(labels=fewer), plain(), tmp_path / "c", **options)


def test_a_stream_that_ends_for_good_is_told(tmp_path):
    class Once(Odd):
        def __iter__(self):
            if not self.change:
                return
            yield from Odd(self.change)
            self.change = None

    with pytest.raises(ValueError, match="evaluate: Once gave no image in a later pass; it must be iterable again"):
        evaluate(small_network(), Once(lambda x, y: (x, y)), plain(), tmp_path / "r", fractions=[1], baselines=[])


@pytest.mark.parametrize("names", ["abcd", {0: "a", 1: "b", 2: "c", 3: "d"}, {"a", "b", "c", "d"}, iter("abcd")])
def test_names_of_classes_are_a_list(names, tmp_path):
    """The letters of a text were, the keys of a dict, and those of a set in any order."""
    for use in (
        lambda stream: extract_features(small_network(), stream, tmp_path / "features.h5"),
        lambda stream: evaluate(small_network(), stream, plain(), tmp_path / "report", baselines=[], queries=0),
    ):
        with pytest.raises(TypeError, match=r"Odd.class_names must be a list of names, got "):
            use(saying(class_names=names))


class Tensor:
    """An array of another library, whose dtype is not NumPy's."""

    dtype = "uint8"

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __len__(self):
        return len(self.array)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_batches_of_another_library_are_taken_by_all(tmp_path):
    """fit took them alone."""
    network, options = small_network(), {"fractions": [1], "baselines": [], "queries": 0}
    wanted = evaluate(network, plain(), plain(), tmp_path / "plain", **options)["sources"]
    for number, change in enumerate((lambda x, y: (Tensor(x), Tensor(y)), lambda x, y: [Tensor(x), y])):
        assert evaluate(network, Odd(change), plain(), tmp_path / f"{number}", **options)["sources"] == wanted
        extract_features(network, Odd(change), tmp_path / f"{number}.h5")


@pytest.mark.gpu
def test_labels_may_lie_on_a_gpu(cupy, arrays):  # noqa: F811
    ((images, labels),) = pairs.pairs_of([(cupy.asarray(arrays[0]), cupy.asarray(arrays[1]))])
    assert isinstance(images, cupy.ndarray)
    assert isinstance(labels, np.ndarray)
    np.testing.assert_array_equal(labels, arrays[1])


def test_labels_of_another_library_may_lie_in_the_same_memory(tmp_path):
    def found(name, labels_of):
        memory, turns = np.empty(8, np.int64), itertools.cycle(range(5))

        def change(x, y):
            memory[:] = np.roll(y, next(turns))
            return x, Tensor(labels_of(memory))

        options = {"fractions": [1], "baselines": [], "queries": 0}
        return evaluate(small_network(), Odd(change), plain(), tmp_path / name, **options)

    assert found("same", lambda memory: memory) == found("own", np.copy)


def test_what_a_stream_of_ones_own_calls_its_index_is_none_of_shards():
    class Own:
        index = np.arange(3)

    assert streams.pixels_of(Own()) is None
