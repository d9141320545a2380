"""Which labelled rows are held out to choose a penalty: of arrays at once, of streams as they pass."""

import numpy as np
import numpy.typing as npt

from hebbcore import backend
from hebbcore.backend import Array
from hebbcore.evaluation.batches import Codes

HELD_BYTES = 512 * 2**20


def validation_rows(codes: Codes, fraction: float, random: np.random.RandomState) -> npt.NDArray[np.bool_]:
    """Return a mask of rows to hold out: the fraction of each class, at least one row of it, never all of it.

    codes: (n,) class numbers. A class of one row has none to spare, so the mask may be empty.
    """
    held = np.zeros(len(codes), np.bool_)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        held[random.permutation(rows)[:count]] = True
    return held


class StreamHoldout:
    """Rows of a stream that are held out, and kept: a second pass of a shuffled stream could not find them again.

    Of each class the rows are taken evenly, from a random start after its first row, which always trains. When the kept
    rows outgrow their limit every second one of a class goes to the training, and from then on half as many are taken.
    """

    def __init__(self, first: Array, fraction: float, random: np.random.RandomState) -> None:
        self._fraction, self._random = fraction, random
        self._limit = max(1, HELD_BYTES // max(1, first[:1].nbytes))
        self._starts: list[float] = []
        self._seen: list[int] = []
        self._every = 1
        self._parts: list[tuple[Array, Codes, Codes]] = []  # rows, their classes, their numbers within the class
        self.count = 0

    def split(self, features: Array, codes: Codes) -> tuple[Array, Codes]:
        """Keep some rows of a batch; return those, with older ones given up now, that are for training."""
        numbers = self._numbers(codes)
        held = (numbers > 0) & ((numbers - 1) % self._every == 0)
        if not held.any():
            return features, codes
        xp = backend.namespace(features)
        where, rest = xp.asarray(np.flatnonzero(held)), xp.asarray(np.flatnonzero(~held))
        self._parts.append((features[where], codes[held], numbers[held]))
        self.count += int(held.sum())
        train, train_codes = features[rest], codes[~held]
        if self.count > self._limit:
            released, released_codes = self._thin()
            train, train_codes = xp.concatenate([train, released]), np.concatenate([train_codes, released_codes])
        return train, train_codes

    def rows(self) -> list[tuple[Array, Codes]]:
        """Return the kept (rows, classes), in parts."""
        return [(rows, codes) for rows, codes, _ in self._parts]

    def _numbers(self, codes: Codes) -> Codes:
        """Return for each row the number 1, 2, … that it would have among its class's held-out rows, or 0."""
        numbers = np.zeros(len(codes), np.int64)
        while len(self._seen) <= codes.max():
            self._seen.append(0)
            self._starts.append(self._random.uniform(0, 1 - self._fraction))
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)
            steps = self._starts[code] + self._fraction * (self._seen[code] + np.arange(len(rows) + 1))
            reached = np.floor(steps).astype(np.int64)
            numbers[rows] = np.where(np.diff(reached) > 0, reached[1:], 0)
            self._seen[code] += len(rows)
        return numbers

    def _thin(self) -> tuple[Array, Codes]:
        """Keep every second row of each class, starting with its first; return the others."""
        self._every *= 2
        kept, released = [], []
        for rows, codes, numbers in self._parts:
            xp = backend.namespace(rows)
            stays = (numbers - 1) % self._every == 0
            released.append((rows[xp.asarray(np.flatnonzero(~stays))], codes[~stays]))
            if stays.any():
                kept.append((rows[xp.asarray(np.flatnonzero(stays))], codes[stays], numbers[stays]))
        self._parts, self.count = kept, sum(len(codes) for _, codes, _ in kept)
        return xp.concatenate([rows for rows, _ in released]), np.concatenate([codes for _, codes in released])
