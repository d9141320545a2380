"""Does memory stay flat, and does a run stay small, while a training goes on for ever?

    python benchmarks/forever.py fit --json FILE [--batches 1000000]
    python benchmarks/forever.py partial_fit --json FILE [--batches 1000000]

A stream without end gives batches of 8 labelled vectors of 6 numbers. "fit" trains a network on it, of 8 units of HPCA
with the adaptive tanh behind which a supervised layer of 3 learns, in epochs of 10,000 batches, into a run with a
checkpoint a minute besides; "partial_fit" lets an estimator of 8 units (k-WTA) learn each batch by a call of its own.

FILE gets what was measured after every hundredth of the batches: seconds since the start, the memory that the process
holds (resident, Linux) and that Python holds (tracemalloc, with --trace, which takes twice the time and more); and of
"fit" the bytes of metrics.jsonl and of the whole run. A command that is stopped leaves what it has measured.
"""

import argparse
import gc
import json
import os
import platform
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import hebbcore
from hebbcore import HPCA, Dense, Network
from hebbcore.estimators import HebbianTransformer
from hebbcore.streams import Epochs

Array = Any


class Endless:
    """Labelled batches made of their number; a label is which of the first three numbers is the largest."""

    batch_size = 8
    class_names = ("first", "second", "third")

    def __init__(self) -> None:
        self.batch = 0

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        while True:
            rows = np.random.default_rng(self.batch).normal(size=(8, 6)).astype(np.float32)
            yield rows, rows[:, :3].argmax(axis=1)
            self.batch += 1

    def state(self) -> dict[str, int]:
        """Return where the next batch is."""
        return {"endless": 1, "epoch": 0, "batch": self.batch}

    def restore(self, state: dict[str, int]) -> None:
        """Go there."""
        self.batch = state["batch"]


def held() -> dict[str, Any]:
    """Return what memory the process holds, and Python if it is traced."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = {"resident": pages * os.sysconf("SC_PAGE_SIZE")}
    if tracemalloc.is_tracing():
        found["traced"] = tracemalloc.get_traced_memory()[0]
    return found


def of_fit(batches: int, told: Callable[[dict[str, Any]], None]) -> None:
    """Train a network on so many batches."""
    network = Network([Dense(8, HPCA("adaptive_tanh")), Dense(3, "supervised")], (6,), device="cpu")
    with tempfile.TemporaryDirectory() as run:

        def record(found: dict[str, Any]) -> None:
            if "accuracy" in found:  # the end of an epoch
                files = {path.name: path.stat().st_size for path in Path(run).rglob("*") if path.is_file()}
                of_run = {"metrics": files["metrics.jsonl"], "run": sum(files.values())}
                told({"batches": found["step"], "accuracy": found["accuracy"], **of_run})

        each = max(1, batches // 100)
        hebbcore.fit(
            network, Epochs(Endless(), each * Endless.batch_size), epochs=batches // each, learning_rate=1e-3, run=run,
            checkpoint_minutes=1, callback=record,
        )  # fmt: skip


def of_partial_fit(batches: int, told: Callable[[dict[str, Any]], None]) -> None:
    """Let an estimator learn so many batches."""
    transformer = HebbianTransformer(8, rule="kwta", whiten=False, random_state=0, device="cpu")
    for number, (rows, _) in enumerate(Endless(), 1):
        transformer.partial_fit(rows)
        if number % max(1, batches // 100) == 0:
            told({"batches": number})
        if number == batches:
            break


def main() -> None:
    """Measure, and write the file anew after each hundredth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "partial_fit"))
    parser.add_argument("--json", required=True, type=Path)
    parser.add_argument("--batches", type=int, default=10**6)
    parser.add_argument("--trace", action="store_true", help="measure what Python holds too")
    args = parser.parse_args()
    machine = {"python": platform.python_version(), "numpy": np.__version__, "hebbcore": hebbcore.__version__}
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    if args.trace:
        tracemalloc.start()

    def told(row: dict[str, Any]) -> None:
        rows.append({**row, **held(), "seconds": round(time.perf_counter() - began, 1)})
        print(json.dumps(rows[-1]), flush=True)
        args.json.write_text(json.dumps({"what": args.what, "machine": machine, "rows": rows}, indent=1) + "\n")

    {"fit": of_fit, "partial_fit": of_partial_fit}[args.what](args.batches, told)


if __name__ == "__main__":
    main()
