"""Functions of one place's scores."""

from hebbcore.engine.kernels.elementary import exp, larger, log
from hebbcore.engine.kernels.rows import ONE, TINY, ZERO, Matrix, Number, entries, own_rows, program, total


@program
def triangle(scores: Matrix, share: Number, power: Number):
    """scores ← relu(scores − the row's mean)^power; share: 1 / length of a row."""
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
    """out (N, 2 K) ← relu(scores − threshold), relu(−scores − threshold)."""
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        half = out[n]
        for k in entries(row.size):
            half[k] = larger(row[k] - threshold, ZERO * threshold)
        other = half[row.size :]
        for k in entries(row.size):
            other[k] = larger(-row[k] - threshold, ZERO * threshold)
