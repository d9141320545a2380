"""Which part of a batch this process has, while many processes share the batch."""

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.team import Team
from hebbcore.engine.spread import spread_step


class _Here(threading.local):
    portion: "Portion | None" = None  # of threads that take none


_here = _Here()


@dataclass(frozen=True)
class Portion:
    """A process's part of a batch: `images` of its `total`, from its image `first` on.

    A part without images is a single image of zeros, which goes the way of the others and counts for nothing: so every
    layer runs, and all processes add up the same sums in the same order.
    """

    team: Team
    first: int
    images: int
    total: int

    def rows(self, here: int) -> tuple[int, int, int]:
        """Return of rows, `here` of them in this process, the number of the first one, how many count, and of all."""
        each = here // max(1, self.images)
        return self.first * each, self.images * each, self.total * each

    def spread(self, here: int, most: int) -> tuple[slice, int]:
        """Return which of the rows in this process are among at most so many of the batch, evenly spread.

        Also the number of the first one among the chosen.
        """
        first, count, total = self.rows(here)
        step = spread_step(total, most, here // max(1, self.images))
        return slice(-first % step, count, step), -(-first // step)

    def upto(self, images: int) -> "Portion":
        """Return the part of the first so many images of the batch."""
        return replace(self, images=max(0, min(self.images, images - self.first)), total=min(self.total, images))

    def gathered(self, rows: Array) -> Array:
        """Return rows of all processes, one after the other in the order of the batch, on each."""
        xp = backend.namespace(rows)
        parts = self.team.gather(devices.to_device(rows, "cpu"))
        return xp.asarray(np.concatenate(parts))

    def most(self, value: float) -> float:
        """Return the largest of the processes' numbers, which count only where there are images."""
        largest: float = max(self.team.gather(value if self.images else 0.0))
        return largest

    def add_up(self, *arrays: Array) -> None:
        """Replace arrays of float64 by their sums over the processes, in one message."""
        together = np.concatenate([devices.to_device(array, "cpu").ravel() for array in arrays])
        self.team.sum(together)
        start = 0
        for array in arrays:
            part = together[start : start + array.size].reshape(array.shape)
            array[...] = backend.namespace(array).asarray(part)
            start += array.size


def current() -> Portion | None:
    """Return this thread's part of the batch at work; None in a training by one process."""
    return _here.portion


class _Taking(AbstractContextManager[None]):
    def __init__(self, portion: Portion | None) -> None:
        self._portion = portion

    def __enter__(self) -> None:
        self._before, _here.portion = _here.portion, self._portion

    def __exit__(self, *error: object) -> None:
        _here.portion = self._before


def taking(portion: Portion | None) -> AbstractContextManager[None]:
    """Return a block in which a part of a batch is the one at work in this thread; None: batches are whole."""
    return _Taking(portion)  # a contextmanager would take a microsecond, a tenth of the smallest steps
