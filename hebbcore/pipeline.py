"""The layers of a network at work, whose outputs take turns in few arrays."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import convert
from hebbcore.graph import Graph, Step
from hebbcore.layers import Branches, Learner, Shape, Site, Whiten
from hebbcore.layers.base import as_4d, run_forward
from hebbcore.layers.chain import Chain

Learn = Callable[[int, Array, Array], None]  # (position of the layer, its input, where its output belongs)
Found = Callable[[int, Array], None]  # (a value of the graph, its array)


class Pipeline:
    """The layers of a built network, and the arrays in which their outputs lie: two, and more where branches are.

    Parameters
    ----------
    graph : Graph
        The layers, and what they read.
    shapes : sequence of tuple of int
        The shape of an image, and of each layer's output.
    site : Site
        Where and how the network computes.
    """

    def __init__(self, graph: Graph, shapes: Sequence[Shape], site: Site) -> None:
        self._graph, self._shapes, self._site = graph, shapes, site
        self._forget()

    def _forget(self) -> None:
        self._buffers: list[Array | None] = []
        self._last: tuple[Array | None, int | None] = (None, None)  # what run returned, and in which buffer it lies
        self._plans: dict[Any, list[Step]] = {}  # by what Graph.steps was asked

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_buffers", "_last", "_plans")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def image_bytes(self, layers: Collection[int] | None = None) -> int:
        """Return the bytes that the arrays take for one image.

        layers: in `write`, for the outputs of these layers; None: while the network learns.
        """
        sizes: dict[int | None, int] = {}
        if layers is None:
            steps = self._graph.steps(0, [len(self._graph.layers)], None)
        else:
            steps = self._steps(0, tuple(i + 1 for i in layers), None, True, True)
        for step in steps:
            places = [(step.own, step.source), (step.out, step.last + 1)]
            if step.join is not None:
                places.append((step.join[2], step.join[0] + 1))
            for slot, value in places:
                sizes[slot] = max(sizes.get(slot, 0), math.prod(self._shapes[value]))
        sizes.pop(None, None)  # inputs that are used where they are
        return max(1, sum(sizes.values()) * self._site.dtype.itemsize)

    def run(self, x: Array, first: int, last: int, *, training: bool, learn: Learn | None = None) -> Array:
        """See Network.run."""
        return self._go(x, first, (last,), training, learn)

    def write(self, x: Array, out: dict[int, Array], average: bool = False) -> None:
        """Write the output of each layer i for x to out[i]; average: write the mean with what is there."""

        def found(value: int, array: Array) -> None:
            target = out.get(value - 1)
            if target is None:
                return
            array = devices.to_device(array.reshape(target.shape), backend.device_of(target))
            if average:
                target += array
                target *= 0.5
            else:
                target[...] = array

        self._go(x, 0, tuple(i + 1 for i in out), False, found=found)

    def _go(
        self,
        x: Array,
        first: int,
        lasts: tuple[int, ...],
        training: bool,
        learn: Learn | None = None,
        found: Found | None = None,
    ) -> Array:
        """Return the last of the values that are made of x, the value `first`. found: is told of each."""
        slot = self._last[1] if x is self._last[0] else None
        values = {first: x}
        for step in self._steps(first, lasts, slot, chained=not training and learn is None, merged=found is not None):
            if not isinstance(self._graph.layers[step.layer], Branches):
                values[step.last + 1] = self._output(step, values[step.source], training, learn)
            if step.join is not None:
                self._join(step, values)
            if found is not None:
                found(step.last + 1, values[step.last + 1])
            for value in step.done:
                del values[value]
            slot = step.out
        x = values[max(lasts)]
        self._last = (x, slot)
        return x

    def _steps(
        self, first: int, lasts: tuple[int, ...], slot: int | None, chained: bool, merged: bool = False
    ) -> list[Step]:
        """Return the steps that make values; chained: chains that fit the work memory are done in one step each.

        merged: those that begin with a Whiten, too. A training does without: what it caches before the Whiten or behind
        it would decide the rounding of what follows.
        """
        asked = (first, lasts, slot, chained, merged)
        if asked not in self._plans:
            chains = self._graph.chains(first, lasts) if chained else {}
            chains = dict(self._fitting(*chain, merged) for chain in chains.items())
            self._plans[asked] = self._graph.steps(first, lasts, slot, chains)
        return self._plans[asked]

    def _fitting(self, first: int, last: int, merged: bool) -> tuple[int, int]:
        """Return the first and last layer of what fits the work memory: a chain, all but its Whiten, or one layer."""
        is_merged = isinstance(self._graph.layers[first], Whiten)
        if (merged or not is_merged) and self._chain(first, last).fits():
            return first, last
        if is_merged and last > first + 1:
            return self._fitting(first + 1, last, merged)
        return first, first

    def _chain(self, first: int, last: int) -> Chain:
        shapes = [self._shapes[self._graph.entries[first]], *self._shapes[first + 1 : last + 2]]
        return Chain(self._graph.layers[first : last + 1], shapes, self._site)

    def _output(self, step: Step, x: Array, training: bool, learn: Learn | None) -> Array:
        """Return the output of a step's layer for x."""
        layers = self._graph.layers[step.layer : step.last + 1]
        layer, shape = layers[0], (len(x), *as_4d(self._shapes[step.last + 1]))
        if step.own is not None:
            own = self._buffer(step.own, x.shape)
            convert(x, own)
            x = own
        out = x
        if not all(layer.in_place for layer in layers):
            out = self._buffer(step.out, shape)
        if step.last > step.layer:
            self._chain(step.layer, step.last).forward(x, out)
        elif learn is not None and isinstance(layer, Learner):
            learn(step.layer, x, out)
        else:
            run_forward(layer, x, out, training)
        return out.reshape(shape)

    def _join(self, step: Step, values: dict[int, Array]) -> None:
        """Copy the output of a step, which ends a branch, to its place among the channels of those joined."""
        assert step.join is not None
        (layer, number, slot), end = step.join, values[step.last + 1]
        if layer + 1 not in values:
            values[layer + 1] = self._buffer(slot, (len(end), *as_4d(self._shapes[layer + 1])))
        first = sum(self._shapes[value][-1] for value in self._graph.reads[layer][:number])
        values[layer + 1][..., first : first + end.shape[-1]] = end

    def _buffer(self, slot: int, shape: tuple[int, ...]) -> Array:
        size = math.prod(shape)
        self._buffers += [None] * (slot + 1 - len(self._buffers))
        buffer = self._buffers[slot]
        if buffer is None or buffer.size < size:
            self._buffers[slot] = buffer = None  # before the larger one is made
            self._buffers[slot] = buffer = backend.module(self._site.device).empty(size, self._site.dtype)
        return buffer[:size].reshape(shape)
