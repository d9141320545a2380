"""What is evaluated: features of a network's layer, or of a baseline, over a labelled stream."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hebbcore.engine import devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.baselines import kmeans_centres, principal_components, random_filters, random_patches
from hebbcore.evaluation.passes import LabelledStream
from hebbcore.evaluation.ridge.room import Options
from hebbcore.evaluation.ridge.rows import StreamRows
from hebbcore.evaluation.ridge.shared import sum_up
from hebbcore.features.choice import Features, features_of
from hebbcore.features.helpers import helping
from hebbcore.layers import Branches, Conv, Flatten, Layer, Triangle, Whiten
from hebbcore.network import Network
from hebbcore.pairs import pairs_of
from hebbcore.streams import Stream

BASELINES = ("pixels", "random filters", "random whitened patches", "k-means", "pca")
_FEATURES = 5_000  # of an image, see most_features
_PATCHES = 100_000  # that a baseline's filters are learned from
_CONTRAST, _EPSILON = 10 / 255**2, 0.1


@dataclass(frozen=True)
class Source:
    """Features to evaluate, and the name that results give them."""

    name: str
    features: Features

    @classmethod
    def of(
        cls, name: str, network: Network, layer: str, most: int | None = None, mirror: bool = False, shifts: int = 0
    ) -> "Source":
        """Return the source of a layer's output, averaged over a grid so that it makes at most `most` features.

        None: see most_features.
        """
        most = most_features(network, layer) if most is None else most
        return cls(name, Features.at_most("evaluate", network, layer, most, mirror, shifts))

    @property
    def row_bytes(self) -> int:
        """Bytes of an image's features."""
        return self.features.size * self.features.network.site.dtype.itemsize


def most_features(network: Network, layer: str) -> int:
    """Return how many features of a layer an image gets at most, unless one says otherwise.

    They are 5,000, and all of what branches at a network's end join, which these have pooled to cells already.
    """
    ends = layer == network.names[-1] and isinstance(network.layers[-1], Branches)
    return max(_FEATURES, math.prod(network.shapes[-1])) if ends else _FEATURES


class FeatureBatches:
    """Re-iterable (features of each source, labels) of a stream, in its order; rows where keep is not set left out."""

    def __init__(self, sources: Sequence[Source], stream: LabelledStream | Stream, keep: Any = None) -> None:
        self._features = [source.features for source in sources]
        self._stream, self._keep = stream, keep

    def __iter__(self) -> Iterator[tuple[list[Array], Any]]:
        if isinstance(self._stream, LabelledStream):
            yield from self._stream.features(self._features, self._keep)
            return
        done = 0
        for images, labels in pairs_of(self._stream):
            kept = slice(None) if self._keep is None else self._keep[done : done + len(labels)]
            done += len(labels)
            if len(labels[kept]):
                found = features_of(self._features, images[kept])
                yield [some.reshape(len(some), -1) for some in found], labels[kept]


class OneSource:
    """Re-iterable (features, labels) of a single source, of so many images, for classifiers that learn from streams."""

    def __init__(self, source: Source, stream: LabelledStream | Stream, keep: Any = None) -> None:
        self._batches = FeatureBatches([source], stream, keep)
        self._features, self._stream, self._keep = source.features, stream, keep
        self.images = stream.images if keep is None else int(np.sum(keep))

    def __iter__(self) -> Iterator[tuple[Array, Any]]:
        for features, labels in self._batches:
            yield features[0], labels

    def summed(self, begun: Callable[[Array], StreamRows], options: Options) -> StreamRows | None:
        """Return the rows as all processes sum them up, see sum_up; None: none help, or that is not for them."""
        helpers, stream = helping(), self._stream
        if helpers is None or not isinstance(stream, LabelledStream) or self._keep is None:
            return None
        chosen = stream.where(self._keep)
        return sum_up(helpers, begun, self._features, stream.stream, stream.labels[chosen], chosen, options)


