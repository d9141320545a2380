"""Branches: layers side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hebbcore import checks
from hebbcore.layers.base import Layer, Shape, shape_after


@dataclass(eq=False, init=False)
class Branches(Layer):
    """Branches that work on the same input side by side, and whose outputs are concatenated along the channels.

    A network names the layers of branches as its own: they are in `network.layers`, before the Branches that join
    them, and have their outputs, learn and are saved as others do.

    Parameters
    ----------
    *lists : sequence of Layer
        The layers of each branch; two branches or more. Branches may hold Branches.
    branches : sequence of sequence of Layer
        The same as one list, as configurations have it.
    name : str
        The layer's name in its network; "": the network gives one.

    Raises
    ------
    ValueError, TypeError
        For less than two branches, and for branches that hold no layers. In a network: for outputs that are neither
        images of the same height and width nor all vectors.
    """

    branches: Any = ()  # checked: a tuple of tuples of Layer
    name: str = ""

    def __init__(self, *lists: Sequence[Layer], branches: Any = (), name: str = "") -> None:
        if lists and branches:
            raise checks.wrong(ValueError, "Branches", "branches", "says the same as the lists before it; give one.")
        self.branches = lists or branches
        self.name = name
        self._check()

    def _check(self) -> None:
        if not _is_list(self.branches) or len(self.branches) < 2:
            problem = f"must be lists of layers, two or more, got {self.branches!r}."
            raise checks.wrong(ValueError, "Branches", "branches", problem)
        for branch in self.branches:
            if not _is_list(branch) or not branch or not all(isinstance(layer, Layer) for layer in branch):
                problem = f"must be lists of hebbcore layers, such as [Conv(…), Pool(2)], got {branch!r} among them."
                raise checks.wrong(TypeError, "Branches", "branches", problem)
        self.branches = tuple(map(tuple, self.branches))

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        ends = []
        for branch in self.branches:
            end = shape
            for layer in branch:
                end = shape_after(layer, end)
            ends.append(end)
        if len({(len(end), end[:-1]) for end in ends}) > 1:
            raise ValueError(
                f"{self.name or 'Branches'} joins outputs {', '.join(map(str, ends))}, but they must have the same "
                "height and width, or all be vectors; end each branch with a pool to the same cells, or with Flatten."
            )
        return (*ends[0][:-1], sum(end[-1] for end in ends))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def with_changes(layers: Sequence[Layer], change: Callable[[Sequence[Layer]], list[Layer]]) -> list[Layer]:
    """Return layers as `change` returns those of a list, which it is called with for each branch and for the whole."""
    inner = [
        Branches(*(with_changes(branch, change) for branch in layer.branches), name=layer.name)
        if isinstance(layer, Branches)
        else layer
        for layer in layers
    ]
    return change(inner)
