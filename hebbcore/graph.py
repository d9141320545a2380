"""Which layer of a network reads what: a chain, but for branches."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hebbcore.layers import Branches, GaussianPool, Layer, Learner, Shape, Whiten
from hebbcore.layers.base import puts_out_as


@dataclass(frozen=True)
class Step:
    """What is done for one layer, and in which arrays.

    Attributes
    ----------
    layer : int
        Its index. Branches have nothing to do: their output is complete once the last branch is.
    last : int
        The last layer of the chain that begins with it and is done in one step; `layer`, unless it begins one.
    source : int
        The value that it reads, as Graph counts them.
    own : int or None
        The array to which its input is copied first, if it must not be used where it is.
    out : int
        The array of the output.
    join : tuple or None
        (layer, number, array) if it ends a branch: the Branches, which of their branches, and the array of their
        output, into which its own is then copied.
    done : tuple of int
        Values that nobody reads any more.
    """

    layer: int
    last: int
    source: int
    own: int | None
    out: int
    join: tuple[int, int, int] | None
    done: tuple[int, ...]


class Graph:
    """The layers of a network in order, those of branches before the Branches that join them.

    Values are counted: 0 is the images, and i + 1 the output of layer i.

    Parameters
    ----------
    stack : sequence of Layer
        The layers, those of branches inside of Branches.

    Attributes
    ----------
    layers : tuple of Layer
        All layers, flat.
    reads : list of tuple of int
        The values that each layer reads: one, of Branches the ends of all.
    entries : list of int
        The value that each layer works on: the one it reads, of Branches the one that their branches begin with.
    depths : list of int
        In how many Branches each layer is.
    """

    def __init__(self, stack: Sequence[Layer]) -> None:
        self._flat: list[Layer] = []
        self.reads: list[tuple[int, ...]] = []
        self.entries: list[int] = []
        self.depths: list[int] = []
        self._joins: dict[int, tuple[int, int]] = {}  # by the value that ends a branch: the Branches, which of theirs
        self._add(stack, 0, 0)
        self.layers = tuple(self._flat)

    def _add(self, stack: Sequence[Layer], value: int, depth: int) -> int:
        """Add layers that begin with a value, and return the value that they end with."""
        for layer in stack:
            reads: tuple[int, ...] = (value,)
            if isinstance(layer, Branches):
                reads = tuple([self._add(branch, value, depth + 1) for branch in layer.branches])
                self._joins |= {end: (len(self._flat), number) for number, end in enumerate(reads)}
            self._flat.append(layer)
            self.reads.append(reads)
            self.entries.append(value)
            self.depths.append(depth)
            value = len(self._flat)
        return value

    def needed(self, first: int, lasts: Iterable[int]) -> list[int]:
        """Return the layers, in order, that make the values `lasts` of the value `first`.

        Raises
        ------
        ValueError
            If more than that value is needed.
        """
        found: set[int] = set()
        left = list(lasts)
        while left:
            value = left.pop()
            if value == first or value - 1 in found:
                continue
            if value == 0:
                raise ValueError(f"the layers cannot be run from value {first} alone: they need the images too.")
            found.add(value - 1)
            left += self.reads[value - 1]
        return sorted(found)

    def multiplications(self, shapes: Sequence[Shape], layer: int) -> int:
        """Return how many multiplications the matrix products on the way to a layer's output take for an image.

        Parameters
        ----------
        shapes : sequence of tuple of int
            Of each value.
        layer : int
            Which.
        """
        return sum(self.layers[i].multiplications(shapes[self.entries[i]]) for i in self.needed(0, [layer + 1]))

    def upstream(self, layer: int) -> list[int]:
        """Return the layers, in order, that make the input of a layer of the images."""
        return self.needed(0, self.reads[layer])

    def before(self, layer: int) -> set[int]:
        """Return the values that all input of a layer has gone through, its input and the images among them."""
        value = self.entries[layer]
        found = {value}
        while value:
            value = self.entries[value - 1]
            found.add(value)
        return found

    def follows(self, value: int) -> int | None:
        """Return the layer that alone reads a value, unless it joins branches."""
        readers = [i for i, reads in enumerate(self.reads) if value in reads]
        return readers[0] if len(readers) == 1 and not isinstance(self.layers[readers[0]], Branches) else None

    def chains(self, first: int, lasts: Iterable[int]) -> dict[int, int]:
        """Return the chains among the layers that make values of the value `first`: the last layer, by the first.

        A chain is a learner, perhaps with a Whiten before it, or a layer `by_image`, and layers `by_image` after it.
        Nobody else reads what is between.
        """
        order, wanted, found = self.needed(first, lasts), set(lasts), dict[int, int]()
        inside: set[int] = set()
        for i in order:
            layer, last = self.layers[i], i
            if isinstance(layer, Whiten) and i + 1 not in wanted:
                after = self.follows(i + 1)
                if after is not None and layer.goes_into(self.layers[after]):
                    last = after
                    inside.add(last)
            if i in inside or (last == i and not (_by_image(layer) or isinstance(layer, Learner))):
                continue
            while last + 1 not in wanted:
                after = self.follows(last + 1)
                if after is None or not _by_image(self.layers[after]):
                    break
                last = after
                inside.add(last)
            if last > i:
                found[i] = last
        return found

    def steps(
        self, first: int, lasts: Iterable[int], array: int | None, chains: Mapping[int, int] = MappingProxyType({})
    ) -> list[Step]:
        """Return the steps that make values of the value `first`, and the arrays they take: as few as go.

        Parameters
        ----------
        first : int
            The value that is there.
        lasts : iterable of int
            The values to make. Each is whole after its step; the last of all stays.
        array : int or None
            In which array `first` lies; None: in none of them, and it must not change.
        chains : mapping of int to int
            Chains that are done in one step each, the last layer by the first.

        Returns
        -------
        list of Step
            In order.
        """
        order = self.needed(first, lasts)
        inside = {j for i, last in chains.items() for j in range(i + 1, last + 1)}
        order = [i for i in order if i not in inside]
        uses = Counter(self.reads[i][0] for i in order if not isinstance(self.layers[i], Branches))
        places: dict[int, int | None] = {first: array}
        busy = {array} - {None}

        def take() -> int:
            free = next(slot for slot in range(len(busy) + 1) if slot not in busy)
            busy.add(free)
            return free

        steps = []
        for i in order:
            layer, last, own, done = self.layers[i], chains.get(i, i), None, []
            value, in_place = last + 1, all(layer.in_place for layer in self.layers[i : last + 1])
            if isinstance(layer, Branches):
                out = places[value]
            else:
                source = self.reads[i][0]
                at = places[source]
                uses[source] -= 1
                if (at is None and not layer.reads_images) or (layer.in_place and uses[source]):
                    at = own = take()
                out = at if in_place else take()
                if not uses[source]:
                    done.append(source)
                    busy.discard(places[source])
                if own is not None:
                    busy.discard(own)
                busy.add(out)
                places[value] = out
            join = None
            whole, number = self._joins.get(value, (-1, 0))
            if whole in order:
                if whole + 1 not in places:
                    places[whole + 1] = take()
                to = places[whole + 1]
                assert to is not None
                join = (whole, number, to)
                done.append(value)
            if not uses[value]:
                busy.discard(out)
            assert out is not None  # no layer writes to the images
            steps.append(Step(i, last, self.reads[i][0], own, out, join, tuple(done)))
        return steps


def _by_image(layer: Layer) -> bool:
    """Return whether a layer can be in a chain; the forward of a GaussianPool, which shares the memory, cannot."""
    return layer.by_image and (puts_out_as(layer, GaussianPool) or not isinstance(layer, GaussianPool))
