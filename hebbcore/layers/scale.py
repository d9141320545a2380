"""Responses of one size."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, kernels
from hebbcore.engine.backend import Array
from hebbcore.engine.group.portion import current
from hebbcore.engine.moments import column_moments, of_all, of_both
from hebbcore.layers.base import Layer, Shape, Site, by_rows, rows_of
from hebbcore.layers.kept import Kept


@dataclass(eq=False)
class Scale(Layer):
    """All numbers divided by their common standard deviation: one for all channels and positions, no mean taken off.

    So a threshold of Split means the same whatever the units before it, and their relative sizes and signs stay.
    While training with the other layers, by the standard deviation of the batch, and the running variance moves towards
    the batch's by `momentum`; else by the running one. After a pass of its own (layer by layer) that is the variance of
    all numbers seen. Variances are biased, and about the mean. Numbers that do not vary stay as they are.

    Parameters
    ----------
    momentum : float
        Above 0, at most 1: how far the running variance moves to that of a batch.
    name : str
        The layer's name in its network; "": the network gives one.

    Attributes
    ----------
    variance : Array
        The running variance, (1,), float64, once the network is built. It can be set.

    Raises
    ------
    ValueError, TypeError
        For impossible parameters.
    """

    in_place: ClassVar[bool] = True
    observes: ClassVar[bool] = True
    adds_up: ClassVar[bool] = True
    by_image: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"momentum"})

    momentum: float = 0.1
    name: str = ""

    variance = Kept(least=0)  # running, (1,), float64

    def _check(self) -> None:
        self.momentum = checks.positive("Scale", "momentum", self.momentum)
        if self.momentum > 1:
            raise checks.wrong(ValueError, "Scale", "momentum", f"must be above 0 and at most 1, got {self.momentum}.")

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Start with variance 1."""
        self._keep(backend.module(site.device).ones(1))
        self._observed: tuple[int, Array, Array] | None = None  # numbers, their mean, Σ (x − mean)²

    def _keep(self, variance: Array) -> None:
        self.__dict__["variance"] = variance

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        xp, rows, variance = backend.namespace(x), rows_of(x), self.variance
        if training:
            count, _, squares = of_all(current(), moments_of(rows), xp.zeros(1))
            variance = squares / count
            self._keep(self.variance + self.momentum * (variance - self.variance))
        factors = xp.empty(rows.shape[1], x.dtype)
        factors[...] = 1 / xp.sqrt(xp.where(variance > 0, variance, 1))
        by_rows(kernels.for_array(x).standardize, rows, xp.zeros_like(factors), factors)

    def factor(self) -> float:
        """Return what numbers are multiplied by without training."""
        variance = float(self.variance[0])
        return 1 / variance**0.5 if variance > 0 else 1.0

    def forget(self) -> None:
        """See Layer."""
        self._observed = None

    def observe(self, x: Array) -> None:
        """See Layer."""
        seen = moments_of(rows_of(x))
        self._observed = seen if self._observed is None else of_both(self._observed, seen)

    def settle(self) -> None:
        """See Layer."""
        count, _, squares = of_all(current(), self._observed, backend.namespace(self.variance).zeros(1))
        self._keep(squares / count)
        self._observed = None

    def arrays(self) -> dict[str, Array]:
        """See Layer."""
        arrays = {"variance": self.variance}
        if self._observed is not None:
            count, mean, squares = self._observed
            arrays |= {"observed_count": np.array([count]), "observed_mean": mean, "observed_squares": squares}
        return arrays

    def arrays_for(self, site: Site, shape: Shape, observed: bool) -> dict[str, tuple[Shape, Any]]:
        """See Layer."""
        number: tuple[Shape, Any] = ((1,), np.dtype(np.float64))
        seen = {"observed_count": ((1,), np.dtype(np.int64)), "observed_mean": number, "observed_squares": number}
        return {"variance": number, **(seen if observed else {})}

    def restore(self, arrays: dict[str, Array]) -> None:
        """See Layer."""
        self._keep(arrays["variance"])
        self._observed = None
        if "observed_count" in arrays:
            self._observed = (int(arrays["observed_count"][0]), arrays["observed_mean"], arrays["observed_squares"])


def moments_of(rows: Array) -> tuple[int, Array, Array]:
    """Return how many numbers there are in (n, C), their mean and Σ (x − mean)², both (1,), float64."""
    means, squares = column_moments(rows)
    mean = means.mean(keepdims=True)
    return rows.size, mean, squares.sum(keepdims=True) + len(rows) * ((means - mean) ** 2).sum(keepdims=True)
