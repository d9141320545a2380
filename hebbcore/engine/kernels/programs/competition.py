"""Competition between the units of a row of scores.

Who wins alone is found by two passes, the largest and then where it is, in int32: each is a loop that SIMD can do.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

from numpy import int32

from hebbcore.engine.kernels.elementary import exp, larger, log, lowest
from hebbcore.engine.kernels.rows import (
    FAINT_ROOT,
    FAINT_SHARE,
    HALF,
    INFINITY,
    ONE,
    TINY,
    ZERO,
    Chosen,
    Flag,
    Matrix,
    Number,
    PerColumn,
    PerRow,
    Sums,
    Whole,
    entries,
    highest,
    leader,
    own_cell,
    own_rows,
    program,
    total,
)


@program
def softmax(scores: Matrix, sharpness: Number):
    """scores ← softmax(sharpness · scores), row by row.

    Equation: soft-WTA of FastHebb (Lagani et al. 2022). Oracle: softmax.
    """
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        peak = row[0]
        for k in entries(row.size):
            peak = larger(peak, row[k])
        peak = highest(peak)
        mass = ZERO * sharpness
        for k in entries(row.size):
            part = exp((row[k] - peak) * sharpness)
            e = ZERO if part < FAINT_SHARE else part
            row[k] = e
            mass += e
        share = ONE / total(mass)
        for k in entries(row.size):
            row[k] *= share


@program
def swta(
    scores: Matrix, patch_norms: PerRow, unit_norms: PerColumn, sharpness: Number, power: Flag, mass: Sums, decay: Sums
):
    """scores ← Z², Z = softmax(sharpness·Y) or Y^sharpness / Σ, Y = ((cos + 1) / 2)²; mass += ΣZ, decay += ΣZ².

    A cosine below −1, as a bias makes it, counts as −1: its square would be larger the lower it is.

    Equation: soft-WTA of FastHebb (Lagani et al. 2022), exp and power. Oracle: swta.
    """
    cell_mass = mass[own_cell()]
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        half_over_norm = HALF / patch_norms[n]
        peak = ZERO * sharpness
        for k in entries(row.size):
            h = row[k] * half_over_norm / unit_norms[k] + HALF
            y = h * (ZERO * sharpness if h <= ZERO else h)  # NaN stays
            row[k] = y
            peak = larger(peak, y)
        peak = highest(peak)
        sum_e = ZERO * sharpness
        if power:
            log_peak = log(max(peak, TINY)) + ZERO * peak  # NaN of NaN and infinity, which log may hide
            for k in entries(row.size):
                part = exp((log(max(row[k], TINY)) - log_peak) * sharpness)
                e = ZERO if (part < FAINT_SHARE) | (row[k] == ZERO) else part
                row[k] = e
                sum_e += e
        else:
            for k in entries(row.size):
                part = exp((row[k] - peak) * sharpness)
                e = ZERO if part < FAINT_SHARE else part
                row[k] = e
                sum_e += e
        sum_e = total(sum_e)
        share = ONE / sum_e if sum_e != ZERO else ZERO * sharpness  # power, Y = 0 for all units: nobody gets a share
        for k in entries(row.size):
            z = row[k] * share
            g = z * z if z >= FAINT_ROOT else ZERO * z
            cell_mass[k] += z
            cell_decay[k] += g
            row[k] = g


@program
def kwta(scores: Matrix, unit_norms: PerColumn, winners: Number, decay: Sums):
    """scores ← 1 where scores / unit_norms is at least the row's winners-th largest, else 0; decay += its sums.

    Equation: k-WTA of FastHebb (Lagani et al. 2022). Oracle: kwta.

    The winners-th largest lies in low ≤ · < top. Halving ends it when exactly `winners` scores lie at or above the
    middle; against ties, the bounds move to scores now and then, and top is then tried itself.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        least = lowest(row[0])
        top = least
        low = least  # negated: highest finds the largest
        for k in entries(row.size):
            v = row[k] / unit_norms[k]
            row[k] = v
            top = larger(top, v if v == v else least)
            low = larger(low, -v if v == v else least)
        top = highest(top)
        low = -highest(low)
        middle = top
        halvings = 0
        while low < top:  # never true for NaN
            count = ZERO * top
            for k in entries(row.size):
                count += ONE if row[k] >= middle else ZERO
            count = total(count)
            if count >= winners:
                low = middle
                if count == winners:
                    break
            else:
                top = middle
            halvings += 1
            if halvings % 8 == 0:
                above = -top
                below = low
                for k in entries(row.size):
                    v = row[k]
                    above = larger(above, -v if v >= low else -top)
                    below = larger(below, v if v < top else low)
                low = -highest(above)
                top = highest(below)
                middle = top
            else:
                alike = (low < ZERO) == (top < ZERO)  # their sum, or else their difference, may be too large a number
                middle = low + (top - low) * HALF if alike else (low + top) * HALF
                if not low < middle < top:  # no number lies between them
                    break
        for k in entries(row.size):
            g = ONE if row[k] >= low else ZERO
            cell_decay[k] += g
            row[k] = g


