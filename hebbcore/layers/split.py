"""What exceeds a threshold, split by sign."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from hebbcore import checks
from hebbcore.engine import kernels, parallel
from hebbcore.engine.backend import Array
from hebbcore.layers.base import Layer, Shape, rows_of


@dataclass(eq=False)
class Split(Layer):
    """relu(u − threshold) and relu(−u − threshold): twice the channels, the positive ones first.

    Parameters
    ----------
    threshold : float
        At least 0, in units of the input. It can be set in a network.
    name : str
        The layer's name in its network; "": the network gives one.

    Raises
    ------
    ValueError, TypeError
        For another threshold.

    References
    ----------
    Coates & Ng (ICML 2011), soft threshold with polarity splitting.
    """

    by_image: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"threshold"})

    threshold: float = 0.0
    name: str = ""

    def _check(self) -> None:
        self.threshold = checks.real("Split", "threshold", self.threshold, 0)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (*shape[:-1], 2 * shape[-1])

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        source, target = rows_of(x), rows_of(out)
        kernel, threshold = kernels.for_array(x).split, x.dtype.type(self.threshold)
        parts = parallel.cuts(len(source), parallel.threads() if parallel.worth_splitting(source) else 1)
        parallel.run([partial(kernel, target[i:j], source[i:j], threshold) for i, j in parts], blas=False)
