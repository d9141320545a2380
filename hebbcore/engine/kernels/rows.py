"""One row's competition, written once for both devices.

A row of scores is shared by `lanes` workers: one on the CPU, the threads of a block on CUDA. Worker `lane` visits the
`entries` lane, lane + lanes, … (on the CPU a plain range, which LLVM turns into SIMD code); what the workers found is
combined by `highest`, `total` and `leader`, which on the CPU return their argument. `build` compiles the programs
below for a device. Every program takes first

    first, step     which rows: first, first + step, …
    cell            the row of `decay` and `mass` to add to (CUDA: one a block, so that the sums are deterministic)
    lane, lanes     which entries of a row
    values, places  memory through which the lanes of a row meet (CUDA: shared arrays; CPU: None)

Constants are float32 numbers that float32 holds exactly: they promote float32 to nothing and float64 to float64.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

ZERO, HALF, ONE, INFINITY = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(np.inf)
TINY = np.float32(2.0**-120)


def build(
    jit: Callable[..., Any],
    exp: Callable[..., Any],
    log: Callable[..., Any],
    larger: Callable[..., Any],
    entries: Callable[..., Any],
    highest: Callable[..., Any],
    total: Callable[..., Any],
    leader: Callable[..., Any],
) -> Any:
    """Return the row programs compiled by jit, with the device's exp, log, larger and ways to combine lanes."""

    @jit
    def softmax(first, step, cell, lane, lanes, values, places, scores, sharpness):
        """scores ← softmax(sharpness · scores), row by row."""
        for n in range(first, scores.shape[0], step):
            row = scores[n]
            peak = row[0]
            for k in entries(row.size, lane, lanes):
                peak = max(peak, row[k])
            peak = highest(peak, values, places, lane, lanes)
            mass = ZERO * sharpness
            for k in entries(row.size, lane, lanes):
                e = exp((row[k] - peak) * sharpness)
                row[k] = e
                mass += e
            share = ONE / total(mass, values, places, lane, lanes)
            for k in entries(row.size, lane, lanes):
                row[k] *= share

    @jit
    def swta(
        first, step, cell, lane, lanes, values, places, scores, patch_norms, unit_norms, sharpness, power, mass, decay
    ):
        """scores ← Z², Z = softmax(sharpness·Y) or Y^sharpness / Σ, Y = ((cos + 1) / 2)²; mass += ΣZ, decay += ΣZ²."""
        cell_mass = mass[cell]
        cell_decay = decay[cell]
        for n in range(first, scores.shape[0], step):
            row = scores[n]
            half_over_norm = HALF / patch_norms[n]
            peak = ZERO * sharpness
            for k in entries(row.size, lane, lanes):
                h = row[k] * half_over_norm / unit_norms[k] + HALF
                y = h * h
                row[k] = y
                peak = max(peak, y)
            peak = highest(peak, values, places, lane, lanes)
            sum_e = ZERO * sharpness
            if power:
                log_peak = log(max(peak, TINY))
                for k in entries(row.size, lane, lanes):
                    e = exp((log(max(row[k], TINY)) - log_peak) * sharpness)
                    row[k] = e
                    sum_e += e
            else:
                for k in entries(row.size, lane, lanes):
                    e = exp((row[k] - peak) * sharpness)
                    row[k] = e
                    sum_e += e
            share = ONE / total(sum_e, values, places, lane, lanes)
            if power and peak == ZERO:  # Y = 0 for all units: nobody gets a share
                share = ZERO * share
            for k in entries(row.size, lane, lanes):
                z = row[k] * share
                g = z * z
                cell_mass[k] += z
                cell_decay[k] += g
                row[k] = g

    @jit
    def kwta(first, step, cell, lane, lanes, values, places, scores, unit_norms, winners, decay):
        """scores ← 1 where scores / unit_norms is at least the row's winners-th largest, else 0; decay += its sums.

        The winners-th largest lies in low ≤ · < top. Halving ends it when exactly `winners` scores lie at or above the
        middle; against ties, the bounds move to scores now and then, and top is then tried itself.
        """
        cell_decay = decay[cell]
        for n in range(first, scores.shape[0], step):
            row = scores[n]
            top = -INFINITY + row[0]
            low = -INFINITY + row[0]  # negated: highest finds the largest
            for k in entries(row.size, lane, lanes):
                v = row[k] / unit_norms[k]
                row[k] = v
                top = max(top, v)
                low = max(low, -v)
            top = highest(top, values, places, lane, lanes)
            low = -highest(low, values, places, lane, lanes)
            middle = top
            halvings = 0
            while low < top:  # never true for NaN
                count = ZERO * top
                for k in entries(row.size, lane, lanes):
                    count += ONE if row[k] >= middle else ZERO
                count = total(count, values, places, lane, lanes)
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
                    for k in entries(row.size, lane, lanes):
                        v = row[k]
                        if v >= low:
                            above = max(above, -v)
                        if v < top:
                            below = max(below, v)
                    low = -highest(above, values, places, lane, lanes)
                    top = highest(below, values, places, lane, lanes)
                    middle = top
                else:
                    middle = low * HALF + top * HALF
                    if not low < middle < top:  # no number lies between them
                        break
            for k in entries(row.size, lane, lanes):
                g = ONE if row[k] >= low else ZERO
                cell_decay[k] += g
                row[k] = g

    @jit
    def soft_hebb(first, step, cell, lane, lanes, values, places, scores, sharpness, anti, decay):
        """scores u ← y = softmax(sharpness · u), all but the largest u's negated if anti; decay += Σ y∘u."""
        cell_decay = decay[cell]
        for n in range(first, scores.shape[0], step):
            row = scores[n]
            peak = row[0]
            winner = row.size
            for k in entries(row.size, lane, lanes):
                if winner == row.size or row[k] > peak:
                    peak = row[k]
                    winner = k
            peak, winner = leader(peak, winner, row.size, values, places, lane, lanes)
            mass = ZERO * sharpness
            for k in entries(row.size, lane, lanes):
                mass += exp((row[k] - peak) * sharpness)
            share = ONE / total(mass, values, places, lane, lanes)
            loser_share = -share if anti else share
            for k in entries(row.size, lane, lanes):
                u = row[k]
                g = exp((u - peak) * sharpness) * (share if k == winner else loser_share)
                cell_decay[k] += g * u
                row[k] = g

    @jit
    def ranked(first, step, cell, lane, lanes, values, places, scores, rank, strength, decay):
        """scores u ← 1 at the largest u, -strength at the rank-th largest (rank 1: nowhere), else 0; decay += Σ g∘u.

        Equal scores rank by their index, the lowest first.
        """
        cell_decay = decay[cell]
        for n in range(first, scores.shape[0], step):
            row = scores[n]
            limit = INFINITY + row[0]
            limit_place = -1
            winner = row.size
            for r in range(rank):
                best = row[0]
                place = row.size
                for k in entries(row.size, lane, lanes):
                    v = row[k]
                    behind = v < limit or (v == limit and k > limit_place)
                    if behind and (place == row.size or v > best):
                        best = v
                        place = k
                best, place = leader(best, place, row.size, values, places, lane, lanes)
                limit = best
                limit_place = place
                if r == 0:
                    winner = place
            for k in entries(row.size, lane, lanes):
                u = row[k]
                g = ZERO * u
                if k == winner:
                    g = ONE + g
                elif k == limit_place:
                    g = g - strength
                cell_decay[k] += g * u
                row[k] = g

    @jit
    def signed_wta(first, step, cell, lane, lanes, values, places, scores, unit_norms, decay):
        """scores ← y = scores / unit_norms at the row's largest |y|, else 0; decay += Σ y².

        Of equal |y| the lowest index wins.
        """
        cell_decay = decay[cell]
        for n in range(first, scores.shape[0], step):
            row = scores[n]
            peak = ZERO * row[0]
            winner = row.size
            for k in entries(row.size, lane, lanes):
                y = row[k] / unit_norms[k]
                row[k] = y
                if winner == row.size or abs(y) > peak:
                    peak = abs(y)
                    winner = k
            peak, winner = leader(peak, winner, row.size, values, places, lane, lanes)
            for k in entries(row.size, lane, lanes):
                y = row[k]
                g = y if k == winner else ZERO * y
                cell_decay[k] += g * y
                row[k] = g

    @jit
    def norms(first, step, cell, lane, lanes, values, places, vectors, out):
        """out[n] ← the Euclidean norm of vectors[n], or 1 where that is 0."""
        for n in range(first, vectors.shape[0], step):
            vector = vectors[n]
            square = ZERO * vector[0]
            for d in entries(vector.size, lane, lanes):
                square += vector[d] * vector[d]
            square = total(square, values, places, lane, lanes)
            if lane == 0:
                out[n] = math.sqrt(square) if square > ZERO else ONE

    @jit
    def add_scaled(first, step, cell, lane, lanes, values, places, target, factors, source):
        """target ← target + factors[:, None] · source."""
        for n in range(first, target.shape[0], step):
            row = target[n]
            addend = source[n]
            factor = factors[n]
            for d in entries(row.size, lane, lanes):
                row[d] += factor * addend[d]

    @jit
    def moments(first, step, cell, lane, lanes, values, places, vectors, shift, sums, squares):
        """sums[cell] += Σₙ (vectors[n] − shift), squares[cell] += Σₙ (vectors[n] − shift)²."""
        cell_sums = sums[cell]
        cell_squares = squares[cell]
        for n in range(first, vectors.shape[0], step):
            vector = vectors[n]
            for d in entries(vector.size, lane, lanes):
                difference = vector[d] - shift[d]
                cell_sums[d] += difference
                cell_squares[d] += difference * difference

    @jit
    def standardize(first, step, cell, lane, lanes, values, places, vectors, shift, factors):
        """vectors ← (vectors − shift) · factors, column by column."""
        for n in range(first, vectors.shape[0], step):
            vector = vectors[n]
            for d in entries(vector.size, lane, lanes):
                vector[d] = (vector[d] - shift[d]) * factors[d]

    @jit
    def contrast(first, step, cell, lane, lanes, values, places, vectors, share, floor):
        """Each vector ← (vector − its mean) / √(its variance + floor); share: 1 / its length."""
        for n in range(first, vectors.shape[0], step):
            vector = vectors[n]
            mean = ZERO * share
            for d in entries(vector.size, lane, lanes):
                mean += vector[d]
            mean = total(mean, values, places, lane, lanes) * share
            square = ZERO * share
            for d in entries(vector.size, lane, lanes):
                difference = vector[d] - mean
                vector[d] = difference
                square += difference * difference
            deviation = math.sqrt(total(square, values, places, lane, lanes) * share + floor)
            factor = ZERO * share
            if deviation > ZERO:
                factor = (ONE + factor) / deviation
            for d in entries(vector.size, lane, lanes):
                vector[d] *= factor

    @jit
    def triangle(first, step, cell, lane, lanes, values, places, scores, share, power):
        """scores ← relu(scores − the row's mean)^power; share: 1 / length of a row."""
        for n in range(first, scores.shape[0], step):
            row = scores[n]
            mean = ZERO * share
            for k in entries(row.size, lane, lanes):
                mean += row[k]
            mean = total(mean, values, places, lane, lanes) * share
            if power == ONE:
                for k in entries(row.size, lane, lanes):
                    excess = row[k] - mean
                    row[k] = ZERO * share if excess <= ZERO else excess  # NaN stays, which max may hide
            else:
                for k in entries(row.size, lane, lanes):
                    excess = row[k] - mean
                    excess = ZERO * share if excess <= ZERO else excess
                    raised = exp(power * log(max(excess, TINY)))
                    row[k] = raised if excess > ZERO else excess

    @jit
    def split(first, step, cell, lane, lanes, values, places, out, scores, threshold):
        """out (N, 2 K) ← relu(scores − threshold), relu(−scores − threshold)."""
        for n in range(first, scores.shape[0], step):
            row = scores[n]
            half = out[n]
            for k in entries(row.size, lane, lanes):
                half[k] = larger(row[k] - threshold, ZERO * threshold)
            other = half[row.size :]
            for k in entries(row.size, lane, lanes):
                other[k] = larger(-row[k] - threshold, ZERO * threshold)

    @jit
    def pool(
        first, step, cell, lane, lanes, values, places,
        out, images, tops, bottoms, lefts, rights, average, row_shares, column_shares,
    ):  # fmt: skip
        """out (n·oh·ow, C) ← the maximum, or the sum times both shares, of each window of images; NaN stays.

        Window (i, j) has the rows tops[i]…bottoms[i]−1 and the columns lefts[j]…rights[j]−1.
        """
        columns = lefts.size
        positions = tops.size * columns
        for n in range(first, out.shape[0], step):
            row = out[n]
            image = images[n // positions]
            i = n % positions // columns
            j = n % columns
            share = row_shares[i] * column_shares[j]
            if average:
                for c in entries(row.size, lane, lanes):
                    row[c] = ZERO * share
                for y in range(tops[i], bottoms[i]):
                    for x in range(lefts[j], rights[j]):
                        pixel = image[y, x]
                        for c in entries(row.size, lane, lanes):
                            row[c] += pixel[c]
                for c in entries(row.size, lane, lanes):
                    row[c] *= share
            else:
                for c in entries(row.size, lane, lanes):
                    row[c] = -INFINITY * share
                for y in range(tops[i], bottoms[i]):
                    for x in range(lefts[j], rights[j]):
                        pixel = image[y, x]
                        for c in entries(row.size, lane, lanes):
                            row[c] = larger(pixel[c], row[c])

    return SimpleNamespace(
        softmax=softmax, swta=swta, kwta=kwta, soft_hebb=soft_hebb, ranked=ranked, signed_wta=signed_wta, norms=norms,
        add_scaled=add_scaled, moments=moments, standardize=standardize, contrast=contrast, triangle=triangle,
        split=split, pool=pool,
    )  # fmt: skip
