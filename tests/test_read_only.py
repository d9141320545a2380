"""What another process shares may only be read, as joblib, Ray and Dask hand it out: it learns on all the same."""

import pickle

import numpy as np
import pytest
from fit_helpers import arrays, assert_same, images, network

import hebbcore
from hebbcore.estimators import HebbianTransformer
from hebbcore.evaluation import RidgeReadout

DATA = images(20, np.uint8)


def read_only(value):
    """Return a copy of an object whose arrays may only be read."""
    buffers = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])


def of(*layers):
    return hebbcore.Network(layers, DATA.shape[1:], device="cpu")


NETWORKS = {
    "layers of every kind": lambda: network(True, precision="float32"),
    "a start from patches": lambda: of(hebbcore.Conv(4, 3, "kwta", initial_weights="patches")),
    "rivals": lambda: of(hebbcore.Conv(6, 3, "kwta", conscience=0.1, revival=2)),
    "a state": lambda: of(hebbcore.Conv(4, 3, "ica"), hebbcore.Scale()),
    "codes": lambda: of(hebbcore.Conv(4, 3, "kwta", response="cosine-exp"), hebbcore.Nystrom()),
    "branches": lambda: of(hebbcore.Branches([hebbcore.Conv(4, 3, "hpca")], [hebbcore.Conv(3, 3, "softhebb")])),
}


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_network_learns_on(make, fresh):
    options = {"mode": "layerwise", "learning_rate": 1e-3}
    own = make() if fresh else hebbcore.fit(make(), DATA, **options)
    shared = read_only(own)
    hebbcore.fit(own, DATA, seed=1, **options)
    hebbcore.fit(shared, DATA, seed=1, **options)
    assert_same(arrays(shared), arrays(own))


def test_an_estimator_learns_on():
    own = HebbianTransformer(4, 3, random_state=0).partial_fit(DATA)
    shared = read_only(own)
    expected = own.partial_fit(DATA).transform(DATA)
    np.testing.assert_array_equal(shared.partial_fit(DATA).transform(DATA), expected)


@pytest.mark.parametrize("alphas", [1.0, (0.1, 10.0)])
def test_a_ridge_readout_takes_more_rows(alphas, generator):
    rows, labels = generator.normal(size=(60, 5)), np.arange(60) % 3
    own = RidgeReadout(alphas, validation_fraction=0.2).partial_fit(rows[:40], labels[:40])
    shared = read_only(own)
    for model in (own, shared):
        model.partial_fit(rows[40:], labels[40:])
    np.testing.assert_array_equal(shared.coef_, own.coef_)
