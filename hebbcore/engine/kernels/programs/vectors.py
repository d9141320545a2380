"""Norms, sums and moments of vectors, and what standardises them.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

import math

import numpy as np

from hebbcore.engine.kernels.rows import (
    ONE,
    ZERO,
    Matrix,
    Number,
    PerColumn,
    PerRow,
    Sums,
    entries,
    own_cells,
    own_rows,
    program,
    rows_of_cell,
    total,
)

SHORT, LONGER = np.float32(2.0**-96), np.float32(2.0**100)  # a square of a norm, and a factor that is exact


@program
def norms(vectors: Matrix, out: PerRow):
    """out[n] ← the Euclidean norm of vectors[n], or 1 where that is 0."""
    for n in own_rows(vectors.shape[0]):
        vector = vectors[n]
        square = ZERO * vector[0]
        for d in entries(vector.size):
            square += vector[d] * vector[d]
        square = total(square)
        for _ in entries(1):  # one lane writes
            out[n] = math.sqrt(square) if square > ZERO else ONE


@program
def norm_rates(vectors: Matrix, factor: Number, floor: Number, power: Number, out: PerRow):
    """out[n] ← factor · (|‖vectors[n]‖ − 1| + floor)^power, by Euclidean norms.

    Equation: the adaptive rate of SoftHebb (Journé et al., ICLR 2023). Oracle: norm_rates.
    """
    for n in own_rows(vectors.shape[0]):
        vector = vectors[n]
        square = ZERO * vector[0]
        for d in entries(vector.size):
            square += vector[d] * vector[d]
        square = total(square)
        norm = math.sqrt(square) + ZERO * factor
        for _ in entries(1):  # one lane writes
            out[n] = factor * (abs(norm - ONE) + floor) ** power


@program
def directions(vectors: Matrix, scores: Matrix):
    """Each vector, and its row of scores, ← itself / the vector's Euclidean norm; those of vectors of zeros stay.

    A short vector is made longer first: a CPU's reciprocal root of a square that is too small to be a normal number is
    infinite, and others vanish.
    """
    for n in own_rows(vectors.shape[0]):
        vector = vectors[n]
        row = scores[n]
        square = ZERO * vector[0]
        for d in entries(vector.size):
            square += vector[d] * vector[d]
        square = total(square)
        if square < SHORT:
            square = ZERO * square
            for d in entries(vector.size):
                longer = vector[d] * LONGER
                vector[d] = longer
                square += longer * longer
            square = total(square)
            if square > ZERO:
                for k in entries(row.size):
                    row[k] *= LONGER
        if square > ZERO:
            factor = (ONE + ZERO * square) / math.sqrt(square)
            for d in entries(vector.size):
                vector[d] *= factor
            for k in entries(row.size):
                row[k] *= factor


@program
def reciprocals(numbers: Matrix, least: Number):
    """numbers ← 1 / numbers, 0 for those below the least and for NaN."""
    for n in own_rows(numbers.shape[0]):
        row = numbers[n]
        for k in entries(row.size):
            number = row[k]
            row[k] = (ONE + ZERO * least) / number if number >= least else ZERO * least


@program
def add_scaled(target: Matrix, factors: PerRow, source: Matrix):
    """target ← target + factors[:, None] · source."""
    for n in own_rows(target.shape[0]):
        row = target[n]
        addend = source[n]
        factor = factors[n]
        for d in entries(row.size):
            row[d] += factor * addend[d]


@program
def tangent(delta: Matrix, weights: Matrix):
    """Each row of delta ← itself − (itself · w) w, w the same row of weights: orthogonal to a w of norm 1."""
    for n in own_rows(delta.shape[0]):
        row = delta[n]
        unit = weights[n]
        along = ZERO * row[0]
        for d in entries(row.size):
            along += row[d] * unit[d]
        along = total(along)
        for d in entries(row.size):
            row[d] -= along * unit[d]


@program
def moments(vectors: Matrix, shift: PerColumn, sums: Sums, squares: Sums):
    """sums[cell] += Σₙ (vectors[n] − shift), squares[cell] += Σₙ (vectors[n] − shift)², over the rows of each cell."""
    for cell in own_cells(sums.shape[0]):
        cell_sums = sums[cell]
        cell_squares = squares[cell]
        for n in rows_of_cell(cell, sums.shape[0], vectors.shape[0]):
            vector = vectors[n]
            for d in entries(vector.size):
                difference = vector[d] - shift[d]
                cell_sums[d] += difference
                cell_squares[d] += difference * difference


@program
def standardize(vectors: Matrix, shift: PerColumn, factors: PerColumn):
    """vectors ← (vectors − shift) · factors, column by column."""
    for n in own_rows(vectors.shape[0]):
        vector = vectors[n]
        for d in entries(vector.size):
            vector[d] = (vector[d] - shift[d]) * factors[d]


@program
def contrast(vectors: Matrix, share: Number, floor: Number):
    """Each vector ← (vector − its mean) / √(its variance + floor); share: 1 / its length.

    The mean is that of differences from the first number, so that of equal numbers exactly zeros are left.

    Equation: contrast normalisation of Coates, Ng & Lee (AISTATS 2011). Oracle: contrast.
    """
    for n in own_rows(vectors.shape[0]):
        vector = vectors[n]
        first = vector[0]
        mean = ZERO * share
        for d in entries(vector.size):
            mean += vector[d] - first
        mean = total(mean) * share
        square = ZERO * share
        for d in entries(vector.size):
            difference = vector[d] - first - mean
            vector[d] = difference
            square += difference * difference
        std = math.sqrt(total(square) * share + floor)
        factor = ZERO * share
        if std > ZERO:
            factor = (ONE + factor) / std
        for d in entries(vector.size):
            vector[d] *= factor
