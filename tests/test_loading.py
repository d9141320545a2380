"""hebbcore.load tells apart what hebbcore has written: networks, runs, and models of a work."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from classify_helpers import photos, rows_of
from cli_helpers import call, fails

import hebbcore
import loaders
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


def test_what_is_of_a_run_or_a_network_is_refused_for_a_layer(tmp_path):
    path = tmp_path / "layer.h5"
    hebbcore.save(path, hebbcore.train_layer(np.random.default_rng(0).random((9, 6, 6, 1)), 3, 2))
    with pytest.raises(ValueError, match=r"load: workspace is of networks; \S+layer.h5 is a layer, whose transform"):
        hebbcore.load(path, workspace="8 MiB")
    with pytest.raises(ValueError, match=r"load: previous is for the checkpoints of a run; \S+layer.h5 is a file"):
        hebbcore.load(path, previous=True)


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


def test_images_that_are_no_numbers_get_no_class(photos, call):
    """The command leaves them out of its table, as files that cannot be read; the model names the first."""
    call(SMALL)
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    for i, value in ((1, np.nan), (2, -3.4e38)):
        images[i, 3, 3, 0] = value
    model = load_model("work", device="cpu")
    for method in (model.predict, model.predict_proba):
        with pytest.raises(ValueError, match=r"predict_proba: images must be finite .* images\[1\] is not; clean it"):
            method(images)
        with pytest.raises(ValueError, match=r"but images\[0\] is not"):
            method(images[2:])
    images[1, 3, 3, 0] = -3.4e38  # what maps hold where nothing was measured; shards hold no NaN
    loaders.build_shards(loaders.array_source(images, np.full(4, -1), names=["a", "b", "c", "d"], wide=True), "shards")
    _, err = call("predict work shards --out new.csv --device cpu")
    assert [row["file"] for row in rows_of(Path("new.csv"))] == ["a", "d"]
    assert [row["label"] for row in rows_of(Path("new.csv"))] == model.predict(images[[0, 3]])
    assert "left out: b (NaN, infinity or more than 1e+12 among its pixels)\nleft out: c (" in err
    (tmp := Path("all")).mkdir()
    loaders.build_shards(loaders.array_source(images[1:3], np.full(2, -1), names=["b", "c"], wide=True), tmp / "s")
    assert "labels of 0 images" in call("predict work all/s --out none.csv --device cpu")[0]
