"""Measure how long the patches of images take on one thread of the CPU, against NumPy's copy of a strided view.

    python benchmarks/patches.py [--all]

Microseconds, medians of alternating runs. Lines are numbers of a patch that lie side by side: width × channels.
Those of more than tuning's line_bytes are left to NumPy, unless --all.
"""

import argparse
import dataclasses
import statistics
import time
from functools import partial

import numpy as np

from hebbcore.engine import kernels, tuning

RUNS = 300
CASES = [  # images, side, channels, kernel
    (64, 8, 3, 3),
    (8, 28, 1, 3),
    (8, 28, 1, 5),
    (8, 32, 3, 5),
    (2, 32, 3, 6),
    (1, 210, 3, 7),
    (8, 14, 8, 3),
    (8, 14, 11, 3),
    (8, 14, 16, 3),
    (8, 14, 32, 3),
    (8, 14, 96, 3),
]


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="long lines by the kernel too")
    if parser.parse_args().all:
        tuning.MEASURED = dataclasses.replace(tuning.MEASURED, line_bytes=2**30)
    generator, gather = np.random.default_rng(0), kernels.for_device("cpu").gather
    print(f"{'images':16s} {'kernel':>6s} {'line':>5s} {'NumPy':>8s} {'kernel':>8s} {'ratio':>6s}")
    for dtype in (np.float32, np.float64):
        for count, side, channels, kernel in CASES:
            images = generator.random((count, side, side, channels)).astype(dtype)
            view = np.lib.stride_tricks.sliding_window_view(images, (kernel, kernel), axis=(1, 2))
            view = view.transpose(0, 1, 2, 4, 5, 3)
            out = np.empty(view.shape, dtype)  # of both: where an array lies makes a third of a difference
            rows = out.reshape(-1, kernel * kernel * channels)
            copies = [partial(np.copyto, out, view), partial(gather, images, (kernel, kernel), (1, 1), rows)]
            times: tuple[list[float], list[float]] = ([], [])
            for run in range(RUNS + 2):
                for which in (0, 1) if run % 2 else (1, 0):  # who comes second finds other arrays in the caches
                    begin = time.perf_counter()
                    copies[which]()
                    if run > 1:  # the first compiles
                        times[which].append(time.perf_counter() - begin)
            assert (out == view).all()
            numpy, ours = (1e6 * statistics.median(some) for some in times)
            shape = f"{count} × {side}×{side}×{channels} {np.dtype(dtype).name[-2:]}"
            print(f"{shape:16s} {kernel:6d} {kernel * channels:5d} {numpy:8.1f} {ours:8.1f} {ours / numpy:6.2f}")


if __name__ == "__main__":
    main()
