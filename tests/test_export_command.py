"""`hebbcore export`, and few-label models as ONNX files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from classify_helpers import CLASSES, digits, photos
from cli_helpers import CONV, POOL, call, config_text, fails, images
from PIL import Image

import hebbcore
from hebbcore.classify import FewLabelClassifier
from hebbcore.export import onnx
from hebbcore.features.choice import Features
from hebbcore.labelling import load_model
from hebbcore.labelling.model import Model

proto = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, which reads the files")

__all__ = ["call", "fails", "images", "photos"]


def outputs_of(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, {"images": images}), strict=True))


def metadata_of(path):
    return {each.key: each.value for each in proto.load(path).metadata_props}


def test_a_run(images, call, fails):
    Path("run.toml").write_text(config_text(CONV, POOL))
    call("train run.toml --out a")
    network, some = hebbcore.load("a", device="cpu"), np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    assert call("export a there/a.onnx") == ("there/a.onnx\n", "")
    np.testing.assert_allclose(outputs_of("there/a.onnx", some)["features"], network.transform(some), atol=1e-5)
    assert "preset" not in metadata_of("there/a.onnx")
    call("export a b.onnx --layer conv1 --mirror --dtype float32 --channels first")
    found = outputs_of("b.onnx", np.moveaxis(some, 3, 1).astype(np.float32) / np.float32(255))["features"]
    expected = network.transform(some, "conv1", mirror=True)
    np.testing.assert_allclose(np.moveaxis(found, 1, 3), expected, atol=1e-5)
    call("export a b.safetensors")
    np.testing.assert_array_equal(hebbcore.load("b.safetensors", device="cpu").transform(some), network.transform(some))
    assert fails("export a b.pt") == "export: the file must end in .onnx or .safetensors, got b.pt."
    for option in ("--mirror", "--channels first"):
        assert fails(f"export a b.safetensors {option}").startswith(f"export: {option.split()[0]} is for .onnx")


def test_the_name_of_a_preset(images, call):
    Path("run.toml").write_text(
        'device = "cpu"\n[data]\npath = "images.h5"\n[network]\npreset = "dictionary"\nunits = [4, 6, 6, 5]\n'
        "image_shape = [8, 8, 3]\n"
    )
    call("train run.toml --out a")
    call("export a a.onnx")
    assert metadata_of("a.onnx")["preset"] == "dictionary"


def test_a_few_label_model(photos, call, fails, tmp_path):
    call("classify photos --labels labels.csv --out work --device cpu --features net.h5")
    call("export work a.onnx")
    model, truth = load_model("work", device="cpu"), digits(tmp_path / "new", 60, 40)
    images = np.stack([np.array(Image.open(tmp_path / "new" / file).convert("RGB")) for file in truth])
    found = outputs_of("a.onnx", images)
    assert found["label"].tolist() == model.predict(images)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(images), rtol=0, atol=1e-5)
    assert json.loads(metadata_of("a.onnx")["classes"]) == list(CLASSES)
    assert fails("export work b.onnx --previous").startswith("export: --previous is for the folder of a run; work is a")
    call("export work/model b.onnx")
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()


@pytest.mark.parametrize(("grid", "mirror"), [(4, False), (4, True), (2, False)])  # of 96, and of few, features
def test_a_few_label_model_of_pooled_features(grid, mirror, tmp_path):
    random = np.random.default_rng(0)
    network = hebbcore.Network([hebbcore.Conv(6, 2, "kwta")], (7, 6, 2), device="cpu")
    features = Features(network, "conv1", grid, mirror)
    images, labels = random.random((60, 7, 6, 2), np.float32), np.repeat([0, 1, -1], 20)
    images[:20, :3] += 1
    classifier = FewLabelClassifier().fit(features.of(images).reshape(60, -1), labels)
    model = Model(features, classifier, ("Käfer", "b"))
    onnx(model, tmp_path / "a.onnx", dtype="float32", channels="first")
    found = outputs_of(tmp_path / "a.onnx", np.moveaxis(images, 3, 1))
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(images), rtol=0, atol=1e-5)
    assert found["label"].tolist() == model.predict(images)
    assert set(found["label"][:40]) == {"Käfer", "b"}
    with pytest.raises(ValueError, match="a few-label model has a layer and mirror of its own"):
        onnx(model, tmp_path / "b.onnx", mirror=True)
    with pytest.raises(ValueError, match=r"export\.onnx: texts of ONNX files are Unicode, and the class K\\udce4"):
        onnx(replace(model, classes=("K\udce4fer", "b")), tmp_path / "b.onnx")
