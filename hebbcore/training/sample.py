"""A sample of the patches that a layer sees, gathered in one pass over the first images and learned from as a whole."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hebbcore.engine import backend, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.group.portion import Portion
from hebbcore.engine.group.team import Team
from hebbcore.engine.patches import Geometry, patches_at
from hebbcore.layers import Learner
from hebbcore.network import Network
from hebbcore.training.ahead import ahead
from hebbcore.training.batch import Batch, Labels
from hebbcore.training.batches import Batches

_PIECE = 1024  # patches of a piece


@dataclass(frozen=True)
class Sample:
    """Patches of a layer's input, as the layer cuts them.

    Attributes
    ----------
    patches : Array
        (N, kernel height, kernel width, channels) on the network's device, of its dtype.
    images : int
        How many images they are from.
    labels : numpy.ndarray or None
        (N,), those of the images, if they come along.
    """

    patches: Array
    images: int
    labels: Labels | None = None

    def pieces(self) -> Generator[Array, None, None]:
        """Yield all patches in pieces, each from all of the images."""
        count = -(-len(self.patches) // _PIECE)
        for first in range(count):
            yield self.patches[first::count]


def count_images(batches: Batches, number: int, most: int, pause: Callable[[], None], team: Team | None = None) -> int:
    """Return how many images a pass over the data has, at most so many; they are read if nobody knows.

    pause is called after each batch that is read. team: whose shares the batches are.
    """
    order = batches.order(number)
    if order is not None:
        return min(most, len(order))
    found = 0
    with closing(batches.epoch(number)) as source:  # type: ignore[type-var]
        for batch in source:
            found += len(batch) if team is None else _total(batch, team)
            pause()
            if found >= most:
                return most
    return found


def _total(share: Any, team: Team) -> int:
    """Return how many images the batch has that a process's share is of."""
    total: int = share.portion(team)[1].total
    return total


def gather(
    network: Network,
    target: int,
    wanted: int,
    images: int,
    batches: Iterator[Batch],
    prepare: Callable[[Batch], Batch],
    *,
    seed: int,
    told: Callable[[int], None],
    here: Callable[[Any], tuple[Batch, Portion | None]],
) -> Sample:
    """Return patches of the first images of a pass, as a layer sees them.

    About equally many are of each image, at different places. Beside them no more is held than the work of one batch.
    Batches may be cut anyhow: the places depend on the seed, the layer and the images' numbers alone.

    Parameters
    ----------
    network : Network
        Whose layers make what the layer sees.
    target : int
        The layer, by index.
    wanted : int
        How many patches; all of them if there are fewer.
    images : int
        Of how many images they are taken; if the pass has fewer, there are fewer patches.
    batches : iterator of Batch
        The pass.
    prepare : callable
        Checks a batch of images and brings it to the network's device.
    seed : int
        Draws the places.
    told : callable
        Gets the number of images of each batch that was taken from.
    here : callable
        Returns the images of a batch that this process has, and which part they are; patches of others stay zeros.

    Returns
    -------
    Sample
        The patches, in the order of the images.
    """
    layer = network.layers[target]
    assert isinstance(layer, Learner)
    g = replace(layer.geometry, normalized=False)  # the layer does so when it learns from them
    wanted = min(wanted, images * g.positions)
    generator = np.random.default_rng((seed, target))
    patches = backend.module(network.site.device).zeros((wanted, *g.kernel, g.channels), network.site.dtype)
    done = taken = 0
    labels, labelled = np.zeros(wanted, np.int64), False
    with closing(ahead(batches, prepare)) as source:
        for batch in source:
            x, portion = here(batch)
            first, total = (0, len(x)) if portion is None else (portion.first, portion.total)
            total = min(total, images - done)
            end = min(total, first + (len(x) if portion is None else portion.images))
            places: list[Array] = []
            begin = taken
            for i in range(total):
                share = (done + i + 1) * wanted // images - (done + i) * wanted // images
                chosen = generator.choice(g.positions, share, replace=False)  # all draw alike
                if first <= i < end:
                    places.append((i - first) * g.positions + chosen)
                begin += share if i < first else 0
                taken += share
            if places:
                own = np.concatenate(places)
                mine = slice(begin, begin + len(own))
                with network.lock:
                    seen = layer.as_input(network.run(x.images[: end - first], 0, network.graph.entries[target]))
                    _take(seen, g, own, patches[mine])
                if x.labels is not None:
                    labels[mine] = x.labels[own // g.positions]
            labelled = labelled or x.labels is not None
            done += total
            told(total)
            if done == images:
                break
    return Sample(patches[:taken], done, labels[:taken] if labelled else None)


def _take(images: Array, g: Geometry, places: Array, out: Array) -> None:
    """out (m, kernel height, kernel width, C) ← the patches at m places, some at a time."""
    step = max(1, tuning.MEASURED.piece_bytes // (g.patch_size * out.dtype.itemsize))
    for first in range(0, len(places), step):
        rows = out[first : first + step]
        rows[...] = patches_at(images, g, places[first : first + step], out.dtype).reshape(rows.shape)
