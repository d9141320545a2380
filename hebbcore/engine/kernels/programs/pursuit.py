"""Matching pursuit: units win a row one after the other, each by what those before left of it.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

import math

import numpy as np
from numpy import int32

from hebbcore.engine.kernels.elementary import larger, lowest
from hebbcore.engine.kernels.rows import (
    INFINITY,
    ZERO,
    Chosen,
    Matrix,
    PerColumn,
    PerRow,
    Places,
    Sums,
    entries,
    highest,
    leader,
    own_cell,
    own_rows,
    program,
    total,
)

FAINT = np.float32(2.0**-10)  # of the first winner's |y|: less is rounding, and nobody learns from it


@program
def pursuit(y: Matrix, norms: PerRow, overlaps: Matrix, bias: PerColumn, winners: Places, values: Matrix, decay: Sums):
    """winners[j, n], values[j, n] ← the unit of the largest |y| + bias · ‖r‖, and its y; decay += Σ y².

    y (N, K), of units of norm 1, and ‖r‖, at first norms, become what is left: after each winner i,
    y ← y − y_i · overlaps[i] and ‖r‖² ← ‖r‖² − y_i². overlaps (K, K): the units' cosines. Of equal ones the lowest
    index wins. After the first, a winner's y below FAINT of that one's counts as 0.

    Equation: Mallat & Zhang (1993), matching pursuit. Oracle: pursuit.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(y.shape[0]):
        row = y[n]
        left = norms[n] * norms[n]
        faint = ZERO * left
        value = ZERO * left
        winner = 0
        least = lowest(row[0])
        for j in range(winners.shape[0]):
            taken = overlaps[winner]
            length = math.sqrt(left)
            peak = least
            for k in entries(row.size):
                v = row[k] - value * taken[k]
                row[k] = v
                strength = abs(v) + length * bias[k]
                peak = larger(peak, strength if strength == strength else least)
            peak = highest(peak)
            none = int32(row.size)
            index = none
            for k in entries(row.size):
                index = min(index, int32(k) if abs(row[k]) + length * bias[k] >= peak else none)
            peak, winner = leader(peak, index, none)
            value = total(row[winner] if winner == index and winner < none else ZERO * left)
            if winner == none:  # all are NaN
                winner = 0
                value = value + (INFINITY - INFINITY)
            if abs(value) < faint:
                value = ZERO * value
            if j == 0:
                faint = abs(value) * FAINT
            left = max(left - value * value, ZERO * left)
            for _ in entries(1):  # one lane writes
                winners[j, n] = winner
                values[j, n] = value
                cell_decay[winner] += value * value


@program
def deflate(patches: Matrix, winners: Chosen, factors: PerRow, units: Matrix):
    """patches[n] ← patches[n] − factors[n] · units[winners[n]]: what a winner explains is taken off.

    Equation: Mallat & Zhang (1993), matching pursuit. Oracle: deflate.
    """
    for n in own_rows(patches.shape[0]):
        row = patches[n]
        unit = units[winners[n]]
        factor = factors[n]
        for d in entries(row.size):
            row[d] -= factor * unit[d]
