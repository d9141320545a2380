"""hebbcore.load tells apart what hebbcore has written: networks, runs, and models of a work."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from classify_helpers import photos
from cli_helpers import call, fails

import hebbcore
from hebbcore.labelling import Model, load_model

__all__ = ["call", "fails", "photos"]
SMALL = "classify photos --labels labels.csv --out work --device cpu --features net.h5"


def test_the_model_of_a_work_and_a_copy_of_it(photos, call):
    call(SMALL)
    shutil.copytree("work/model", "elsewhere")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    expected = load_model("work", device="cpu").predict_proba(images)
    for path in ("work", "work/model", Path("elsewhere")):
        model = hebbcore.load(path, device="cpu", workspace="8 MiB")
        assert isinstance(model, Model)
        assert model.classes == ("none", "one", "two")
        np.testing.assert_array_equal(model.predict_proba(images), expected)
        assert model.predict(images) == [model.classes[i] for i in expected.argmax(axis=1)]
    assert isinstance(hebbcore.load("elsewhere/network.h5", device="cpu"), hebbcore.Network)


def test_what_is_neither_checkpoint_nor_model(photos, call, fails):
    with pytest.raises(FileNotFoundError, match=r"load: photos holds no checkpoint"):
        hebbcore.load("photos")
    with pytest.raises(FileNotFoundError, match=r"load: nowhere does not exist"):
        hebbcore.load("nowhere")
    call(SMALL)
    with pytest.raises(ValueError, match=r"load: previous is for the checkpoints of a run; work is a model"):
        hebbcore.load("work", previous=True)
    message = fails("classify photos --labels labels.csv --out other --features work")
    assert message.endswith("its network alone is in work/model/network.h5.")


def test_a_model_with_a_layer_of_ones_own(photos, call, fails, monkeypatch):
    """Without the layer nothing is called damaged, and all messages say what is needed."""

    @dataclasses.dataclass(eq=False)
    class Twice(hebbcore.Relu):
        pass

    monkeypatch.setitem(hebbcore.LAYERS, "twice", Twice)
    network = hebbcore.Network([hebbcore.Conv(12, 3), Twice(), hebbcore.Pool(2)], image_shape=(8, 8, 3), device="cpu")
    hebbcore.save("net.h5", network)
    call(SMALL)
    assert "model.json: sound, a model of 3 classes" in call("verify work/model")[0]
    monkeypatch.delitem(hebbcore.LAYERS, "twice")
    out, _ = call("verify work/model")
    assert "model.json: readable; it needs the layer 'twice'" in out
    assert "--import MODULE" in out
    assert out.endswith("files: 3, damaged: 0\n")
    assert "needs the layer 'twice'" in fails("predict work photos --out new.csv")
    Path("work/model/network.h5").unlink()
    assert "work/model/network.h5 is missing" in call("verify work/model", 1)[0]
