"""Teachers on a GPU: the numbers of the CPU's oracles, and trainings that agree with the CPU's."""

from dataclasses import asdict

import numpy as np
import pytest
import reference
from test_teacher import RULES, masks_of

import hebbcore
from hebbcore import KWTA, SWTA, BatchNorm, Conv, Dense, Network, Pool

pytestmark = pytest.mark.gpu
cupy = pytest.importorskip("cupy")


@RULES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("workspace", ["2 MiB", "256 MiB"])
def test_a_step_is_that_of_the_oracle(name, rule, dtype, workspace, generator):
    images, weights = generator.normal(size=(9, 12, 11, 3)), generator.normal(size=(40, 3, 3, 3))
    masks = masks_of(generator, 9, 40)
    expected = reference.weight_update(images, weights, name, **asdict(rule), teacher=masks)
    there = (cupy.asarray(images.astype(dtype)), cupy.asarray(weights.astype(dtype)))
    found = hebbcore.weight_update(*there, rule, teacher=cupy.asarray(masks), workspace=workspace)
    exact = 1e-10 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(found.get(), expected, rtol=0, atol=exact * np.abs(expected).max())


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_a_training_agrees_with_that_of_the_cpu(mode, generator):
    images, labels = generator.normal(size=(40, 8, 8, 2)).astype(np.float32), generator.integers(-1, 3, 40)
    found = {}
    for device in ("cpu", "cuda"):
        layers = [
            Conv(6, 3, KWTA(2), name="a"), Pool(2), BatchNorm(), Dense(9, SWTA(0.1), name="b"), Dense(3, "supervised"),
        ]  # fmt: skip
        network = Network(layers, (8, 8, 2), device=device, precision="float64")
        records = []
        hebbcore.fit(
            network, images, labels=labels, teacher={"a": 6, "b": 6}, mode=mode, epochs=2, batch_size=8,
            learning_rate=0.05, callback=records.append,
        )  # fmt: skip
        accuracy = [record["accuracy"] for record in records if "accuracy" in record]
        arrays = [hebbcore.to_device(layer.weights, "cpu") for layer in network.learners.values()]
        found[device] = (arrays, accuracy, network.predict(images))
    for here, there in zip(found["cpu"][0], found["cuda"][0], strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-8)
    assert found["cpu"][1] == found["cuda"][1]
    np.testing.assert_array_equal(found["cpu"][2], found["cuda"][2])
    layer = hebbcore.train_layer(
        cupy.asarray(images), 3, rule="supervised", labels=cupy.asarray(labels), learning_rate=1.0, batch_size=40
    )  # fmt: skip
    rows = images.reshape(40, -1)
    means = [rows[labels == c].mean(axis=0) for c in range(3)]
    np.testing.assert_allclose(layer.weights.get(), means, atol=1e-5)
