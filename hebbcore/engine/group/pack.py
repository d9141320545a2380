"""What one layer's step adds up over processes, in one array and one message."""

from typing import Any

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.portion import Portion
from hebbcore.engine.group.team import NOTES, Pending


class Pack:
    """One after the other: outer (units, size), a mass and counts (units,) each, whether there is a mass, and notes."""

    def __init__(self, units: int, size: int, dtype: np.dtype[Any], device: str) -> None:
        self._whole = backend.module(device).empty(units * size + 2 * units + 1 + NOTES, dtype)
        self.outer = self._whole[: units * size].reshape(units, size)
        self._mass, self._counts = self._whole[units * size : -1 - NOTES].reshape(2, units)
        self._rest = self._whole[-1 - NOTES :]
        self._here: Portion | None = None
        self._pending: Pending | None = None

    @property
    def is_left(self) -> bool:
        """True after a failure: the sum that had begun may still come to lie here."""
        return self._pending is not None

    def begin(self, here: Portion, mass: Array | None, counts: Array | None) -> None:
        """Begin the sum, `outer` being filled. A part of a batch without images counts for nothing."""
        self._mass[...] = 0 if mass is None else mass.reshape(-1)
        self._counts[...] = 0 if counts is None else counts
        if not here.images:
            self._whole[...] = 0
        xp, notes = backend.namespace(self._whole), here.team.notes
        self._rest[...] = xp.asarray(np.concatenate([[mass is not None], notes]).astype(self._whole.dtype))
        self._here, self._pending = here, here.team.start(self._whole)

    def end(self) -> tuple[Array | None, Array]:
        """Wait for the sum. Returns the mass, None where no rule has one, and the counts."""
        assert self._here is not None
        assert self._pending is not None
        self._pending.wait()
        massive, *notes = devices.to_device(self._rest, "cpu").tolist()
        self._here.team.hear(np.array(notes))
        self._here = self._pending = None
        return (self._mass if massive else None), self._counts
