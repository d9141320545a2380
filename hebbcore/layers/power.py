"""Powers that keep the sign."""

from dataclasses import dataclass
from typing import ClassVar

from hebbcore import checks
from hebbcore.engine.backend import Array, namespace
from hebbcore.layers.base import Layer


@dataclass(eq=False)
class Power(Layer):
    """sign(u) |u|^exponent: a square root lessens the weight of the largest features.

    exponent: > 0. Raises ValueError or TypeError for another.
    """

    in_place: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"exponent"})

    exponent: float = 0.5
    name: str = ""

    def _check(self) -> None:
        self.exponent = checks.positive("Power", "exponent", self.exponent)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        xp = namespace(x)
        xp.copysign(xp.abs(x) ** self.exponent, x, out=x)
