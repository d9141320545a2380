"""Rectification."""

from dataclasses import dataclass
from typing import ClassVar

from hebbcore import checks
from hebbcore.engine.backend import Array, namespace
from hebbcore.layers.base import Layer


@dataclass(eq=False)
class Relu(Layer):
    """relu(u)^power.

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
    Krotov & Hopfield (PNAS 2019), for the power.
    """

    in_place: ClassVar[bool] = True
    by_image: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"power"})

    power: float = 1.0
    name: str = ""

    def _check(self) -> None:
        self.power = checks.positive("Relu", "power", self.power)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        namespace(x).maximum(x, 0, out=x)
        if self.power != 1:
            x **= x.dtype.type(self.power)
