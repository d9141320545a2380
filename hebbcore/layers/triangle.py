"""What exceeds the mean of the channels."""

from dataclasses import dataclass
from typing import ClassVar

from hebbcore import checks
from hebbcore.engine import kernels
from hebbcore.engine.backend import Array
from hebbcore.layers.base import Layer, by_rows, rows_of


@dataclass(eq=False)
class Triangle(Layer):
    """relu(u − mean of u over the channels)^power, at each position of an image.

    Parameters
    ----------
    power : float
        Above 0. It can be set in a network.
    name : str
        The layer's name in its network; "": the network gives one.

    Raises
    ------
    ValueError, TypeError
        For another power.

    References
    ----------
    Coates, Ng & Lee (AISTATS 2011); with a power: SoftHebb (Journé et al., ICLR 2023).
    """

    in_place: ClassVar[bool] = True
    by_image: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"power"})

    power: float = 1.0
    name: str = ""

    def _check(self) -> None:
        self.power = checks.positive("Triangle", "power", self.power)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        rows, number = rows_of(x), x.dtype.type
        by_rows(kernels.for_array(x).triangle, rows, number(1 / rows.shape[1]), number(self.power))
