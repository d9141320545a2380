"""Network: a stack of layers, from images to features."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, gemm
from hebbcore.engine.backend import Array
from hebbcore.engine.pixel_scale import PixelScale, require_scale
from hebbcore.graph import Graph
from hebbcore.layers import WORKSPACE, Layer, Learner, Shape, Site
from hebbcore.layers.arguments import as_image_shape, check_images_of_shape, check_layers
from hebbcore.layers.base import shape_after
from hebbcore.layers.names import name_layers
from hebbcore.pipeline import Learn, Pipeline
from hebbcore.predictions import Predictor
from hebbcore.summary import summary_of
from hebbcore.trainable import Trainable

_LESS = "use fewer units, less padding or smaller images"
_TRAINING = ("batch_size", "epochs", "mode", "sample", "statistics_images")  # the arguments of fit that a network tells


class Network(Predictor, Trainable):
    """A stack of layers, each working on the output of the one before.

    Layers without a name are named by kind and position: conv1, pool1, bn1, conv2, …, fc5, bn5, where the number is
    that of the learner before (at least 1).

    transform and features may be called from several threads at once, also while fit trains the network or save writes
    it: calls wait for each other, since one of them keeps all cores busy, and the memory is that of one. Networks do
    not wait for each other. Copies and pickles are made while nothing trains the network.

    Parameters
    ----------
    layers : sequence of Layer
        Conv, Dense, Pool, BatchNorm, Triangle, Whiten, Flatten, Branches, …; each may have a name.
    image_shape : sequence of int or None
        (height, width, channels) or (features,); None: that of the first batch it is trained on.
    seed : int
        Draws the weights; the same seed, shapes and device give the same bits.
    device : str
        "cpu", "cuda", or "auto": CUDA when it works.
    precision : str
        See train_layer.
    workspace : int or str
        Bytes, or text like "256 MiB", of work memory of one layer at a time; beside it two arrays hold the outputs of
        layers, which grow with the batch (for Branches also their input and what they join).

    Attributes
    ----------
    names : list of str
        The layers' names, in order.
    image_shape : tuple of int or None
        The shape of an image; None before the network is built.
    shapes : list of tuple of int
        The shape of each layer's output.
    stack : tuple of Layer
        The layers as they were given, those of branches inside of Branches. `graph` says which layer reads what.
    site : Site
        Where and how the network computes.
    training : mapping of str to Any
        How it is meant to be trained: the batch_size (of arrays), epochs, mode, sample and statistics_images that fit
        takes where its call does not say; empty, unless a preset or the user set it. It is saved with the network.
    pixel_scale : PixelScale or None
        Of the images that it learned from; others of another scale are refused. None: all are taken. It is saved too.

    Raises
    ------
    ValueError, TypeError
        For layers that do not fit each other, naming the layer.
    """

    pixel_scale: PixelScale | None = None  # of the class: pickles of earlier versions have none

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
        super().__init__()
        function = "Network"
        given: Any = layers
        if not isinstance(given, Iterable):
            problem = f"must be a list of layers, got {type(given).__name__}; a single layer goes into brackets."
            raise checks.wrong(TypeError, function, "layers", problem)
        self.stack = tuple(layers)
        self.graph = Graph(self.stack)
        check_layers(function, self.layers)
        self._require_new_layers()
        self.seed = checks.integer(function, "seed", seed, 0)
        device = devices.resolve(function, device)
        gemm.check_precision(function, precision, device)
        self.site = Site(device, precision, checks.byte_size(function, "workspace", workspace))
        self.names = name_layers(function, self.layers)
        for i, layer in enumerate(self.layers):
            layer.join_network()
            try:
                layer.follow([self.layers[value - 1] for value in sorted(self.graph.before(i)) if value])
            except ValueError as error:
                raise checks.wrong(ValueError, function, None, str(error)) from None
        self.training = {}
        self.image_shape: Shape | None = None
        self.shapes: list[Shape] = []  # of each layer's output
        if image_shape is not None:
            self.build(image_shape)

    def build(self, image_shape: Sequence[int], *, draw: bool = True) -> None:
        """Draw the weights for images of a shape.

        Parameters
        ----------
        image_shape : sequence of int
            (height, width, channels) or (features,).
        draw : bool
            False leaves the learners without weights, which must be restored before any use.

        Raises
        ------
        ValueError
            If a layer does not fit, or was built for another network.
        """
        if checks.boolean("Network.build", "draw", draw) and self.learners:
            checks.channels_last("Network", "image_shape", as_image_shape("Network", image_shape))
        if self.image_shape is not None:
            raise ValueError(f"Network.build: it is built already, for images of {self.image_shape}; make a new one.")
        self._require_new_layers()
        shapes = self.shapes_for(image_shape)
        generators = np.random.default_rng(self.seed).spawn(len(self.layers))
        for layer, value, generator in zip(self.layers, self.graph.entries, generators, strict=True):
            given = shapes[value]
            if isinstance(layer, Learner) and not draw:
                layer.place(self.site, given, generator)
            else:
                layer.build(self.site, given, generator)
        for layer in self.layers:
            layer.belong()
        self.image_shape, self.shapes = shapes[0], shapes[1:]
        self._pipeline = Pipeline(self.graph, shapes, self.site)

    def shapes_for(self, image_shape: Sequence[int]) -> list[Shape]:
        """Return the shapes that images of a shape would have on their way.

        Parameters
        ----------
        image_shape : sequence of int
            (height, width, channels) or (features,).

        Returns
        -------
        list of tuple of int
            The shape of an image, and of each layer's output.

        Raises
        ------
        ValueError
            If a layer does not fit.
        """
        shapes = [as_image_shape("Network", image_shape)]
        for layer, value in zip(self.layers, self.graph.entries, strict=True):
            try:
                shapes.append(shape_after(layer, shapes[value]))
            except ValueError as error:
                raise checks.wrong(ValueError, "Network", None, str(error)) from None
            needed, what = math.prod(shapes[-1]) * self.site.dtype.itemsize, f"{layer.name}'s output for an image takes"
            devices.require_room("Network", self.site.device, needed, what, _LESS)
        return shapes

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order, those of branches before the Branches. Parameters that have an effect can be set."""
        return self.graph.layers

    @property
    def training(self) -> Mapping[str, Any]:
        """What fit takes where its call does not say; see Network. Set it as a whole."""
        return MappingProxyType(self._training)

    @training.setter
    def training(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping):
            raise checks.wrong(TypeError, "Network", "training", f"must be a dict of fit's arguments, got {given!r}.")
        for key in given:
            checks.choice("Network", "each key of training", key, _TRAINING)
        self._training = dict(given)

    def __getitem__(self, name: str) -> Layer:
        return self.layers[self.index_of("Network", name)]

    def __len__(self) -> int:
        return len(self.layers)

    def index_of(self, function: str, name: str) -> int:
        """Return the position of the layer of a name, from 0.

        Raises
        ------
        ValueError
            For an unknown name.
        """
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

    def gflop(self, layer: str | None = None, *, mirror: bool = False) -> float:
        """Return the billions of floating point operations (GFLOP) that a layer's output costs for an image.

        Counted are the matrix products of Conv, Dense, Whiten and Nystrom on the way to it, two operations for each
        multiplication; neither what is done to single numbers (responses, pools) nor learning.

        Parameters
        ----------
        layer : str or None
            A name in `names`; None: the last.
        mirror : bool
            For an image and its mirror image: twice as many; see transform.

        Raises
        ------
        ValueError, TypeError
            For an unknown layer, and if the network has no weights yet.
        """
        self._require_built("Network.gflop")
        last = len(self) - 1 if layer is None else self.index_of("Network.gflop", layer)
        count = self.graph.multiplications([self.image_shape or (), *self.shapes], last)
        return (4 if checks.boolean("Network.gflop", "mirror", mirror) else 2) * count / 1e9

    def summary(self) -> str:
        """Return a table of the layers (name, shape of the output, number of weights), and what `training` says."""
        self._require_built("Network.summary")
        return summary_of(self.graph, self.shapes, self.training)

    def transform(
        self, images: Any, layer: str | None = None, *, mirror: bool = False, workspace: int | str = WORKSPACE
    ) -> Array:
        """Return the output of a layer, batch statistics left as they are.

        Parameters
        ----------
        images : Array
            (n, H, W, C) or (n, features), uint8 (read as 0…1) or floating; NumPy, CuPy or convertible. Images on
            another device than the network's are streamed to it.
        layer : str or None
            A name in `names`; None: the last.
        mirror : bool
            Return the mean of the outputs for each image and for its mirror image, left for right.
        workspace : int or str
            Bytes, or text, for the outputs of layers of the images processed at a time; beside it the network's own
            workspace and the result.

        Returns
        -------
        Array
            (n, height, width, channels) or (n, features), of the network's dtype, in the library of the images. NaN
            in an image makes NaN of its own features alone.

        Raises
        ------
        ValueError, TypeError
            For images that do not fit, and for an unknown layer.
        """
        name = self.names[-1] if layer is None else layer
        return self.features(images, [name], mirror=mirror, workspace=workspace)[name]

    def features(
        self, images: Any, layers: Iterable[str], *, mirror: bool = False, workspace: int | str = WORKSPACE
    ) -> dict[str, Array]:
        """Return the outputs of several layers from one pass.

        Parameters
        ----------
        images : Array
            See transform.
        layers : iterable of str
            Names in `names`, one at least.
        mirror : bool
            See transform.
        workspace : int or str
            See transform.

        Returns
        -------
        dict of str to Array
            By name, in the order of the layers; see transform.

        Raises
        ------
        ValueError, TypeError
            See transform.
        """
        function = "transform"
        if not (wanted := sorted({self.index_of(function, name) for name in layers})):
            raise ValueError(f"features: layers names no layer; give some of {', '.join(self.names)}.")
        array = self.check_images(function, images)
        if checks.boolean(function, "mirror", mirror):
            self.require_mirror(function)
        size = checks.byte_size(function, "workspace", workspace)
        copied = array.dtype.itemsize * math.prod(self.image_shape or ()) if mirror else 0  # a mirror image
        step = max(1, min(len(array), size // (self._pipeline.image_bytes(wanted) + copied)))
        empty = backend.module(backend.device_of(array)).empty
        out = {i: empty((len(array), *self.shapes[i]), self.site.dtype) for i in wanted}
        for first in range(0, len(array), step):
            part = devices.to_device(array[first : first + step], self.site.device)
            require_scale(self.pixel_scale, function, "images", part)
            targets = {i: whole[first : first + step] for i, whole in out.items()}
            with self.lock, np.errstate(under="ignore"):
                self._pipeline.write(part, targets)
                if mirror:
                    other = backend.namespace(part).ascontiguousarray(part[:, :, ::-1])
                    self._pipeline.write(other, targets, average=True)
        return {self.names[i]: whole for i, whole in out.items()}

    def require_mirror(self, function: str) -> None:
        """Check that the network takes images, which have a left and a right.

        Raises
        ------
        ValueError
            If it takes vectors, or is not built.
        """
        self._require_built(function)
        if self.image_shape is not None and len(self.image_shape) != 3:
            raise ValueError(f"{function}: mirror is for images, but the network takes vectors {self.image_shape}.")

    def check_images(self, function: str, images: Any, advice: str = "") -> Array:
        """Return images as an array, if they fit the network; see check_images_of_shape."""
        self._require_built(function)
        return check_images_of_shape(function, images, self.image_shape or (), advice)

    def image_bytes(self) -> int:
        """Return the bytes that the outputs of layers take for one image while the network learns."""
        return self._pipeline.image_bytes()

    def run(self, x: Array, first: int, last: int, *, training: bool = False, learn: Learn | None = None) -> Array:
        """Return the output of layers first…last-1; the next call overwrites it.

        Layers that do not lead there, of other branches, are not run. The caller holds `lock` while it uses the result.

        Parameters
        ----------
        x : Array
            (n, H, W, C) on the device: images that fit the network, or any input of layer `first`.
        first : int
            The first layer, counted from 0.
        last : int
            The layer behind the last one.
        training : bool
            Layers that normalise do so by this batch.
        learn : callable or None
            learn(i, x, out) is called for each learner instead of its forward, with its position, its input and where
            its output belongs.

        Returns
        -------
        Array
            (n, H', W', C').
        """
        return self._pipeline.run(x, first, last, training=training, learn=learn)

    def _require_new_layers(self) -> None:
        """Raise ValueError for a layer of another network, which would lose its arrays and sizes."""
        if (built := next((layer.name for layer in self.layers if layer.belongs), None)) is not None:
            raise ValueError(f"Network: {built} was built for another network; make new layers for each.")

    def _require_built(self, function: str) -> None:
        if self.image_shape is None:
            raise ValueError(
                f"{function}: the network has no weights yet; give Network an image_shape, build it, or train it."
            )
