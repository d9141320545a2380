"""Whitening of codes by the kernel of their units."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, parallel
from hebbcore.engine.answers import projection_of
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan, Share
from hebbcore.engine.patches import Geometry
from hebbcore.layers.base import Layer, Shape, Site, as_4d, rows_of
from hebbcore.layers.learner import WIDTH, Learner


@dataclass(eq=False)
class Nystrom(Layer):
    """Codes times (K + epsilon·I)^(−½), K = exp((ZZᵀ − 1) / width) for the directions Z of the units that made them.

    The units are those of the learner before it, as its rule's scores are made by them (see Rule.projection); its
    response must be "cosine-exp", whose width is taken. What lies between, such as a pool, must keep the channels. The
    dot product of two codes then approximates the kernel ‖x‖ ‖x'‖ exp((cos(x, x') − 1) / width) of their patches. There
    is nothing to learn from data: the matrix is made anew whenever the units have changed. Where the codes are averaged
    by a pool, the layer is cheapest behind it.

    Parameters
    ----------
    epsilon : float
        Above 0, added to the eigenvalues of K, whose entries on the diagonal are 1.
    name : str
        The layer's name in its network; "": the network gives one.

    Attributes
    ----------
    matrix : Array
        (K + epsilon·I)^(−½), (units, units), of the network's dtype, once the network is built.

    Raises
    ------
    ValueError, TypeError
        For impossible parameters; in a network, if there is no such learner before it.

    References
    ----------
    Williams & Seeger (NeurIPS 2000); for codes of patches: Mairal (NeurIPS 2016).
    """

    epsilon: float = 1e-3
    name: str = ""

    def _check(self) -> None:
        self.epsilon = checks.positive("Nystrom", "epsilon", self.epsilon)

    def follow(self, before: Sequence[Layer]) -> None:
        """See Layer."""
        learner = next((layer for layer in reversed(before) if isinstance(layer, Learner)), None)
        if learner is None or learner.response != "cosine-exp":
            raise ValueError(
                f'{self.name} needs a Conv or Dense of response="cosine-exp" before it, whose codes it whitens.'
            )
        self._learner: Learner = learner

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        if shape[-1] != self._learner.units:
            raise ValueError(
                f"{self.name} needs the {self._learner.units} channels of {self._learner.name}, but gets {shape[-1]}."
            )
        return shape

    def multiplications(self, shape: Shape) -> int:
        """See Layer."""
        return math.prod(shape) * shape[-1]

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Take the matrix of the units as they are drawn."""
        self._site = site
        self._geometry = Geometry.of(self.name, (1, *as_4d(shape)), 1, 1, 0, "zeros")
        self._matrix = backend.module(site.device).eye(shape[-1], dtype=site.dtype)
        self._made_of: tuple[float, Array] | None = None  # the width and the units that the matrix is of

    @property
    def matrix(self) -> Array:
        """(K + epsilon·I)^(−½) of the units as they are."""
        if self._learner.weights is not None and not self._is_of_the_units():
            self._made_of = self._units(copy=True)
            units = devices.to_device(self._made_of[1], "cpu")
            matrix = whitening_of(units, self._made_of[0], self.epsilon).astype(self._site.dtype)
            self._matrix = devices.to_device(matrix, self._site.device)
        return self._matrix

    def _units(self, copy: bool = False) -> tuple[float, Array]:
        """Return the width of the response and the units (K, D), which are what the rule's scores are made by."""
        width, weights = self._learner.width, self._learner.weights
        units = projection_of(self._learner.bound_rule, weights.reshape(len(weights), -1))
        return WIDTH if width is None else width, units.copy() if copy else units

    def _is_of_the_units(self) -> bool:
        if self._made_of is None:
            return False
        width, units = self._units()
        return width == self._made_of[0] and bool((units == self._made_of[1]).all())

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        site, target, matrix = self._site, rows_of(out), self.matrix
        plan = Plan(self.name, self._geometry, matrix.shape[1], site.precision, site.workspace, site.device)

        def of_a_thread(share: Share) -> None:
            columns = share.gemm.operand(matrix)
            share.lay_out(x, {})
            for piece in share.pieces(x):
                share.gemm.multiply(share.gemm.operand(piece.patches), columns, target[piece.rows])

        x = x.reshape(len(x), *self._geometry.size, self._geometry.channels)
        parallel.run([partial(of_a_thread, share) for share in plan.shares(len(x), [])])

    def arrays(self) -> dict[str, Array]:
        """See Layer."""
        return {"matrix": self.matrix}

    def arrays_for(self, site: Site, shape: Shape, observed: bool) -> dict[str, tuple[Shape, Any]]:
        """See Layer."""
        return {"matrix": ((shape[-1], shape[-1]), site.dtype)}

    def restore(self, arrays: dict[str, Array]) -> None:
        """See Layer. The learner before has been restored, since layers are in order."""
        self._matrix, self._made_of = arrays["matrix"], self._units(copy=True)


def whitening_of(units: Any, width: float, epsilon: float) -> Any:
    """Return (K + epsilon·I)^(−½), (K, K), float64, of units (K, D) on the host; the cosine of zeros is 0."""
    units = units.astype(np.float64)
    norms = np.linalg.norm(units, axis=1, keepdims=True)
    units /= np.where(norms > 0, norms, 1)
    kernel = np.exp((units @ units.T - 1) / width)
    with parallel.one_blas_thread():  # as in Whiten
        spectrum, vectors = np.linalg.eigh(kernel)
    return (vectors / np.sqrt(np.maximum(spectrum, 0) + epsilon)) @ vectors.T
