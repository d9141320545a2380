"""Work of every kind that is left in the middle; `python tests/half_done_helpers.py FOLDER` leaves it there.

tests/half_done was written so by 0.1.0 of November 2026, before checkpoints had a RunHeader.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

import hebbcore
import loaders
from hebbcore import checkpoint
from hebbcore.evaluation import RidgeReadout, readouts
from hebbcore.evaluation.evaluate import evaluate
from hebbcore.evaluation.ridge import holdout
from hebbcore.features import extract

FOLDER = Path(__file__).parent / "half_done"
STOP_AT = {"together": 21, "layerwise": 31}  # steps: in the middle of an epoch


class Stopped(Exception):
    """Somebody pulled the plug."""


def pictures(count, seed):
    """Return images (count, 8, 8, 1) and labels: bright bars, one for each of four classes, in noise."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = generator.integers(0, 120, (count, 8, 8, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        bar = (slice(label, label + 3), slice(None)) if label % 2 else (slice(None), slice(label + 2, label + 4))
        image[bar] += generator.integers(40, 130, dtype=np.uint8)
    return images, labels


def together():
    """Return a network, data and options: whitening, a start from patches, a conscience and a measured rate."""
    layers = [
        hebbcore.Whiten(2, epsilon=0.1),
        hebbcore.Conv(
            6, 3, hebbcore.SWTA(0.3, competition="power"), learning_rate=0.3, initial_weights="patches", conscience=0.1
        ),
        hebbcore.Pool(2),
        hebbcore.BatchNorm(momentum=0.2),
        hebbcore.Dense(5, hebbcore.HPCA("tanh"), learning_rate="auto", name="last"),
    ]
    network = hebbcore.Network(layers, (8, 8, 1), seed=2, device="cpu")
    return network, pictures(120, 0)[0], {"batch_size": 12, "epochs": 4, "seed": 3, "statistics_images": 100}


def layerwise():
    """Return the same, of a stream, in float64, with a batch norm's own pass, revival and a cosine."""
    layers = [
        hebbcore.BatchNorm(),
        hebbcore.Conv(5, 3, hebbcore.KWTA(2), initial_weights="k-means++", revival=4.0, padding=1),
        hebbcore.Pool(2, kind="average"),
        hebbcore.BatchNorm(modified=True),
        hebbcore.Dense(4, hebbcore.SoftHebb(0.5, anti_hebbian=True), learning_rate=0.05),
        hebbcore.Triangle(),
    ]
    network = hebbcore.Network(layers, (8, 8, 1), seed=4, device="cpu", precision="float64")
    options = {"epochs": 3, "mode": "layerwise", "schedule": "cosine", "learning_rate": 0.2, "rate_factor": 0.5}
    return network, loaders.ArrayStream(*pictures(90, 1), batch_size=10), options


RUNS = {"together": together, "layerwise": layerwise}


def train(kind, run, stop=False, **changes):
    """Return the arrays after a training into a folder, which a callback may stop in the middle."""

    def callback(record):
        if stop and record["step"] == STOP_AT[kind]:
            raise Stopped

    network, data, options = RUNS[kind]()
    saving = {"run": run, "keep": 1, "log_seconds": 0, "checkpoint_minutes": 1e-9}
    hebbcore.fit(network, data, callback=callback, **saving, **{**options, **changes})
    return {key: np.array(array) for key, array in checkpoint.arrays_of(network).items()}


def measure(network, folder, messages=10**9):
    """Return the results of an evaluation, which may be stopped after so many messages."""
    told = []

    def tell(text):
        told.append(text)
        if len(told) > messages:
            raise Stopped

    train, test = (loaders.ArrayStream(*pictures(count, count), batch_size=16) for count in (80, 40))
    options = {"fractions": [0.25, 1], "seeds": 2, "baselines": ["pixels"], "features": 60, "queries": 10}
    return evaluate(network, train, test, folder, progress=tell, **options)


def write_features(network, path, batches=10**9):
    """Extract features, and return the file and the counts of images told; may be stopped after so many batches."""
    seen = []

    def count(done):
        seen.append(done)
        if len(seen) == batches + 1:  # it is told once before the first
            raise Stopped

    stream = loaders.ArrayStream(*pictures(60, 2), batch_size=8)
    return extract.extract_features(network, stream, path, mirror=True, progress=count), seen


def expect_stop(function, *arguments):
    try:
        function(*arguments)
    except Stopped:
        return
    raise AssertionError(f"{function.__name__} came to its end")


def make(folder):
    """Leave all that in the middle, and beside it what becomes of it."""
    extract._SAVE_SECONDS = 0
    for kind in RUNS:
        expect_stop(train, kind, folder / kind, True)
        np.savez_compressed(folder / f"{kind}.npz", **train(kind, folder / "whole" / kind))
    network = hebbcore.load(folder / "together", device="cpu")
    expect_stop(measure, network, folder / "evaluation", 3)
    (folder / "evaluation.json").write_text(json.dumps(measure(network, folder / "whole" / "evaluation")) + "\n")
    expect_stop(write_features, network, folder / "features.h5", 4)
    with h5py.File(write_features(network, folder / "whole" / "features.h5")[0]) as file:
        np.savez_compressed(folder / "features.npz", **{name: file[name][...] for name in ("features", "labels")})


def choose_as_before(monkeypatch, few):
    """Let a ridge readout leave out up to so many images in turn, and choose among whole decades, as it did."""
    monkeypatch.setattr(holdout, "FEW", few)

    def make(seed):
        return RidgeReadout(10.0 ** np.arange(-2, 6), standardize=True, random_state=seed)

    monkeypatch.setitem(readouts.KINDS, "ridge", replace(readouts.KINDS["ridge"], few=few, make=make))


def win_as_before(monkeypatch):
    """Let revival take the first of the units that win at once alone for the winner, as it did."""
    monkeypatch.setattr(hebbcore.KWTA, "winners_at_once", lambda self: 1)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
