"""What the transformers share: images in, a trained network inside, features out."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from hebbcore import checks
from hebbcore.dispatch import of_any_library
from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import first_not_finite
from hebbcore.engine.pixel_scale import PixelScale, require_scale
from hebbcore.estimators.given import as_given
from hebbcore.features.choice import Features
from hebbcore.fitted import require_unchanged, whole_or_not_at_all
from hebbcore.layers import Layer
from hebbcore.network import Network
from hebbcore.serialize import layer_table

STEPS, PASSES = 250, 10  # as many passes as make so many steps, but no more than so many


class NetworkTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What both transformers share: images in, a trained network inside, features out."""

    _later: ClassVar[frozenset[str]] = frozenset(  # parameters that may be set while parts are learned from
        {"learning_rate", "epochs", "batch_size", "mirror", "layer", "mode", "schedule", "image_shape"}
    )
    image_shape: Sequence[int] | None
    epochs: int | None
    batch_size: int | None
    mirror: bool
    random_state: Any
    device: str
    n_features_in_: int
    network_: Network

    def _network(self, shape: tuple[int, ...], seed: int, precision: str) -> Network:
        raise NotImplementedError

    def _train(self, images: Array, epochs: int | None, seed: int) -> None:
        raise NotImplementedError

    @of_any_library
    @whole_or_not_at_all
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from images, without labels.

        Parameters
        ----------
        X : Array
            (n, H, W, C), or (n, features): flattened images if image_shape is given, else vectors. float64, float32, or
            uint8 (read as 0…1); other numbers, integers too, become float64 as they are. NumPy, or CuPy for device
            "auto" and "cuda". Between uint8 and numbers of another scale than 0…1, later calls may not change.
        y : Any
            Ignored.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        ValueError, TypeError
            For bad parameters and data.
        """
        images = self._images(X, reset=True)
        self._begin(images)
        self._train(images, self._epochs(images), self._seed)
        return self

    def _epochs(self, images: Array) -> int | None:
        if self.epochs is not None:
            return self.epochs
        batch_size = checks.integer(type(self).__name__, "batch_size", self.batch_size, 1)
        return min(PASSES, -(-STEPS * batch_size // len(images)))

    @of_any_library
    @whole_or_not_at_all
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn one pass over a part of the data.

        Whitening is learned from the first part, and stays. A schedule begins anew with each part, and ends in it, so
        "constant" is the one for many parts; "epochs", which lowers the rate after each pass, is refused.

        Between parts, learning_rate, batch_size, mode and schedule may be set. What the network is made of may not.

        Parameters
        ----------
        X : Array
            See fit.
        y : Any
            Ignored.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        ValueError, TypeError
            As fit; and for a parameter that was set since the first part, or since fit, and would have no effect.
        """
        first = not hasattr(self, "network_")
        images = self._images(X, reset=first)
        if first:
            self._begin(images)
        else:
            self._require_same_network()
        with contextlib.nullcontext() if first else _as_before_if_it_fails(self.network_):
            self._train(images, 1, self._seed + self.parts_)
        scale: PixelScale | None = getattr(self, "_scale", None)  # pickles of earlier versions have none
        self._scale = scale and scale.beside(PixelScale.of(images))
        self.parts_ += 1
        return self

    @of_any_library
    def transform(self, X: Any) -> Array:
        """Return the features of images.

        Parameters
        ----------
        X : Array
            See fit.

        Returns
        -------
        Array
            (n, features out), in the library of X; float64 if the estimator was fitted to float64 numbers, else
            float32.
        """
        check_is_fitted(self)
        features = self._features().of(self._images(X, reset=False))
        return features.reshape(len(features), -1)

    def onnx_shape_calculator(self) -> Callable[[Any], None]:
        """Return what skl2onnx asks for, so that to_onnx takes pipelines with this transformer.

        Returns
        -------
        callable
            Sets the type of an operator's output.
        """
        check_is_fitted(self)
        from hebbcore.estimators.conversion import set_output_type

        return partial(set_output_type, self._features())

    def onnx_converter(self) -> Callable[[Any, Any, Any], None]:
        """Return what skl2onnx asks for, so that to_onnx takes pipelines with this transformer.

        Returns
        -------
        callable
            Adds the nodes of an operator to a container.
        """
        check_is_fitted(self)
        from hebbcore.estimators.conversion import add_nodes

        return partial(add_nodes, self._features())

    def _layer(self) -> str | None:
        return None

    def _features(self) -> Features:
        return Features.checked(type(self).__name__, self.network_, self._layer(), None, self.mirror)

    @property
    def _n_features_out(self) -> int:
        """What scikit-learn counts the names by, of the layer that is chosen now: set_params may have changed it."""
        return self._features().size

    def _begin(self, images: Array) -> None:
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        self.parts_ = 0
        precision = "float64" if images.dtype == np.float64 else "float32"
        self.network_ = self._network(images.shape[1:], self._seed, precision)
        if self.network_.image_shape is None:
            self.network_.build(images.shape[1:])
        self._made_with = {name: value for name, value in self._said().items() if name not in self._later}
        self._features()  # an unknown layer is refused before the training

    def _require_same_network(self) -> None:
        """Raise ValueError for a parameter of the network that was set after that was made."""
        made_with = getattr(self, "_made_with", {})  # pickles of earlier versions have none
        require_unchanged(f"{type(self).__name__}.partial_fit", "network", made_with, self._said())

    def _said(self) -> dict[str, Any]:
        """Return the parameters, lists of layers as what they say of them: another that says the same is equal."""
        return {name: _said(value) for name, value in self.get_params(deep=False).items()}

    def _images(self, X: Any, reset: bool) -> Array:
        """Return images (n, H, W, C) or vectors (n, features), checked as scikit-learn does."""
        function = type(self).__name__
        X = as_given(function, X)
        sizes = getattr(X, "shape", ())
        shape = self.image_shape
        if shape is not None:
            sides = checks.sequence(shape)
            if sides is None or len(sides) != 3:
                raise ValueError(f"{function}: image_shape must be (height, width, channels), got {shape!r}.")
            shape = tuple(checks.integer(function, "image_shape", side, 1) for side in sides)
        if len(sizes) == 3:
            raise ValueError(
                f"{function}: X must be images (n, height, width, channels) or rows (n, features), got shape {sizes}; "
                "X[..., None] gives grey images their channel."
            )
        if len(sizes) == 4:
            if shape is not None and tuple(sizes[1:]) != shape:
                raise ValueError(f"{function}: X must be images of image_shape {shape}, got {tuple(sizes[1:])}.")
            shape = tuple(sizes[1:])
            X = X.reshape(len(X), math.prod(shape))  # not -1, which no images at all leave open
        if backend.on_cuda(X):
            X = backend.as_array(function, "X", X)
            if not X.size:
                raise ValueError(f"{function}: X must not be empty, got shape {X.shape}.")
            row = first_not_finite(X)
            if row is not None:
                raise ValueError(f"{function}: X must be finite, but X[{row}] holds NaN or infinity; clean it.")
            if X.ndim != 2:
                raise ValueError(
                    f"{function}: X must be (n, height, width, channels) or (n, features), got shape {X.shape}."
                )
            if not reset and X.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"X has {X.shape[1]} features, but {function} is expecting {self.n_features_in_} features as input."
                )
            self.n_features_in_ = X.shape[1]
            if reset and hasattr(self, "feature_names_in_"):  # of a table before
                del self.feature_names_in_
        else:
            given = X
            X = validate_data(self, given, reset=reset, dtype="numeric")
            backend.require_numbers(function, "X", X, given)  # scikit-learn lets dates pass
        if X.dtype == np.bool_:
            X = X.astype(np.float64)
        if not X.dtype.isnative:
            X = X.astype(X.dtype.newbyteorder("="))
        self._require_same_scale(X, reset)
        if X.dtype not in (np.float64, np.float32, np.uint8):
            X = X.astype(np.float64)
        if shape is None:
            return X
        if math.prod(shape) != X.shape[1]:
            raise ValueError(
                f"{function}: image_shape {shape} makes {math.prod(shape)} features, but X has {X.shape[1]}."
            )
        return X.reshape(len(X), *shape)

    def _require_same_scale(self, X: Array, reset: bool) -> None:
        """Raise ValueError for numbers of another scale than those of fit; see require_scale."""
        if reset:
            self._scale = PixelScale.of(X)
        scale: PixelScale | None = getattr(self, "_scale", None)  # pickles of earlier versions do not say it
        require_scale(scale, type(self).__name__, "X", X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = True
        return tags


@contextlib.contextmanager
def _as_before_if_it_fails(network: Network) -> Iterator[None]:
    """Give a network what it was made of, and had learned, before the block if that fails, or is interrupted."""
    before = copy.deepcopy(network)
    try:
        yield
    except BaseException:
        vars(network).update(vars(before))
        raise


def _said(value: Any) -> Any:
    if isinstance(value, Sequence) and value and all(isinstance(item, Layer) for item in value):
        return [layer_table("partial_fit", layer) for layer in value]
    return value
