"""Time the parts of RidgeReadout, here and in other checkouts of this repository, alternating.

    python benchmarks/ridge.py --json FILE [--beside CHECKOUT ...] [--runs 5] [--parts sums rows factor path one-out]

Random numbers with ten classes; eight penalties, a power of ten each. sums: 1,024 rows of 24,000 features are added to
the matrix features × features. rows: the matrix of 6,000 rows of 20,000 features. factor: a factorisation of 14,000
equations. path: 20,000 equations for all penalties, of which eigenvalues are spread over nine decades. one-out: a fit
of 2,500 rows of 8,000 features, each left out in turn. Medians in seconds, with the least and the most; the JSON has
the seconds of all runs, those of this checkout first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import machine
import numpy as np

from hebbcore.evaluation import RidgeReadout
from hebbcore.evaluation.ridge import linear_system, path
from hebbcore.evaluation.ridge.meter import SILENT

PENALTIES = 10.0 ** np.arange(-2, 6)
TILE, MEMORY = 4096, 2**32
RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    """Return float32 numbers of deviation 1."""
    return RANDOM.standard_normal(shape, np.float32)


def sums() -> Callable[[], object]:
    """Return what is timed of the part of this name, as the functions below do."""
    matrix, block = np.ones((24_000, 24_000)), numbers(1024, 24_000)
    return lambda: linear_system.add_products(matrix, block.T)


def rows() -> Callable[[], object]:
    """See sums."""
    matrix, features = np.ones((6000, 6000)), numbers(6000, 20_000)
    return lambda: linear_system.add_products(matrix, features)


def factor() -> Callable[[], object]:
    """See sums."""
    size = 14_000
    matrix, added = np.full((size, size), 0.5), np.full(size, float(size))

    def work() -> None:
        with linear_system.factorised(matrix, added, None, TILE, SILENT):
            pass

    return work


def solve() -> Callable[[], object]:
    """See sums."""
    size = 20_000
    spread = 10 ** RANDOM.uniform(-2, 7, size)
    directions = RANDOM.standard_normal((size, 8))
    matrix = directions @ directions.T
    matrix[np.diag_indices(size)] += spread
    right = RANDOM.standard_normal((size, 10))
    equations = path.Equations(matrix, np.ones(size), right, None, TILE, MEMORY)
    return lambda: list(path.solutions(equations, list(PENALTIES)))


def one_out() -> Callable[[], object]:
    """See sums."""
    features, labels = numbers(2500, 8000), RANDOM.integers(0, 10, 2500)
    features[np.arange(2500), labels] += 1
    return lambda: RidgeReadout(PENALTIES, standardize=True).fit(features, labels)


PARTS = {"sums": sums, "rows": rows, "factor": factor, "path": solve, "one-out": one_out}


def seconds(part: str) -> float:
    """Return how long a part takes, the second time."""
    work = PARTS[part]()
    if part != "path":
        work()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Time the parts, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="other checkouts to time")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(seconds(args.only))
        return
    here, found = Path(__file__).parent.parent, {}
    for part in args.parts:
        taken: dict[str, list[float]] = {}
        for _ in range(args.runs):
            for checkout in (here, *args.beside):
                environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
                line = [sys.executable, __file__, "--only", part]
                done = subprocess.run(line, env=environment, check=True, capture_output=True, text=True)
                taken.setdefault("here" if checkout == here else str(checkout), []).append(float(done.stdout))
        for name, some in taken.items():
            print(f"{part:8} {name}: {statistics.median(some):.2f} s ({min(some):.2f} … {max(some):.2f})", flush=True)
        found[part] = list(taken.values())
    if args.json:
        args.json.write_text(json.dumps(machine.about() | {"seconds": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
