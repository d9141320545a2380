"""scikit-learn transformers: a Hebbian layer, and a network."""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from hebbcore import backend, checks
from hebbcore.backend import Array
from hebbcore.fit import fit
from hebbcore.layers import BatchNorm, Conv, Dense, GridPool, Layer, Power, Relu, Split, Triangle, Whiten
from hebbcore.network import Network
from hebbcore.presets import preset
from hebbcore.rules import HPCA, KWTA, SWTA, HardWTA, Krotov, Rule, SignedWTA, SoftHebb, as_rule
from hebbcore.soundness import AUTO
from hebbcore.tables import layer_of, layer_table

ACTIVATIONS = ("rule", "triangle", "split")
KROTOV_POWER = 3.0  # of the relu behind the rule of Krotov and Hopfield on whitened patches
RAW_POWER = 4.5  # theirs for images as they are
RATES: dict[type[Rule], float | str] = {  # what learns on standardised and on whitened patches
    HPCA: AUTO, SWTA: 0.5, KWTA: 0.5, SignedWTA: 0.5, SoftHebb: 0.2, HardWTA: 0.2, Krotov: 0.1,
}  # fmt: skip
STEPS, PASSES = 250, 10  # as many passes as make so many steps, but no more than so many
RATE = 0.01  # of rules of one's own
EPSILON = 0.1


