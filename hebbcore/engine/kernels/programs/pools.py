"""Pools of images.

Oracles: the functions of the same names in tests/oracles/kernels.py.
"""

from hebbcore.engine.kernels.elementary import larger
from hebbcore.engine.kernels.rows import INFINITY, ZERO, Edges, Flag, Images, Matrix, Shares, entries, own_rows, program


@program
def pool(
    out: Matrix, images: Images, tops: Edges, bottoms: Edges, lefts: Edges, rights: Edges, average: Flag,
    row_shares: Shares, column_shares: Shares,
):  # fmt: skip
    """out (n·oh·ow, C) ← the maximum, or the sum times both shares, of each window of images; NaN stays.

    Window (i, j) has the rows tops[i]…bottoms[i]−1 and the columns lefts[j]…rights[j]−1.
    """
    columns = lefts.size
    positions = tops.size * columns
    for n in own_rows(out.shape[0]):
        row = out[n]
        image = images[n // positions]
        i = n % positions // columns
        j = n % columns
        share = row_shares[i] * column_shares[j]
        if average:
            for c in entries(row.size):
                row[c] = ZERO * share
            for y in range(tops[i], bottoms[i]):
                for x in range(lefts[j], rights[j]):
                    pixel = image[y, x]
                    for c in entries(row.size):
                        row[c] += pixel[c]
            for c in entries(row.size):
                row[c] *= share
        else:
            for c in entries(row.size):
                row[c] = -INFINITY * share
            for y in range(tops[i], bottoms[i]):
                for x in range(lefts[j], rights[j]):
                    pixel = image[y, x]
                    for c in entries(row.size):
                        row[c] = larger(pixel[c], row[c])
