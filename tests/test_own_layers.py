"""What layers of one's own do that no layer should: it is told by their names."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import hebbcore

IMAGES = np.random.default_rng(0).normal(size=(12, 6, 6, 1)).astype(np.float32)


@dataclass(eq=False)
class Twice(hebbcore.Layer):
    name: str = ""

    def forward(self, x, out, training):
        out[...] = 2 * x


def network(layer, *more):
    return hebbcore.Network([hebbcore.Conv(4, 3), layer, *more], (6, 6, 1), device="cpu")


@pytest.mark.parametrize("more", [list, lambda: [hebbcore.BatchNorm()], lambda: [hebbcore.Pool(2)]])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("place", [False, True])
def test_an_output_that_is_returned_is_refused(place, alone, more):
    """What lay in the memory was put out in its place."""

    class Returns(Twice):
        in_place: ClassVar[bool] = place
        by_image: ClassVar[bool] = alone

        def forward(self, x, out, training):
            return 2 * x

    net = network(Returns(), *more())
    for use in (lambda: hebbcore.fit(net, IMAGES), lambda: net.transform(IMAGES)):
        with pytest.raises(TypeError, match=r"returns1: Returns\.forward must write its output to out"):
            use()


def test_an_output_that_is_written_may_be_returned_too():
    class Both(Twice):
        by_image: ClassVar[bool] = True

        def forward(self, x, out, training):
            out[...] = 2 * x
            return out

    net = network(Both())
    np.testing.assert_array_equal(net.transform(IMAGES), 2 * net.transform(IMAGES, "conv1"))


@pytest.mark.parametrize("shape", [(4.0, 4, 4), (0, 4, 4), (-1, 4, 4), (4, 4), (1, 4, 4, 4), None, 5, "abc"])
def test_what_is_no_shape_is_refused(shape):
    class Shaped(Twice):
        def output_shape(self, given):
            return shape

    with pytest.raises(ValueError, match=r"shaped1: Shaped\.output_shape must return \(height, width, channels\)"):
        network(Shaped())
    with pytest.raises(ValueError, match=r"Shaped\.output_shape must return \(height, width, channels\)"):
        hebbcore.Network([hebbcore.Branches([Shaped()], [hebbcore.Pool(2)])], (6, 6, 1), device="cpu")


def test_a_shape_may_be_a_list_or_of_numpys_integers():
    class Shaped(Twice):
        def output_shape(self, given):
            return list(np.array(given))

    shapes = network(Shaped(), hebbcore.Pool(2)).shapes
    assert shapes == [(4, 4, 4), (4, 4, 4), (2, 2, 4)]
    assert all(type(each) is int for shape in shapes for each in shape)


def test_a_layer_without_a_name_is_refused():
    @dataclass(eq=False)
    class Nameless(hebbcore.Layer):
        factor: float = 1.0

    with pytest.raises(TypeError, match=r'layers must have a field name: str = "", which Nameless lacks'):
        network(Nameless())
