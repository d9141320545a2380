"""NumPy told to raise for all it can (np.seterr): what is too small for a number stops nothing."""

import numpy as np
import pytest

import hebbcore
from hebbcore import evaluation
from hebbcore.classify import FewLabelClassifier
from hebbcore.estimators import HebbianTransformer


def numbers(*shape, least=-36, seed=0):
    """Numbers down to 1e-36, and zeros: their products are too small for float32."""
    random = np.random.default_rng(seed)
    return (10 ** random.uniform(least, 0, shape) * random.choice([1, 1, -1, 0], shape)).astype(np.float32)


@pytest.fixture(autouse=True)
def raising():
    with np.errstate(all="raise"):
        with pytest.raises(FloatingPointError):
            numbers(1, 60) @ numbers(60, 60)
        yield


@pytest.mark.parametrize("start", ["rule", "patches", "k-means++"])
@pytest.mark.parametrize("rule", ["hpca", "swta", "softhebb", "ica"])
def test_layers_learn(rule, start):
    if start != "rule" and not hebbcore.RULES[rule]().competes:
        pytest.skip("its units start from patches no better")
    images = numbers(20, 8, 8, 3)
    layer = hebbcore.train_layer(
        images, 6, kernel_size=3, rule=rule, learning_rate=1e-3, epochs=2, initial_weights=start, device="cpu"
    )
    layer.transform(images)
    hebbcore.weight_update(images, numbers(6, 3, 3, 3, seed=1), rule)


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_networks_learn(mode):
    layers = [
        hebbcore.Conv(6, 3, "swta"),
        hebbcore.Split(),
        hebbcore.Power(4.5),
        hebbcore.Pool(2),
        hebbcore.BatchNorm(),
    ]
    network = hebbcore.Network([*layers, hebbcore.Conv(4, 2, "softhebb")], (16, 16, 3), device="cpu")
    images = numbers(40, 16, 16, 3)
    hebbcore.fit(network, images, mode=mode, learning_rate=1e-3, epochs=1)
    network.transform(images, mirror=True)


@pytest.mark.parametrize("least", [-36, -300])
@pytest.mark.parametrize("features", [10, 100])
@pytest.mark.parametrize("labelled", [8, 60])
def test_few_labels_are_learned(features, labelled, least):
    kind = np.float32 if least > -40 else np.float64
    X = (10 ** np.random.default_rng(0).uniform(least, 0, (120, features))).astype(kind)
    X[:, 0] = 1
    y = np.arange(120) % 3
    model = FewLabelClassifier().fit(X, np.where(np.arange(120) < labelled, y, -1))
    model.predict(1e4 * X)  # as far from all others as can be
    model.predict_proba(X)
    model.suggest(3)
    model.relearn(y)


@pytest.mark.parametrize("features", [10, 150])
def test_readouts_are_fitted(features):
    X, y = numbers(120, features), np.arange(120) % 3
    weights = 10 ** np.random.default_rng(1).uniform(-60, 0, 120)
    for model in (evaluation.RidgeReadout().fit(X, y, weights), evaluation.RidgeReadout().partial_fit(X, y)):
        model.score(X, y)
        model.predict_proba(1e4 * X)
    evaluation.retrieval_scores(X, y, X[:9], y[:9])
    evaluation.kmeans_centres(X, 4, 0)


def test_features_are_transformed():
    HebbianTransformer(6, rule="swta", device="cpu").fit_transform(numbers(60, 20))


def test_faults_are_still_told():
    with pytest.raises(FloatingPointError, match="the weights of the layer diverge"):
        hebbcore.train_layer(1e10 * np.ones((20, 5), np.float32), 6, rule="hpca", learning_rate=1e-3, device="cpu")

    class Mine(hebbcore.Rule):
        def gate(self, scores, norms):
            return hebbcore.Gate(np.full_like(scores, 1e30) * np.float32(1e30))

    with pytest.raises(FloatingPointError, match="overflow"):
        hebbcore.weight_update(np.ones((20, 5)), np.ones((6, 5), np.float32), Mine())
