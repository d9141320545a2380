"""Checkpoints that someone made to deceive: sealed with a right digest, and saying what is not so."""

import json
import re

import h5py
import numpy as np
import pytest
from hostile_helpers import DEEP, IMAGES, LONG, changed, little_memory, network

import hebbcore
from hebbcore import checkpoint

pytest_plugins = "hostile_helpers"


@pytest.fixture
def saved(tmp_path):
    hebbcore.save(tmp_path / "net.h5", network())
    return tmp_path / "net.h5"


# Checkpoints: what the header says


def set_header(path, text):
    with changed(path, "checkpoint") as file:
        del file["header"]
        file["header"] = np.frombuffer(text.encode(), np.uint8)


def edited(**changes):
    def edit(header):
        header.update(changes)

    return edit


def in_layer(place, **changes):
    def edit(header):
        header["layers"][place].update(changes)

    return edit


HEADERS = {
    "many units": in_layer(4, units=10**9),
    "more units than numbers": in_layer(1, units=10**30),
    "a large whitening": in_layer(0, kernel_size=[70, 70], padding=[60, 60]),
    "a large image": edited(image_shape=[10**9, 10**9, 3]),
    "an image of another shape": edited(image_shape=[9, 12, 3]),
    "an image that is none": edited(image_shape="big"),
    "no image": edited(image_shape=None),
    "a wide border": in_layer(2, padding=[10**9, 10**9], window=[2 * 10**9, 2 * 10**9]),
    "another border": in_layer(1, padding=[10**7, 10**7]),
    "another kind": edited(kind="forest"),
    "a kind that is none": edited(kind=[1]),
    "layers that are none": edited(layers="conv"),
    "no layers": edited(layers=[]),
    "layers of numbers": edited(layers=[1, 2]),
    "an unknown layer": in_layer(1, type="wavelet"),
    "an unknown rule": in_layer(1, rule={"name": "mine"}),
    "a name with codes": in_layer(1, name="\x1b[2J"),
    "the same name twice": in_layer(2, name="conv1"),
    "a negative seed": edited(seed=-1),
    "a seed that is none": edited(seed={"a": 1}),
    "an unknown precision": edited(precision=["float32"]),
    "a layer": edited(kind="layer"),
}


@pytest.mark.parametrize("edit", HEADERS.values(), ids=HEADERS)
def test_a_header_that_its_arrays_do_not_bear_out(saved, edit):
    header, _ = checkpoint.read("load", saved)
    edit(header)
    set_header(saved, json.dumps(header))
    with little_memory(), pytest.raises(ValueError, match=f"^load: {re.escape(str(saved))} "):
        hebbcore.load(saved, device="cpu")


@pytest.mark.parametrize("key", ["kind", "image_shape", "seed", "precision", "layers"])
def test_a_header_without_a_key(saved, key):
    header, _ = checkpoint.read("load", saved)
    del header[key]
    set_header(saved, json.dumps(header))
    with pytest.raises(ValueError, match=rf"load: .*net\.h5 does not hold .*'{key}' is missing"):
        hebbcore.load(saved, device="cpu")


@pytest.mark.parametrize("text", [DEEP, f'{{"seed": {LONG}}}', "[]", "{", "\x00", '{"kind": NaN}', "5"])
def test_a_header_that_is_no_table(saved, text):
    set_header(saved, text)
    with little_memory(), pytest.raises(ValueError, match=rf"load: {re.escape(str(saved))} (is damaged|does not hold)"):
        hebbcore.load(saved, device="cpu")


def test_many_layers_without_a_name(saved):
    header, _ = checkpoint.read("load", saved)
    header["layers"] = [{"type": "flatten"}] * 5_000
    set_header(saved, json.dumps(header))
    assert len(hebbcore.load(saved, device="cpu")) == 5_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stride": [0, 1]}, "stride must be at least 1"),
        ({"padding": "x"}, "padding must be an integer"),
        ({"padding_mode": "mirror"}, "padding_mode must be one of"),
        ({"linear": 3}, "linear must be true or false"),
        ({"precision": "float8"}, "precision must be one of"),
        ({"rule": {"name": "kwta", "k": 99}}, "k"),
    ],
)
def test_a_layer_whose_header_is_wrong(tmp_path, change, words):
    path = tmp_path / "layer.h5"
    hebbcore.save(path, network()["conv1"].as_layer())
    header, _ = checkpoint.read("load", path)
    set_header(path, json.dumps(header | change))
    with pytest.raises(ValueError, match=rf"load: .*layer\.h5 does not hold .*{words}"):
        hebbcore.load(path, device="cpu")


# Checkpoints: what the arrays are


def replaced(make):
    def change(file, other):
        del file["arrays/fc2/weights"]
        make(file["arrays/fc2"], other)

    return change


