"""What a fit may hold in memory, and the files without a name that hold what is larger."""

import logging
import math
import os
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.batches import Codes, Weights
from hebbcore.evaluation.ridge.holdout import Choice
from hebbcore.evaluation.ridge.meter import Meter
from hebbcore.files import reserve

_log = logging.getLogger("hebbcore")


class Room(NamedTuple):
    """Where a fit keeps its matrix: in up to three quarters of the memory, else on a disk; the rest is for blocks.

    Beside rows on a GPU: in up to three quarters of what is free there, else as if they were on the host; a GPU's tiles
    and blocks take as much of its memory as a host's of its own, and no more than is free.

    memory: bytes. folder: on whose disk the files lie, None: that of temporary files. tell: gets lines of progress.
    """

    memory: int
    folder: Path | None
    tell: Callable[[str], None] | None

    @classmethod
    def checked(cls, function: str, memory: Any, folder: Any, progress: Any) -> "Room":
        """Return what a readout's parameters say. Raises ValueError or TypeError for those that say nothing."""
        checks.callback(function, "progress", progress)
        return cls(checks.byte_size(function, "memory", memory), None if folder is None else Path(folder), progress)

    def fits(self, size: int) -> bool:
        """Return True if a float64 matrix size × size is kept in memory."""
        return 8 * size * size <= 3 * self.memory // 4

    def square(self, like: Array, size: int) -> Array:
        """Return zeros (size, size), float64: beside an array, or in a file if memory has no room."""
        needed = 8 * size * size
        if backend.on_cuda(like):
            free = devices.free_bytes()
            if needed <= 3 * free // 4:
                return backend.namespace(like).zeros((size, size))
            _log.warning(
                "RidgeReadout: a matrix of %s × %s takes %s, more than three quarters of the %s that are free on the "
                "GPU; it is kept %s, which takes longer",
                *(f"{size:,}", f"{size:,}", checks.byte_text(needed), checks.byte_text(free)),
                "in the memory of the host" if self.fits(size) else "on the disk",
            )
        if self.fits(size):
            return np.zeros((size, size))
        with tempfile.TemporaryFile(dir=self.folder) as file:
            try:
                reserve(file, needed)
            except OSError as error:
                raise self.cannot_hold(needed, f"a matrix of {size:,} × {size:,}", error) from error
            return np.memmap(file, np.float64, "r+", shape=(size, size))

    def beside(self, like: Array) -> "Room":
        """Return the room for blocks on the device of an array, whose matrix is there already."""
        return self._replace(memory=min(self.memory, devices.free_bytes())) if backend.on_cuda(like) else self

    def rows(self, row_bytes: int, part: int) -> int:
        """Return how many rows of so many bytes the 1/part of the memory takes, at least one."""
        return max(1, self.memory // part // row_bytes)

    @property
    def tile(self) -> int:
        """Sides of float64 matrices of which four take a quarter of the memory."""
        return max(1, math.isqrt(self.memory // 128))

    def meter(self, what: str, total: float | None, unit: str = "FLOP") -> Meter:
        """Return what counts work and tells of it."""
        return Meter(self.tell, what, total, unit)

    def cannot_hold(self, needed: int, what: str, error: OSError) -> OSError:
        """Return an error that says how many bytes the folder's disk lacks room for, and what to do."""
        folder = Path(tempfile.gettempdir()) if self.folder is None else self.folder
        reason = os.strerror(error.errno) if error.errno else str(error)
        return OSError(
            error.errno or 0,
            f"RidgeReadout: {reason}: {what} takes {checks.byte_text(needed)} on the disk, because memory="
            f'"{checks.byte_text(self.memory)}" does not hold it; free that much, name a folder of a larger disk, or '
            "raise memory",
            str(folder),
        )


class Options(NamedTuple):
    """centred: fit an intercept. choice: how the penalty is chosen. random: draws the rows to hold out."""

    centred: bool
    standardize: bool
    choice: Choice
    random: np.random.RandomState
    room: Room

    @classmethod
    def checked(
        cls, function: str, fit_intercept: Any, standardize: Any, choice: Choice, random: Any, room: Room
    ) -> "Options":
        """Return them. Raises TypeError unless fit_intercept and standardize are true or false, NumPy's too."""
        centred, standardized = (
            checks.boolean(function, name, value)
            for name, value in (("fit_intercept", fit_intercept), ("standardize", standardize))
        )
        return cls(centred, standardized, choice, random, room)


class RowFile:
    """Rows (n, features) of a stream in a file that has no name and grows, their classes and weights in memory."""

    def __init__(self, room: Room, features: int, dtype: np.dtype[Any]) -> None:
        self._room, self._features, self._dtype = room, features, dtype
        self._file: Any = tempfile.TemporaryFile(dir=room.folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._codes: list[Codes] = []
        self._weights: list[Weights] = []
        self.count = 0

    def add(self, features: Array, codes: Codes, weights: Weights) -> None:
        """Append rows (n, features), of classes (n,) and weights (n,)."""
        rows = np.ascontiguousarray(features, self._dtype)
        try:
            self._file.write(rows.data)
            self._file.flush()
        except OSError as error:
            needed = (self.count + len(rows)) * self._features * self._dtype.itemsize
            raise self._room.cannot_hold(needed, f"{self.count + len(rows):,} rows", error) from error
        self._codes.append(codes)
        self._weights.append(weights)
        self.count += len(rows)

    def read(self) -> tuple[Array, Codes, Weights]:
        """Return all rows, mapped into memory, their classes and weights."""
        rows = np.memmap(self._file, self._dtype, "r", shape=(self.count, self._features))
        return rows, np.concatenate(self._codes), np.concatenate(self._weights)
