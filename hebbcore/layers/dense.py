"""A dense layer whose units learn."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from hebbcore.engine.backend import Array
from hebbcore.engine.patches import Geometry
from hebbcore.layers.base import Shape, as_4d
from hebbcore.layers.learner import LATER, Learner
from hebbcore.rules import Rule


@dataclass(eq=False)
class Dense(Learner):
    """A dense layer whose units learn by a rule; images are flattened. Output: the rule's, (units,).

    Parameters
    ----------
    units : int
        Number of units.
    rule : Rule or str
        A rule or its name.
    learning_rate : float or "auto" or None
        None takes that of the training; "auto": see fit.
    linear : bool
        See Conv.
    name : str
        The layer's name in its network; "": the network gives one.
    initial_weights : {"rule", "patches", "k-means++"}
        See Conv.
    conscience, revival : float
        See Conv.
    response : {"rule", "cosine", "cosine-exp"}
        See Conv.
    width : float or None
        See Conv.
    normalize_patches : bool
        See Conv.

    Attributes
    ----------
    weights : Array
        (units, features), once the network is built; see Conv.
    state : mapping of str to Array
        See Conv.

    Raises
    ------
    ValueError, TypeError
        For impossible parameters.
    """

    prefix: ClassVar[str] = "fc"

    units: int
    rule: Rule | str = "hpca"
    learning_rate: float | str | None = None
    linear: bool = False
    name: str = ""
    initial_weights: str = field(default="rule", metadata=LATER)
    conscience: float = field(default=0.0, metadata=LATER)
    revival: float = field(default=0.0, metadata=LATER)
    response: str = field(default="rule", metadata=LATER)
    width: float | None = field(default=None, metadata=LATER)
    normalize_patches: bool = field(default=False, metadata=LATER)
    weights: Array = field(init=False, repr=False, default=None)

    def _geometry(self, shape: Shape) -> Geometry:
        return Geometry.of(self.name, (1, 1, 1, math.prod(shape)), 1, 1, 0, "zeros")

    def _weights_shape(self, shape: Shape) -> tuple[int, ...]:
        return (self.units, math.prod(as_4d(shape)))

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (self.units,)
