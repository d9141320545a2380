"""Small networks of known rules, and their oracle, composed of the slow references."""

import numpy as np
import reference

from hebbcore import HPCA, KWTA, SWTA, BatchNorm, Conv, Dense, Network, Pool, SoftHebb, Triangle

RATE = 0.05


class Oracle:
    """A network as a list of steps in float64: (kind, parameters), each the slow reference's."""

    def __init__(self, steps, weights):
        self.steps, self.weights = steps, [w.astype(np.float64) for w in weights]
        self.running = {}

    def step(self, x, training):
        """Return the output of every step for a batch; training: change weights and running statistics."""
        outputs, learners = [], iter(range(len(self.weights)))
        for i, (kind, options) in enumerate(self.steps):
            if kind in reference.RULES:
                x = self._learn(next(learners), x, kind, dict(options), training)
            elif kind == "norm":
                mean, variance = self.running.get(i, (np.zeros(x.shape[-1]), np.ones(x.shape[-1])))
                x, mean, variance = reference.batch_norm(x, mean, variance, training=training, **options)
                self.running[i] = mean, variance
            else:
                x = getattr(reference, kind)(x, **options)
            outputs.append(x)
        return outputs

    def _learn(self, number, x, rule, options, training):
        before = self.weights[number]
        convolution = {k: options.pop(k) for k in ("stride", "padding", "padding_mode") if k in options}
        if before.ndim == 2:
            x = x.reshape(len(x), -1)
        if training:
            rate = options.pop("rate", RATE)
            self.weights[number] = reference.step(x, before, rule, rate, **convolution, **options)
        options = {k: v for k, v in options.items() if k != "rate"}
        pixels = x / 255 if x.dtype == np.uint8 else x
        rows = pixels if before.ndim == 2 else reference.patches(x, before.shape[1:3], **convolution)
        out = reference.output(rows, before.reshape(len(before), -1), rule, **options)
        if before.ndim == 2:
            return out
        sides = [  # the definition of a convolution
            (side + 2 * convolution.get("padding", 0) - kernel) // convolution.get("stride", 1) + 1
            for side, kernel in zip(x.shape[1:3], before.shape[1:3], strict=True)
        ]
        return out.reshape(len(x), *sides, len(before))


def fasthebb(rule, name, **options):
    """Return the layers, and the oracle's steps, of a small FastHebb network: 12×11×2 images."""
    layers = [
        Conv(4, 3, rule), Pool(2), BatchNorm(),
        Conv(5, 2, rule, stride=2, padding=1, learning_rate=0.02), BatchNorm(modified=True), Dense(6, rule),
        BatchNorm(modified=True),
    ]  # fmt: skip
    steps = [
        (name, options), ("max_pool", {"window": 2}), ("norm", {}),
        (name, options | {"stride": 2, "padding": 1, "rate": 0.02}), ("norm", {"modified": True}), (name, options),
        ("norm", {"modified": True}),
    ]  # fmt: skip
    return layers, steps


def softhebb():
    """Return the layers, and the oracle's steps, of a small SoftHebb network."""
    first, second = SoftHebb(temperature=1.0, adaptive_power=0.5), SoftHebb(temperature=2.0, adaptive_power=0.75)
    layers = [
        BatchNorm(), Conv(5, 3, first, padding=1, padding_mode="reflect"), Triangle(0.7), Pool(4, 2, 1),
        BatchNorm(), Conv(6, 3, second, padding=1, padding_mode="reflect"), Triangle(1.4), Pool(2, kind="average"),
    ]  # fmt: skip
    reflect = {"padding": 1, "padding_mode": "reflect"}
    steps = [
        ("norm", {}), ("softhebb", {"temperature": 1.0, "adaptive_power": 0.5, **reflect}),
        ("triangle", {"power": 0.7}), ("max_pool", {"window": 4, "stride": 2, "padding": 1}),
        ("norm", {}), ("softhebb", {"temperature": 2.0, "adaptive_power": 0.75, **reflect}),
        ("triangle", {"power": 1.4}), ("average_pool", {"window": 2}),
    ]  # fmt: skip
    return layers, steps


NETWORKS = {
    "hpca": lambda: fasthebb(HPCA(), "hpca"),
    "swta": lambda: fasthebb(SWTA(0.05), "swta", temperature=0.05),
    "kwta": lambda: fasthebb(KWTA(2), "kwta", k=2),
    "softhebb": softhebb,
}


def pixels(generator, dtype, n=11, shape=(8, 7, 2)):
    images = generator.integers(0, 256, (n, *shape)).astype(np.uint8)
    return images if dtype == np.uint8 else (images / 255).astype(dtype)


def made(name, precision="float64", **options):
    layers, steps = NETWORKS[name]()
    network = Network(layers, (8, 7, 2), seed=3, device="cpu", precision=precision, **options)
    weights = [layer.weights for layer in network.learners.values()]
    return network, Oracle(steps, weights)


def close(actual, expected, precision="float64"):
    exact = 1e-10 if precision == "float64" else 3e-3
    assert np.shape(actual) == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=exact * max(1e-30, np.abs(expected).max()))


def same_state(network, oracle, precision="float64"):
    for layer, expected in zip(network.learners.values(), oracle.weights, strict=True):
        close(layer.weights, expected, precision)
    norms = [layer for layer in network.layers if isinstance(layer, BatchNorm)]
    assert len(norms) == len(oracle.running)
    for layer, (mean, variance) in zip(norms, oracle.running.values(), strict=True):
        close(layer.mean, mean, precision)
        close(layer.variance, variance, precision)
