"""Layers of one's own that a chain does together with others put out what they do alone."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from test_own_layers import IMAGES, Twice

import hebbcore


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_what_a_layer_makes_of_images_as_they_are_is_of_the_networks_dtype(dtype):
    """In a chain it was written to memory of the images' dtype: fractions became whole numbers."""

    class Halved(Twice):
        reads_images: ClassVar[bool] = True
        by_image: ClassVar[bool] = True

        def forward(self, x, out, training):
            np.multiply(x, 0.5, out=out)

    given = (IMAGES * 20 + 128).astype(dtype)
    net = hebbcore.Network([Halved(), hebbcore.Split(), hebbcore.Pool(2, kind="average")], (6, 6, 1), device="cpu")
    assert net.transform(given, "halved1").dtype == np.float32  # which looks whether all of it is written
    expected = given.reshape(12, 3, 2, 3, 2).mean(axis=(2, 4), dtype=np.float64)[..., None] / 2
    np.testing.assert_allclose(net.transform(given)[..., :1], expected, rtol=1e-5)


DERIVED = {
    "split": lambda own: [own(hebbcore.Split)(0.1), hebbcore.GaussianPool(2)],
    "scale": lambda own: [own(hebbcore.Scale)(), hebbcore.Split(0.1), hebbcore.GaussianPool(2)],
    "gaussian": lambda own: [hebbcore.Split(0.1), own(hebbcore.GaussianPool)(2), hebbcore.Pool(2)],
    "whiten": lambda own: [own(hebbcore.Whiten)(3), hebbcore.Conv(4, 1), hebbcore.Pool(2)],
}


@pytest.mark.parametrize("stack", DERIVED)
def test_a_layer_derived_from_hebbcores_puts_out_what_its_forward_says(stack):
    """Where layers are done as one the forward of the class that it was derived from was taken."""

    def own(base):
        def forward(self, x, out, training):
            base.forward(self, x, out, training)
            out *= 2

        return dataclass(eq=False)(type(f"Own{base.__name__}", (base,), {"forward": forward}))

    net = hebbcore.Network(DERIVED[stack](own), (6, 6, 1), device="cpu")
    expected = net.features(IMAGES, net.names)[net.names[-1]]  # one by one
    np.testing.assert_array_equal(net.transform(IMAGES), expected)


@pytest.mark.parametrize("before", [hebbcore.Pool(2), hebbcore.Split(0.1), hebbcore.GaussianPool(2)], ids=repr)
def test_a_layer_in_place_may_turn_what_a_layer_before_it_put_out_into_another_shape(before):
    """In a chain that one wrote beyond its memory, which could end the process."""

    class Turned(Twice):
        in_place: ClassVar[bool] = True
        by_image: ClassVar[bool] = True

        def output_shape(self, shape):
            return shape[2], shape[0], shape[1]

        def forward(self, x, out, training):
            pass

    net = hebbcore.Network([dataclasses.replace(before), Turned(), hebbcore.Relu()], (6, 6, 1), device="cpu")
    expected = net.features(IMAGES, net.names)["relu1"]  # one by one
    np.testing.assert_array_equal(net.transform(IMAGES), expected)
