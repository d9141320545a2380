"""The sums of a ridge fit by many processes: each adds up the rows of its share of a stream, and rank 0 solves.

So it is where the matrix features × features is made, which is a sum over rows, and fits the memory. A matrix
rows × rows has each row against all others: such rows, and few ones, which are left out in turn, go to rank 0.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore.engine.backend import Array
from hebbcore.engine.group.team import Team
from hebbcore.evaluation.batches import Codes, Labels, as_features
from hebbcore.evaluation.ridge.room import Options, Room
from hebbcore.evaluation.ridge.rows import StreamRows
from hebbcore.evaluation.ridge.sums import ClassSums
from hebbcore.evaluation.ridge.systems import Part
from hebbcore.features.choice import Features
from hebbcore.features.helpers import Helpers, Numbered


@dataclass(frozen=True)
class _Summing:
    """The task of some images of a stream; yields the sums of their features, and the rows held out, in rank 0.

    codes: (n,) the classes of the images, -1 of those that are left out. held: (n,) which are held out. classes: how
    many there are. memory: bytes.
    """

    function: str
    features: Features
    codes: Codes
    held: npt.NDArray[np.bool_]
    classes: int
    centred: bool
    memory: int

    def __call__(self, team: Team, parts: Iterable[Numbered]) -> Iterator[tuple[ClassSums, list[Part]]]:
        sums = ClassSums(_like(self.features), self.centred, Room(self.memory, None, None))
        kept: list[Part] = []
        for first, images, _ in parts:
            part = slice(first, first + len(images))
            codes, held = self.codes[part], self.held[part]
            chosen = codes >= 0
            if chosen.any():
                rows, codes, held = self.features.of(images[chosen]), codes[chosen], held[chosen]
                rows = as_features(self.function, "features", rows.reshape(len(rows), -1))
                sums.add(rows[~held], codes[~held], np.ones(np.count_nonzero(~held)))
                kept.append((rows[held], codes[held], np.ones(np.count_nonzero(held))))
        sums.merge(team, self.classes)
        found = team.collect(kept)
        if team.rank == 0:
            yield sums, [part for each in found for part in each if len(part[1])]


def _like(features: Features) -> Array:
    """Return a row as those of the features, of zeros."""
    return np.zeros((1, features.size), features.network.site.dtype)


def sum_up(
    helpers: Helpers,
    begun: Callable[[Array], StreamRows],
    features: Features,
    stream: Any,
    labels: Labels,
    chosen: npt.NDArray[np.bool_],
    options: Options,
) -> StreamRows | None:
    """Return the features of chosen images of a stream, summed up by all processes; None: that is not for them.

    begun: makes rows of a kind. labels: (rows,) of the chosen images. chosen: (n,) of the whole stream.
    """
    if options.choice.singly(len(labels)) or not options.room.fits(features.size):
        return None
    rows = begun(_like(features))
    every, held = np.full(len(chosen), -1), np.zeros(len(chosen), np.bool_)
    every[chosen] = codes = rows.codes.encode(labels)
    held[chosen] = rows.held_of(codes)

    def tell(first: int, end: int) -> None:
        rows.count(int(np.count_nonzero(chosen[first:end])))

    task = _Summing(
        "RidgeReadout.fit_stream", features, every, held, len(rows.codes), options.centred, options.room.memory
    )
    for found in helpers.ask(task, stream, tell):
        rows.take(*found)
    return rows
