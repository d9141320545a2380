"""Pools of images.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

from hebbcore.engine.kernels.elementary import larger
from hebbcore.engine.kernels.rows import (
    INFINITY,
    ZERO,
    Edges,
    Flag,
    Images,
    Matrix,
    Number,
    Shares,
    Spans,
    Whole,
    entries,
    own_rows,
    program,
)


@program
def pool(
    out: Matrix, images: Images, rows: Spans, columns: Spans, average: Flag, row_shares: Shares, column_shares: Shares
):
    """out (n·oh·ow, C) ← the maximum, or the sum times both shares, of each window of images; NaN stays.

    Window (i, j) has the rows and the columns of images that rows[i] and columns[j] span.
    """
    across = columns.shape[0]
    positions = rows.shape[0] * across
    for n in own_rows(out.shape[0]):
        row = out[n]
        image = images[n // positions]
        i = n % positions // across
        j = n % across
        share = row_shares[i] * column_shares[j]
        if average:
            for c in entries(row.size):
                row[c] = ZERO * share
            for y in range(rows[i, 0], rows[i, 1]):
                for x in range(columns[j, 0], columns[j, 1]):
                    pixel = image[y, x]
                    for c in entries(row.size):
                        row[c] += pixel[c]
            for c in entries(row.size):
                row[c] *= share
        else:
            for c in entries(row.size):
                row[c] = -INFINITY * share
            for y in range(rows[i, 0], rows[i, 1]):
                for x in range(columns[j, 0], columns[j, 1]):
                    pixel = image[y, x]
                    for c in entries(row.size):
                        row[c] = larger(pixel[c], row[c])


@program
def blend(out: Matrix, lines: Matrix, length: Whole, firsts: Edges, lasts: Edges, shares: Shares):
    """out (n·count, K) ← weighted sums of the lines of n maps, (n·length, K), one for each of `count` windows.

    Window i has the lines firsts[i]…lasts[i]−1 of a map; its weights begin at shares[i · (size of shares / count)].
    """
    count = firsts.size
    for n in own_rows(out.shape[0]):
        row = out[n]
        i = n % count
        y = n // count * length + firsts[i]
        end = y + lasts[i] - firsts[i]
        w = i * (shares.size // count)
        for k in entries(row.size):
            row[k] = ZERO * shares[w]
        while y + 4 <= end:  # four lines at a time, since each pass over the row loads and stores it
            some = lines[y : y + 4]
            a, b, c, d = shares[w], shares[w + 1], shares[w + 2], shares[w + 3]
            for k in entries(row.size):
                row[k] += a * some[0, k] + b * some[1, k] + c * some[2, k] + d * some[3, k]
            y += 4
            w += 4
        while y < end:
            line, a = lines[y], shares[w]
            for k in entries(row.size):
                row[k] += a * line[k]
            y += 1
            w += 1


@program
def blend_split(out: Matrix, images: Images, firsts: Edges, lasts: Edges, shares: Shares, threshold: Number):
    """out (n·count·W, 2 C) ← `blend` down the columns of the maps that `split` would make of images (n, H, W, C).

    Nothing of the size of those maps is made. Row i · W + x of a map is of window i and column x; windows and weights
    are those of blend.
    """
    count = firsts.size
    width = images.shape[2]
    channels = images.shape[3]
    for n in own_rows(out.shape[0]):
        row = out[n]
        other = row[channels:]
        i = n // width % count
        image = images[n // width // count]
        x = n % width
        y = firsts[i]
        end = lasts[i]
        w = i * (shares.size // count)
        for k in entries(channels):
            row[k] = ZERO * threshold
            other[k] = ZERO * threshold
        while y + 2 <= end:  # two pixels at a time: blend's four would take a GPU's registers
            first, second = image[y, x], image[y + 1, x]
            a, b = shares[w], shares[w + 1]
            for k in entries(channels):
                p, q = first[k], second[k]
                row[k] += a * larger(p - threshold, ZERO * threshold) + b * larger(q - threshold, ZERO * threshold)
                other[k] += a * larger(-p - threshold, ZERO * threshold) + b * larger(-q - threshold, ZERO * threshold)
            y += 2
            w += 2
        while y < end:
            pixel, a = image[y, x], shares[w]
            for k in entries(channels):
                row[k] += a * larger(pixel[k] - threshold, ZERO * threshold)
                other[k] += a * larger(-pixel[k] - threshold, ZERO * threshold)
            y += 1
            w += 1
