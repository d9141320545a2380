"""What layers of one's own do that no layer should: it is told by their names."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import hebbcore
from hebbcore.serialize import rule_of

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


def test_an_output_that_is_not_written_is_refused():
    """out = 2 * x gives a name to another array, and what lay in the memory was put out."""

    class Renames(Twice):
        def forward(self, x, out, training):
            out = 2 * x  # noqa: F841

    class Half(Twice):
        def forward(self, x, out, training):
            out[:, 1:] = 2 * x[:, 1:]

    for kind in (Renames, Half):
        for use in (lambda net: hebbcore.fit(net, IMAGES), lambda net: net.transform(IMAGES)):
            with pytest.raises(TypeError, match=rf"{kind.__name__}\.forward must write all of its output to out"):
                use(network(kind(), hebbcore.Pool(2)))


def test_nan_that_a_layer_makes_is_not_taken_for_what_it_did_not_write():
    class Root(Twice):
        calls: ClassVar[int] = 0

        def forward(self, x, out, training):
            type(self).calls += 1
            with np.errstate(invalid="ignore"):
                np.sqrt(x - 1, out=out)

    net = network(Root())
    found = [net.transform(IMAGES) for _ in range(3)]
    assert np.isnan(found[0]).any()
    np.testing.assert_array_equal(found[0], found[2])
    assert Root.calls == 4


def test_a_layer_in_place_keeps_the_number_of_its_numbers():
    class Doubles(Twice):
        in_place: ClassVar[bool] = True

        def output_shape(self, shape):
            return *shape[:2], 2 * shape[2]

    with pytest.raises(ValueError, match=r"Doubles is in_place, so .* as many numbers as \(4, 4, 4\), got \(4, 4, 8\)"):
        network(Doubles())


def test_a_layer_that_reads_the_users_images_does_not_overwrite_them():
    """It did so, and the images were lost."""

    class Both(Twice):
        in_place: ClassVar[bool] = True
        reads_images: ClassVar[bool] = True

    with pytest.raises(TypeError, match=r"layers must not say both reads_images and in_place, as Both does"):
        network(Both())


def test_a_layer_with_slots_is_refused():
    """A copy of its network ended in an error of another place."""

    @dataclass(eq=False, slots=True)
    class Slotted(hebbcore.Layer):
        factor: float = 2.0
        name: str = ""

    with pytest.raises(TypeError, match="Network: layers must not be declared with slots, as Slotted is"):
        network(Slotted())


def test_a_layer_that_reads_the_users_images_cannot_write_to_them():
    """It did so by mistake, and the next epoch had other images."""

    class Centres(Twice):
        reads_images: ClassVar[bool] = True

        def forward(self, x, out, training):
            x -= 0.5
            out[...] = x

    given = IMAGES.copy()
    for use in (lambda net: net.transform(given), lambda net: hebbcore.fit(net, given)):
        net = hebbcore.Network([Centres(), hebbcore.Conv(4, 3)], (6, 6, 1), device="cpu")
        with pytest.raises(ValueError, match="read-only"):
            use(net)
    np.testing.assert_array_equal(given, IMAGES)

    class Scratches(Levelled):
        def observe(self, x):
            x *= 2
            super().observe(x)

    with pytest.raises(ValueError, match="read-only"):
        hebbcore.fit(hebbcore.Network([Scratches(), hebbcore.Conv(4, 3)], device="cpu"), [given], mode="layerwise")
    np.testing.assert_array_equal(given, IMAGES)


def test_a_learner_with_a_forward_of_its_own_is_refused():
    """While it learned, and where it was pooled at once, it was not called."""

    @dataclass(eq=False)
    class Doubled(hebbcore.Conv):
        def forward(self, x, out, training):
            super().forward(x, out, training)
            out *= 2

    with pytest.raises(TypeError, match=r"must not be learners with a forward of their own, as Doubled"):
        network(Doubled(3, 3))


def test_a_frozen_layer_is_refused():
    @dataclass(frozen=True)
    class Frozen(hebbcore.Layer):
        name: str = ""

    with pytest.raises(TypeError, match=r"layers must not be frozen: put @dataclass\(eq=False\) before Frozen"):
        network(Frozen())


def test_a_layer_that_is_no_dataclass_learns_and_is_not_written(monkeypatch, tmp_path):
    class Bare(hebbcore.Layer):
        name = ""
        in_place = True

        def forward(self, x, out, training):
            out *= 2
            self.seen = len(x)  # what is no parameter may be set

    monkeypatch.setitem(hebbcore.LAYERS, "bare", Bare)
    net = hebbcore.fit(network(Bare()), IMAGES)
    with pytest.raises(
        TypeError, match=r"save: Bare must be a dataclass to be written down: put @dataclass\(eq=False\)"
    ):
        hebbcore.save(tmp_path / "network.h5", net)


def test_a_method_that_is_missing_is_named():
    @dataclass(eq=False)
    class Idle(hebbcore.Layer):
        name: str = ""

    with pytest.raises(NotImplementedError, match=r"Idle must define forward\(x, out, training\)"):
        network(Idle()).transform(IMAGES)


@dataclass(eq=False)
class Observes(Twice):
    """A layer that learns a mean, of which parts are missing."""

    observes: ClassVar[bool] = True

    def build(self, site, shape, generator):
        self.mean = np.zeros(shape[-1], site.dtype)

    def forget(self):
        pass

    def observe(self, x):
        self.mean = x.mean(axis=(0, 1, 2))

    def settle(self):
        pass


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({}, r"Observes observes, and no file holds what it learns; define arrays\(\) and restore"),
        ({"arrays": lambda self: {"mean": self.mean}}, r"Observes has arrays but no restore\(arrays\)"),
        ({"arrays": lambda self: None}, "arrays must return a dict of arrays of numbers by name, got None"),
        ({"arrays": lambda self: {"mean": 3}}, "arrays must return a dict of arrays .* got {'mean': 'int'}"),
        ({"arrays": lambda self: {"mean": np.array(["a"])}}, "arrays must return a dict of arrays of numbers"),
    ],
)
def test_arrays_that_a_file_would_lose_are_told(methods, message, monkeypatch, tmp_path):
    """What a layer had learned was gone when it was read, without a word."""
    kind = type("Observes", (Observes,), methods)
    monkeypatch.setitem(hebbcore.LAYERS, "observes", kind)
    net = network(kind())
    with pytest.raises(TypeError, match=message):
        hebbcore.save(tmp_path / "network.h5", net)
    with pytest.raises(TypeError, match=message):
        hebbcore.fit(net, IMAGES, mode="layerwise", run=tmp_path / "run")


def test_entries_of_the_tables_that_are_no_classes_are_told(monkeypatch):
    monkeypatch.setitem(hebbcore.RULES, "instance", hebbcore.HPCA())
    with pytest.raises(TypeError, match=r"Conv: hebbcore.RULES\['instance'\] must be a class of rules, got HPCA"):
        hebbcore.Conv(4, 3, rule="instance")
    with pytest.raises(TypeError, match=r"rule\.name is 'instance', which must stand for a dataclass, not for HPCA"):
        rule_of("instance", "network.rule")
    for made in (None, [hebbcore.Conv(4, 3)], network(Twice())):
        monkeypatch.setitem(hebbcore.PRESETS, "mine", lambda made=made: made)
        with pytest.raises(TypeError, match=r"preset: mine must return \(layers, image_shape\), .* got"):
            hebbcore.preset("mine")


@dataclass(eq=False)
class Levelled(hebbcore.Layer):
    """A layer that learns means, in a pass of its own alone."""

    observes: ClassVar[bool] = True
    in_place: ClassVar[bool] = True
    name: str = ""

    def build(self, site, shape, generator):
        self.mean = np.zeros(shape[-1], site.dtype)

    def forward(self, x, out, training):
        x -= self.mean

    def forget(self):
        self.mean = 0 * self.mean

    def observe(self, x):
        self.mean = x.mean(axis=(0, 1, 2))

    def settle(self):
        pass

    def arrays(self):
        return {"mean": self.mean}

    def restore(self, arrays):
        self.mean = arrays["mean"]


class Following(Levelled):
    """The same, whose means follow the batches too."""

    def forward(self, x, out, training):
        if training:
            self.observe(x)
        super().forward(x, out, training)


def test_a_layer_that_would_learn_nothing_together_is_told():
    """It left its input as it was, without a word: no pass was observed."""
    with pytest.raises(ValueError, match=r'fit: levelled1 learns nothing with mode="together", .* or use mode="layerw'):
        hebbcore.fit(network(Levelled()), IMAGES)
    for kind, mode in ((Levelled, "layerwise"), (Following, "together")):
        net = hebbcore.fit(network(kind()), IMAGES, mode=mode)
        assert np.any(net.layers[-1].mean != 0)
    blank = np.zeros_like(IMAGES)
    hebbcore.fit(network(Following()), np.concatenate([blank, IMAGES]), shuffle=False, batch_size=len(IMAGES))
    with pytest.raises(ValueError, match="levelled1 learns nothing"):
        hebbcore.fit(network(Levelled()), np.concatenate([blank, IMAGES]), shuffle=False, batch_size=len(IMAGES))


@pytest.mark.parametrize("suffix", ["h5", "safetensors"])
def test_arrays_of_any_shape_come_back_from_files(suffix, monkeypatch, tmp_path):
    """Those of one number without an axis came back from HDF5 with one."""
    monkeypatch.setitem(hebbcore.LAYERS, "following", Following)
    for array in (np.array(0.5), np.zeros(1), np.zeros((0, 3)), np.arange(12.0).reshape(3, 4).T[::-1]):
        net = network(Following())
        net.layers[-1].mean = array
        hebbcore.save(tmp_path / f"network.{suffix}", net)
        back = hebbcore.load(tmp_path / f"network.{suffix}", device="cpu").layers[-1].mean
        assert back.shape == array.shape
        np.testing.assert_array_equal(back, array)


def test_a_class_that_is_called_as_another_layer_is_named_takes_no_name_twice():
    """Of two layers called pool11 the second could not be reached, nor read from a file."""
    kind = dataclass(eq=False)(type("Pool1", (Twice,), {}))
    names = hebbcore.Network([kind(), *(hebbcore.Pool(1) for _ in range(11))], (6, 6, 1), device="cpu").names
    assert len(set(names)) == 12
