"""How a batch is cut: chunks that fit the workspace, shared among the threads of the CPU."""

from hebbcore import checks
from hebbcore.engine import kernels, parallel, tuning
from hebbcore.engine.gemm import dtype_of
from hebbcore.engine.patches import Chunk, Geometry


def share_chunks(
    function: str,
    geometry: Geometry,
    images: int,
    units: int,
    precision: str,
    workspace: int,
    device: str,
    sums_bytes: int = 0,
) -> list[list[Chunk]]:
    """Return the chunks of each lane (thread), in order; CUDA has one lane.

    workspace: bytes for the patches, padded images, scores and sums of all lanes. sums_bytes: what each lane beyond the
    first needs besides. Raises ValueError, saying the least that works, if one row of an image's output does not fit.
    """
    g, item = geometry, dtype_of(precision).itemsize
    width = g.output[1]
    patch_bytes = (g.patch_size + units + 1) * item
    if device == "cuda":  # the starts of patches, and the blocked order's copies of its block of G
        patch_bytes += 16 + 2 * min(units, 256) * item
    if precision == "bf16":
        patch_bytes += 2 * (2 * g.patch_size + units)
    padded_bytes = max(g.stride[0], g.kernel[0]) * (g.size[1] + 2 * g.padding[1]) * g.channels * item
    line_bytes = width * patch_bytes + padded_bytes  # one row of an image's output
    available = workspace - kernels.for_device(device).cell_bytes(units, item)
    if available < line_bytes:
        raise ValueError(
            f"{function}: workspace of {checks.byte_text(workspace)} is too small for one row of an image's output "
            f"({width} patches of {g.patch_size} numbers, {units} units); "
            f"use at least {checks.byte_text(workspace - available + line_bytes)}."
        )
    rows, tuned = images * g.positions, tuning.MEASURED
    lanes = 1
    if device == "cpu":
        lanes = min(parallel.threads(), rows // tuned.thread_patches, available // (line_bytes + sums_bytes))
    if lanes <= 1:
        return [list(g.chunks(images, available // line_bytes * width))]
    fitting = (available // lanes - sums_bytes) // line_bytes * width
    chunks = list(
        g.chunks(images, min(fitting, max(tuned.cache_patches, tuned.cache_bytes // patch_bytes), -(-rows // lanes)))
    )
    return [chunks[start:end] for start, end in parallel.cuts(len(chunks), lanes)]
