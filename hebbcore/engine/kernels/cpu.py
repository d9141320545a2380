"""The row programs compiled for the CPU: one thread, no GIL; callers cut the rows among threads (parallel.py)."""

from typing import Any

import numpy as np
from numba.extending import register_jitable

from hebbcore.engine.kernels import elementary, rows
from hebbcore.engine.kernels.compiled import kernel

# Sums may be reordered and fused for SIMD; NaN and infinity keep their meaning.
_FASTMATH = {"contract", "nsz", "arcp", "reassoc"}


@register_jitable(inline="always")
def _entries(size, lane, lanes):
    return range(size)


@register_jitable(inline="always")
def _alone(value, values, places, lane, lanes):
    return value


@register_jitable(inline="always")
def _alone_leader(value, place, none, values, places, lane, lanes):
    return value, place


def cells(rows: int, columns: int) -> int:
    """Return how many rows the `mass` and `decay` arrays must have: one."""
    return 1


def moment_cells(rows: int, columns: int) -> int:
    """Return how many rows the arrays of `moments` must have: few vectors each, so that float32 sums stay exact."""
    return max(1, rows // 1024)


def cell_bytes(columns: int, itemsize: int) -> int:
    """Return the most memory that a gate's sums take beside its result."""
    return 0


def _compile() -> tuple[Any, ...]:
    # The programs are inlined with constant lanes, so that their loops run over whole rows with SIMD. They are free
    # variables here because Numba's cache on disk is keyed by those, not by the files they come from.
    program = rows.build(
        register_jitable(fastmath=_FASTMATH, inline="always"),
        elementary.exp,
        elementary.log,
        elementary.larger,
        _entries,
        _alone,
        _alone,
        _alone_leader,
    )
    softmax_, swta_, kwta_ = program.softmax, program.swta, program.kwta
    soft_hebb_, ranked_, signed_wta_ = program.soft_hebb, program.ranked, program.signed_wta
    norms_, add_scaled_ = program.norms, program.add_scaled
    moments_, standardize_, contrast_ = program.moments, program.standardize, program.contrast
    triangle_, split_, pool_ = program.triangle, program.split, program.pool
    fast = kernel(fastmath=_FASTMATH)

    @fast
    def softmax(scores, sharpness):
        softmax_(0, 1, 0, 0, 1, None, None, scores, sharpness)

    @fast
    def swta(scores, patch_norms, unit_norms, sharpness, power, mass, decay):
        swta_(0, 1, 0, 0, 1, None, None, scores, patch_norms, unit_norms, sharpness, power, mass, decay)

    @fast
    def kwta(scores, unit_norms, winners, decay):
        kwta_(0, 1, 0, 0, 1, None, None, scores, unit_norms, winners, decay)

    @fast
    def soft_hebb(scores, sharpness, anti, decay):
        soft_hebb_(0, 1, 0, 0, 1, None, None, scores, sharpness, anti, decay)

    @fast
    def ranked(scores, rank, strength, decay):
        ranked_(0, 1, 0, 0, 1, None, None, scores, rank, strength, decay)

    @fast
    def signed_wta(scores, unit_norms, decay):
        signed_wta_(0, 1, 0, 0, 1, None, None, scores, unit_norms, decay)

    @fast
    def norms(vectors, out):
        norms_(0, 1, 0, 0, 1, None, None, vectors, out)

    @fast
    def add_scaled(target, factors, source):
        add_scaled_(0, 1, 0, 0, 1, None, None, target, factors, source)

    @fast
    def moments(vectors, shift, sums, squares):
        cells = sums.shape[0]
        for cell in range(cells):
            part = vectors[cell * vectors.shape[0] // cells : (cell + 1) * vectors.shape[0] // cells]
            moments_(0, 1, cell, 0, 1, None, None, part, shift, sums, squares)

    @fast
    def standardize(vectors, shift, factors):
        standardize_(0, 1, 0, 0, 1, None, None, vectors, shift, factors)

    @fast
    def contrast(vectors, share, floor):
        contrast_(0, 1, 0, 0, 1, None, None, vectors, share, floor)

    @fast
    def triangle(scores, share, power):
        triangle_(0, 1, 0, 0, 1, None, None, scores, share, power)

    @fast
    def split(out, scores, threshold):
        split_(0, 1, 0, 0, 1, None, None, out, scores, threshold)

    @fast
    def pool(out, images, tops, bottoms, lefts, rights, average, row_shares, column_shares):
        pool_(
            0, 1, 0, 0, 1, None, None,
            out, images, tops, bottoms, lefts, rights, average, row_shares, column_shares,
        )  # fmt: skip

    return (
        softmax, swta, kwta, soft_hebb, ranked, signed_wta, norms, add_scaled,
        moments, standardize, contrast, triangle, split, pool,
    )  # fmt: skip


(
    softmax, swta, kwta, soft_hebb, ranked, signed_wta, norms, add_scaled,
    moments, standardize, contrast, triangle, split, pool,
) = _compile()  # fmt: skip


@kernel()
def scatter(gate, patches, out):
    """out[k] += Σₙ gate[n, k] · patches[n], skipping zeros: Gᵀ X for a gate with few entries a row."""
    for n in range(gate.shape[0]):
        row = gate[n]
        patch = patches[n]
        for k in range(row.size):
            g = row[k]
            if g != 0:
                unit = out[k]
                for d in range(patch.size):
                    unit[d] += g * patch[d]


def gather(images: Any, kernel: tuple[int, int], stride: tuple[int, int], out: Any) -> None:
    """out (n·oh·ow, kh·kw·C) ← the patches of images (n, H, W, C), already padded and of out's dtype."""
    n, height, width, channels = images.shape
    oh, ow = (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1
    sn, sh, sw, sc = images.strides
    view = np.lib.stride_tricks.as_strided(
        images,
        (n, oh, ow, *kernel, channels),
        (sn, sh * stride[0], sw * stride[1], sh, sw, sc),
        writeable=False,
    )
    np.copyto(out.reshape(view.shape), view)
