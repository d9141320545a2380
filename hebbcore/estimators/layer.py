"""One Hebbian layer as a scikit-learn transformer, and the defaults by which its rules learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine.backend import Array
from hebbcore.engine.soundness import AUTO
from hebbcore.estimators.transformer import NetworkTransformer
from hebbcore.layers import BatchNorm, Conv, Dense, GridPool, Layer, Power, Relu, Split, Triangle, Whiten
from hebbcore.network import Network
from hebbcore.rules import HPCA, ICA, KWTA, SWTA, HardWTA, Krotov, Rule, SignedWTA, SoftHebb, as_rule
from hebbcore.training.network import fit

ACTIVATIONS = ("rule", "triangle", "split")
KROTOV_POWER = 3.0  # of the relu behind the rule of Krotov and Hopfield on whitened patches
RAW_POWER = 4.5  # theirs for images as they are
RATES: dict[type[Rule], float | str] = {  # what learns on standardised and on whitened patches
    HPCA: AUTO, ICA: 0.003, SWTA: 0.5, KWTA: 0.5, SignedWTA: 0.5, SoftHebb: 0.2, HardWTA: 0.2, Krotov: 0.1,
}  # fmt: skip
RATE = 0.01  # of rules of one's own
EPSILON = 0.1


class HebbianTransformer(NetworkTransformer):
    """One Hebbian layer as a scikit-learn transformer: whitening, units that learn by a rule, activation, pooling.

    Parameters
    ----------
    units : int
        Number of units.
    kernel_size : int or (int, int) or None
        Height and width of the patches, in pixels; None: the image, or vector, as a whole.
    stride : int or (int, int)
        Height and width, in pixels, for patches.
    rule : Rule or str
        A hebbcore rule or its name.
    learning_rate : float or "auto" or None
        The rule's; None: HPCA "auto" (see fit), ICA 0.003, SWTA, k-WTA and signed WTA 0.5, SoftHebb and hard WTA 0.2,
        Krotov 0.1, others 0.01.
    epochs : int or None
        Passes over the data; None: as many as make 250 steps, at most 10.
    batch_size : int
        Images a step.
    initial_weights : {"rule", "patches", "k-means++"} or None
        See Conv; None: patches for rules whose units compete.
    conscience, revival : float
        See Conv.
    whiten : bool
        True: contrast normalise and ZCA whiten the patches first. False: contrast normalise them and subtract their
        mean, and bring each number of a vector to mean 0 and variance 1, because competing units would see little but
        brightness otherwise. Whitening is what makes learning pay (docs/results.md).
    epsilon : float
        Added to the variances of the whitening.
    activation : {"rule", "triangle", "split"}
        "rule": what the rule's paper puts behind it: relu (HPCA, SWTA, k-WTA), triangle (SoftHebb, hard WTA), relu³
        (Krotov), split (signed WTA; ICA in the place of its tanh); rules of one's own have what they put out. For
        images without whitening, units that compete, but SoftHebb's, have split to the power 4.5 of Krotov and
        Hopfield: such units are coarse and alike, and their responses almost linear, unless each answers to little but
        what resembles it. "triangle": what exceeds the units' mean; "split": what exceeds the threshold, and what falls
        below its negative, apart: twice the units.
    threshold : float
        The split's.
    pool : int or None
        Average over pool × pool cells; None: no pooling.
    power : float
        Power of the features at the end; 0.5 is a square root.
    mirror : bool
        Transform to the mean of the features of each image and of its mirror image.
    image_shape : sequence of int or None
        (height, width, channels) of flattened images.
    device : {"auto", "cpu", "cuda"}
        Where the layer learns and transforms.
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

    References
    ----------
    Coates, Ng & Lee (AISTATS 2011): their pipeline, with Hebbian rules in the place of k-means.
    """

    def __init__(
        self,
        units: int = 100,
        kernel_size: Any = None,
        *,
        stride: Any = 1,
        rule: Rule | str = "kwta",
        learning_rate: float | str | None = None,
        epochs: int | None = None,
        batch_size: int = 64,
        initial_weights: str | None = None,
        conscience: float = 0.0,
        revival: float = 0.0,
        whiten: bool = True,
        epsilon: float = EPSILON,
        activation: str = "rule",
        threshold: float = 0.0,
        pool: int | None = None,
        power: float = 1.0,
        mirror: bool = False,
        image_shape: Sequence[int] | None = None,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.units = units
        self.kernel_size = kernel_size
        self.stride = stride
        self.rule = rule
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.initial_weights = initial_weights
        self.conscience = conscience
        self.revival = revival
        self.whiten = whiten
        self.epsilon = epsilon
        self.activation = activation
        self.threshold = threshold
        self.pool = pool
        self.power = power
        self.mirror = mirror
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state

    def _network(self, shape: tuple[int, ...], seed: int, precision: str) -> Network:
        function = type(self).__name__
        checks.choice(function, "activation", self.activation, ACTIVATIONS)
        checks.boolean(function, "whiten", self.whiten)
        if self.whiten and self.epsilon is None:  # which Whiten takes for no whitening
            raise ValueError(
                f"{function}: epsilon must be a number above 0, got None; whiten=False leaves whitening out."
            )
        if self.kernel_size is not None and len(shape) != 3:
            raise ValueError(
                f"{function}: kernel_size is for images; give image_shape=(height, width, channels) with flattened "
                "images, or X as (n, height, width, channels)."
            )
        rule = as_rule(function, self.rule)
        if rule.supervised:
            problem = "must learn without labels, and Supervised needs them; train it by train_layer or fit."
            raise checks.wrong(ValueError, function, "rule", problem)
        raw = not self.whiten and len(shape) == 3
        linear, activation = self._activation(rule, raw)
        self._refuse_idle(function, activation)
        start = self.initial_weights
        options: dict[str, Any] = {
            "learning_rate": self._rate(rule),
            "initial_weights": ("patches" if rule.competes else "rule") if start is None else start,
            "conscience": self.conscience, "revival": self.revival, "linear": linear,
        }  # fmt: skip
        layers: list[Layer] = []
        kernel, stride = self.kernel_size, self.stride
        if self.whiten or len(shape) == 3:
            layers.append(Whiten(kernel, stride=stride, epsilon=self.epsilon if self.whiten else None))
            kernel, stride = (None, 1) if kernel is None else (1, 1)
        else:
            layers.append(BatchNorm())
        if kernel is None:
            layers.append(Dense(self.units, rule, **options))
        else:
            layers.append(Conv(self.units, kernel, rule, stride, **options))
        layers += activation
        if self.pool is not None:
            layers.append(GridPool(self.pool))
        if checks.positive(function, "power", self.power) != 1:
            layers.append(Power(self.power))
        return Network(layers, shape, seed=seed, device=self.device, precision=precision)

    def _rate(self, rule: Rule) -> float | str:
        return RATES.get(type(rule), RATE) if self.learning_rate is None else self.learning_rate

    def _activation(self, rule: Rule, raw: bool) -> tuple[bool, list[Layer]]:
        """Return whether the learner puts out the linear response, and what follows it (raw: images not whitened)."""
        by_rule = self.activation == "rule"
        sharp = by_rule and raw and isinstance(rule, SWTA | KWTA | SignedWTA | HardWTA | Krotov)
        if sharp or self.activation == "split" or (by_rule and isinstance(rule, SignedWTA | ICA)):
            return True, [Split(self.threshold), *([Relu(RAW_POWER)] if sharp else [])]
        if self.activation == "triangle" or (by_rule and isinstance(rule, SoftHebb | HardWTA)):
            return True, [Triangle()]
        return False, [Relu(KROTOV_POWER)] if isinstance(rule, Krotov) else []

    def _refuse_idle(self, function: str, activation: list[Layer]) -> None:
        """Raise ValueError for parameters that would have no effect."""
        for name, value, default, used, where in (
            ("threshold", self.threshold, 0.0, any(isinstance(layer, Split) for layer in activation),
             'activation="split"'),
            ("epsilon", self.epsilon, EPSILON, self.whiten, "whiten=True"),
            ("stride", self.stride, 1, self.kernel_size is not None, "kernel_size, for patches"),
        ):  # fmt: skip
            if not used and np.any(value != default):
                raise ValueError(f"{function}: {name}={value!r} has no effect without {where}; leave it out.")

    def _train(self, images: Array, epochs: int | None, seed: int) -> None:
        rate = self._rate(as_rule(type(self).__name__, self.rule))
        if rate != getattr(self, "_last_rate", None):  # else what was set in network_ stays
            for learner in self.network_.learners.values():
                learner.learning_rate = rate
        self._last_rate = rate
        fit(self.network_, images, epochs=epochs, batch_size=self.batch_size, seed=seed)