@program
def soft_hebb(scores: Matrix, sharpness: Number, anti: Flag, decay: Sums):
    """scores u ← y = softmax(sharpness · u), all but the largest u's negated if anti; decay += Σ y∘u.

    Equation: SoftHebb (Journé et al., ICLR 2023). Oracle: soft_hebb.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        peak = row[0]
        for k in entries(row.size):
            peak = larger(peak, row[k])
        peak = highest(peak)
        none = int32(row.size)
        winner = none
        for k in entries(row.size):
            winner = min(winner, int32(k) if row[k] >= peak else none)
        peak, winner = leader(peak, winner, none)
        mass = ZERO * sharpness
        for k in entries(row.size):
            mass += exp((row[k] - peak) * sharpness)
        share = ONE / total(mass)
        loser_share = -share if anti else share
        for k in entries(row.size):
            u = row[k]
            part = exp((u - peak) * sharpness)
            e = ZERO if part < FAINT_SHARE else part
            g = e * (share if k == winner else loser_share)
            cell_decay[k] += g * u
            row[k] = g


@program
def ranked(scores: Matrix, rank: Whole, strength: Number, decay: Sums):
    """scores u ← 1 at the largest u, -strength at the rank-th largest (rank 1: nowhere), else 0; decay += Σ g∘u.

    Equal scores rank by their index, the lowest first.

    Equation: Krotov & Hopfield (PNAS 2019); rank 1: hard WTA of SoftHebb's program. Oracle: ranked.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        none = int32(row.size)
        limit = INFINITY + ZERO * strength
        limit_index = int32(-1)
        peak = limit
        winner = none
        least = lowest(row[0])
        for r in range(rank):
            best = least
            for k in entries(row.size):
                u = row[k]
                behind = (u < limit) | ((u == limit) & (int32(k) > limit_index))
                best = larger(best, u if behind else least)
            best = highest(best)
            index = none
            for k in entries(row.size):
                u = row[k]
                behind = (u < limit) | ((u == limit) & (int32(k) > limit_index))
                index = min(index, int32(k) if behind & (u >= best) else none)
            limit, limit_index = leader(best, index, none)
            if r == 0:
                peak = limit
                winner = limit_index
        for k in entries(row.size):
            loss = -strength if k == limit_index else ZERO * row[k]
            row[k] = ONE + ZERO * row[k] if k == winner else loss
        for _ in entries(1):  # one lane writes
            if winner < none:
                cell_decay[winner] += peak
            if rank > 1 and limit_index < none:
                cell_decay[limit_index] -= strength * limit


@program
def hard_wta(scores: Matrix, winners: Chosen, decay: Sums):
    """scores u ← 1 at the row's largest u, else 0; winners ← its unit, −1 if all are NaN; decay += Σ g∘u.

    Of equal u the lowest index wins.

    Equation: hard WTA of SoftHebb's program (Journé et al., ICLR 2023). Oracle: hard_wta.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        least = lowest(row[0])
        peak = least
        for k in entries(row.size):
            u = row[k]
            peak = larger(peak, u if u == u else least)
        peak = highest(peak)
        none = int32(row.size)
        winner = none
        for k in entries(row.size):
            winner = min(winner, int32(k) if row[k] >= peak else none)
        peak, winner = leader(peak, winner, none)
        for k in entries(row.size):
            g = ZERO * row[k]
            row[k] = ONE + g if k == winner else g
        for _ in entries(1):  # one lane writes
            winners[n] = winner if winner < none else -1
            if winner < none:
                cell_decay[winner] += peak


@program
def cosine_wta(scores: Matrix, unit_norms: PerColumn, winners: Chosen, decay: Sums):
    """scores ← 1 where scores / unit_norms is the row's largest, else 0; decay += its sums: kwta of one winner.

    winners ← the unit; −1 if more tie, who win all, or all are NaN.

    Equation: k-WTA of FastHebb (Lagani et al. 2022), k = 1. Oracle: cosine_wta.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        least = lowest(row[0])
        peak = least
        for k in entries(row.size):
            v = row[k] / unit_norms[k]
            row[k] = v
            peak = larger(peak, v if v == v else least)
        peak = highest(peak)
        none = int32(row.size)
        winner = none
        count = ZERO * peak
        for k in entries(row.size):
            g = ONE if row[k] >= peak else ZERO
            winner = min(winner, int32(k) if row[k] >= peak else none)
            count += g
            cell_decay[k] += g
            row[k] = g
        count = total(count)
        peak, winner = leader(peak, winner, none)
        for _ in entries(1):  # one lane writes
            winners[n] = winner if count == ONE else -1


