"""Exact and approximate neighbours of the same rows: recall at 10, time and memory, each in a process of its own.

    python benchmarks/neighbours.py ROWS.npy [--queries 10000] [--ways exact hebbcore faiss-ivf pynndescent]

ROWS.npy: (n, d), float32. "hebbcore" is what FewLabelClassifier takes (faiss's HNSW), "exact" its exact search, of
`--queries` rows. Seconds are those of the processor. "more MiB" is the memory above the rows, libraries and compiled
code included. pynndescent compiles for 20 s and more in each process: its second run is timed.
"""

import argparse
import os
import subprocess
import sys
import time
from typing import Any

WAYS = ("exact", "hebbcore", "faiss-hnsw32", "faiss-ivf", "hnswlib", "pynndescent")


def peak_mib() -> float:
    """Return the most memory that this process has had."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def found_by(way: str, rows: Any) -> Any:
    """Return what a library finds near each row, itself included."""
    if way == "pynndescent":
        import pynndescent

        return pynndescent.NNDescent(rows, n_neighbors=30, random_state=0, n_jobs=1).neighbor_graph[0][:, :11]
    if way == "hnswlib":
        import hnswlib

        index = hnswlib.Index("l2", rows.shape[1])
        index.init_index(len(rows), M=32, ef_construction=64, random_seed=0)
        index.set_num_threads(1)
        index.add_items(rows)
        index.set_ef(64)
        return index.knn_query(rows, k=11)[0]
    import faiss

    faiss.omp_set_num_threads(1)
    if way == "faiss-hnsw32":
        index = faiss.IndexHNSWFlat(rows.shape[1], 32)
        index.hnsw.efConstruction = index.hnsw.efSearch = 64
    else:
        lists = int(4 * len(rows) ** 0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(rows.shape[1]), rows.shape[1], lists)
        index.nprobe = 32
        index.train(rows)
    index.add(rows)
    return index.search(rows, 11)[1]


def measure(way: str, path: str, queries: int) -> None:
    """Print recall, seconds and memory of one way."""
    import numpy as np

    from hebbcore.classify.approximate import nearest_approximately
    from hebbcore.classify.neighbours import nearest

    rows = np.load(path)
    asked = np.random.default_rng(0).permutation(len(rows))[:queries]
    if way == "pynndescent":
        found_by(way, rows[:2000])
    before, began = peak_mib(), time.process_time()
    if way == "exact":
        found = nearest(rows, 10, of=asked)[0]
        print(f"{way}: {(time.process_time() - began) * len(rows) / len(asked):.1f} s for all, from a part", flush=True)
        return
    found = nearest_approximately(rows, 10)[0] if way == "hebbcore" else found_by(way, rows)
    seconds, memory = time.process_time() - began, peak_mib() - before
    right = nearest(rows, 10, of=asked)[0]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found[asked].tolist(), right.tolist(), strict=True)])
    print(f"{way}: recall {recall:.3f}, {seconds:.1f} s, {memory:.0f} more MiB", flush=True)


def main() -> None:
    """Start a process for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one, args.rows, args.queries)
        return
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    threads = dict.fromkeys(names, "1")
    for way in args.ways:
        command = [sys.executable, __file__, args.rows, "--queries", str(args.queries), "--one", way]
        subprocess.run(command, env={**os.environ, **threads}, check=False)


if __name__ == "__main__":
    main()
