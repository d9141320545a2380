"""Which units win, counted on some patches of each batch; and what is said of those that win nothing."""

import warnings
from typing import Any

import numpy as np

from hebbcore.engine import backend, devices, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import vector_norms
from hebbcore.engine.gemm import Gemm
from hebbcore.engine.group.portion import current
from hebbcore.engine.memory import Memory
from hebbcore.engine.patches import Geometry, patches_at
from hebbcore.engine.pursuit import Pursuit, winner_parts
from hebbcore.engine.rule import Rule
from hebbcore.engine.spread import coprime, spread_step

_PATCHES, _PATCHES_A_UNIT = 1000, 10  # fewer say little about a unit that won none of them
_SAMPLE_A_UNIT = 16  # more than _PATCHES_A_UNIT, since of some patches nobody is the winner
_MANY = 0.1  # of the units; a single one is not worth a word


def some_rows(rows: Array, positions: int) -> Array:
    """Return some of the rows, evenly spread: as many as tell who wins, in all processes that share a batch.

    rows: one for each patch, image by image. positions: patches of an image.
    """
    return rows[_spread(len(rows), positions)[0]]


def first_of_some(rows: int, positions: int, most: int | None = None) -> int:
    """Return the number of the first of some rows, of so many in this process, among those of all processes."""
    return _spread(rows, positions, most)[1]


def _spread(rows: int, positions: int, most: int | None = None) -> tuple[slice, int]:
    most, here = tuning.MEASURED.watched_patches if most is None else most, current()
    if here is not None:
        return here.spread(rows, most)
    return slice(0, rows, spread_step(rows, most, positions)), 0


def some_patches(images: Array, g: Geometry, dtype: np.dtype[Any], most: int | None = None) -> Array:
    """Return at most so many patches of a batch, evenly spread; None: as many as tell who wins."""
    count = len(images) * g.positions
    chosen = _spread(count, g.positions, most)[0]
    return patches_at(images, g, np.arange(chosen.start, chosen.stop, chosen.step), dtype)


def responses(rule: Rule, patches: Array, weights: Array) -> Array:
    """Return the response (n, K) of units of weights (K, D) to patches (n, D)."""
    with parallel.one_blas_thread():  # more take longer for so few rows, and the number of them changes the rounding
        scores = patches @ rule.projection(weights).T
    return rule.response(scores, vector_norms(weights) if rule.needs_norms else None)


def wins(rule: Rule, rows: Array, weights: Array | None = None, first: int = 0, positions: int = 1) -> Array:
    """Return how many rows of a layer's output (n, K) each unit wins (K,), uint64.

    It does so by the largest output, or |output| if its rule says so, or by one of the largest k where k units win at
    once; of a row of equal numbers nobody is the winner, nor is a unit of the smallest one unless all are to win. A
    single unit wins what it answers to at all.
    Where units win in turn, those of all turns count, by weights (K, D), on so many fewer rows; without weights the
    first winners alone do. first: the number of the first row, which decides what is taken of those. positions: patches
    of an image, over which they are spread.
    """
    xp = backend.namespace(rows)
    if weights is not None and rule.winners_in_turn() > 1:
        step = coprime(rule.winners_in_turn(), positions)
        return _wins_in_turn(rule, rows[-first % step :: step].copy(), weights)
    if not len(rows):
        return xp.zeros(rows.shape[1], np.uint64)
    if rule.signed:
        rows = xp.abs(rows)
    units, k = rows.shape[1], rule.winners_at_once()
    if 1 < k < units:
        least = xp.partition(rows, units - k, axis=1)[:, units - k, None]
        return ((rows >= least) & (rows > rows.min(axis=1, keepdims=True))).sum(axis=0).astype(np.uint64)
    counts = xp.zeros(units, np.uint64)  # CuPy cannot add.at int64
    won = rows.max(axis=1) > rows.min(axis=1) if units > 1 else rows[:, 0] != 0
    if k > 1:
        counts[...] = won.sum()
        return counts
    xp.add.at(counts, rows.argmax(axis=1), won.astype(np.uint64))
    return counts


