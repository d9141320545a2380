"""The layers of a network at work, whose outputs take turns in few arrays."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import convert
from hebbcore.graph import Graph, Step
from hebbcore.layers import Branches, Learner, Shape, Site
from hebbcore.layers.base import as_4d

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

    def image_bytes(self) -> int:
        """Return the bytes that the arrays take for one image."""
        sizes: dict[int | None, int] = {}
        for step in self._graph.steps(0, [len(self._graph.layers)], None):
            places = [(step.own, step.source), (step.out, step.layer + 1)]
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
        plan = self._plans.get((first, lasts, slot))
        if plan is None:
            plan = self._plans[first, lasts, slot] = self._graph.steps(first, lasts, slot)
        values = {first: x}
        for step in plan:
            if not isinstance(self._graph.layers[step.layer], Branches):
                values[step.layer + 1] = self._output(step, values[step.source], training, learn)
            if step.join is not None:
                self._join(step, values)
            if found is not None:
                found(step.layer + 1, values[step.layer + 1])
            for value in step.done:
                del values[value]
            slot = step.out
        x = values[max(lasts)]
        self._last = (x, slot)
        return x

    def _output(self, step: Step, x: Array, training: bool, learn: Learn | None) -> Array:
        """Return the output of a step's layer for x."""
        layer, shape = self._graph.layers[step.layer], (len(x), *as_4d(self._shapes[step.layer + 1]))
        if step.own is not None:
            own = self._buffer(step.own, x.shape)
            convert(x, own)
            x = own
        if layer.in_place:
            layer.forward(x, x, training)
            return x.reshape(shape)
        assert step.out is not None
        out = self._buffer(step.out, shape)
        if learn is not None and isinstance(layer, Learner):
            learn(step.layer, x, out)
        else:
            layer.forward(x, out, training)
        return out

    def _join(self, step: Step, values: dict[int, Array]) -> None:
        """Copy the output of a step, which ends a branch, to its place among the channels of those joined."""
        assert step.join is not None
        (layer, number, slot), end = step.join, values[step.layer + 1]
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
