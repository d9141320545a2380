"""Which units win, counted on some patches of each batch; and what is said of those that win nothing."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from hebbcore.engine import backend, devices, kernels, parallel, tuning
from hebbcore.engine.answers import projection_of, scores_of
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import cells, column_sums, vector_norms
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
_SELDOM = 8  # steps from one count to the next, once enough patches were looked at


class Chosen(NamedTuple):
    """Rows of a batch that are looked at.

    rows: which of this process. first: the number of the first one among those of all processes. positions: patches of
    an image, over which they are spread.
    """

    rows: slice
    first: int
    positions: int


def spread(rows: int, positions: int, most: int | None = None) -> Chosen:
    """Return at most so many rows of all processes', evenly spread.

    rows: how many this process has, one for each patch, image by image. positions: patches of an image. most: None: as
    many as tell who wins.
    """
    most, here = tuning.MEASURED.watched_patches if most is None else most, current()
    if here is not None:
        return Chosen(*here.spread(rows, most), positions)
    return Chosen(slice(0, rows, spread_step(rows, most, positions)), 0, positions)


def spread_of_a_step(rule: Rule, rows: int, positions: int) -> Chosen:
    """Return the same of rows whose scores a step makes anyhow: so few that it takes little longer."""
    here, tuned = current(), tuning.MEASURED
    total = rows if here is None else here.rows(rows)[2]
    few = total <= tuned.few_patches and rule.winners_in_turn() == 1
    return spread(rows, positions, tuned.few_patches if few else min(tuned.watched_patches, -(-total // 8)))


class Tally:
    """Who wins some patches of a batch: counted on responses that its step makes anyhow, or known before.

    Parameters
    ----------
    rule : Rule
        What the units learn by.
    weights : Array
        (K, D), from before the step.
    chosen : Chosen or Array
        Of which rows of the batch the responses are wanted; or the known wins (K,), uint64, of this process's patches.

    Attributes
    ----------
    rows : slice or None
        Those rows; None: the wins are known.
    counts : Array
        Wins of this process's patches (K,), uint64, as soon as the step's scores are made.
    total : Array
        Wins of all processes that share the batch (K,), float64, as soon as the step has ended.
    """

    counts: Array
    total: Array

    def __init__(self, rule: Rule, weights: Array, chosen: Chosen | Array) -> None:
        self._rule, self._weights, self._chosen = rule, weights, chosen
        self.rows = chosen.rows if isinstance(chosen, Chosen) else None
        if self.rows is None:
            self.counts = chosen

    def count(self, responses: Array) -> None:
        """Count who wins the chosen rows, of these responses (m, K)."""
        self.counts = wins(self._rule, responses, self._weights, self._chosen.first, self._chosen.positions)


def some_patches(images: Array, g: Geometry, dtype: np.dtype[Any]) -> Array:
    """Return some patches of a batch, evenly spread: as many as tell who wins."""
    chosen = spread(len(images) * g.positions, g.positions).rows
    return patches_at(images, g, np.arange(chosen.start, chosen.stop, chosen.step), dtype)


def _responses(rule: Rule, patches: Array, weights: Array) -> Array:
    """Return the response (n, K) of units of weights (K, D) to patches (n, D)."""
    with parallel.one_blas_thread():  # more take longer for so few rows, and the number of them changes the rounding
        scores = patches @ projection_of(rule, weights).T
    norms = vector_norms(weights) if rule.needs_norms else None
    return scores_of(rule, "response", rule.response(scores, norms), scores)


def wins(rule: Rule, rows: Array, weights: Array | None = None, first: int = 0, positions: int = 1) -> Array:
    """Return how many rows of responses (n, K) each unit wins (K,), uint64.

    It does so by the largest one, or the largest |·| if its rule says so, or by one of the largest k where k units win
    at once; of a row of equal numbers nobody is the winner. A single unit wins what it answers to at all.
    Where units win in turn, those of all turns count, by weights (K, D), on so many fewer rows; without weights the
    first winners alone do. first: the number of the first row, which decides what is taken of those. positions: patches
    of an image, over which they are spread.
    """
    xp = backend.namespace(rows)
    if weights is not None and rule.winners_in_turn() > 1:
        step = coprime(rule.winners_in_turn(), positions)
        return _wins_in_turn(rule, rows[-first % step :: step].copy(), weights)
    counts, k, module = cells(rows), rule.winners_at_once(), kernels.for_array(rows)
    if k == 1:
        module.count_winners(xp.ascontiguousarray(rows), rule.signed, counts)
    else:
        rows = xp.abs(rows) if rule.signed else rows.copy()
        rows[rows.max(axis=1) <= rows.min(axis=1)] = np.nan
        module.kwta(rows, xp.ones(rows.shape[1], rows.dtype), k, counts)
    return column_sums(counts).astype(np.uint64)


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


def count_sample(rule: Rule, patches: Array, g: Geometry, weights: Array) -> Array:
    """Return how many of some patches of a sample each unit of weights (K, D) wins: enough to know the dead.

    patches (n, kernel height, kernel width, C): the images of g, each of which is its one patch.
    """
    step, here = tuning.MEASURED.watched_patches, current()
    total = len(patches) if here is None else here.total
    chosen, number, _ = spread(len(patches), 1, max(step, min(total // 8, _SAMPLE_A_UNIT * len(weights))))
    some = patches[chosen]
    counts = backend.namespace(weights).zeros(len(weights), np.uint64)
    start = 0
    while start < len(some):  # a sample's responses may be many times the patches
        first = (number + start) % step  # in its piece of all processes' patches
        piece = some[start : start + step - first]
        rows = patches_at(piece, g, np.arange(len(piece)), weights.dtype)
        counts += wins(rule, _responses(rule, rows, weights), weights, first)
        start += len(piece)
    return counts


def patches_of(rule: Rule, counts: Array) -> int:
    """Return of how many patches units have won, in so many wins (K,), on the host."""
    return int(counts.sum()) // int(rule.winners_in_turn() * rule.winners_at_once())


def dead_text(name: str, dead: int, units: int, patches: int) -> str | None:
    """Return a sentence on the units of a layer that won nothing in a pass; None if it would say little."""
    if _is_few(dead, units) or patches < _enough(units):
        return None
    return f"{dead} of {units} units of {name} won none of the {patches:,} patches looked at in the last pass."


def counts_now(step: int, looked_at: int, units: int) -> bool:
    """Return whether a step counts who wins, of a pass that looked at so many patches: now and then is often enough."""
    return looked_at < _enough(units) or step % _SELDOM == 0


def _enough(units: int) -> int:
    return max(_PATCHES, _PATCHES_A_UNIT * units)


def _is_few(dead: int, units: int) -> bool:
    return dead <= max(1, _MANY * units)


def few_are_dead(counts: Array) -> bool:
    """Return whether so few units won nothing that more patches could not make a difference; counts: of wins (K,)."""
    return _is_few(int((counts == 0).sum()), len(counts))


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
