"""Network: a stack of layers, from images to features."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, gemm
from hebbcore.engine.backend import Array
from hebbcore.engine.parallel import ForkedLock
from hebbcore.engine.patches import as_images, convert
from hebbcore.layers import WORKSPACE, Layer, Learner, Shape, Site
from hebbcore.layers.base import as_4d

_MOST_NUMBERS = 2**48  # of a layer's output for an image
_PREFIXES = {"Dense": "fc", "BatchNorm": "bn"}  # else the class in lower case


class Network:
    """A stack of layers, each working on the output of the one before.

    layers: Conv, Dense, Pool, BatchNorm, Triangle, Whiten, Flatten; each may have a name. The others are named by kind
    and place: conv1, pool1, bn1, conv2, …, fc5, bn5, where the number is that of the learner before (at least 1).
    image_shape: (height, width, channels) or (features,); None: that of the first batch it is trained on.
    seed: draws the weights; the same seed, shapes and device give the same bits.
    device, precision, workspace: see train_layer; the workspace is of one layer at a time, and beside it two arrays
    hold the outputs of layers, which grow with the batch.

    transform and features may be called from several threads at once, also while fit trains the network or save writes
    it: calls wait for each other, since one of them keeps all cores busy, and the memory is that of one. Networks do
    not wait for each other. Copies and pickles are made while nothing trains the network.
    Raises ValueError or TypeError for layers that do not fit each other, naming the layer.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        image_shape: Sequence[int] | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
        precision: str = "float32",
        workspace: int | str = WORKSPACE,
    ) -> None:
        function = "Network"
        self._layers = tuple(layers)
        if not self.layers:
            raise checks.wrong(ValueError, function, "layers", "must not be empty.")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise checks.wrong(
                    TypeError, function, "layers", f"must be hebbcore layers such as Conv(…), got {layer!r}."
                )
        if len({id(layer) for layer in self.layers}) < len(self.layers):
            raise checks.wrong(ValueError, function, None, "a layer appears twice; make a new one for each place.")
        self.seed = checks.integer(function, "seed", seed, 0)
        place = devices.resolve(function, device)
        gemm.check_precision(function, precision, place)
        self.site = Site(place, precision, checks.byte_size(function, "workspace", workspace))
        self.names = _name(function, self.layers)
        for layer in self.layers:
            layer.join_network()
        self.image_shape: Shape | None = None
        self.shapes: list[Shape] = []  # of each layer's output
        self._buffers: list[Array | None] = [None, None]  # outputs of layers, which take turns
        self._last: tuple[Array | None, int | None] = (None, None)  # what run returned, and in which buffer it lies
        self._lock = ForkedLock()
        self._trained_by: int | None = None  # the thread
        if image_shape is not None:
            self.build(image_shape)

    def build(self, image_shape: Sequence[int], *, draw: bool = True) -> None:
        """Draw the weights for images of this shape. Raises ValueError if a layer does not fit or has any.

        draw: False leaves the learners without weights, which must be restored before any use.
        """
        if draw and self.learners:
            checks.channels_last("Network", "image_shape", _image_shape("Network", image_shape))
        if self.image_shape is not None:
            raise ValueError(f"Network.build: it is built already, for images of {self.image_shape}; make a new one.")
        for learner in self.learners.values():
            if learner.weights is not None:
                raise ValueError(f"Network: {learner.name} has weights of another network; make new layers for each.")
        shapes = self.shapes_for(image_shape)
        generators = np.random.default_rng(self.seed).spawn(len(self.layers))
        for layer, given, generator in zip(self.layers, shapes, generators, strict=False):
            if isinstance(layer, Learner) and not draw:
                layer.place(self.site, given, generator)
            else:
                layer.build(self.site, given, generator)
        self.image_shape, self.shapes = shapes[0], shapes[1:]

    def shapes_for(self, image_shape: Sequence[int]) -> list[Shape]:
        """Return the shapes of an image and of each layer's output. Raises ValueError if a layer does not fit."""
        shapes = [_image_shape("Network", image_shape)]
        for layer in self.layers:
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except ValueError as error:
                raise checks.wrong(ValueError, "Network", None, str(error)) from None
            if math.prod(shapes[-1]) > _MOST_NUMBERS:
                problem = f"{layer.name}'s output is too large for any memory; use less of its units."
                raise checks.wrong(ValueError, "Network", None, problem)
        return shapes

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_buffers": [None, None], "_last": (None, None), "_trained_by": None}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order. Their parameters can be set where that has an effect; the layers themselves stay."""
        return self._layers

    @property
    def lock(self) -> "ForkedLock":
        """What to hold while `run` is at work and its result in use, or the arrays of layers are read or changed."""
        return self._lock

    def begin_training(self, function: str) -> None:
        """Mark the network as being trained. Raises RuntimeError if it is already."""
        with self.lock:
            if self._trained_by is not None:
                raise RuntimeError(
                    f"{function}: the network is being trained already, by thread {self._trained_by}; wait for it, or "
                    "train a network of its own in each thread."
                )
            self._trained_by = threading.get_ident()

    def end_training(self) -> None:
        """Take the mark off again."""
        self._trained_by = None

    def __getitem__(self, name: str) -> Layer:
        return self.layers[self.index_of("Network", name)]

    def __len__(self) -> int:
        return len(self.layers)

    def index_of(self, function: str, name: str) -> int:
        """Return the place of the layer of this name. Raises ValueError for an unknown one."""
        return self.names.index(checks.choice(function, "layer", name, self.names))

    @property
    def learners(self) -> dict[str, Learner]:
        """The layers with a rule, by name."""
        return {name: layer for name, layer in zip(self.names, self.layers, strict=True) if isinstance(layer, Learner)}

    @property
    def parameters(self) -> int:
        """How many weights the rules change."""
        self._require_built("Network.parameters")
        return sum(math.prod(layer.weights.shape) for layer in self.learners.values())

    def summary(self) -> str:
        """Return a table of the layers: name, shape of the output, number of weights."""
        self._require_built("Network.summary")
        lines = [f"{'layer':<12}{'output':>18}{'weights':>14}"]
        for name, layer, shape in zip(self.names, self.layers, self.shapes, strict=True):
            count = math.prod(layer.weights.shape) if isinstance(layer, Learner) else 0
            lines.append(f"{name:<12}{' × '.join(map(str, shape)):>18}{count or '':>14}")
        return "\n".join([*lines, f"{'':<12}{'':>18}{self.parameters:>14}"])

    def transform(
        self, images: Any, layer: str | None = None, *, mirror: bool = False, workspace: int | str = WORKSPACE
    ) -> Array:
        """Return the output of a layer (default the last), batch statistics left as they are.

        images: (n, H, W, C) or (n, features), uint8 (read as 0…1) or floating; NumPy, CuPy or convertible. Images on
        another device than the network's are streamed to it.
        layer: a name in `names`. mirror: return the mean of the outputs for each image and for its mirror image, left
        for right.
        workspace: bytes, or text, for the outputs of layers of the images processed at a time; beside it the network's
        own workspace and the result.

        Returns (n, height, width, channels) or (n, features), of the network's dtype, in the library of the images.
        Raises ValueError or TypeError for images that do not fit, and for an unknown layer.
        """
        name = self.names[-1] if layer is None else layer
        return self.features(images, [name], mirror=mirror, workspace=workspace)[name]

    def features(
        self, images: Any, layers: Iterable[str], *, mirror: bool = False, workspace: int | str = WORKSPACE
    ) -> dict[str, Array]:
        """Return the outputs of several layers from one pass, by name; see transform."""
        function = "transform"
        self._require_built(function)
        wanted = sorted({self.index_of(function, name) for name in layers})
        array = self.fit_images(function, images)
        if checks.boolean(function, "mirror", mirror):
            self.require_mirror(function)
        device = backend.device_of(array)
        size = checks.byte_size(function, "workspace", workspace)
        # a mirror image is a copy
        taken = self.image_bytes() + (array.dtype.itemsize * math.prod(self.image_shape or ()) if mirror else 0)
        step = max(1, min(len(array), size // taken))
        out = {
            i: backend.module(device).empty((len(array), *self.shapes[i]), self.site.dtype) for i in wanted
        }  # fmt: skip
        for first in range(0, len(array), step):
            part = devices.to_device(array[first : first + step], self.site.device)
            targets = {i: whole[first : first + step] for i, whole in out.items()}
            with self.lock:
                self._put(part, targets)
                if mirror:
                    other = backend.namespace(part).ascontiguousarray(part[:, :, ::-1])
                    self._put(other, targets, average=True)
        return {self.names[i]: whole for i, whole in out.items()}

    def _put(self, x: Array, out: dict[int, Array], average: bool = False) -> None:
        """Write the output of each layer i for x to out[i]; average: write the mean with what is there."""
        done = 0
        for i, target in out.items():
            x = self.run(x, done, i + 1)
            done = i + 1
            found = devices.to_device(x.reshape(target.shape), backend.device_of(target))
            if average:
                target += found
                target *= 0.5
            else:
                target[...] = found

    def require_mirror(self, function: str) -> None:
        """Raise ValueError unless the network takes images, which have a left and a right."""
        self._require_built(function)
        if self.image_shape is not None and len(self.image_shape) != 3:
            raise ValueError(f"{function}: mirror is for images, but the network takes vectors {self.image_shape}.")

    def fit_images(self, function: str, images: Any, advice: str = "") -> Array:
        """Return images as (n, H, W, C), vectors as (n, 1, 1, features).

        Raises ValueError, with advice at its end, unless they fit.
        """
        assert self.image_shape is not None
        given = backend.as_array(function, "images", images)
        array = as_images(function, "images", given)
        if array.shape[1:] == as_4d(self.image_shape) and given.ndim == len(self.image_shape) + 1:
            return array
        raise ValueError(
            f"{function}: images must be (n, {', '.join(map(str, self.image_shape))}), as the network was made for, "
            f"got shape {given.shape}; images are channels-last.{advice}"
        )

    def image_bytes(self) -> int:
        """Return the bytes that the outputs of layers take for one image, as `run` keeps them."""
        assert self.image_shape is not None
        sizes = [0, 0]
        slot = None
        for layer, shape in zip(self.layers, [self.image_shape, *self.shapes], strict=False):
            if slot is None and not layer.reads_images:
                slot = 0
                sizes[0] = math.prod(shape)
            if not layer.in_place:
                slot = _other(slot)
                sizes[slot] = max(sizes[slot], math.prod(layer.output_shape(shape)))
        return max(1, sum(sizes) * self.site.dtype.itemsize)

    def run(
        self,
        x: Array,
        first: int,
        last: int,
        *,
        training: bool = False,
        learn: Callable[[int, Array, Array], None] | None = None,
    ) -> Array:
        """Return the output of layers first…last-1 for x (n, H, W, C) on the device; the next call overwrites it.

        x: images that fit the network, or any input of layer `first`.
        training: layers that normalise do so by this batch. learn(i, x, out): called for each learner instead of its
        forward, with its place, its input and where its output belongs.
        The caller holds `lock` until it is done with the result.
        """
        slot = self._last[1] if x is self._last[0] else None
        for i in range(first, last):
            layer, shape = self.layers[i], (len(x), *as_4d(self.shapes[i]))
            if slot is None and not layer.reads_images:
                slot = 0
                own = self._buffer(slot, x.shape)
                convert(x, own)
                x = own
            if layer.in_place:
                layer.forward(x, x, training)
                x = x.reshape(shape)
                continue
            slot = _other(slot)
            out = self._buffer(slot, shape)
            if learn is not None and isinstance(layer, Learner):
                learn(i, x, out)
            else:
                layer.forward(x, out, training)
            x = out
        self._last = (x, slot)
        return x

    def _buffer(self, slot: int, shape: tuple[int, ...]) -> Array:
        size = math.prod(shape)
        buffer = self._buffers[slot]
        if buffer is None or buffer.size < size:
            self._buffers[slot] = buffer = None  # before the larger one is made
            self._buffers[slot] = buffer = backend.module(self.site.device).empty(size, self.site.dtype)
        return buffer[:size].reshape(shape)

    def _require_built(self, function: str) -> None:
        if self.image_shape is None:
            raise ValueError(
                f"{function}: the network has no weights yet; give Network an image_shape, build it, or train it."
            )


def _other(slot: int | None) -> int:
    """Return which of the two buffers takes the output of an input in `slot` (None: in neither)."""
    return 1 if slot == 0 else 0


def _image_shape(function: str, value: Sequence[int]) -> Shape:
    problem = "must be (height, width, channels) or (features,), got"
    try:
        shape = tuple(checks.integer(function, "image_shape", side, 1) for side in value)
    except TypeError as error:
        raise checks.wrong(TypeError, function, "image_shape", f"{problem} {value!r}.") from error
    if len(shape) not in (1, 3):
        raise checks.wrong(ValueError, function, "image_shape", f"{problem} {shape}.")
    return shape


def _name(function: str, layers: Sequence[Layer]) -> list[str]:
    """Give the layers without a name one, and return all names."""
    taken: set[str] = set()
    for name in (layer.name for layer in layers if layer.name):
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            problem = f"must be letters, digits, - and _, got {name!r}."
            raise checks.wrong(ValueError, function, "a layer's name", problem)
        if name in taken:
            raise checks.wrong(ValueError, function, None, f"two layers are named {name!r}; names must differ.")
        taken.add(name)
    learners, latest = 0, dict[str, int]()
    for layer in layers:
        learners += isinstance(layer, Learner)
        kind = type(layer).__name__
        prefix = _PREFIXES.get(kind, kind.lower())
        if not layer.name:
            number = max(1, learners, latest.get(prefix, 0) + 1)
            while f"{prefix}{number}" in taken:
                number += 1
            layer.name, latest[prefix] = f"{prefix}{number}", number
    return [layer.name for layer in layers]
