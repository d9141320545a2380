"""The layers of a dictionary in two layers together: trained layer by layer, stopped, gone on with, saved."""

import numpy as np
import pytest
from fit_helpers import arrays, assert_same

import hebbcore
from hebbcore import Branches, Conv, GaussianPool, Network, Nystrom, Power, Scale, Split, Whiten

IMAGES = np.random.default_rng(0).integers(0, 256, (14, 12, 11, 3), np.uint8)
OPTIONS = {"mode": "layerwise", "epochs": 2, "batch_size": 4, "statistics_images": 9, "log_seconds": 0}


class Stopped(Exception):
    pass


def dictionary():
    """Return the recipe's network, small: whitened pixels, codes, whitened patches of codes; and patches beside it."""
    units = {"learning_rate": 1.0, "initial_weights": "patches"}
    deep = [
        Whiten(3, padding=1, padding_mode="edge", contrast=None, epsilon=0.01, relative=True, centre=True),
        Conv(6, 3, "kwta", padding=1, response="cosine-exp", **units),
        GaussianPool(2),
        Nystrom(),
        Whiten(3, padding=1, contrast=None, epsilon=0.01, relative=True, components=10),
        Conv(8, 1, "signedwta", response="cosine", **units),
        Scale(),
        Split(0.25),
        GaussianPool(2),
        Power(0.5),
    ]
    wide = [
        Whiten(6, epsilon=0.3),
        Conv(7, 1, "signedwta", linear=True, **units),
        Scale(),
        Split(0.25),
        GaussianPool((3, 2)),
        Power(0.5),
    ]
    return Network([Branches(deep, wide)], IMAGES.shape[1:], device="cpu")


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr("hebbcore.files.sync", lambda path: None)
    steps = []
    expected = hebbcore.fit(dictionary(), IMAGES, callback=lambda record: steps.append(record["step"]), **OPTIONS)
    for step in sorted(set(steps))[1::3]:

        def stop(record, step=step):
            if record["step"] == step:
                raise Stopped

        run = tmp_path / str(step)
        with pytest.raises(Stopped):
            hebbcore.fit(dictionary(), IMAGES, run=run, checkpoint_minutes=1e-9, callback=stop, **OPTIONS)
        assert_same(arrays(hebbcore.fit(dictionary(), IMAGES, run=run, **OPTIONS)), arrays(expected))


def test_its_features_are_saved_and_differ_between_images(tmp_path):
    network = hebbcore.fit(dictionary(), IMAGES, **{**OPTIONS, "log_seconds": 5})
    features = network.transform(IMAGES, mirror=True)
    assert features.shape == (14, 3, 3, 2 * 8 + 2 * 7)
    assert np.isfinite(features).all()
    assert (features.reshape(14, -1).std(axis=0) > 0).all()
    hebbcore.save(tmp_path / "network.h5", network)
    np.testing.assert_array_equal(
        hebbcore.load(tmp_path / "network.h5", device="cpu").transform(IMAGES, mirror=True), features
    )
