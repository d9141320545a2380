"""Matching pursuit: units win a row one after the other, each by what those before left of it.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

import math

import numpy as np

from hebbcore.engine.kernels.rows import (
    INFINITY,
    ONE,
    ZERO,
    Chosen,
    Matrix,
    PerColumn,
    PerRow,
    Places,
    Sums,
    entries,
    leader,
    own_cell,
    own_rows,
    program,
    total,
)

FAINT = np.float32(2.0**-10)  # of the first winner's |y|: less is rounding, and nobody learns from it


@program
def pursuit(
    scores: Matrix,
    patch_norms: PerRow,
    unit_norms: PerColumn,
    overlaps: Matrix,
    bias: PerColumn,
    winners: Places,
    values: Matrix,
    decay: Sums,
):
    """winners[j, n], values[j, n] ← the unit of the largest |y| + bias · ‖r‖, and its y; decay += Σ y².

    Overwrites the scores by what is left of them: y = scores / unit_norms at first; after each winner i,
    y ← y − y_i · overlaps[i] and ‖r‖² ← ‖r‖² − y_i². overlaps (K, K): the units' cosines. Of equal ones the lowest
    index wins. After the first, y below FAINT of its counts as 0.

    Equation: Mallat & Zhang (1993), matching pursuit. Oracle: pursuit.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        for k in entries(row.size):
            row[k] /= unit_norms[k]
        left = patch_norms[n] * patch_norms[n]
        faint = ZERO * left
        y = ZERO * left
        winner = 0
        for j in range(winners.shape[0]):
            taken = overlaps[winner]
            length = math.sqrt(left)
            peak = -ONE + ZERO * left  # below all; asking whether there is one yet would take 6 times as long
            best = ZERO * left
            index = row.size
            for k in entries(row.size):
                v = row[k] - y * taken[k]
                row[k] = v
                strength = abs(v) + length * bias[k]
                if strength > peak:
                    peak = strength
                    best = v
                    index = k
            peak, winner = leader(peak, index, row.size)
            y = total(best if winner == index else ZERO * best)
            if winner == row.size:  # all are NaN
                winner = 0
                y = y + (INFINITY - INFINITY)
            if abs(y) < faint:
                y = ZERO * y
            if j == 0:
                faint = abs(y) * FAINT
            left = max(left - y * y, ZERO * left)
            for _ in entries(1):  # one lane writes
                winners[j, n] = winner
                values[j, n] = y
                cell_decay[winner] += y * y


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
