"""Networks and layers as safetensors files: they come back whole, other programs read them, damage is refused."""

import json

import numpy as np
import pytest
from formula_helpers import LAYERS, learned_layer

import hebbcore
from hebbcore import checkpoint, safetensors
from hebbcore.cli import main


@pytest.mark.parametrize(("name", "shape", "parameters"), LAYERS)
def test_a_network_comes_back(name, shape, parameters, tmp_path):
    network, images = learned_layer(name, shape, parameters, "float64")
    network.training = {"epochs": 3}
    hebbcore.save(tmp_path / "a.safetensors", network)
    back = hebbcore.load(tmp_path / "a.safetensors", device="cpu")
    np.testing.assert_array_equal(back.transform(images), network.transform(images))
    assert checkpoint.digest_of(back) == checkpoint.digest_of(network)
    assert back.training == {"epochs": 3}


@pytest.fixture
def file(tmp_path):
    """A file of a network."""
    network = hebbcore.Network([hebbcore.Conv(3, 2), hebbcore.BatchNorm()], (4, 4, 1), device="cpu")
    hebbcore.save(tmp_path / "a.safetensors", network)
    return tmp_path / "a.safetensors", network


def test_a_layer_comes_back(file, tmp_path):
    layer, images = file[1]["conv1"].as_layer(), np.ones((1, 5, 6, 1), np.float32)
    hebbcore.save(tmp_path / "layer.safetensors", layer)
    back = hebbcore.load(tmp_path / "layer.safetensors", device="cpu")
    np.testing.assert_array_equal(back.transform(images), layer.transform(images))


def test_a_layer_of_float16_comes_back_and_what_the_format_lacks_is_refused(file, tmp_path):
    layer, images = file[1]["conv1"].as_layer(), np.ones((1, 5, 6, 1), np.float32)
    layer.weights = layer.weights.astype(np.float16)
    hebbcore.save(tmp_path / "layer.safetensors", layer)
    back = hebbcore.load(tmp_path / "layer.safetensors", device="cpu")
    assert back.weights.dtype == np.float16
    np.testing.assert_array_equal(back.transform(images), layer.transform(images))
    layer.weights = layer.weights.astype(np.longdouble)
    with pytest.raises(TypeError, match=r"^save: weights is float\d+, which safetensors does not have; save it"):
        hebbcore.save(tmp_path / "other.safetensors", layer)
    assert not (tmp_path / "other.safetensors").exists()


def test_verify_reads_it(file, capsys):
    path, _ = file
    assert main(["verify", str(path)]) == 0
    assert f"{path}: readable; the format has no digest\nfiles: 1, damaged: 0\n" == capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["verify", str(path)]) == 1
    assert f"verify: {path} is damaged or no network of hebbcore as safetensors" in capsys.readouterr().out


def test_the_library_of_the_format_reads_it(file):
    numpy = pytest.importorskip("safetensors.numpy", reason="needs the package safetensors")
    path, network = file
    arrays = numpy.load_file(path)
    assert sorted(arrays) == ["bn1/mean", "bn1/variance", "conv1/weights"]
    np.testing.assert_array_equal(arrays["conv1/weights"], network["conv1"].weights)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    numpy.save_file({**arrays, "conv1/weights": arrays["conv1/weights"] * 2}, path, header["__metadata__"])
    np.testing.assert_array_equal(hebbcore.load(path, device="cpu")["conv1"].weights, 2 * network["conv1"].weights)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_numbers_of_another_width_become_those_of_the_network(kind, precision, tmp_path, generator):
    images = generator.random((5, 4, 4, 1))
    network = hebbcore.Network(
        [hebbcore.BatchNorm(), hebbcore.Conv(3, 2, "ica")], (4, 4, 1), device="cpu", precision=precision
    )
    expected = checkpoint.arrays_of(hebbcore.fit(network, images))
    header = checkpoint.as_json(checkpoint.describe("test", network))
    changed = {name: array.astype(kind) for name, array in expected.items()}
    safetensors.write(tmp_path / "a.safetensors", header, changed)
    back = hebbcore.load(tmp_path / "a.safetensors", device="cpu")
    for name, array in checkpoint.arrays_of(back).items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, changed[name])
    hebbcore.fit(back, images)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:200],
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data.replace(b'"F32"', b'"F99"'),
        lambda data: data.replace(b'"__metadata__"', b'"__metadatas_"'),
        lambda data: data.replace(b"[3, 2, 2, 1]", b"[3, 2, 2, 2]"),
        lambda data: data.replace(b"[3, 2, 2, 1]", b'[3, 2, 2,""]'),
        lambda data: data.replace(b"[0, 48]", b"[48, 0]"),
        lambda data: data.replace(b"conv1/weights", b"conv1/weighs_"),
        lambda data: data.replace(b"\\\"conv\\\"", b"\\\"kinv\\\""),
    ],
)  # fmt: skip
def test_damage_is_refused(damage, file):
    path, _ = file
    data = path.read_bytes()
    assert damage(data) != data
    path.write_bytes(damage(data))
    with pytest.raises(ValueError, match=r"^load: .*a\.safetensors"):
        hebbcore.load(path, device="cpu")


def test_every_kind_of_array_has_a_name():
    kinds = {
        dtype
        for layer in (hebbcore.Whiten(), hebbcore.BatchNorm(), hebbcore.Scale())
        for network in [hebbcore.Network([layer], (4, 4, 1), device="cpu")]
        for _, dtype in layer.arrays_for(network.site, (4, 4, 1), observed=True).values()
    }
    assert kinds <= set(safetensors._NAMES)
