"""Shares of the classes: what they are thought to be, and a bias for each that brings the guesses there."""

from typing import Any

import numpy as np
import numpy.typing as npt

_ROUNDS = 300
_SLOWER = 30  # rounds after which a step is half as long
_NUMBERS = 2**20  # of sums made at once
_COLUMNS = 2**16  # whose scores stay in the caches

Floats = npt.NDArray[Any]


def smoothed_shares(counts: npt.NDArray[np.int64], shares: Floats) -> Floats:
    """Return shares (classes,) of sum 1, smoothed towards equal ones by as much as these counts of labels demand."""
    smoothing = evenness(counts, shares)
    return smoothing / len(counts) + (1 - smoothing) * shares


def evenness(counts: npt.NDArray[np.int64], shares: Floats) -> float:
    """Return how far (0 to 1) shares (classes,) are to be smoothed towards equal ones, for so many labels.

    The smoothing is the one of least expected squared error: 1 for labels that look as if drawn from equal shares,
    near 0 for many labels of skewed classes.

    References
    ----------
    Hausser and Strimmer 2009, "Entropy inference and the James-Stein estimator", equation 6.
    """
    total = counts.sum()
    apart = ((1 / len(counts) - shares) ** 2).sum()
    noise = (1 - ((counts / total) ** 2).sum()) / max(total - 1, 1)
    return float(min(1.0, noise / apart)) if apart > 0 else 1.0


def balanced_guesses(scores: Floats, shares: Floats) -> npt.NDArray[np.int64]:
    """Return the classes (n,) of scores (n, classes) under the bias that balances them."""
    bias = balancing_bias(scores, shares)
    guesses = np.empty(len(scores), np.int64)
    step = max(1, _NUMBERS // scores.shape[1])
    for first in range(0, len(scores), step):
        guesses[first : first + step] = (scores[first : first + step] + bias).argmax(axis=1)
    return guesses


def balancing_bias(scores: Floats, shares: Floats) -> Floats:
    """Return the bias (classes,) under which the shares of argmax(scores + bias) come closest to those wanted.

    scores: (n, classes). At most 300 rounds of b ← b − std(scores)·(share − wanted)/(1 + i/30), longer steps in
    proportion for more than ten classes, whose shares are smaller.
    """
    by_class = np.ascontiguousarray(scores.T)
    classes, n = by_class.shape
    bias = best = np.zeros(classes)
    length = _std(by_class) * max(1.0, classes / 10)
    least = np.inf
    for number in range(_ROUNDS):
        found = _counts(by_class, bias.astype(by_class.dtype)) / n
        apart = np.abs(found - shares).sum()
        if apart < least:
            least, best = apart, bias
        if apart <= classes / n:
            break
        bias = bias - length * (found - shares) / (1 + number / _SLOWER)
    return best


def _std(by_class: Floats) -> float:
    """Return the standard deviation of all numbers; no array of their size is made."""
    mean = by_class.mean(axis=1, dtype=np.float64).mean()
    return float(np.mean([((row - mean) ** 2).mean(dtype=np.float64) for row in by_class]) ** 0.5)


def _counts(by_class: Floats, bias: Floats) -> npt.NDArray[np.int64]:
    """Return how many columns of scores (classes, n) have their largest sum with the bias in each class.

    Several times as fast as argmax along the short axis. Of equal ones the first class counts, as in argmax.
    """
    counts = np.zeros(len(bias), np.int64)
    for first in range(0, by_class.shape[1], _COLUMNS):
        block = by_class[:, first : first + _COLUMNS]
        largest = block[0] + bias[0]
        for row, own in zip(block[1:], bias[1:], strict=True):
            np.maximum(largest, row + own, out=largest)
        uncounted = np.ones(block.shape[1], bool)
        for number, row in enumerate(block):
            hits = (row + bias[number] == largest) & uncounted
            counts[number] += np.count_nonzero(hits)
            uncounted ^= hits
    return counts
