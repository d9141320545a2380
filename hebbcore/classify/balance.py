"""Shares of the classes: what they are thought to be, and a bias for each that brings the guesses there."""

from typing import Any

import numpy as np
import numpy.typing as npt

_ROUNDS = 300
_SLOWER = 30  # rounds after which a step is half as long

Floats = npt.NDArray[Any]


def labelled_shares(counts: npt.NDArray[np.int64]) -> Floats:
    """Return the shares (classes,) of the classes from counts of their labels, smoothed towards equal shares.

    The smoothing is the one of least expected squared error: equal shares for labels that look as if drawn from
    them, the labels' own shares for many labels of skewed classes.

    References
    ----------
    Hausser and Strimmer 2009, "Entropy inference and the James-Stein estimator", equation 6.
    """
    total, classes = counts.sum(), len(counts)
    shares = counts / total
    apart = ((1 / classes - shares) ** 2).sum()
    noise = (1 - (shares**2).sum()) / max(total - 1, 1)
    smoothing = min(1.0, noise / apart) if apart > 0 else 1.0
    return smoothing / classes + (1 - smoothing) * shares  # type: ignore[no-any-return]


def balancing_bias(scores: Floats, shares: Floats) -> Floats:
    """Return the bias (classes,) under which the shares of argmax(scores + bias) come closest to those wanted.

    scores: (n, classes). At most 300 rounds of b ← b − std(scores)·(share − wanted)/(1 + i/30), longer steps in
    proportion for more than ten classes, whose shares are smaller.
    """
    classes = len(shares)
    bias = best = np.zeros(classes)
    length = scores.std() * max(1.0, classes / 10)
    least = np.inf
    for number in range(_ROUNDS):
        found = np.bincount((scores + bias).argmax(axis=1), minlength=classes) / len(scores)
        apart = np.abs(found - shares).sum()
        if apart < least:
            least, best = apart, bias
        if apart <= classes / len(scores):
            break
        bias = bias - length * (found - shares) / (1 + number / _SLOWER)
    return best
