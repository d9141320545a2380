"""Small networks and data that the tests of fit share, and a slow network to compare with."""

import numpy as np
import reference
from test_rules import parameters

import hebbcore
from hebbcore.layers import Learner

BATCHED = {"epochs": 2, "learning_rate": 0.1}  # for data that come in batches
IN_ORDER = {**BATCHED, "batch_size": 4, "shuffle": False}
OPTIONS = {**BATCHED, "batch_size": 4, "seed": 3}

IMAGES = (10, 7, 7, 2)


def images(count=IMAGES[0], dtype=np.float64, seed=1):
    """Return images that differ from each other."""
    generator = np.random.default_rng(seed)
    shape = (count, *IMAGES[1:])
    return generator.integers(0, 256, shape, np.uint8) if dtype == np.uint8 else generator.random(shape).astype(dtype)


def layers(whiten=False):
    """Return layers of every kind, fewer than ten units in all; the pool and the batch norm follow each other."""
    first = [hebbcore.Whiten(2, epsilon=0.01, contrast=0.01)] if whiten else []
    return [
        *first,
        hebbcore.Conv(4, 1 if whiten else 2, hebbcore.SWTA(0.1), learning_rate=0.5),
        hebbcore.Pool(2),
        hebbcore.BatchNorm(),
        hebbcore.Conv(3, 2, "hpca"),
        hebbcore.BatchNorm(modified=True),
        hebbcore.Triangle(),
        hebbcore.Dense(2, "softhebb", learning_rate=0.05),
    ]


def network(whiten=False, precision="float64", **options):
    return hebbcore.Network(layers(whiten), IMAGES[1:], precision=precision, device="cpu", **options)


def arrays(net):
    """Return copies of all that learning changes."""
    return {key: np.array(array) for key, array in hebbcore.checkpoint.arrays_of(net).items()}


def assert_same(actual, expected):
    """The same arrays, bit for bit."""
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        assert actual[key].dtype == array.dtype, key
        np.testing.assert_array_equal(actual[key], array, err_msg=key)


def assert_near(actual, expected, tolerance):
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_allclose(actual[key], array, rtol=tolerance, atol=tolerance, err_msg=key)


def orders(count, seed=0):
    """Yield the order of the images in one epoch after another, as fit shuffles an array."""
    generator = np.random.default_rng(seed).spawn(2)[1]
    while True:
        yield generator.permutation(count)


class SlowNetwork:
    """The layers of a built network without Whiten, by the slow reference, float64."""

    def __init__(self, net):
        self.layers, self.names = net.layers, net.names
        self.state = arrays(net)

    def forward(self, i, x, mean=None, variance=None):
        """Return the output of layer i; the mean and variance of a batch norm are the running ones unless given."""
        layer, name = self.layers[i], self.names[i]
        if isinstance(layer, Learner):
            weights = self.state[f"{name}/weights"]
            rule, settings = parameters(layer.rule)
            rows = reference.patches(x, weights.shape[1:3]) if weights.ndim == 4 else x.reshape(len(x), -1)
            out = reference.output(rows, weights.reshape(len(weights), -1), rule, **settings)
            side = x.shape[1] - weights.shape[1] + 1 if weights.ndim == 4 else 1
            return out.reshape(len(x), side, side, -1)
        if isinstance(layer, hebbcore.Pool):
            n, height, width, channels = x.shape
            return x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
        if isinstance(layer, hebbcore.Triangle):
            return np.maximum(x - x.mean(axis=-1, keepdims=True), 0)
        running = self.state[f"{name}/variance"]
        mean = self.state[f"{name}/mean"] if mean is None else mean
        out = (x - mean) / np.sqrt((running if variance is None else variance) + layer.epsilon)
        scale = (running + layer.epsilon) / (running.mean() + layer.epsilon)
        return out * np.sqrt(scale) if layer.modified else out

    def response(self, i, x):
        """Return the responses (n, K) of a layer whose rule's are scores or cosines, one row a patch."""
        weights = self.state[f"{self.names[i]}/weights"]
        rows = reference.patches(x, weights.shape[1:3]) if weights.ndim == 4 else x.reshape(len(x), -1)
        flat = weights.reshape(len(weights), -1)
        return rows @ flat.T / (np.linalg.norm(flat, axis=1) if self.layers[i].rule.needs_norms else 1)

    def output(self, last, x):
        """Return the input of layer `last`."""
        for i in range(last):
            x = self.forward(i, x)
        return x

    def learn(self, i, x, rate):
        layer, key = self.layers[i], f"{self.names[i]}/weights"
        rule, settings = parameters(layer.rule)
        x = x if self.state[key].ndim == 4 else x.reshape(len(x), -1)
        self.state[key] = reference.step(x, self.state[key], rule, rate, **settings)

    def learn_together(self, x, rate_of):
        """One step of all layers, each by its weights from before."""
        for i, layer in enumerate(self.layers):
            if isinstance(layer, hebbcore.BatchNorm):
                name = self.names[i]
                mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
                unbiased = x.var(axis=(0, 1, 2), ddof=1)
                for key, new in (("mean", mean), ("variance", unbiased)):
                    self.state[f"{name}/{key}"] += layer.momentum * (new - self.state[f"{name}/{key}"])
                x = self.forward(i, x, mean, variance)
                continue
            out = self.forward(i, x)
            if isinstance(layer, Learner):
                self.learn(i, x, rate_of(layer))
            x = out

    def observe(self, i, x):
        """Give a batch norm the statistics of its whole input."""
        x = self.output(i, x)
        self.state[f"{self.names[i]}/mean"] = x.mean(axis=(0, 1, 2))
        self.state[f"{self.names[i]}/variance"] = x.var(axis=(0, 1, 2), ddof=1)


def rate_of(layer, rate=0.1):
    return layer.learning_rate or rate


def batches_of(data, order, size=4):
    return [data[order[first : first + size]] for first in range(0, len(order), size)]
