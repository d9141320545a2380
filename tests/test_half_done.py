"""What an earlier version left in the middle goes on to the numbers that it would have had; see half_done_helpers."""

import json
import shutil

import h5py
import numpy as np
import pytest
from fit_helpers import assert_near
from half_done_helpers import FOLDER, RUNS, STOP_AT, measure, train, write_features

import hebbcore
from hebbcore.training.diagnostics import lines


@pytest.fixture
def network():
    return hebbcore.load(FOLDER / "together", device="cpu")


def expected(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_goes_on(kind, tmp_path):
    run = shutil.copytree(FOLDER / kind, tmp_path / "run")
    assert_near(train(kind, run), expected(kind), 1e-5)  # the first half may be of another machine
    steps = [record["step"] for record in lines(run / "metrics.jsonl")]
    assert steps == list(range(steps[0], steps[-1] + 1))
    assert steps[0] < STOP_AT[kind] < steps[-1]


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_of_other_settings_does_not(kind, tmp_path):
    run = shutil.copytree(FOLDER / kind, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*.h5")}
    with pytest.raises(ValueError, match=r"holds another training: training.rate_factor is 2.0 here and (1.0|0.5) the"):
        train(kind, run, rate_factor=2.0)
    assert {path: path.read_bytes() for path in run.rglob("*.h5")} == before


def test_an_evaluation_goes_on(network, tmp_path):
    folder = shutil.copytree(FOLDER / "evaluation", tmp_path / "evaluation")
    begun = json.loads((folder / "results.json").read_text())["sources"]["bn1"]["runs"]
    found, whole = measure(network, folder), json.loads((FOLDER / "evaluation.json").read_text())
    assert found["sources"]["bn1"]["runs"][: len(begun)] == begun
    for key in ("settings", "classes", "images", "shared"):
        assert found[key] == whole[key]
    assert list(found["sources"]) == list(whole["sources"])
    for ours, theirs in zip(found["sources"].values(), whole["sources"].values(), strict=True):
        assert (len(ours["runs"]), ours["features"]) == (len(theirs["runs"]), theirs["features"])
        for one, other in zip(ours["runs"], theirs["runs"], strict=True):
            assert one == pytest.approx(other, abs=2.5)  # an image of 40, where rounding decides
        for metric, one in theirs["retrieval"].items():
            assert ours["retrieval"][metric]["map"] == pytest.approx(one["map"], abs=1)


def test_an_extraction_goes_on(network, tmp_path):
    for path in FOLDER.glob("features.h5.*"):
        shutil.copy(path, tmp_path)
    wanted = expected("features")
    path, seen = write_features(network, tmp_path / "features.h5")
    assert seen == [40, 48, 56, 60]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["labels"], wanted["labels"])
        np.testing.assert_allclose(file["features"], wanted["features"], rtol=1e-5, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["features.h5"]