def external(group, other):
    group.create_dataset("weights", (50, 48), "f4", external=[(str(other.parent / "secret.raw"), 0, 50 * 60 * 4)])


def virtual(group, other):
    layout = h5py.VirtualLayout((50, 48), "f4")
    layout[...] = h5py.VirtualSource(str(other), "weights", (50, 60))[:, :48]
    group.create_virtual_dataset("weights", layout)


def never_written(group, other):
    group.create_dataset("weights", (10**6, 10**6), "f4")


def many_links(group, other):
    group["weights"] = np.ones((50, 48), np.float32)
    for i in range(20):
        group[f"more{i}"] = group["weights"]


ARRAYS = {
    "missing": lambda group, other: None,
    "of another shape": lambda group, other: group.create_dataset("weights", data=np.ones((50, 60), np.float32)),
    "of integers": lambda group, other: group.create_dataset("weights", data=np.ones((50, 48), np.int32)),
    "complex": lambda group, other: group.create_dataset("weights", data=np.ones((50, 48), np.complex64)),
    "of text": lambda group, other: group.create_dataset("weights", data=[["a"] * 48] * 50),
    "of bytes": lambda group, other: group.create_dataset("weights", data=np.full((50, 48), b"abcd")),
    "of pairs": lambda group, other: group.create_dataset("weights", (50, 48), np.dtype([("a", "f4"), ("b", "f4")])),
    "of references": lambda group, other: group.create_dataset("weights", (50, 48), h5py.ref_dtype),
    "a single number": lambda group, other: group.create_dataset("weights", data=np.float32(1)),
    "without a shape": lambda group, other: group.create_dataset("weights", data=h5py.Empty("f4")),
    "compressed": lambda group, other: group.create_dataset("weights", data=np.ones((50, 48), "f4"), compression=9),
    "a group": lambda group, other: group.create_group("weights/deeper"),
    "a soft link": lambda group, other: group.__setitem__("weights", h5py.SoftLink("/arrays/conv1/weights")),
    "a link to another file": lambda group, other: group.__setitem__("weights", h5py.ExternalLink(other, "weights")),
    "stored in another file": external,
    "made of another file": virtual,
    "never written": never_written,
    "linked many times": many_links,
}


@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_is_not_what_it_should_be(saved, other, make):
    with changed(saved, "checkpoint") as file:
        replaced(make)(file, other)
    with little_memory(), pytest.raises(ValueError, match=f"^load: {re.escape(str(saved))} "):
        hebbcore.load(saved, device="cpu")


@pytest.mark.parametrize("name", ["header", "arrays", "arrays/fc2"])
def test_a_link_in_place_of_a_part(saved, other, name):
    with changed(saved, "checkpoint") as file:
        del file[name]
        file[name] = h5py.ExternalLink(other, "weights")
    with pytest.raises(ValueError, match=f"load: {re.escape(str(saved))} .*link"):
        hebbcore.load(saved, device="cpu")


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ({"phase": 9}, "more phases"),
        ({"phase": -1}, "phase must be at least 0"),
        ({"batch": "x"}, "batch must be an integer"),
        ({"extra": 1}, "extra is unknown"),
        (None, "position must be a table"),
    ],
)
def test_a_position_where_no_training_is(tmp_path, position, words):
    options = {"batch_size": 10, "run": tmp_path / "run"}
    hebbcore.fit(network(), IMAGES, **options)
    path = checkpoint.checkpoints(tmp_path / "run")[-1]
    header, _ = checkpoint.read("load", path)
    header["position"] = None if position is None else header["position"] | position
    set_header(path, json.dumps(header))
    with pytest.raises(ValueError, match=rf"fit: {re.escape(str(path))} .*{words}"):
        hebbcore.fit(network(), IMAGES, **options)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"wins": {"conv1": [1, 2]}}, "wins of 2 units of conv1, which has not so many"),
        ({"wins": {"nope": [1]}}, "wins of 1 units of nope"),
        ({"wins": {"conv1": [-1] * 50}}, "at least 0, got -1"),
        ({"wins": {"conv1": [2**70] * 50}}, "does not hold this network"),
        ({"wins": {"conv1": "ab"}}, "must have lists, got 'ab'"),
        ({"wins": [1]}, "wins must be a table"),
        ({"judged": [1]}, "judged must be two numbers"),
        ({"judged": [0.5, 2]}, "must be an integer, got 0.5"),
        ({"judged": None}, "must have lists, got None"),
    ],
)
def test_what_is_told_of_a_pass_that_no_training_had(tmp_path, told, words):
    options = {"batch_size": 10, "run": tmp_path / "run"}
    hebbcore.fit(network(), IMAGES, **options)
    path = checkpoint.checkpoints(tmp_path / "run")[-1]
    header, _ = checkpoint.read("load", path)
    set_header(path, json.dumps(header | told))
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} .*{re.escape(words)}"):
        hebbcore.fit(network(), IMAGES, **options)
