"""Every measured constant of the engine, and every bound of its memory, in one place.

A comment names the benchmark that a constant was measured with, on 2 cores of an AMD EPYC; the others bound memory or
work, for the reason given. All but watched_patches change time and memory alone, and at most the rounding of results.
Modules read `tuning.MEASURED.…` when they compute, so that a test can put other values there.
"""

from dataclasses import dataclass, field

from hebbcore.engine import caches

_LEVEL_2 = caches.sizes().get(2, 2**20)  # bytes; 1 MiB where the system does not tell


@dataclass(frozen=True)
class Tuning:
    """What the engine's loops are cut by: the names say where it is bytes, nanoseconds or threads."""

    # chunks.py: how a batch is cut (benchmarks/step.py)
    thread_patches: int = 256  # fewest patches that a thread is worth having for,
    thread_products: int = 2**21  # and multiplications of their scores: it takes some 50 µs to wake a thread
    # patches and scores of a chunk on the CPU: few enough for the outer caches, and enough that the passes over the
    # K × D sums, one a chunk, take little. The best were 4 to 8 MiB with 1 MiB of level 2, 16 MiB with 2 MiB of it.
    chunk_bytes: int = min(max(8 * _LEVEL_2, 2**21), 2**24)
    cache_patches: int = 512  # but at least so many patches,
    most_patches: int = 2**14  # and at most so many: sums over their rows in float32 stay near exact
    # the same where maps are made out of the scores at once (benchmarks/transform.py)
    cache_bytes: int = min(max(2 * _LEVEL_2, 2**21), 2**23)

    # gemm.py, on the CPU (benchmarks/step.py)
    scratch_bytes: int = 4 * 2**20  # of a product that is to be added: a temporary that stays in the caches
    split_products: int = 2**23  # multiplications that are worth cutting a product among threads

    one_thread_products: int = 2**18  # multiplications that OpenBLAS makes in one thread, however many it may use

    # update.py: the decay of HPCA (benchmarks/step.py)
    block_units: dict[str, int] = field(default_factory=lambda: {"cpu": 48, "cuda": 256})  # in the blocked order
    lower_products: int = 2**17  # K · K · D up to which one kernel takes a decay off in the Gram order
    thread_units: int = 64  # fewest of a thread for which threads share units, in place of columns, in the Gram order
    gram_rows: dict[str, int] = field(default_factory=lambda: {"cpu": 128, "cuda": 256})  # of tril(Gᵀ G), Gram order

    # update.py: Gᵀ X of a gate with few entries a row, on the CPU (benchmarks/step.py)
    entry_ns: float = 1.5  # an entry of G to look at
    scatter_ns: float = 0.6  # a number of a patch to add
    product_ns: float = 0.03  # a multiplication of the GEMM instead

    add_numbers: int = 2**20  # weights whose change is worth adding in threads: memory is no faster for two of them

    # functions of rows by kernels, on the CPU
    split_numbers: int = 2**18  # entries of an array that are worth cutting its rows among threads

    # how many numbers of an array are made at a time, so that none of the whole is made
    bias_numbers: dict[str, int] = field(default_factory=lambda: {"cpu": 2**17, "cuda": 2**24})  # biases of scores
    norm_numbers: dict[str, int] = field(default_factory=lambda: {"cpu": 2**20, "cuda": 2**24})  # powers of weights
    piece_bytes: int = 16 * 2**20  # of an array that is looked at (backend.pieces)
    im2col_patches: int = 2**16  # patches that im2col makes at a time, so that padded copies stay small

    # winners.py: how much of a batch is looked at to know who wins, at a few per cent of a step's time
    watched_patches: int = 1024  # evenly spread
    few_patches: int = 128  # of which all are looked at, at no great cost

    # memory of what is done once a training
    eigenvalue_bytes: int = 32 * 2**20  # patches that the largest stable rate is measured on (soundness.py)
    output_bytes: int = 32 * 2**20  # output that is looked at at once: for a batch it may be many times the images
    candidate_bytes: int = 64 * 2**20  # patches that k-means++ chooses from, unless there are more units (starting.py)

    # kernels/cpu.py
    line_bytes: int = 200  # of a patch's line, up to which a kernel copies faster than NumPy (benchmarks/patches.py)
    moment_rows: int = 1024  # vectors a cell of the sums of `moments`: few, so that float32 sums stay exact

    # kernels/cuda.py
    most_lanes: int = 256  # threads a row; a power of two
    entries_a_lane: int = 4  # about so many
    most_blocks: int = 4096  # enough to fill any device; the blocks walk over the rows
    cell_bytes: int = 16 * 2**20  # most memory for the sums of the blocks, of one array
    gather_threads: tuple[int, int] = (32, 8)  # entries of a patch, patches


MEASURED = Tuning()