def _wins_in_turn(rule: Rule, rows: Array, weights: Array) -> Array:
    """Return how often each unit wins (K,), by rows x·w / ‖w‖, or any multiple of a row; they are overwritten.

    One in k of those that are looked at: there are about as many wins, for about the time, as where one unit wins.
    """
    xp, memory = backend.namespace(rows), Memory()
    if not len(rows):
        return xp.zeros(len(weights), np.uint64)
    with parallel.one_blas_thread():
        pursuit = Pursuit.of(rule, weights, None, Gemm(weights.dtype.name, memory), memory)
    assert pursuit is not None
    memory.lay_out(backend.device_of(rows), winner_parts(rule, len(rows), rows.itemsize))
    won = pursuit.won(rows, xp.ones(len(rows), rows.dtype), memory)
    counts = xp.zeros(len(weights), np.uint64)
    xp.add.at(counts, won.units.ravel(), (won.values != 0).astype(np.uint64).ravel())
    return counts


def count(rule: Rule, images: Array, g: Geometry, weights: Array) -> Array:
    """Return how many of some patches of a batch, at most an eighth, each unit of weights (K, D) wins."""
    rows, here = len(images) * g.positions, current()
    most = min(tuning.MEASURED.watched_patches, -(-(rows if here is None else here.rows(rows)[2]) // 8))
    some = some_patches(images, g, weights.dtype, most)
    first = first_of_some(rows, g.positions, most)
    return wins(rule, responses(rule, some, weights), weights, first, g.positions)


def count_sample(rule: Rule, patches: Array, g: Geometry, weights: Array) -> Array:
    """Return how many of some patches of a sample each unit of weights (K, D) wins: enough to know the dead.

    patches (n, kernel height, kernel width, C): the images of g, each of which is its one patch.
    """
    step, here = tuning.MEASURED.watched_patches, current()
    total = len(patches) if here is None else here.total
    chosen, number = _spread(len(patches), 1, max(step, min(total // 8, _SAMPLE_A_UNIT * len(weights))))
    some = patches[chosen]
    counts = backend.namespace(weights).zeros(len(weights), np.uint64)
    start = 0
    while start < len(some):  # a sample's responses may be many times the patches
        first = (number + start) % step  # in its piece of all processes' patches
        piece = some[start : start + step - first]
        rows = patches_at(piece, g, np.arange(len(piece)), weights.dtype)
        counts += wins(rule, responses(rule, rows, weights), weights, first)
        start += len(piece)
    return counts


def patches_of(rule: Rule, counts: Array) -> int:
    """Return of how many patches units have won, in so many wins (K,), on the host."""
    return int(counts.sum()) // (rule.winners_in_turn() * rule.winners_at_once())


def dead_text(name: str, dead: int, units: int, patches: int) -> str | None:
    """Return a sentence on the units of a layer that won nothing in a pass; None if it would say little."""
    if dead <= max(1, _MANY * units) or patches < max(_PATCHES, _PATCHES_A_UNIT * units):
        return None
    return f"{dead} of {units} units of {name} won none of the {patches:,} patches looked at in the last pass."


def tell_dead(function: str, name: str, rule: Rule, counts: Array, stacklevel: int) -> None:
    """Warn if many units that compete won nothing in the last pass; counts: of its wins (K,)."""
    counts = devices.to_device(counts, "cpu")
    patches = patches_of(rule, counts)
    text = dead_text(name, int((counts == 0).sum()), len(counts), patches)
    if rule.competes and text is not None:
        warnings.warn(
            f'{function}: {text} Start from initial_weights="patches" or "k-means++", whiten the data, set conscience '
            "or revival, or make fewer units.",
            stacklevel=stacklevel + 1,
        )