@program
def signed_wta(scores: Matrix, unit_norms: PerColumn, winners: Chosen, decay: Sums):
    """scores ← y = scores / unit_norms at the row's largest |y|, else 0; winners ← its unit; decay += Σ y².

    Of equal |y| the lowest index wins; −1: all are NaN.

    Equation: Oja (1982) for the winner alone. Oracle: signed_wta.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        peak = -ONE
        for k in entries(row.size):
            y = row[k] / unit_norms[k]
            row[k] = y
            peak = larger(peak, abs(y) if y == y else -ONE)
        peak = highest(peak)
        none = int32(row.size)
        winner = none
        for k in entries(row.size):
            winner = min(winner, int32(k) if abs(row[k]) >= peak else none)
        peak, winner = leader(peak, winner, none)
        for k in entries(row.size):
            y = row[k]
            row[k] = y if k == winner else ZERO * y
        for _ in entries(1):  # one lane writes
            winners[n] = winner if winner < none else -1
            if winner < none:
                cell_decay[winner] += peak * peak


@program
def biased_signed_wta(
    scores: Matrix, patch_norms: PerRow, unit_norms: PerColumn, bias: PerColumn, winners: Chosen, decay: Sums
):
    """scores ← y = scores / unit_norms at the row's largest |y| + bias · patch_norms, else 0; the rest as signed_wta.

    Equation: signed_wta with the conscience of DeSieno (ICNN 1988). Oracle: biased_signed_wta.
    """
    cell_decay = decay[own_cell()]
    for n in own_rows(scores.shape[0]):
        row = scores[n]
        length = patch_norms[n]
        least = lowest(row[0])
        peak = least
        for k in entries(row.size):
            y = row[k] / unit_norms[k]
            row[k] = y
            strength = abs(y) + length * bias[k]
            peak = larger(peak, strength if strength == strength else least)
        peak = highest(peak)
        none = int32(row.size)
        winner = none
        for k in entries(row.size):
            winner = min(winner, int32(k) if abs(row[k]) + length * bias[k] >= peak else none)
        peak, winner = leader(peak, winner, none)
        for k in entries(row.size):
            y = row[k]
            row[k] = y if k == winner else ZERO * y
        for _ in entries(1):  # one lane writes
            winners[n] = winner if winner < none else -1
            if winner < none:
                cell_decay[winner] += row[winner] * row[winner]


@program
def count_winners(rows: Matrix, signed: Flag, counts: Sums):
    """counts += 1 at the largest of each row, or the largest |·| if signed, unless all are alike; a single one: not 0.

    Of equals the lowest index wins; of a row with NaN nobody. Oracle: count_winners.
    """
    cell = counts[own_cell()]
    for n in own_rows(rows.shape[0]):
        row = rows[n]
        peak = abs(row[0]) if signed else row[0]
        low = -peak  # negated: highest finds the largest
        for k in entries(row.size):
            v = abs(row[k]) if signed else row[k]
            peak = larger(peak, v)
            low = larger(low, -v)
        peak = highest(peak)
        low = -highest(low)
        none = int32(row.size)
        winner = none
        for k in entries(row.size):
            v = abs(row[k]) if signed else row[k]
            winner = min(winner, int32(k) if v >= peak else none)
        peak, winner = leader(peak, winner, none)
        for _ in entries(1):  # one lane writes
            if winner < none and (peak > low if row.size > 1 else peak != ZERO):
                cell[winner] += ONE
