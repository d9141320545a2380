"""ONNX files: onnxruntime puts out what networks, layers and few-label models do."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from formula_helpers import (
    LAYERS,
    PRESETS,
    RULES,
    assert_same,
    large_dictionary,
    learned_layer,
    network_by,
    small_preset,
)

import hebbcore
from hebbcore.export import onnx
from hebbcore.formulas import FORMULAS, Formula

proto = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, which reads the files")


@pytest.fixture
def run(tmp_path):
    """Write a model, and return what the file's outputs are for images."""

    def run(model, images, layer=None, **options):
        onnx(model, tmp_path / "model.onnx", layer, **options)
        proto.checker.check_model(tmp_path / "model.onnx", full_check=True)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        return session.run(None, {"images": images})

    return run


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("name", "shape", "parameters"), LAYERS)
def test_a_layer(name, shape, parameters, precision, run):
    network, images = learned_layer(name, shape, parameters, precision)
    for some in (images, images[:1]):
        assert_same(run(network, some, dtype="float32")[0], network.transform(some))


@pytest.mark.parametrize("kernel_size", [3, None])
def test_flat_patches_are_zeros_without_a_floor_of_contrast(kernel_size, run):
    layers = [hebbcore.layers.Whiten(kernel_size, contrast=0.0, epsilon=None)]
    network = hebbcore.Network(layers, (5, 6, 3), device="cpu")
    images = np.random.default_rng(0).random((4, 5, 6, 3)).astype(np.float32)
    images[:2] = np.array([0.1, 123.456], np.float32)[:, None, None, None]
    expected = network.transform(images)
    np.testing.assert_array_equal(expected[:2], 0)
    assert_same(run(network, images, dtype="float32")[0], expected)


@pytest.mark.parametrize(("rule", "parameters", "linear"), RULES)
def test_a_rule(rule, parameters, linear, run):
    network, images = network_by(rule, parameters, linear)
    assert_same(run(network, images, dtype="float32")[0], network.transform(images))
    assert_same(run(network["conv1"].as_layer(), images, dtype="float32")[0], network.transform(images))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset(name, run):
    """Where a root of almost nothing is put out, float32 has fewer digits: the layer before is compared."""
    network, images = small_preset(name)
    if name == "dictionary":
        for layer in ("gaussianpool2", "gaussianpool3"):
            assert_same(run(network, images, layer)[0], network.transform(images, layer))
        assert_same(run(network, images)[0], network.transform(images), 1e-3)
    else:
        assert_same(run(network, images)[0], network.transform(images))


def test_the_dictionary_of_large_images(run):
    network, images = large_dictionary()
    assert_same(run(network, images, "branches2")[0], network.transform(images, "branches2"))
    assert_same(run(network, images)[0], network.transform(images), 1e-3)


@pytest.fixture(scope="module")
def network():
    """A network, and images, of two sides."""
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 2), np.uint8)
    network = hebbcore.Network([hebbcore.Conv(3, 3, "softhebb"), hebbcore.Triangle()], (6, 4, 2), device="cpu")
    hebbcore.fit(network, images)
    return network, images


def test_mirror_images_and_channels_first(network, run):
    network, images = network
    expected = network.transform(images, mirror=True)
    assert_same(run(network, images, mirror=True)[0], expected)
    first = run(network, np.moveaxis(images, 3, 1), mirror=True, channels="first")[0]
    assert_same(first, np.moveaxis(expected, 3, 1))
    dense = hebbcore.Network([hebbcore.Conv(3, 2), hebbcore.Dense(4)], (6, 4, 2), device="cpu")
    expected = dense.transform(images, mirror=True)
    assert_same(run(dense, np.moveaxis(images, 3, 1), mirror=True, channels="first")[0], expected)


def test_a_convolution_alone_takes_images_of_any_size(network, run):
    network, images = network
    layer = network["conv1"].as_layer()
    layer.padding, layer.padding_mode, layer.stride = (1, 1), "reflect", (1, 2)
    larger = np.tile(images, (1, 2, 3, 1))
    assert_same(run(layer, larger)[0], layer.transform(larger))


