"""Probabilities from scores: one factor for all scores, fitted by maximum likelihood to rows that did not train."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.batches import Codes, Weights

_LEAST, _STEPS, _PRECISION = 1e-3, 100, 1e-12
_BINS, _LEAST_IN_A_BIN, _DRAWS = 15, 10, 200  # of the calibration error

Scored = tuple[Array, Codes, Weights]  # scores (n, classes), classes (n,), weights (n,)


@faint_is_zero
def probabilities(scores: Array, sharpness: float) -> Array:
    """Return the softmax (n, classes) of scores times a factor."""
    xp = backend.namespace(scores)
    powers = sharpness * (scores - scores.max(axis=1, keepdims=True))
    xp.exp(powers, out=powers)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def sharpness(scored: Callable[[], Iterable[Scored]]) -> float:
    """Return the factor above 0 under whose softmax the rows' classes are most likely.

    scored: gives the rows, in parts, once more each time. One row's weight is spread over all classes alike, as in
    Platt's method: where every row is right, no finite factor would be the best.
    Newton's method on a concave function, within the bounds known so far.
    Source: temperature scaling, Guo et al. 2017, "On calibration of modern neural networks".
    """
    factor, low, high = 1.0, 0.0, float("inf")
    for _ in range(_STEPS):
        slope, curvature = _derivatives(scored, factor)
        low, high = (factor, high) if slope > 0 else (low, factor)
        following = factor + slope / curvature if curvature > 0 else factor
        if not low < following < high:
            following = 4 * factor if high == float("inf") else (low + high) / 2
        following = max(following, _LEAST)  # a step may go too far: whether it did is seen there
        done = abs(following - factor) <= _PRECISION * factor
        factor = following
        if done:
            break
    return factor


def log_likelihood(scores: Array, codes: Codes, weights: Weights, sharpness: float) -> float:
    """Return the mean logarithm of the probability of the classes (n,) of rows of these scores (n, classes)."""
    xp = backend.namespace(scores)
    powers = sharpness * (scores - scores.max(axis=1, keepdims=True))
    own = powers[xp.arange(len(scores)), xp.asarray(codes)] - xp.log(xp.exp(powers).sum(axis=1))
    return float(xp.asarray(weights) @ own) / float(weights.sum())


def _derivatives(scored: Callable[[], Iterable[Scored]], factor: float) -> tuple[float, float]:
    """Return the slope of the log likelihood at a factor, and minus its curvature."""
    total = own_slope = even_slope = curvature = 0.0
    for scores, codes, weights in scored():
        xp = backend.namespace(scores)
        weighing = xp.asarray(weights)
        likely = probabilities(scores, factor)
        mean = (likely * scores).sum(axis=1)
        own = scores[xp.arange(len(scores)), xp.asarray(codes)]
        total += float(weights.sum())
        own_slope += float(weighing @ (own - mean))
        even_slope += float(weighing @ (scores.mean(axis=1) - mean))
        curvature += float(weighing @ (likely * (scores - mean[:, None]) ** 2).sum(axis=1))
    return own_slope + even_slope / total, curvature * (1 + 1 / total)


def calibration_error(sure: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the expected calibration error of guesses (n,), and what guesses as sure and all well calibrated get.

    sure: how likely each is to be right, by its own account. The error is the difference between their mean and the
    share that is right, averaged over bins of like confidence. Few guesses differ from their confidence by chance: the
    second number is the mean over guesses drawn to be right as often as they are sure.
    Source: Guo et al. 2017, "On calibration of modern neural networks". Difference: bins hold equally many guesses, at
    least ten where there are so many, instead of equal ranges of confidence, most of which few guesses leave empty.
    """
    bins = np.array_split(np.argsort(sure, kind="stable"), max(1, min(_BINS, len(sure) // _LEAST_IN_A_BIN)))

    def error(found: npt.NDArray[np.bool_]) -> float:
        return sum(abs(float((found[part] - sure[part]).sum())) for part in bins) / len(sure)

    random = np.random.default_rng(0)
    return error(right), float(np.mean([error(random.random(len(sure)) < sure) for _ in range(_DRAWS)]))
