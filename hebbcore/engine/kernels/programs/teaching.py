"""Competition under a teacher, which says which units may learn from which image.

masks (images, K) has a row for each image; row n of the scores is position first + n, counted from the first image's
first one, of images of so many positions.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

from hebbcore.engine.kernels.elementary import exp, larger, log, lowest
from hebbcore.engine.kernels.rows import (
    FAINT_ROOT,
    FAINT_SHARE,
    HALF,
    ONE,
    TINY,
    ZERO,
    Flag,
    Masks,
    Matrix,
    Number,
    PerColumn,
    PerRow,
    Sums,
    Whole,
    entries,
    highest,
    own_cell,
    own_rows,
    program,
    total,
)


@program
def taught(values: Matrix, masks: Masks, first: Whole, positions: Whole, sums: Sums):
    """values ← 0 where the mask is 0; sums += Σ values.

    Equation: HPCA and k-WTA with a teacher of FastHebb's program (Lagani et al. 2022). Oracle: taught.
    """
    cell_sums = sums[own_cell()]
    for n in own_rows(values.shape[0]):
        row = values[n]
        mask = masks[(first + n) // positions]
        for k in entries(row.size):
            v = row[k]
            if mask[k] == 0:
                v = ZERO * v
            row[k] = v
            cell_sums[k] += v


@program
def taught_cosines(scores: Matrix, unit_norms: PerColumn, masks: Masks, first: Whole, positions: Whole):
    """scores ← scores / unit_norms where the mask is 1, else the least of those; 0 if there are none.

    So the k-th largest of a row is that of the units that may win, or their least if there are fewer.

    Equation: k-WTA with a teacher of FastHebb's program (Lagani et al. 2022). Oracle: taught_cosines.
    """
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        mask = masks[(first + n) // positions]
        least = lowest(row[0])
        low = least  # negated: highest finds the largest
        for k in entries(row.size):
            v = row[k] / unit_norms[k]
            row[k] = v
            low = larger(low, -v if (mask[k] != 0) & (v == v) else least)
        low = -highest(low)
        if low == -least:
            low = ZERO * unit_norms[0]
        for k in entries(row.size):
            row[k] = row[k] if mask[k] != 0 else low


@program
def taught_similarities(
    scores: Matrix, patch_norms: PerRow, unit_norms: PerColumn, masks: Masks, first: Whole, positions: Whole
):
    """scores ← Y = ((cos + 1) / 2)² where the mask is 1, else −1.

    Equation: soft-WTA of FastHebb (Lagani et al. 2022). Oracle: taught_similarities.
    """
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        mask = masks[(first + n) // positions]
        half_over_norm = HALF / patch_norms[n]
        for k in entries(row.size):
            h = row[k] * half_over_norm / unit_norms[k] + HALF
            row[k] = h * h if mask[k] != 0 else -ONE + ZERO * half_over_norm


@program
def taught_swta(scores: Matrix, sharpness: Number, power: Flag, mass: Sums, decay: Sums):
    """scores Y ← Z² as swta, but units whose Y is below 0 get no share; mass += ΣZ, decay += ΣZ².

    Equation: soft-WTA with a teacher of FastHebb's program (Lagani et al. 2022); the largest Y that is subtracted is
    that of the units that may win. Oracle: taught_swta.
    """
    cell_mass = mass[own_cell()]
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        peak = ZERO * sharpness
        for k in entries(row.size):
            peak = larger(peak, row[k])
        peak = highest(peak)
        sum_e = ZERO * sharpness
        if power:
            log_peak = log(max(peak, TINY)) + ZERO * peak  # NaN of NaN and infinity, which log may hide
            for k in entries(row.size):
                part = exp((log(max(row[k], TINY)) - log_peak) * sharpness)
                e = ZERO if (part < FAINT_SHARE) | (row[k] <= ZERO) else part
                row[k] = e
                sum_e += e
        else:
            for k in entries(row.size):
                part = exp((row[k] - peak) * sharpness)
                e = ZERO if (part < FAINT_SHARE) | (row[k] < ZERO) else part
                row[k] = e
                sum_e += e
        sum_e = total(sum_e)
        share = ONE / sum_e if sum_e != ZERO else ZERO * sharpness  # nobody may learn: nobody gets a share
        for k in entries(row.size):
            z = row[k] * share
            g = z * z if z >= FAINT_ROOT else ZERO * z
            cell_mass[k] += z
            cell_decay[k] += g
            row[k] = g
