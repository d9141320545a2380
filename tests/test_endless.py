"""Streams without end: memory stays flat, epochs are counted by images, and a stopped training goes on."""

import gc
import tracemalloc

import numpy as np
import pytest
from fit_helpers import arrays, assert_same
from resume_helpers import Stopped, stop_at

import hebbcore
from hebbcore.estimators import HebbianTransformer
from hebbcore.streams import Epochs
from hebbcore.training.diagnostics import cut_after, lines
from hebbcore.training.header import Position
from loaders import ArrayStream


class Endless:
    """Batches of four vectors, made of their number; what was read is counted."""

    batch_size = 4

    def __init__(self):
        self.batch = self.loops = 0

    def __iter__(self):
        self.loops += 1
        while True:
            yield np.random.default_rng(self.batch).normal(size=(4, 6))
            self.batch += 1

    def state(self):
        return {"endless": 1, "epoch": 0, "batch": self.batch}

    def restore(self, state):
        self.batch = state["batch"]


def network():
    return hebbcore.Network([hebbcore.Dense(3, hebbcore.HPCA("adaptive_tanh"))], (6,), device="cpu")


def after(batches, source, **options):
    """Train until so many batches were learned from; return the bytes held after a third of them, and then."""
    held = []

    def callback(record):
        if record["step"] in (batches // 3, batches):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        if record["step"] == batches:
            raise Stopped

    net = network()
    tracemalloc.start()
    with pytest.raises(Stopped):
        hebbcore.fit(net, source, callback=callback, log_seconds=0, **options)
    tracemalloc.stop()
    return held


@pytest.mark.parametrize("wrap", [lambda stream: stream, lambda stream: Epochs(stream, 400)], ids=["one", "epochs"])
def test_memory_is_flat_over_many_batches(wrap):
    first, last = after(1500, wrap(Endless()), epochs=10**9)
    assert last < first + 25_000  # a number kept of each batch would be 32,000 bytes and more


def test_an_epoch_goes_on_where_the_one_before_ended():
    stream = Endless()
    stream.batch = 2
    epochs = Epochs(stream, 9)
    assert (len(epochs), epochs.images, epochs.batch_size) == (3, 12, 4)
    found = [batch for _ in range(2) for batch in epochs]
    for number, batch in enumerate(found, 2):
        np.testing.assert_array_equal(batch, np.random.default_rng(number).normal(size=(4, 6)))
    assert len(found) == 6
    assert stream.loops == 1
    state = epochs.state()
    assert (state["epoch"], state["batch"], state["endless"]) == (2, 0, 1)
    epochs.restore({**state, "epoch": 1, "batch": 1})
    np.testing.assert_array_equal(next(iter(epochs)), found[4])


def test_a_stopped_training_goes_on_to_the_same_bits_and_tells_of_each_epoch(tmp_path):
    options = {"epochs": 4, "learning_rate": 0.1, "log_seconds": 0}
    records = []
    expected = arrays(hebbcore.fit(network(), Epochs(Endless(), 12), callback=records.append, **options))
    assert records[-1]["images"] == 48
    assert [record["epoch"] for record in records if record["step"] == 7] == [2]
    for step in (2, 3, 7):
        run = tmp_path / str(step)
        with pytest.raises(Stopped):
            hebbcore.fit(
                network(), Epochs(Endless(), 12), run=run, checkpoint_minutes=1e-9, callback=stop_at(step), **options
            )
        assert_same(arrays(hebbcore.fit(network(), Epochs(Endless(), 12), run=run, **options)), expected)


def test_the_records_of_a_run_are_cut_line_by_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rest = f'"phase": 0, "epoch": 0, "layers": {{}}, "text": "{"x" * 90}"'
    path.write_text("".join(f'{{"step": {step}, {rest}}}\n' for step in range(20_000)))
    tracemalloc.start()
    cut_after(path, Position(step=10_000))
    assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 4
    tracemalloc.stop()
    assert [record["step"] for record in lines(path)] == list(range(10_001))


def test_partial_fit_for_ever_keeps_memory_flat():
    transformer, stream, held = HebbianTransformer(3, rule="swta", whiten=False, random_state=0), Endless(), []
    tracemalloc.start()
    for number, batch in enumerate(stream, 1):
        transformer.partial_fit(batch)
        if number % 40 == 0:
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        if number == 120:
            break
    tracemalloc.stop()
    assert held[2] < held[1] + 10_000  # until then caches fill
    assert transformer.parts_ == 120


@pytest.mark.parametrize(
    ("stream", "images", "error", "message"),
    [
        ([np.ones((4, 6))], 8, TypeError, "stream must have state, restore, batch_size, got list"),
        (Endless(), 0, ValueError, "images must be at least 1, got 0"),
        (Endless(), 2.5, TypeError, "images must be an integer, got 2.5"),
        (Endless(), True, TypeError, "images must be an integer, got True"),
    ],
)
def test_what_is_no_endless_stream_is_refused(stream, images, error, message):
    with pytest.raises(error, match=f"Epochs: {message}"):
        Epochs(stream, images)


@pytest.mark.parametrize(("images", "whole", "left"), [(80, 0, 5), (24, 1, 1), (40, 1, 5)])
def test_a_stream_that_ends_within_an_epoch_is_refused(images, whole, left):
    epochs = Epochs(ArrayStream(np.zeros((40, 4, 4, 1)), np.zeros(40, int), batch_size=8), images)
    assert [sum(len(batch) for batch, _ in epochs) for _ in range(whole)] == [images] * whole
    with pytest.raises(ValueError, match=f"the ArrayStream ended {left} batches before an epoch of {images} images"):
        list(epochs)


def test_a_state_of_epochs_of_another_length_is_refused():
    epochs = Epochs(Endless(), 12)
    with pytest.raises(ValueError, match="the state is of epochs of 3 batches, but these have 2"):
        Epochs(Endless(), 8).restore(epochs.state())
