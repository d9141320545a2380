"""Functions of one place's scores, and of its patch.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

import math

from hebbcore.engine.kernels.elementary import exp, larger, log
from hebbcore.engine.kernels.rows import ONE, TINY, ZERO, Matrix, Number, PerColumn, entries, own_rows, program, total


@program
def triangle(scores: Matrix, share: Number, power: Number):
    """scores ← relu(scores − the row's mean)^power; share: 1 / length of a row.

    Equation: Coates, Ng & Lee (AISTATS 2011); with a power: SoftHebb (Journé et al., ICLR 2023). Oracle: triangle.
    """
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        mean = ZERO * share
        for k in entries(row.size):
            mean += row[k]
        mean = total(mean) * share
        if power == ONE:
            for k in entries(row.size):
                excess = row[k] - mean
                row[k] = ZERO * share if excess <= ZERO else excess  # NaN stays, which max may hide
        else:
            for k in entries(row.size):
                excess = row[k] - mean
                excess = ZERO * share if excess <= ZERO else excess
                raised = exp(power * log(max(excess, TINY)))
                row[k] = raised if excess > ZERO else excess


@program
def split(out: Matrix, scores: Matrix, threshold: Number):
    """out (N, 2 K) ← relu(scores − threshold), relu(−scores − threshold).

    Equation: Coates & Ng (ICML 2011), soft threshold with polarity splitting. Oracle: split.
    """
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        half = out[n]
        for k in entries(row.size):
            half[k] = larger(row[k] - threshold, ZERO * threshold)
        other = half[row.size :]
        for k in entries(row.size):
            other[k] = larger(-row[k] - threshold, ZERO * threshold)


@program
def relu_over(scores: Matrix, unit_norms: PerColumn):
    """scores ← max(scores / unit_norms, 0), NaN stays. Oracle: relu_over."""
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        for k in entries(row.size):
            score = row[k] / unit_norms[k]
            row[k] = ZERO * score if score <= ZERO else score


@program
def cosine(scores: Matrix, patches: Matrix, unit_norms: PerColumn):
    """scores ← scores / (‖patch‖ · unit_norms), 0 for a patch of zeros. Oracle: cosine."""
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        patch = patches[n]
        square = ZERO * patch[0]
        for d in entries(patch.size):
            square += patch[d] * patch[d]
        square = total(square)
        norm = math.sqrt(square)
        share = ZERO * square
        if norm > ZERO:
            share = (ONE + share) / norm
        for k in entries(row.size):
            row[k] = row[k] * share / unit_norms[k]


@program
def cosine_exp(scores: Matrix, patches: Matrix, unit_norms: PerColumn, sharpness: Number):
    """scores ← ‖patch‖ · exp(sharpness · (scores / (‖patch‖ · unit_norms) − 1)), 0 for a patch of zeros.

    Equation: the Gaussian kernel of patches of one length, times their lengths: convolutional kernel networks (Mairal,
    NeurIPS 2016). Oracle: cosine_exp.
    """
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        patch = patches[n]
        square = ZERO * patch[0]
        for d in entries(patch.size):
            square += patch[d] * patch[d]
        square = total(square)
        norm = math.sqrt(square)
        share = ZERO * square
        if norm > ZERO:
            share = (ONE + share) / norm
        for k in entries(row.size):
            row[k] = norm * exp((row[k] * share / unit_norms[k] - ONE) * sharpness)
