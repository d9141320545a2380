"""Batch normalisation."""

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
class BatchNorm(Layer):
    """Each channel minus its mean, divided by √(its variance + epsilon); no learned scale or shift.

    While it trains with the other layers it takes the batch's own mean and (biased) variance, and the running ones, of
    unbiased variances, move towards them by `momentum`; at other times it takes the running ones. After a pass of its
    own (layer by layer) the running ones are those of all that was seen.
    A batch of one row has no variance: it is normalised by the running ones and does not change them.

    Parameters
    ----------
    modified : bool
        Multiply by √((v_c + epsilon) / (mean of v + epsilon)), v the running variance: this keeps the channels'
        relative variance.
    momentum : float
        Above 0, at most 1: how far the running statistics move to those of a batch, as all layers learn together.
    epsilon : float
        Above 0, added to variances.
    name : str
        The layer's name in its network; "": the network gives one.

    Attributes
    ----------
    mean, variance : Array
        The running statistics, (channels,), float64, once the network is built. They can be set.

    Raises
    ------
    ValueError, TypeError
        For impossible parameters.

    References
    ----------
    Ioffe & Szegedy (2015); modified: FastHebb (Lagani et al. 2022).
    """

    prefix: ClassVar[str] = "bn"
    in_place: ClassVar[bool] = True
    observes: ClassVar[bool] = True
    adds_up: ClassVar[bool] = True
    by_image: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"modified", "momentum", "epsilon"})

    modified: bool = False
    momentum: float = 0.1
    epsilon: float = 1e-5
    name: str = ""

    mean, variance = Kept(), Kept(least=0)  # running, (channels,), float64

    def _check(self) -> None:
        self.modified = checks.boolean("BatchNorm", "modified", self.modified)
        self.epsilon = checks.positive("BatchNorm", "epsilon", self.epsilon)
        self.momentum = checks.positive("BatchNorm", "momentum", self.momentum)
        if self.momentum > 1:
            problem = f"must be above 0 and at most 1, got {self.momentum}."
            raise checks.wrong(ValueError, "BatchNorm", "momentum", problem)

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Start with mean 0 and variance 1."""
        xp = backend.module(site.device)
        self._keep(xp.zeros(shape[-1]), xp.ones(shape[-1]))
        self._observed: tuple[int, Array, Array] | None = None  # rows, their mean, Σ (x − mean)²

    def _keep(self, mean: Array, variance: Array) -> None:
        self.__dict__.update(mean=mean, variance=variance)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        rows = rows_of(x)
        mean, variance = self.mean, self.variance
        here = current()
        count = len(rows) if here is None else here.rows(len(rows))[2]
        if training and count > 1:
            _, mean, squares = of_all(here, (len(rows), *column_moments(rows)), self.mean)
            variance = squares / count
            self._keep(
                self.mean + self.momentum * (mean - self.mean),
                self.variance + self.momentum * (squares / (count - 1) - self.variance),
            )
        factors = 1 / (variance + self.epsilon) ** 0.5
        if self.modified:
            factors *= ((self.variance + self.epsilon) / (self.variance.mean() + self.epsilon)) ** 0.5
        by_rows(kernels.for_array(x).standardize, rows, mean.astype(x.dtype), factors.astype(x.dtype))

    def forget(self) -> None:
        """See Layer."""
        self._observed = None

    def observe(self, x: Array) -> None:
        """See Layer."""
        rows = rows_of(x)
        seen = (len(rows), *column_moments(rows))
        self._observed = seen if self._observed is None else of_both(self._observed, seen)

    def settle(self) -> None:
        """See Layer."""
        count, mean, squares = of_all(current(), self._observed, self.mean)
        self._keep(mean, squares / max(1, count - 1))
        self._observed = None

    def arrays(self) -> dict[str, Array]:
        """See Layer."""
        arrays = {"mean": self.mean, "variance": self.variance}
        if self._observed is not None:
            count, mean, squares = self._observed
            arrays |= {"observed_count": np.array([count]), "observed_mean": mean, "observed_squares": squares}
        return arrays

    def arrays_for(self, site: Site, shape: Shape, observed: bool) -> dict[str, tuple[Shape, Any]]:
        """See Layer."""
        each = (shape[-1:], np.dtype(np.float64))
        seen = {"observed_count": ((1,), np.dtype(np.int64)), "observed_mean": each, "observed_squares": each}
        return {"mean": each, "variance": each, **(seen if observed else {})}

    def restore(self, arrays: dict[str, Array]) -> None:
        """See Layer."""
        self._keep(arrays["mean"], arrays["variance"])
        self._observed = None
        if "observed_count" in arrays:
            self._observed = (int(arrays["observed_count"][0]), arrays["observed_mean"], arrays["observed_squares"])
