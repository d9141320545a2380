"""`hebbcore verify` of a work folder, and of a copy of its model."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from classify_helpers import photos, some_labels, write_labels
from cli_helpers import call

import hebbcore
from hebbcore.features.choice import Features
from hebbcore.labelling.model import Model, save_model
from hebbcore.page.kept import KEPT, write_kept
from hebbcore.page.store import LABELS, Store

__all__ = ["call", "photos"]
SMALL = "classify photos --labels labels.csv --out work --device cpu --features net.h5"


@pytest.fixture
def work(photos, call):
    call(SMALL)
    return Path("work")


def test_a_sound_work(work, call):
    out, _ = call("verify work")
    lines = out.splitlines()
    assert lines[-1] == "files: 6, damaged: 0"
    assert "work/model/model.json: sound, a model of 3 classes" in out
    assert "work/done.txt: results are sound" in lines
    assert {"work/features.h5: sound", "work/images: sound", "work/model/network.h5: sound"} <= set(lines)
    shutil.copytree("work/model", "copy")
    assert call("verify copy")[0].endswith("files: 3, damaged: 0\n")


def test_the_same_weights_for_images_of_another_size_are_another_network(tmp_path):
    for side in (6, 8, 8):
        network = hebbcore.Network([hebbcore.Conv(2, 3)], (side, side, 1), device="cpu")
        features = Features.checked("test", network, "conv1", None, False)
        classifier = SimpleNamespace(state=lambda: ({"a": np.zeros(1)}, {}))
        save_model(tmp_path, Model(features, classifier, ("x", "y")), 32 * "0")
        assert hebbcore.load(tmp_path / "network.h5", device="cpu").image_shape == (side, side, 1)


def test_before_there_are_labels(photos, call):
    call(SMALL.replace("--labels labels.csv ", ""))
    assert call("verify work")[0].endswith("files: 3, damaged: 0\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("predictions.csv", "work/predictions.csv is not what was written"),
        ("report.html", "work/report.html is not what was written"),
        ("features.h5", "work/features.h5 is damaged"),
        ("model/network.h5", "work/model/network.h5 is damaged"),
        ("model/classifier", "work/model/classifier-"),
        ("model/model.json", "work/model/model.json is damaged"),
        ("images/shard-00000.h5", "work/images is damaged"),
        ("done.txt", "work/done.txt is damaged"),
    ],
)
def test_a_damaged_file_is_named(name, message, work, call):
    file = next(work.glob(f"{name}*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if name == "done.txt":
        data[:] = b"done\n"
    elif name == "model/model.json":
        del data[-20:]
    file.write_bytes(data)
    out, _ = call("verify work", 1)
    assert message in out


@pytest.mark.parametrize("name", ["predictions.csv", "next.csv", "done.txt", "model/network.h5", "model/classifier"])
def test_a_missing_file_is_named(name, work, call):
    file = next(work.glob(f"{name}*"))
    file.unlink()
    out, _ = call("verify work", 1)
    assert f"{file} is missing" in out or f"{file} does not exist" in out


def test_labels_in_next_are_no_damage(work, call):
    (work / "next.csv").write_text((work / "next.csv").read_text().replace(",,", ",two,"))
    assert "work/done.txt: results are sound; next.csv was changed since" in call("verify work")[0]


def test_parts_of_two_works_do_not_pass(work, photos, call):
    shutil.copytree("work", "other")
    write_labels(Path("labels.csv"), some_labels(photos, 5))
    call(SMALL.replace("work", "other"))
    shutil.copytree("other/model", "work/model", dirs_exist_ok=True)
    assert "work/model is not the model of the results" in call("verify work", 1)[0]


def test_predictions_that_lack_an_image(work, call):
    """As a version that wrote no digests left them."""
    first = (work / "done.txt").read_text().splitlines()[0]
    (work / "done.txt").write_text(f"{first}\n")
    assert "complete, but without digests" in call("verify work")[0]
    lines = (work / "predictions.csv").read_text().splitlines()
    (work / "predictions.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert "59 there and 60 here" in call("verify work", 1)[0]
    assert json.loads((work / "model/model.json").read_text())["made_from"] == first


@pytest.mark.parametrize("results", [True, False])
@pytest.mark.parametrize("name", [LABELS, KEPT])
def test_what_the_page_adds(results, name, photos, call):
    call(SMALL if results else SMALL.replace("--labels labels.csv ", ""))
    work = Path("work")
    with closing(Store(work / LABELS)) as store:
        store.apply([("a.png", -1, 1)] * 2000, ["cat"])
    write_kept(work / KEPT, "digest", {"rows": np.zeros((20, 3))})
    out, _ = call("verify work")
    assert {f"work/{LABELS}: sound", f"work/{KEPT}: sound", "work/images: sound"} <= set(out.splitlines())
    data = bytearray((work / name).read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    (work / name).write_bytes(data)
    assert f"work/{name} is damaged" in call("verify work", 1)[0]
