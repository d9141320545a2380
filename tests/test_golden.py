"""The numbers of the authors' own programs: ΔW of a batch, weights after ten steps, outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED

import hebbcore

SLIM = sorted((Path(__file__).parent / "golden").glob("*.npz"))
FULL = sorted((SHARED / "golden").glob("*.npz"))
CLASSES = {rule.__name__: rule for rule in hebbcore.RULES.values()}


def load(path):
    """Return a golden file's arrays in float64, its rule, its convolution and how exactly it was stored."""
    data = np.load(path)
    parameters = json.loads(str(data["rule"]))
    rule = CLASSES[parameters.pop("name")](**parameters)
    convolution = json.loads(str(data["conv"])) if "conv" in data else {}
    exact = 1e-12 if data["dw1"].dtype == np.float64 else 1e-6
    arrays = {key: data[key].astype(np.float64) for key in ("x", "w0", "dw1", "w10", "out") if key in data}
    return arrays, rule, convolution, exact, float(data["learning_rate"])


def assert_close(actual, expected, relative):
    """Compare at a fraction of the largest entry."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * np.abs(expected).max())


def test_there_are_golden_numbers_for_all_programs():
    assert {path.name.split("_")[0] for path in SLIM} == {"fasthebb", "softhebb", "krotov"}


@pytest.mark.parametrize("path", SLIM, ids=lambda path: path.stem)
def test_first_change(path):
    arrays, rule, convolution, exact, _ = load(path)
    delta = hebbcore.weight_update(arrays["x"][0], arrays["w0"], rule, **convolution)
    assert_close(delta, arrays["dw1"], exact)


@pytest.mark.parametrize("path", SLIM, ids=lambda path: path.stem)
def test_first_change_in_float32(path):
    arrays, rule, convolution, _, _ = load(path)
    x, w0 = arrays["x"][0].astype(np.float32), arrays["w0"].astype(np.float32)
    assert_close(hebbcore.weight_update(x, w0, rule, **convolution), arrays["dw1"], 1e-5)


@pytest.mark.parametrize("path", [path for path in SLIM if "krotov" not in path.name], ids=lambda path: path.stem)
def test_output(path):
    arrays, rule, convolution, exact, _ = load(path)
    pairs = {key: (value, value) if isinstance(value, int) else value for key, value in convolution.items()}
    layer = hebbcore.HebbianLayer(arrays["w0"], rule, precision="float64", **pairs)
    out = arrays["out"]
    assert_close(layer.transform(arrays["x"][0])[: len(out), : out.shape[1]], out, exact)


def ten_steps(path, precision):
    arrays, rule, convolution, exact, rate = load(path)
    w0 = arrays["w0"]
    layer = hebbcore.train_layer(
        list(arrays["x"]), len(w0), w0.shape[1:3] if w0.ndim == 4 else None, rule=rule, learning_rate=rate,
        initial_weights=w0, precision=precision, **convolution,
    )  # fmt: skip
    return layer.weights, arrays["w10"], exact


@pytest.mark.parametrize("path", [p for p in SLIM if "fasthebb" not in p.name], ids=lambda path: path.stem)
def test_ten_steps(path):
    weights, expected, exact = ten_steps(path, "float64")
    assert_close(weights, expected, exact)


@pytest.mark.skipif(not FULL, reason="the full golden files are not at hand")
@pytest.mark.parametrize("path", [p for p in FULL if "fasthebb" in p.name], ids=lambda path: path.stem)
def test_ten_steps_of_fasthebb(path):
    weights, expected, exact = ten_steps(path, "float64")
    assert_close(weights, expected, exact)
    assert_close(ten_steps(path, "float32")[0], expected, 1e-5)
