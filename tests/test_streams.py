"""What is asked of a stream: the loaders' streams have it, and a stream of one's own needs no more than is written."""

import inspect
import textwrap

import numpy as np
import pytest

import hebbcore
import loaders
from hebbcore import streams
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
        assert streams.images_of(pair) is images
        assert streams.labels_in(pair) is labels


@pytest.mark.parametrize("shape", [(5,), (5, 5), (8, 8, 1)])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_list_of_vectors_or_images_is_no_pair(count, shape):
    batch = [np.zeros(shape)] * count
    assert streams.images_of(batch) is batch
    assert streams.labels_in(batch) is None
