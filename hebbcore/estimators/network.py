"""A network as a scikit-learn transformer."""

from collections.abc import Sequence
from typing import Any

from hebbcore.engine.backend import Array
from hebbcore.estimators.transformer import NetworkTransformer
from hebbcore.graph import Graph
from hebbcore.layers import BatchNorm, Dense, Layer
from hebbcore.network import Network
from hebbcore.presets import preset
from hebbcore.rules import Rule
from hebbcore.serialize import layer_of, layer_table
from hebbcore.training.network import fit
from hebbcore.training.teacher import who_needs_labels


class HebbianNetworkTransformer(NetworkTransformer):
    """A network as a scikit-learn transformer.

    Parameters
    ----------
    network : str or sequence of Layer or None
        A preset's name (see hebbcore.preset), or a list of new layers, which are copied.
    rule : Rule or str or None
        See preset; for presets only.
    preprocess : str
        See preset; for presets only.
    units : sequence of int or None
        See preset; for "dictionary" only.
    layer : str or None
        The layer whose output the features are; None: the last.
    mirror : bool
        Transform to the mean of the features of each image and of its mirror image.
    mode : {"together", "layerwise"} or None
        See hebbcore.fit; None, here and below: what the preset is meant to be trained by, else fit's own value.
    learning_rate : float or "auto" or None
        The rate of layers that have none of their own; None: 1e-3.
    schedule : str
        See hebbcore.fit.
    epochs : int or None
        See hebbcore.fit.
    batch_size : int or None
        Images a step.
    image_shape : sequence of int or None
        (height, width, channels) of flattened images; else X must be (n, height, width, channels).
    device : {"auto", "cpu", "cuda"}
        Where the network learns and transforms.
    random_state : int or numpy.random.RandomState or None
        Draws weights and order.

    Attributes
    ----------
    network_ : Network
        The trained network.
    n_features_in_ : int
        Numbers of an image or vector.
    parts_ : int
        Calls of partial_fit.
    """

    def __init__(
        self,
        network: str | Sequence[Layer] | None = None,
        *,
        rule: Rule | str | None = None,
        preprocess: str = "none",
        units: Sequence[int] | None = None,
        layer: str | None = None,
        mirror: bool = False,
        mode: str | None = None,
        learning_rate: float | str | None = None,
        schedule: str = "constant",
        epochs: int | None = None,
        batch_size: int | None = None,
        image_shape: Sequence[int] | None = None,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.rule = rule
        self.preprocess = preprocess
        self.units = units
        self.layer = layer
        self.mirror = mirror
        self.mode = mode
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.epochs = epochs
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state

    def _network(self, shape: tuple[int, ...], seed: int, precision: str) -> Network:
        function = type(self).__name__
        if isinstance(self.network, str):
            return preset(
                self.network, rule=self.rule, preprocess=self.preprocess, image_shape=shape, units=self.units,
                seed=seed, device=self.device, precision=precision,
            )  # fmt: skip
        if self.rule is not None or self.preprocess != "none" or self.units is not None:
            raise ValueError(f"{function}: rule, preprocess and units go with a preset's name; layers have their own.")
        given = [BatchNorm(), Dense(100)] if self.network is None else self.network
        if not isinstance(given, Sequence):
            raise TypeError(
                f"{function}: network must be a preset's name or a list of layers, got {type(given).__name__}; a "
                "trained Network needs no estimator: use its transform."
            )
        layers = [layer_of(layer_table(function, layer), "layers", function) for layer in given]
        network = Network(layers, shape, seed=seed, device=self.device, precision=precision)
        _refuse_weights(function, given)
        learner = who_needs_labels(network, None)
        if learner:
            raise ValueError(
                f"{function}: {learner} learns from labels, but this transformer learns without; leave the layer out "
                "and put a classifier behind, or train a Network with hebbcore.fit(…, labels=…)."
            )
        return network

    def _layer(self) -> str | None:
        return self.layer

    def _epochs(self, images: Array) -> int | None:
        return self.epochs

    def _train(self, images: Array, epochs: int | None, seed: int) -> None:
        fit(
            self.network_, images, epochs=epochs, batch_size=self.batch_size, seed=seed, mode=self.mode,
            learning_rate=self.learning_rate, schedule=self.schedule,
        )  # fmt: skip


def _refuse_weights(function: str, given: Sequence[Layer]) -> None:
    """Raise ValueError for layers of a network: what they have learned would be lost in silence."""
    for layer in Graph(tuple(given)).layers:
        if layer.belongs:
            raise ValueError(
                f"{function}: {layer.name} has what it learned in a network, but fit begins anew; make new layers, or "
                "use that network's transform, which needs no estimator."
            )
