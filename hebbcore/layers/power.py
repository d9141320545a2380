"""Powers that keep the sign."""

from dataclasses import dataclass
from typing import ClassVar

from hebbcore import checks
from hebbcore.engine.backend import Array, namespace
from hebbcore.layers.base import Layer


@dataclass(eq=False)
class Power(Layer):
    """sign(u) |u|^exponent: a square root lessens the weight of the largest features.

    Parameters
    ----------
    exponent : float
        Above 0. It can be set in a network.
    name : str
        The layer's name in its network; "": the network gives one.

    Raises
    ------
    ValueError, TypeError
        For another exponent.
    """

    in_place: ClassVar[bool] = True
    by_image: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"exponent"})

    exponent: float = 0.5
    name: str = ""

    def _check(self) -> None:
        self.exponent = checks.positive("Power", "exponent", self.exponent)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        xp = namespace(x)
        xp.copysign(xp.abs(x) ** self.exponent, x, out=x)
