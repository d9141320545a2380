"""By which labelled rows a penalty is chosen: few of them one after the other, of many a part that is held out.

Rows of arrays are held out at once, those of streams as they pass.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.batches import Codes, Weights

FEW = 5_000  # rows up to which each is left out in turn, which takes rows³ operations for each penalty
FRACTION = 0.2  # of more rows that is held out
HELD_BYTES = 512 * 2**20
_PIECE = 512  # rows at a time


class Choice(NamedTuple):
    """How a penalty is chosen. several: there is something to choose. fraction: what a user wants held out, or None."""

    several: bool
    fraction: float | None

    def singly(self, rows: float) -> bool:
        """Return True if each of so many rows is left out in turn."""
        return self.several and self.fraction is None and rows <= FEW

    def held(self, rows: float) -> float:
        """Return the fraction of so many rows to hold out, 0: none."""
        if not self.several or self.singly(rows):
            return 0.0
        return FRACTION if self.fraction is None else self.fraction


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


def counts_units(features: Array, where: Codes, codes: Codes, weights: Weights) -> bool:
    """Return True if weights (n,) are whole and not all one, or a row equals the one before it, as if repeated for it.

    where: (n,) rows of features; codes: (n,) their classes.
    """
    if (weights != 1).any():
        return bool((weights == np.floor(weights)).all())
    first = devices.to_device(_rows(features[:, 0], where), "cpu")
    alike = np.flatnonzero((first[1:] == first[:-1]) & (codes[1:] == codes[:-1])) + 1
    pieces = (alike[start : start + _PIECE] for start in range(0, len(alike), _PIECE))
    return any(
        bool((_rows(features, where[piece]) == _rows(features, where[piece - 1])).all(axis=1).any()) for piece in pieces
    )


def units_held(
    features: Array, where: Codes, codes: Codes, weights: Weights, fraction: float, random: np.random.RandomState
) -> Weights:
    """Return how much of each row's weight (n,) to hold out, of one row a class a part: validation_rows, of units.

    Which rows follows from their content, so that weights and repeated rows, in any order, are one and the same.
    """
    key, digests = random.bytes(16), []
    for start in range(0, len(codes), _PIECE):
        part = np.ascontiguousarray(devices.to_device(_rows(features, where[start : start + _PIECE]), "cpu"))
        digests += [hashlib.blake2b(row.data, digest_size=16, key=key).digest() for row in part]
    order = np.argsort(np.array(digests, "S16"), kind="stable")
    held = np.zeros(len(codes))
    for code in np.unique(codes):
        members = order[codes[order] == code]
        total = weights[members].sum()
        count = min(max(1, round(fraction * total)), total - 1)
        before = np.cumsum(weights[members]) - weights[members]
        held[members] = np.clip(count - before, 0, weights[members])
    return held


def _rows(features: Array, where: Codes) -> Array:
    return features[backend.namespace(features).asarray(where)]


class StreamHoldout:
    """Rows of a stream that are held out, and kept: a second pass of a shuffled stream could not find them again.

    The rows of each class are taken evenly, from a random start after its first row, which always trains. When the kept
    rows outgrow their limit (HELD_BYTES, or `most` bytes if that is less) every second one of a class goes to the
    training, and from then on half as many are taken.
    """

    def __init__(self, first: Array, fraction: float, random: np.random.RandomState, most: int = HELD_BYTES) -> None:
        self._fraction, self._random = fraction, random
        self._limit = max(1, min(most, HELD_BYTES) // max(1, first[:1].nbytes))
        self._starts: list[float] = []
        self._seen: list[int] = []
        self._every = 1
        # rows, their classes, weights, and numbers within the class
        self._parts: list[tuple[Array, Codes, Weights, Codes]] = []
        self.count = 0

    def split(self, features: Array, codes: Codes, weights: Weights) -> tuple[Array, Codes, Weights]:
        """Keep some rows of a batch; return those, with older ones given up now, that are for training."""
        numbers = self._numbers(codes)
        held = (numbers > 0) & ((numbers - 1) % self._every == 0)
        if not held.any():
            return features, codes, weights
        xp = backend.namespace(features)
        where, rest = xp.asarray(np.flatnonzero(held)), xp.asarray(np.flatnonzero(~held))
        self._parts.append((features[where], codes[held], weights[held], numbers[held]))
        self.count += int(held.sum())
        train = [(features[rest], codes[~held], weights[~held])]
        if self.count > self._limit:
            train += self._thin()
        rows, train_codes, train_weights = zip(*train, strict=True)
        return xp.concatenate(rows), np.concatenate(train_codes), np.concatenate(train_weights)

    def chosen(self, codes: Codes) -> npt.NDArray[np.bool_]:
        """Return which rows of a stream would be kept at its end, given the classes (n,) of all of them."""
        numbers = self._numbers(codes)
        while True:
            held: npt.NDArray[np.bool_] = (numbers > 0) & ((numbers - 1) % self._every == 0)
            if held.sum() <= self._limit:
                return held
            self._every *= 2

    def keep(self, features: Array, codes: Codes, weights: Weights) -> None:
        """Keep rows that `chosen` chose."""
        self._parts.append((features, codes, weights, codes))

    def rows(self) -> list[tuple[Array, Codes, Weights]]:
        """Return the kept (rows, classes, weights), in parts."""
        return [part[:3] for part in self._parts]

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

    def _thin(self) -> list[tuple[Array, Codes, Weights]]:
        """Keep every second row of each class, starting with its first; return the others."""
        self._every *= 2
        kept, released = [], []
        for rows, codes, weights, numbers in self._parts:
            xp = backend.namespace(rows)
            stays = (numbers - 1) % self._every == 0
            released.append((rows[xp.asarray(np.flatnonzero(~stays))], codes[~stays], weights[~stays]))
            if stays.any():
                kept.append((rows[xp.asarray(np.flatnonzero(stays))], codes[stays], weights[stays], numbers[stays]))
        self._parts, self.count = kept, sum(len(part[1]) for part in kept)
        return released
