"""The numbers of the authors' own programs: ΔW of a batch, weights after ten steps, outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED

import hebbcore

SLIM = sorted((Path(__file__).parent / "golden").glob("*.npz"))
FULL = [path for folder in ("golden", "golden-more") for path in sorted((SHARED / folder).glob("fasthebb*.npz"))]
FULL = [path for path in FULL if "labels" not in np.load(path)]
CLASSES = {rule.__name__: rule for rule in hebbcore.RULES.values()}


def load(path):
    """Return a golden file's arrays in float64, its rule, its convolution and how exactly it was stored."""
    data = np.load(path)
    parameters = json.loads(str(data["rule"]))
    rule = CLASSES[parameters.pop("name")](**parameters)
    convolution = json.loads(str(data["conv"])) if "conv" in data else {}
    exact = 1e-12 if data["dw1"].dtype == np.float64 else 1e-6
    keys = ("x", "w0", "dw1", "w10", "out", "out10", "running_mean", "running_var")
    arrays = {key: data[key].astype(np.float64) for key in keys if key in data}
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
    state = None
    if "running_mean" in arrays:  # the first step puts out what it is by the statistics of its own batch
        state = {"mean": arrays["running_mean"][1], "variance": arrays["running_var"][1]}
    layer = hebbcore.HebbianLayer(arrays["w0"], rule, precision="float64", state=state, **pairs)
    out = arrays["out"]
    assert_close(layer.transform(arrays["x"][0])[: len(out), : out.shape[1]], out, exact)


def ten_steps(path, precision):
    """Train for ten steps; return the layer, the file's arrays and how exactly they are stored."""
    arrays, rule, convolution, exact, rate = load(path)
    w0 = arrays["w0"]
    layer = hebbcore.train_layer(
        list(arrays["x"]), len(w0), w0.shape[1:3] if w0.ndim == 4 else None, rule=rule, learning_rate=rate,
        initial_weights=w0, precision=precision, **convolution,
    )  # fmt: skip
    return layer, arrays, exact


@pytest.mark.parametrize("path", [path for path in SLIM if "w10" in np.load(path)], ids=lambda path: path.stem)
def test_ten_steps(path):
    layer, arrays, exact = ten_steps(path, "float64")
    assert_close(layer.weights, arrays["w10"], exact)
    for name, key in (("mean", "running_mean"), ("variance", "running_var")):
        if key in arrays:
            assert_close(layer.state[name], arrays[key][-1], exact)
    if "out10" in arrays:
        out = arrays["out10"]
        assert_close(layer.transform(arrays["x"][0])[: len(out)], out, exact)


@pytest.mark.parametrize("path", [path for path in SLIM if "running_mean" in np.load(path)], ids=lambda path: path.stem)
def test_every_step_leaves_the_statistics_and_the_output_of_the_program(path):
    arrays, rule, _, exact, rate = load(path)
    images, w0 = arrays["x"], arrays["w0"]
    network = hebbcore.Network([hebbcore.Conv(len(w0), w0.shape[1:3], rule)], images.shape[2:], precision="float64")
    layer = network.layers[0]
    layer.weights = w0
    out = np.empty((images.shape[1], *network.shapes[0]))
    for i, x in enumerate(images):
        layer.learn(x, out, rate, measure=False)
        assert_close(layer.state["mean"], arrays["running_mean"][i + 1], exact)
        assert_close(layer.state["variance"], arrays["running_var"][i + 1], exact)
        if i == 0:
            assert_close(out[: len(arrays["out"])], arrays["out"], exact)


@pytest.mark.skipif(not FULL, reason="the full golden files are not at hand")
@pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)
def test_ten_steps_of_fasthebb(path):
    layer, arrays, exact = ten_steps(path, "float64")
    assert_close(layer.weights, arrays["w10"], exact)
    assert_close(ten_steps(path, "float32")[0].weights, arrays["w10"], 1e-5)
