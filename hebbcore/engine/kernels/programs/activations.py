"""Functions of one place's scores.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

from hebbcore.engine.kernels.elementary import exp, larger, log
from hebbcore.engine.kernels.rows import ONE, TINY, ZERO, Matrix, Number, entries, own_rows, program, total


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
