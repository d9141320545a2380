"""What an earlier version left in the middle goes on to the numbers that it would have had; see half_done_helpers."""

import json
import shutil
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import pytest
from fit_helpers import assert_near
from half_done_helpers import FOLDER, RUNS, STOP_AT, choose_as_before, measure, train, win_as_before, write_features

import hebbcore
from hebbcore import checkpoint, checks
from hebbcore.training import header, run, settings
from hebbcore.training import network as training
from hebbcore.training.diagnostics import lines
from hebbcore.training.header import Position, RunHeader
from hebbcore.training.settings import Training


@pytest.fixture
def network():
    return hebbcore.load(FOLDER / "together", device="cpu")


def expected(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_goes_on(kind, tmp_path, monkeypatch):
    win_as_before(monkeypatch)
    folder = shutil.copytree(FOLDER / kind, tmp_path / "run")
    assert_near(train(kind, folder), expected(kind), 1e-5)  # the first half may be of another machine
    steps = [record["step"] for record in lines(folder / "metrics.jsonl")]
    assert steps == list(range(steps[0], steps[-1] + 1))
    assert steps[0] < STOP_AT[kind] < steps[-1]


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_of_other_settings_does_not(kind, tmp_path):
    folder = shutil.copytree(FOLDER / kind, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*.h5")}
    with pytest.raises(ValueError, match=r"holds another training: training.rate_factor is 2.0 here and (1.0|0.5) the"):
        train(kind, folder, rate_factor=2.0)
    assert {path: path.read_bytes() for path in folder.rglob("*.h5")} == before


def test_an_evaluation_goes_on(network, tmp_path, monkeypatch):
    choose_as_before(monkeypatch, 0)  # images are held out, as in all evaluations then
    folder = shutil.copytree(FOLDER / "evaluation", tmp_path / "evaluation")
    begun = json.loads((folder / "results.json").read_text())["sources"]["bn1"]["runs"]
    found, whole = measure(network, folder), json.loads((FOLDER / "evaluation.json").read_text())
    assert found["sources"]["bn1"]["runs"][: len(begun)] == begun
    for images in found["images"].values():
        assert 0.9 < images.pop("largest") < 1  # which earlier versions did not say
    for key in ("settings", "classes", "images", "shared"):
        assert found[key] == whole[key]
    assert list(found["sources"]) == list(whole["sources"])
    for ours, theirs in zip(found["sources"].values(), whole["sources"].values(), strict=True):
        assert (len(ours["runs"]), ours["features"]) == (len(theirs["runs"]), theirs["features"])
        for one, other in zip(ours["runs"], theirs["runs"], strict=True):
            assert one == pytest.approx(other, abs=2.5)  # an image of 40, where rounding decides
        for metric, one in theirs["retrieval"].items():
            assert ours["retrieval"][metric]["map"] == pytest.approx(one["map"], abs=1)


def of_an_earlier_version(tmp_path, ended):
    """Return the folder of an evaluation, ended or left in the middle, and its figures by source."""
    folder = shutil.copytree(FOLDER / "evaluation", tmp_path / "evaluation")
    if ended:
        shutil.copy(FOLDER / "evaluation.json", folder / "results.json")
    return folder, json.loads((folder / "results.json").read_text())["sources"]


@pytest.mark.parametrize("few", [5000, 20])
@pytest.mark.parametrize("ended", [True, False])
def test_few_labels_of_an_evaluation_are_measured_again(few, ended, network, tmp_path, monkeypatch, caplog):
    """One table does not mix figures of held-out images with those of images that are left out in turn."""
    choose_as_before(monkeypatch, few)
    folder, before = of_an_earlier_version(tmp_path, ended)
    again, anew = measure(network, folder), measure(network, tmp_path / "anew")
    assert again["settings"] == anew["settings"]
    for name, entry in anew["sources"].items():
        mine, old = again["sources"][name], before.get(name, {"runs": []})
        kept = [one for one in old["runs"] if one["labels"] == 1 and few < 80]  # 80 images, of which 20 are a quarter
        assert mine["runs"][: len(kept)] == kept
        found, wanted = (sorted(some["runs"], key=lambda one: (one["labels"], one["seed"])) for some in (mine, entry))
        for one, other in zip(found, wanted, strict=True):
            assert one == (other if one not in kept else pytest.approx(other, abs=2.5))
        if not kept:
            assert (mine["confusion"], again["mistakes"].get(name)) == (entry["confusion"], anew["mistakes"].get(name))
    figures = sum(few >= 80 or one["labels"] < 1 for entry in before.values() for one in entry["runs"])
    assert f"holds {figures} figures of an earlier version for up to {few} labels" in caplog.text
    assert json.loads((folder / "results.json").read_text()) == again
    caplog.clear()
    assert measure(network, folder) == again
    assert "earlier version" not in caplog.text


@pytest.mark.parametrize("ended", [True, False])
def test_figures_by_other_penalties_are_measured_again(ended, network, tmp_path, caplog):
    folder, before = of_an_earlier_version(tmp_path, ended)
    again, anew = measure(network, folder), measure(network, tmp_path / "anew")
    assert again["settings"] == anew["settings"]
    assert again["mistakes"] == anew["mistakes"]
    for name, entry in anew["sources"].items():
        assert again["sources"][name]["runs"] == entry["runs"]
        assert again["sources"][name]["confusion"] == entry["confusion"]
    figures = sum(len(entry["runs"]) for entry in before.values())
    assert f"holds {figures} figures of an earlier version, whose readout chose among other penalties" in caplog.text
    caplog.clear()
    assert measure(network, folder) == again
    assert "earlier version" not in caplog.text


def test_an_extraction_goes_on(network, tmp_path):
    for path in FOLDER.glob("features.h5.*"):
        shutil.copy(path, tmp_path)
    wanted = expected("features")
    path, seen = write_features(network, tmp_path / "features.h5")
    assert seen == [32, 40, 48, 56, 60]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["labels"], wanted["labels"])
        np.testing.assert_allclose(file["features"], wanted["features"], rtol=1e-5, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["features.h5"]


# A later version


@dataclass(frozen=True)
class LaterTraining(Training):
    """A training with a setting more."""

    floor: float = 0.0


@dataclass
class LaterPosition(Position):
    """A position that counts something more."""

    pauses: int = 0


@dataclass(frozen=True)
class LaterHeader(RunHeader):
    """A header that says something more."""

    author: str = ""


@dataclass(frozen=True)
class LaterRule(hebbcore.HPCA):
    """A rule with a parameter more."""

    slope: float = 1.0


@dataclass(eq=False)
class LaterConv(hebbcore.Conv):
    """A layer with a parameter more."""

    dilation: Any = 1

    def _check(self):
        super()._check()
        self.dilation = checks.pair("Conv", "dilation", self.dilation, 1)


LaterConv.__name__ = "Conv"  # by which layers are named
LaterConv.__module__ = LaterRule.__module__ = "hebbcore.later"  # not a user's


@pytest.fixture
def later(monkeypatch):
    """Let everything that is written down have a field more, as a later version may."""
    monkeypatch.setitem(hebbcore.LAYERS, "conv", LaterConv)
    monkeypatch.setitem(hebbcore.RULES, "hpca", LaterRule)
    monkeypatch.setattr(hebbcore, "Conv", LaterConv)
    monkeypatch.setattr(hebbcore, "HPCA", LaterRule)
    for module in (header, settings, training):
        monkeypatch.setattr(module, "Training", LaterTraining)
    for name, kind in (("Position", LaterPosition), ("RunHeader", LaterHeader)):
        monkeypatch.setattr(header, name, kind)
    monkeypatch.setattr(run, "RunHeader", LaterHeader)


@pytest.mark.usefixtures("later")
class TestLater:
    """With a field more in settings, header, position, layers and rules all of the above is as it was."""

    test_a_run = staticmethod(test_a_run_goes_on)
    test_other_settings = staticmethod(test_a_run_of_other_settings_does_not)
    test_an_evaluation = staticmethod(test_an_evaluation_goes_on)
    test_an_extraction = staticmethod(test_an_extraction_goes_on)

    def test_the_field_is_written_and_compared(self, tmp_path):
        folder = shutil.copytree(FOLDER / "together", tmp_path / "run")
        before, _ = checkpoint.read("test", checkpoint.checkpoints(folder)[-1])
        train("together", folder)
        after, _ = checkpoint.read("test", checkpoint.checkpoints(folder)[-1])
        for table, key, value in (
            (after, "author", ""),
            (after["training"], "floor", 0.0),
            (after["position"], "pauses", 0),
            (after["layers"][1], "dilation", [1, 1]),
            (after["layers"][4]["rule"], "slope", 1.0),
        ):
            assert table[key] == value
        here, there = (LaterHeader.from_table(table) for table in (after, before))
        assert header.differences(here, there) == []
        after["training"]["floor"], after["layers"][1]["dilation"] = 0.5, [1, 2]
        assert header.differences(LaterHeader.from_table(after), there) == [
            "layers[1].dilation[1] is 2 here and 1 there",
            "training.floor is 0.5 here and 0.0 there",
        ]


def test_a_header_of_a_later_format_is_refused(tmp_path):
    folder = shutil.copytree(FOLDER / "together", tmp_path / "run")
    path = checkpoint.checkpoints(folder)[-1]
    table, arrays = checkpoint.read("test", path)
    assert "header" not in table["versions"]
    table["versions"]["header"] = header.FORMAT + 1
    checkpoint.write(path, table, arrays)
    with pytest.raises(ValueError, match=r"fit: \S+ does not hold a training of this version: .*a later hebbcore"):
        train("together", folder)


def test_a_later_parameter_of_ones_own_counts_where_it_is_used(monkeypatch):
    @dataclass(frozen=True)
    class Own(hebbcore.HPCA):
        """A rule of a user's own."""

    @dataclass(frozen=True)
    class LaterOwn(hebbcore.HPCA):
        """The same, with a parameter more."""

        slope: float = field(default=1.0, metadata={"later": True})

    def digest(rule):
        monkeypatch.setitem(hebbcore.RULES, "own", type(rule))
        return checkpoint.digest_of(hebbcore.Network([hebbcore.Dense(3, rule)], (4,), device="cpu"))

    assert digest(LaterOwn()) == digest(Own())
    assert digest(LaterOwn(slope=2.0)) != digest(Own())