def test_what_a_file_says(network, tmp_path):
    network, _ = network
    onnx(network, tmp_path / "a.onnx", mirror=True, metadata={"preset": "mine"})
    read = proto.load(tmp_path / "a.onnx")
    texts = {each.key: each.value for each in read.metadata_props}
    assert {key: texts[key] for key in ("version", "rule", "preset")} == {
        "version": hebbcore.__version__, "rule": "softhebb", "preset": "mine",
    }  # fmt: skip
    assert json.loads(texts["model"])["layers"][1]["type"] == "triangle"
    sides = [side.dim_param or side.dim_value for side in read.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["n", 6, 4, 2]
    assert read.graph.output[0].name == "features"
    assert {node.name.partition("/")[0] for node in read.graph.node if "/" in node.name} == {"conv1", "triangle1"}


def test_what_is_refused(network, tmp_path, monkeypatch):
    network, _ = network
    for options, message in (
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"channels": "middle"}, "channels must be one of"),
        ({"layer": "conv9"}, "layer must be one of"),
        ({"metadata": {"rule": "mine"}}, "metadata must have other names than version, rule, model"),
    ):
        with pytest.raises(ValueError, match=rf"export\.onnx: {message}"):
            onnx(network, tmp_path / "a.onnx", **options)
    for texts in ({"a": 1}, {1: "a"}, {"a": "\udce9"}, ["a"]):
        with pytest.raises(TypeError, match=r"export\.onnx: metadata must be "):
            onnx(network, tmp_path / "a.onnx", metadata=texts)
    with pytest.raises(TypeError, match=r"export\.onnx: model must be a Network or a HebbianLayer, got str"):
        onnx("runs/a", tmp_path / "a.onnx")
    vectors = hebbcore.Network([hebbcore.Dense(3)], (5,), device="cpu")
    with pytest.raises(ValueError, match=r'export\.onnx: channels="first" has no effect: the model takes vectors'):
        onnx(vectors, tmp_path / "a.onnx", channels="first")
    monkeypatch.setattr("hebbcore.export.onnx_file._MOST_BYTES", 100)
    with pytest.raises(ValueError, match="2 GiB"):
        onnx(network, tmp_path / "a.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "hebbcore\[onnx\]"'):
        onnx(network, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_arrays_of_layers_that_lead_elsewhere_are_left_out(network):
    network = hebbcore.Network([hebbcore.Conv(3, 3), hebbcore.Dense(2)], (6, 4, 2), device="cpu")
    assert list(Formula.checked("f", network, "conv1", False).arrays) == ["conv1/weights"]


@pytest.mark.parametrize("behind", ["cosine", "power"])
@pytest.mark.parametrize("shape", [(5, 6, 2), (4,)])
def test_of_black_images_codes_are_exactly_zero(shape, behind, run):
    """They were 1e-19, which a cosine or a root behind them made large."""
    made = (lambda **options: hebbcore.Conv(6, 2, **options)) if len(shape) == 3 else lambda **o: hebbcore.Dense(6, **o)
    last = made(response="cosine") if behind == "cosine" else hebbcore.Power(0.1)
    network = hebbcore.Network([made(response="cosine-exp", width=2.0), last], shape, device="cpu")
    images = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    images[0] = 0
    expected = network.transform(images)
    np.testing.assert_array_equal(expected[0], 0)
    assert_same(run(network, images, dtype="float32")[0], expected)


@dataclass(eq=False)
class Counted(hebbcore.Layer):
    """A layer whose arrays are of any real dtypes, and called as hebbcore calls what it observes."""

    name: str = ""

    def build(self, site, shape, generator):
        self.parts = {"observed_mean": np.full(shape[-1], 0.5), "count": np.array([3]), "kept": np.arange(4) > 1}

    def forward(self, x, out, training):
        out[...] = (x - self.parts["observed_mean"]) * self.parts["count"] * self.parts["kept"]

    def arrays(self):
        return self.parts

    def restore(self, arrays):
        self.parts = arrays


def test_the_formula_of_a_layer_of_ones_own_gets_all_arrays(run, monkeypatch):
    """Whole numbers, and names that begin with observed_, were missing: KeyError."""

    def formula(ops, layer, x, arrays, shape):
        mean, count, kept = (ops.reshape(arrays[name], (1, -1, 1, 1)) for name in ("observed_mean", "count", "kept"))
        return (x - mean) * count * kept

    monkeypatch.setitem(FORMULAS, Counted, formula)
    monkeypatch.setitem(hebbcore.LAYERS, "counted", Counted)
    network = hebbcore.Network([hebbcore.Conv(4, 3), Counted(), hebbcore.BatchNorm()], (5, 6, 2), device="cpu")
    images = np.random.default_rng(0).random((3, 5, 6, 2)).astype(np.float32)
    assert_same(run(network, images, dtype="float32")[0], network.transform(images))
    assert {array.dtype.kind for array in Formula.checked("f", network, None, False).arrays.values()} == {"f"}
