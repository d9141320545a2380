"""Parameters of several numbers: tuples, lists, ranges and arrays (n,) are taken, all else is refused in words."""

import numpy as np
import pytest
from input_helpers import IMAGES, refused, train

import hebbcore
from hebbcore import Conv, Dense, Flatten, GaussianPool, GridPool, Network, Pool, Whiten
from hebbcore.estimators import HebbianNetworkTransformer, HebbianTransformer

UNITS, SHAPE, ROWS = [4, 5, 6, 3], (8, 8, 3), IMAGES.reshape(len(IMAGES), -1)
AS = [tuple, list, np.array, lambda values: np.array(values, np.uint16), lambda values: [np.int64(v) for v in values]]
PAIRS = {
    "Conv.kernel_size": lambda pair: Conv(4, pair).kernel_size,
    "Conv.stride": lambda pair: Conv(4, 3, stride=pair).stride,
    "Conv.padding": lambda pair: Conv(4, 3, padding=pair).padding,
    "Whiten.kernel_size": lambda pair: Whiten(pair).kernel_size,
    "Pool.window": lambda pair: Pool(pair).window,
    "GaussianPool.stride": lambda pair: GaussianPool(pair).stride,
    "GridPool.cells": lambda pair: GridPool(pair).cells,
    "train_layer.stride": lambda pair: train(IMAGES, stride=pair).stride,
}


@pytest.mark.parametrize("made", AS)
def test_units_of_a_preset(made):
    network = hebbcore.preset("dictionary", image_shape=made(SHAPE), units=made(UNITS), device="cpu")
    expected = hebbcore.preset("dictionary", image_shape=SHAPE, units=UNITS, device="cpu")
    assert network.shapes == expected.shapes
    assert network.training == expected.training
    assert {type(value) for value in network.training.values()} <= {int, str}


@pytest.mark.parametrize("made", AS)
@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name, made):
    found = PAIRS[name](made([2, 1]))
    assert found == (2, 1)
    assert {type(side) for side in found} == {int}


@pytest.mark.parametrize("made", AS)
def test_estimators(made, generator):
    rows = generator.random((20, 8 * 8 * 3))
    one = HebbianTransformer(4, made([3, 2]), stride=made([2, 1]), image_shape=made(SHAPE), epochs=1)
    assert one.fit(rows).network_.shapes[-1] == (3, 7, 4)
    network = HebbianNetworkTransformer("dictionary", units=made(UNITS), image_shape=made(SHAPE), epochs=1)
    assert network.fit(rows).network_.shapes[-1] == (3, 3, 2 * (5 + 6 + 3))


def test_a_dense_layer_takes_steps_of_one_alone():
    for one in (1, (1, 1), [1, 1], np.array([1, 1])):
        assert train(ROWS, kernel_size=None, stride=one).stride == (1, 1)
    with pytest.raises(ValueError, match="stride and padding are for convolutions"):
        train(ROWS, kernel_size=None, stride=np.array([1, 2]))
    with pytest.raises(ValueError, match=r"stride=array\(\[2, 2\]\) has no effect without kernel_size"):
        HebbianTransformer(4, stride=np.array([2, 2])).fit(ROWS)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: preset(np.array([4.0, 5, 6])), TypeError, "preset: units must be an integer, got 4.0"),
        (lambda: preset(np.array([4, 5])), ValueError, "preset: units must be four numbers"),
        (lambda: preset(np.array([[4, 5, 6]])), ValueError, "preset: units must be four numbers"),
        (lambda: preset({4, 5, 6}), ValueError, "preset: units must be four numbers"),
        (lambda: preset("456"), ValueError, "preset: units must be four numbers"),
        (lambda: Conv(4, np.array([3.0, 3.0])), TypeError, "Conv: kernel_size must be an integer, got 3.0."),
        (lambda: Conv(4, np.array([3, 3, 3])), ValueError, "Conv: kernel_size must be one integer or a (height,"),
        (lambda: Conv(4, {3, 4}), TypeError, "Conv: kernel_size must be an integer, got {3, 4}."),
        (lambda: Network([Flatten(), Dense(3)], {8, 9, 3}), TypeError, "Network: image_shape must be (height, width,"),
    ],
)
def test_all_else_is_refused(make, error, message):
    refused(error, [message], make)


def preset(units):
    return hebbcore.preset("dictionary", image_shape=SHAPE, units=units, device="cpu")
