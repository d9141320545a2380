"""The row programs compiled for the CPU: one thread, no GIL; callers cut the rows among threads (parallel.py)."""

from typing import Any

import numpy as np

from hebbcore.engine import tuning
from hebbcore.engine.kernels.compiled import kernel
from hebbcore.engine.kernels.elementary import larger, move4, move8, move16
from hebbcore.engine.kernels.programs import PROGRAMS

# Sums may be reordered and fused for SIMD; NaN and infinity keep their meaning.
_FASTMATH = {"contract", "nsz", "arcp", "reassoc"}


def cells(rows: int, columns: int) -> int:
    """Return how many rows the `mass` and `decay` arrays must have: one."""
    return 1


def moment_cells(rows: int, columns: int) -> int:
    """Return how many rows the arrays of `moments` must have: few vectors each, so that float32 sums stay exact."""
    return max(1, rows // tuning.MEASURED.moment_rows)


def cell_bytes(columns: int, itemsize: int) -> int:
    """Return the most memory that a gate's sums take beside its result."""
    return 0


# Python's error model would look for a division by 0 before each one: no loop with a division would be SIMD code.
globals().update({name: kernel(fastmath=_FASTMATH, error_model="numpy")(body) for name, body in PROGRAMS.items()})


@kernel()
def scatter(gate, winners, patches, out):
    """out[k] += Σₙ gate[n, k] · patches[n]: Gᵀ X for a gate with few entries a row.

    winners[n]: the one entry of a row that is not 0; −1, or no unit: all are looked at.
    """
    for n in range(gate.shape[0]):
        row = gate[n]
        patch = patches[n]
        winner = winners[n]
        first, last = (winner, winner + 1) if 0 <= winner < row.size else (0, row.size)
        for k in range(first, last):
            g = row[k]
            if g != 0:
                unit = out[k]
                for d in range(patch.size):
                    unit[d] += g * patch[d]


@kernel()
def scatter_winners(winners, values, patches, out):
    """out[winners[n]] += values[n] · patches[n]: Gᵀ X for a gate with one winner a row."""
    for n in range(winners.size):
        unit = out[winners[n]]
        patch = patches[n]
        y = values[n]
        for d in range(patch.size):
            unit[d] += y * patch[d]


@kernel(fastmath={"contract"})
def subtract_lower(gram, weights, out):
    """out −= tril(gram) weights: for few units faster than a product with a triangle that is made for it."""
    for i in range(out.shape[0]):
        unit = out[i]
        for j in range(i + 1):
            factor = gram[i, j]
            explained = weights[j]
            for d in range(unit.size):
                unit[d] -= factor * explained[d]


@kernel()
def relu(scores):
    """scores ← max(scores, 0), NaN stays: NumPy's maximum with a single number is not SIMD code."""
    for n in range(scores.shape[0]):
        row = scores[n]
        for k in range(row.size):
            score = row[k]
            row[k] = 0 if score <= 0 else score


@kernel(fastmath=_FASTMATH)
def _largest_magnitude(numbers):
    found = abs(numbers[0])
    for i in range(numbers.size):
        found = larger(abs(numbers[i]), found)
    return found


def largest_magnitude(array: Any) -> Any:
    """Return max|array| of a C-contiguous floating array in its dtype, NaN if it holds any; in one pass."""
    return array.dtype.type(_largest_magnitude(array.reshape(-1)))


@kernel()
def _gather(lines, height, step, stride, across, out):
    """See gather: lines (n, H, W·C), `step` numbers from one patch to the next, `across` patches a line.

    Numbers of a line are moved some at a time; the last of those overlap the ones before.
    """
    length = out.shape[1] // height
    row = 0
    for i in range(lines.shape[0]):
        for top in range(0, lines.shape[1] - height + 1, stride):
            for column in range(across):
                patch, start = out[row], column * step
                row += 1
                for y in range(height):
                    line, first = lines[i, top + y], y * length
                    if length >= 16:
                        for d in range(0, length - 15, 16):
                            move16(patch, first + d, line, start + d)
                        move16(patch, first + length - 16, line, start + length - 16)
                    elif length >= 8:
                        move8(patch, first, line, start)
                        move8(patch, first + length - 8, line, start + length - 8)
                    elif length >= 4:
                        move4(patch, first, line, start)
                        move4(patch, first + length - 4, line, start + length - 4)
                    else:
                        for d in range(length):
                            patch[first + d] = line[start + d]


def gather(images: Any, kernel: tuple[int, int], stride: tuple[int, int], out: Any) -> None:
    """out (n·oh·ow, kh·kw·C) ← the patches of images (n, H, W, C), already padded and of out's dtype."""
    n, height, width, channels = images.shape
    oh, ow = (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1
    contiguous = images.flags.c_contiguous
    if contiguous and kernel[1] * channels * images.itemsize <= tuning.MEASURED.line_bytes:
        lines = images.reshape(n, height, width * channels)
        _gather(lines, kernel[0], stride[1] * channels, stride[0], ow, out)
        return
    sn, sh, sw, sc = images.strides
    shape, strides = (n, oh, ow, *kernel, channels), (sn, sh * stride[0], sw * stride[1], sh, sw, sc)
    if contiguous:  # for a few patches as_strided takes longer than the copy
        view = np.ndarray(shape, images.dtype, images, 0, strides)
    else:
        view = np.lib.stride_tricks.as_strided(images, shape, strides, writeable=False)
    np.copyto(out.reshape(shape), view)
