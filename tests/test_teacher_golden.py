"""The numbers of FastHebb's own program for layers with a teacher, and for its supervised last layer."""

import json
from pathlib import Path

import numpy as np
import pytest
import reference
from test_golden import CLASSES, assert_close

import hebbcore

PATHS = sorted((Path(__file__).parent / "golden" / "taught").glob("*.npz"))


def load(path):
    """Return a file's arrays, its rule, its convolution and the masks (10, images, units) of its ten batches."""
    data = dict(np.load(path))
    parameters = json.loads(str(data["rule"]))
    rule = CLASSES[parameters.pop("name")](**parameters)
    convolution = json.loads(str(data["conv"])) if "conv" in data else {}
    arrays = {key: value.astype(np.float64) for key, value in data.items() if value.dtype == np.float32}
    if "teacher" in data:
        return arrays, rule, convolution, data["teacher"]
    return arrays, rule, convolution, data["labels"][..., None] == np.arange(len(data["w0"]))


def test_there_are_numbers_of_four_rules():
    assert {type(load(path)[1]).__name__ for path in PATHS} == {"SWTA", "KWTA", "HPCA", "Supervised"}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_ten_steps(path, dtype):
    arrays, rule, convolution, teacher = load(path)
    rate = float(np.load(path)["learning_rate"])
    weights = arrays["w0"].astype(dtype)
    for i, (x, masks) in enumerate(zip(arrays["x"].astype(dtype), teacher, strict=True)):
        delta = hebbcore.weight_update(x, weights, rule, teacher=masks, **convolution)
        if i == 0:
            assert_close(delta, arrays["dw1"], 1e-6 if dtype == np.float64 else 1e-5)
        weights = weights + dtype(rate) * delta
    assert_close(weights, arrays["w10"], 1e-6 if dtype == np.float64 else 2e-5)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_outputs_never_see_the_teacher(path):
    arrays, rule, convolution, _ = load(path)
    pairs = {key: (value, value) if isinstance(value, int) else value for key, value in convolution.items()}
    for weights, images, out in (("w0", arrays["x"][0], arrays["out"]), ("w10", arrays["x"][0], arrays["out10"])):
        layer = hebbcore.HebbianLayer(arrays[weights], rule, precision="float64", **pairs)
        assert_close(layer.transform(images)[: len(out)], out, 1e-6)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_oracle_says_the_same(path):
    arrays, rule, convolution, teacher = load(path)
    name = next(name for name, kind in hebbcore.RULES.items() if kind is type(rule))
    expected = reference.weight_update(
        arrays["x"][0], arrays["w0"], name, teacher=teacher[0], **vars(rule), **convolution
    )  # fmt: skip
    assert_close(expected, arrays["dw1"], 1e-6)
