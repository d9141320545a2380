"""The state of rules on a GPU: the numbers of the CPU, through steps, devices and files."""

import numpy as np
import pytest
from test_rule_state import RULES, network, states

import hebbcore
from hebbcore import Conv, Dense, Network

pytestmark = pytest.mark.gpu
cupy = pytest.importorskip("cupy")


@RULES
def test_a_training_and_what_becomes_of_its_state(rule, generator, tmp_path):
    images = generator.normal(size=(24, 6, 5, 2)) + 0.4
    there = Network([Conv(6, 3, rule), Dense(4, rule)], (6, 5, 2), seed=2, device="cuda", precision="float64")
    here = network(rule, precision="float64")
    for net in (here, there):
        hebbcore.fit(net, images, batch_size=8, learning_rate=0.05)
    for mine, theirs in zip(states(here), states(there), strict=True):
        for name, array in mine.items():
            assert isinstance(theirs[name], cupy.ndarray)
            np.testing.assert_allclose(theirs[name].get(), array, rtol=1e-9, atol=1e-12)
    expected = here.transform(images)
    hebbcore.save(tmp_path / "net.h5", there)
    for device in ("cpu", "cuda"):
        np.testing.assert_allclose(
            hebbcore.load(tmp_path / "net.h5", device=device).transform(images), expected, atol=1e-9
        )
    layer, first = there.layers[0].as_layer(), here.transform(images, here.names[0])
    back = layer.to_device("cpu")
    assert all(isinstance(array, np.ndarray) for array in back.state.values())
    for twin in (layer, back, back.to_device("cuda")):
        np.testing.assert_allclose(twin.transform(images), first, atol=1e-9)
