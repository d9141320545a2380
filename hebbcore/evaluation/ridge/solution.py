"""The solution of a ridge fit, with the best of several penalties, and the scores that it gives."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.batches import Codes, Weights
from hebbcore.evaluation.ridge.calibration import log_likelihood, sharpness
from hebbcore.evaluation.ridge.meter import Meter
from hebbcore.evaluation.ridge.rows import Rows, fit_block, row_blocks
from hebbcore.evaluation.ridge.systems import Part, System, Weighting

_EDGE = 1e-3  # of its score by which a penalty at the end of the list is better than the next, if that is said

_log = logging.getLogger("hebbcore")


class Solution(NamedTuple):
    """Weights (targets, features) and intercepts (targets,) for a penalty.

    scores: what all penalties were chosen by; sharpness: of probabilities. None: there was one penalty.
    """

    coef: Array
    intercept: Array
    alpha: float
    scores: Array | None
    sharpness: float | None


def best_solution(function: str, rows: Rows, alphas: list[float]) -> Solution:
    """Return the solution for all rows with the best of the penalties."""
    best, scores, factor = alphas[0], None, None
    singly = rows.singly() if len(alphas) > 1 else None
    if singly is None and len(alphas) > 1:
        best, scores, factor = _validate(function, rows, alphas)
    system = rows.everything()
    if singly is not None:
        meter = rows.room.meter(f"leaving out {len(singly[0]):,} rows", len(alphas) * system.operations(True))
        best, scores, factor = _leave_one_out(function, system, singly, alphas, meter)
    if system.vanished:
        _log.warning(
            "%s: %d of %d features are so small that their squares vanish, and they say little or nothing; scale them, "
            "to standard deviations of about 1", function, system.vanished, system.size,
        )  # fmt: skip
    if scores is not None:
        _tell_of_edge(function, alphas, scores, best)
    found = [weighting for some in system.solutions([best], _meter(rows, system, 1)) for weighting in some]
    if not found:
        raise ValueError(
            f"{function}: alpha={best:g} is too small for rounding (the matrix is not positive definite); raise it."
        )
    return Solution(found[0].coef, found[0].intercept, best, scores, factor)


def _leave_one_out(
    function: str, system: System, rows: tuple[Codes, Weights, Weights], alphas: list[float], meter: Meter
) -> tuple[float, Array, float]:
    """Return the penalty under whose scores of rows, each left out in turn, the rows' classes are most likely, the mean
    log likelihood for each (NaN where rounding left none), and the sharpness of the best one's probabilities.

    Least squared error, RidgeCV's choice from the same scores, prefers penalties that shrink scores: with the features
    of the preset "dictionary" and 40, 100, 1,000 and 2,500 labels it lost 1.4, 1.8, 0.7 and 1.0 points of accuracy
    beside the best penalty, likelihood 0.4, 0.7, 0.7 and 0.0, a held-out fifth 0.8, 1.3, 0.7 and 0.4.
    """
    (codes, weights, units), scores = rows, np.full(len(alphas), np.nan)
    best: tuple[float, float, float] | None = None
    for i, alpha in enumerate(alphas):
        try:
            found = system.left_out(alpha, units, meter)
        except np.linalg.LinAlgError:
            continue
        classes = scores_of_classes(found)
        factor = sharpness([(classes, codes, weights)].copy)
        likely = log_likelihood(classes, codes, weights, factor)
        if not np.isfinite(likely):
            continue
        scores[i] = likely
        if best is None or (likely, alpha) > best[:2]:
            best = likely, alpha, factor
    if best is None:
        raise ValueError(_too_small(function, alphas))
    _, alpha, factor = best
    return alpha, scores, factor


def _validate(function: str, rows: Rows, alphas: list[float]) -> tuple[float, Array, float]:
    """Return the best penalty, the accuracy on the held-out rows for each (NaN where rounding left no solution), and
    the sharpness of the probabilities that the best one's scores of the held-out rows make most likely.
    """
    sizes = [(len(weights), float(weights.sum())) for _, _, weights in rows.held()]
    count, total = (sum(size) for size in zip(*sizes, strict=True)) if sizes else (0, 0.0)
    if not total:
        raise ValueError(
            f"{function}: to choose among {len(alphas)} alphas some rows must be held out, but classes have too few; "
            "add rows, raise validation_fraction, or give one number as alphas."
        )
    system, scores = rows.training(), np.full(len(alphas), np.nan)
    meter = _meter(rows, system, len(alphas))
    best: tuple[float, float, Array, Array] | None = None
    for some in system.solutions(alphas, meter):
        for (i, coef, intercept), right in zip(some, _right(rows, some), strict=True):
            scores[i] = right / total
            if best is None or (scores[i], alphas[i]) > best[:2]:
                best = float(scores[i]), alphas[i], coef, intercept
    if best is None:
        raise ValueError(_too_small(function, alphas))
    _, alpha, coef, intercept = best
    again = _scored(rows, coef, intercept, fit_block(count * len(coef)))
    factor = sharpness(lambda: ((scores_of_classes(found), codes, weights) for found, codes, weights in again()))
    return alpha, scores, factor


def _right(rows: Rows, some: list[Weighting]) -> Weights:
    """Return the weight of the held-out rows that each solution is right about; the rows are read once."""
    xp, right = backend.namespace(some[0].coef), np.zeros(len(some))
    coef = xp.concatenate([weighting.coef for weighting in some])
    intercept = xp.concatenate([weighting.intercept for weighting in some])
    for found, codes, weights in _held(rows, coef, intercept):
        for i, scores in enumerate(xp.split(found, len(some), axis=1)):
            right[i] += weights[winners(scores) == codes].sum()
    return right


def _tell_of_edge(function: str, alphas: list[float], scores: Array, best: float) -> None:
    """Say so if the best of alphas is their largest or smallest, and clearly better than the next."""
    order = np.argsort(alphas, kind="stable")
    for end, inner, which, further in ((-1, -2, "largest", "larger"), (0, 1, "smallest", "smaller")):
        mine, next_ = scores[order[end]], scores[order[inner]]
        if alphas[order[end]] == best and mine - next_ > _EDGE * abs(next_):
            _log.warning("%s: the best of alphas is the %s, %g; %s ones may be better", function, which, best, further)


def _too_small(function: str, alphas: list[float]) -> str:
    return f"{function}: all alphas up to {max(alphas):g} are too small for rounding; add larger ones."


def _scored(rows: Rows, coef: Array, intercept: Array, keep: bool) -> Callable[[], Iterable[Part]]:
    """Return what yields the same as _held each time; keep: without reading the rows, which may be wide, each time."""
    if not keep:
        return lambda: _held(rows, coef, intercept)
    kept = list(_held(rows, coef, intercept))
    return lambda: kept


def _meter(rows: Rows, system: System, solutions: int) -> Meter:
    return rows.room.meter(f"solving {system.size:,} equations", solutions * system.operations(False))


def _held(rows: Rows, coef: Array, intercept: Array) -> Iterator[Part]:
    """Yield the scores (n, targets) of the held-out rows, their classes and weights, in parts of a bounded memory."""
    for features, codes, weights in rows.held():
        for block in row_blocks(features, len(coef)):
            yield scores_of(features[block], coef, intercept), codes[block], weights[block]


def scores_of_classes(scores: Array) -> Array:
    """Return scores (n, classes) of such, or of those of the second of two classes, (n,) or (n, 1)."""
    if scores.ndim > 1 and scores.shape[1] > 1:
        return scores
    column = scores.reshape(-1, 1)
    return backend.namespace(scores).concatenate([-column, column], axis=1)


@faint_is_zero
def scores_of(features: Array, coef: Array, intercept: Array) -> Array:
    """Return scores (n, targets) in float64, a block of rows at a time: only a block is converted."""
    scores = backend.namespace(features).empty((len(features), len(coef)))
    for block in row_blocks(features):
        scores[block] = features[block].astype(np.float64, copy=False) @ coef.T + intercept
    return scores


def winners(scores: Array) -> Any:
    """Return the class (n,), on the host, of the largest of scores (n, classes); of (n,), (n, 1): 1 above 0, else 0."""
    one = scores.ndim == 1 or scores.shape[1] == 1
    columns = (scores.reshape(-1) > 0).astype(np.int64) if one else scores.argmax(axis=1)
    return devices.to_device(columns, "cpu")