def collect(sources: Sequence[Source], stream: LabelledStream | Stream) -> tuple[list[Array], Any]:
    """Return all features of each source (n, size), and the labels (n,)."""
    kinds = [source.features for source in sources]
    features = [np.empty((stream.images, some.size), some.network.site.dtype) for some in kinds]
    labels = np.empty(stream.images, np.int64)
    done = 0
    for outputs, classes in FeatureBatches(sources, stream):
        rows = slice(done, done + len(classes))
        if rows.stop > len(labels):
            raise ValueError(f"evaluate: a stream gives more images with a label than the {len(labels)} that it said.")
        for mine, output in zip(features, outputs, strict=True):
            mine[rows] = devices.to_device(output, "cpu")
        labels[rows] = classes
        done = rows.stop
    return [mine[:done] for mine in features], labels[:done]


def baseline(name: str, like: Network, images: Array, seed: int) -> tuple[Network, str]:
    """Return a baseline as a network of its own, and the layer to evaluate.

    like: gives the shape of images, and by its first convolution the kernel and the number of units; a dense first
    layer counts as 96 units of 5 × 5. images: (n, H, W, C), from which filters are learned. Each but pixels is a
    convolution and Triangle; patches of the last three but pca are contrast normalised and whitened.
    """
    assert like.image_shape is not None
    shape, device = like.image_shape, like.site.device
    if name == "pixels":
        return Network([Flatten(name="pixels")], shape, device=device), "pixels"
    if len(shape) != 3:
        raise ValueError(
            f"evaluate: the baseline {name} is of patches, but the network takes vectors {shape}; "
            'use baselines=["pixels"].'
        )
    first = next(iter(like.learners.values()))
    size = _kernel_of(like) or (min(5, shape[0]), min(5, shape[1]))
    units = first.units if isinstance(first, Conv) else 96
    generator = np.random.default_rng(seed)
    whiten = name in ("random whitened patches", "k-means")
    layers: list[Layer] = []
    if whiten:
        layers = [Whiten(size, epsilon=_EPSILON, contrast=_CONTRAST), Conv(units, 1, linear=True), Triangle()]
    else:
        units = min(units, math.prod(size) * shape[2]) if name == "pca" else units
        layers = [Conv(units, size, linear=True), Triangle()]
    network = Network(layers, shape, device=device)
    if whiten:
        network.layers[0].observe(devices.to_device(images, device))
        network.layers[0].settle()
    conv = next(iter(network.learners.values()))
    patches = _patches(network, images, generator) if name != "random filters" else None
    filters = {
        "random filters": lambda: random_filters(units, math.prod(size) * shape[2], generator),
        "random whitened patches": lambda: random_patches(patches, units, generator),
        "k-means": lambda: kmeans_centres(patches, units, seed),
        "pca": lambda: principal_components([patches], units),
    }[name]()
    conv.restore({"weights": devices.to_device(filters.reshape(conv.weights.shape), device)})
    return network, network.names[-1]


def _kernel_of(network: Network) -> tuple[int, int] | None:
    """Return the size of the patches that the first layer with weights sees, in pixels; None if they are none."""
    for layer in network.layers:
        if isinstance(layer, Whiten) and not layer.centre:  # which puts out pixels, not patches
            return None if layer.kernel_size is None else tuple(layer.kernel_size)
        if isinstance(layer, Conv):
            return tuple(layer.kernel_size)
    return None


def _patches(network: Network, images: Array, generator: np.random.Generator) -> Array:
    """Return random patches of images, whitened if the network does so: the rows that its convolution sees."""
    from hebbcore.engine.patches import im2col

    conv = next(iter(network.learners.values()))
    positions = math.prod(network.shapes[network.index_of("evaluate", conv.name)][:2])
    count = min(len(images), max(1, 4 * _PATCHES // positions))
    chosen = images[generator.choice(len(images), count, replace=False)]
    if isinstance(network.layers[0], Whiten):
        rows = network.transform(chosen, network.names[0]).reshape(-1, conv.weights.shape[3])
    else:
        rows = im2col(chosen, conv.weights.shape[1:3])
    rows = devices.to_device(rows, "cpu")
    return rows[generator.choice(len(rows), min(len(rows), _PATCHES), replace=False)]