class _NetworkTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What both transformers share: images in, a trained network inside, features out."""

    image_shape: Sequence[int] | None
    epochs: int | None
    batch_size: int
    mirror: bool
    random_state: Any
    device: str
    n_features_in_: int

    def _network(self, shape: tuple[int, ...], seed: int, precision: str) -> Network:
        raise NotImplementedError

    def _train(self, images: Array, epochs: int, seed: int) -> None:
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from images, without labels.

        X: (n, H, W, C), or (n, features): flattened images if image_shape is given, else vectors. float64, float32, or
        uint8 (read as 0…1); other numbers, integers too, become float64 as they are. NumPy, or CuPy for device "auto"
        and "cuda".
        y: ignored.

        Returns self. Raises ValueError or TypeError for bad parameters and data.
        """
        images = self._images(X, reset=True)
        self._begin(images)
        self._train(images, self._epochs(images), self._seed)
        return self

    def _epochs(self, images: Array) -> int:
        if self.epochs is not None:
            return self.epochs
        batch_size = checks.integer(type(self).__name__, "batch_size", self.batch_size, 1)
        return min(PASSES, -(-STEPS * batch_size // len(images)))

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn one pass over a part of the data; see fit. Whitening is learned from the first part."""
        first = not hasattr(self, "network_")
        images = self._images(X, reset=first)
        if first:
            self._begin(images)
        self._train(images, 1, self._seed + self.parts_)
        self.parts_ += 1
        return self

    def transform(self, X: Any) -> Array:
        """Return the features (n, features out) of images; X as in fit, the result in its library.

        float64 if the estimator was fitted to float64 numbers, else float32.
        """
        check_is_fitted(self)
        features = self.network_.transform(self._images(X, reset=False), self._layer(), mirror=self.mirror)
        return features.reshape(len(features), -1)

    def _layer(self) -> str | None:
        return None

    def _begin(self, images: Array) -> None:
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        self.parts_ = 0
        precision = "float64" if images.dtype == np.float64 else "float32"
        self.network_ = self._network(images.shape[1:], self._seed, precision)
        if self.network_.image_shape is None:
            self.network_.build(images.shape[1:])
        if checks.boolean(type(self).__name__, "mirror", self.mirror):
            self.network_.require_mirror(type(self).__name__)
        place = self.network_.index_of(type(self).__name__, self._layer() or self.network_.names[-1])
        self._n_features_out = math.prod(self.network_.shapes[place])

    def _images(self, X: Any, reset: bool) -> Array:
        """Return images (n, H, W, C) or vectors (n, features), checked as scikit-learn does."""
        function = type(self).__name__
        given = getattr(X, "shape", ())
        shape = self.image_shape
        if shape is not None:
            if not isinstance(shape, Sequence) or len(shape) != 3:
                raise ValueError(f"{function}: image_shape must be (height, width, channels), got {shape!r}.")
            shape = tuple(checks.integer(function, "image_shape", side, 1) for side in shape)
        if len(given) == 3:
            raise ValueError(
                f"{function}: X must be images (n, height, width, channels) or rows (n, features), got shape {given}; "
                "X[..., None] gives grey images their channel."
            )
        if len(given) == 4:
            if shape is not None and tuple(given[1:]) != shape:
                raise ValueError(f"{function}: X must be images of image_shape {shape}, got {tuple(given[1:])}.")
            shape = tuple(given[1:])
            X = X.reshape(len(X), -1)
        if backend.on_cuda(X):
            X = backend.as_array(function, "X", X)
            if X.ndim != 2:
                raise ValueError(
                    f"{function}: X must be (n, height, width, channels) or (n, features), got shape {X.shape}."
                )
            if not reset and X.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"X has {X.shape[1]} features, but {function} is expecting {self.n_features_in_} features as input."
                )
            self.n_features_in_ = X.shape[1]
        else:
            X = validate_data(self, X, reset=reset, dtype="numeric")
        self._require_same_scale(X.dtype, reset)
        if X.dtype not in (np.float64, np.float32, np.uint8):
            X = X.astype(np.float64)
        if shape is None:
            return X
        if math.prod(shape) != X.shape[1]:
            raise ValueError(
                f"{function}: image_shape {shape} makes {math.prod(shape)} features, but X has {X.shape[1]}."
            )
        return X.reshape(len(X), *shape)

    def _require_same_scale(self, dtype: np.dtype[Any], reset: bool) -> None:
        """Raise ValueError for other integers after uint8, which are read as 0…1, and the other way round."""
        if reset:
            self._dtype = dtype
        pair = {self._dtype.name, dtype.name}
        if "uint8" in pair and len(pair) == 2 and self._dtype.kind in "iu" and dtype.kind in "iu":
            raise ValueError(
                f"{type(self).__name__}: X is {dtype}, but the estimator was fitted to {self._dtype}. uint8 is read as "
                "0…1 and other integers as they are: give X in the dtype of fit."
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class HebbianTransformer(_NetworkTransformer):
    """One Hebbian layer as a scikit-learn transformer: whitening, units that learn by a rule, activation, pooling.

    units: number of units. kernel_size: of the patches, an int or a (height, width) pair; None: the image, or vector,
        as a whole. stride: in pixels, for patches.
    rule: a hebbcore rule or its name. learning_rate: of the rule; None: HPCA "auto" (see fit), SWTA, k-WTA and
        signed WTA 0.5, SoftHebb and hard WTA 0.2, Krotov 0.1, others 0.01. epochs, batch_size: of the training;
        epochs None: as many as make 250 steps, at most 10.
    initial_weights: "rule", "patches" or "k-means++" (see Conv); None: patches for rules whose units compete.
        conscience, revival: see Conv.
    whiten: contrast normalise and ZCA whiten the patches first; else they are contrast normalised only, less their
        mean, and of vectors each number is brought to mean 0 and variance 1: competing units would see little but
        brightness otherwise. Whitening is what makes learning pay (docs/results.md). epsilon: added to the variances
        of the whitening.
    activation: "rule": what the rule's paper puts behind it: relu (HPCA, SWTA, k-WTA), triangle (SoftHebb, hard WTA),
        relu³ (Krotov), split (signed WTA), and of rules of one's own what they put out; behind units that compete for
        images without whitening (but SoftHebb's) split, to the power 4.5 of Krotov and Hopfield: such units are coarse
        and alike, and their responses almost linear, unless each answers to little but what resembles it.
        "triangle": what exceeds the units' mean; "split": what exceeds the threshold, and what falls below its
        negative, apart: twice the units. threshold: of the split.
    pool: average over pool × pool cells; None: no pooling. power: of the features at the end; 0.5 is a square root.
    mirror: transform to the mean of the features of each image and of its mirror image.
    image_shape: (height, width, channels) of flattened images.
    device: "auto", "cpu" or "cuda". random_state: an int, a RandomState, or None.

    Fitted: network_ (hebbcore.Network), n_features_in_, parts_ (calls of partial_fit).
    Source: the pipeline of Coates, Ng & Lee (AISTATS 2011), with Hebbian rules in the place of k-means.
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
        if self.kernel_size is not None and len(shape) != 3:
            raise ValueError(
                f"{function}: kernel_size is for images; give image_shape=(height, width, channels) with flattened "
                "images, or X as (n, height, width, channels)."
            )
        rule = as_rule(function, self.rule)
        raw = not self.whiten and len(shape) == 3
        linear, activation = self._activation(rule, raw)
        self._refuse_idle(function, activation)
        options: dict[str, Any] = {
            "learning_rate": RATES.get(type(rule), RATE) if self.learning_rate is None else self.learning_rate,
            "initial_weights": self.initial_weights or ("patches" if rule.competes else "rule"),
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
        if self.power != 1:
            layers.append(Power(self.power))
        return Network(layers, shape, seed=seed, device=self.device, precision=precision)

    def _activation(self, rule: Rule, raw: bool) -> tuple[bool, list[Layer]]:
        """Return whether the learner puts out the linear response, and what follows it (raw: images not whitened)."""
        by_rule = self.activation == "rule"
        sharp = by_rule and raw and isinstance(rule, SWTA | KWTA | SignedWTA | HardWTA | Krotov)
        if sharp or self.activation == "split" or (by_rule and isinstance(rule, SignedWTA)):
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
            if not used and value != default:
                raise ValueError(f"{function}: {name}={value!r} has no effect without {where}; leave it out.")

    def _train(self, images: Array, epochs: int, seed: int) -> None:
        fit(self.network_, images, epochs=epochs, batch_size=self.batch_size, seed=seed)


class HebbianNetworkTransformer(_NetworkTransformer):
    """A network as a scikit-learn transformer.

    network: a preset's name (see hebbcore.preset), or a list of layers, which are copied.
    rule: of a preset. preprocess: of a preset. layer: whose output the features are; None: the last.
    mirror: transform to the mean of the features of each image and of its mirror image.
    mode: "together" or "layerwise". learning_rate: of layers that have none of their own; None: 1e-3. schedule, epochs,
        batch_size: see hebbcore.fit.
    image_shape: (height, width, channels) of flattened images; else X must be (n, height, width, channels).
    device: "auto", "cpu" or "cuda". random_state: an int, a RandomState, or None.

    Fitted: network_ (hebbcore.Network), n_features_in_, parts_ (calls of partial_fit).
    """

    def __init__(
        self,
        network: str | Sequence[Layer] | None = None,
        *,
        rule: Rule | str | None = None,
        preprocess: str = "none",
        layer: str | None = None,
        mirror: bool = False,
        mode: str = "together",
        learning_rate: float | str | None = None,
        schedule: str = "constant",
        epochs: int = 1,
        batch_size: int = 64,
        image_shape: Sequence[int] | None = None,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.rule = rule
        self.preprocess = preprocess
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
                self.network, rule=self.rule, preprocess=self.preprocess, image_shape=shape, seed=seed,
                device=self.device, precision=precision,
            )  # fmt: skip
        if self.rule is not None or self.preprocess != "none":
            raise ValueError(f"{function}: rule and preprocess go with a preset's name; layers have their own.")
        given = [BatchNorm(), Dense(100)] if self.network is None else self.network
        if not isinstance(given, Sequence):
            raise TypeError(
                f"{function}: network must be a preset's name or a list of layers, got {type(given).__name__}; a "
                "trained Network needs no estimator: use its transform."
            )
        layers = [layer_of(layer_table(function, layer), "layers", function) for layer in given]
        return Network(layers, shape, seed=seed, device=self.device, precision=precision)

    def _layer(self) -> str | None:
        return self.layer

    def _train(self, images: Array, epochs: int, seed: int) -> None:
        fit(
            self.network_, images, epochs=epochs, batch_size=self.batch_size, seed=seed, mode=self.mode,
            learning_rate=self.learning_rate, schedule=self.schedule,
        )  # fmt: skip
