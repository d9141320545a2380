"""Measure the features of networks, mirrored, against the matrix products of their layers alone.

    python benchmarks/transform.py [--network dictionary fasthebb-6 ...] [--images 100] [--json FILE]

The products are those of every layer for the same images and their mirror images, by pieces of a few hundred patches
on each thread; the engine spares those of a whitening that the next layer's units take up. Runs alternate, and the
fastest of each count, which the machine's other work disturbs least: `ratio` is of wall times, `cpu_ratio` of the CPU
time of all threads, which that work disturbs least of all. Memory is the peak of a fresh network beside the images and
the result. Weights are random, and nothing is whitened but by the unit matrix: neither changes the time.
"""

import argparse
import copy
import json
import math
import platform
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import hebbcore
from hebbcore import Conv, GaussianPool, GridPool, Network, Nystrom, Power, Scale, Split, Whiten
from hebbcore.engine import parallel
from hebbcore.layers import Branches, Learner

ROUNDS = 8
ROWS = 512  # patches of a piece


def dictionary(units: tuple[int, int, int] = (128, 1024, 400)) -> Network:
    """Return two layers of dictionaries beside a wide one, for 32×32 images."""
    first, second, wide = units
    return Network(
        [
            Branches(
                [
                    Whiten(3, padding=1, padding_mode="edge", contrast=None, epsilon=0.01, relative=True, centre=True),
                    Conv(first, 3, "kwta", padding=1, response="cosine-exp"), GaussianPool(2), Nystrom(),
                    Whiten(3, padding=1, contrast=None, epsilon=0.01, relative=True, components=192),
                    Conv(second, 1, "signedwta", response="cosine"), Scale(), Split(0.25), GaussianPool(6), Power(0.5),
                ],
                [
                    Whiten(6, epsilon=0.3), Conv(wide, 1, "signedwta", linear=True), Scale(), Split(0.25),
                    GaussianPool(9), Power(0.5),
                ],
            )
        ],
        (32, 32, 3), device="cpu",
    )  # fmt: skip


def one_layer(units: int = 400) -> Network:
    """Return one layer of whitened patches, for 32×32 images."""
    layers = [Whiten(6), Conv(units, 1, "signedwta", linear=True), Split(0.25), GridPool(2)]
    return Network(layers, (32, 32, 3), device="cpu")


def products(network: Network) -> list[tuple[int, int, int]]:
    """Return (rows of an image, numbers of a row, columns) of every layer's product."""
    found = []
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Learner):
            found.append((layer.geometry.positions, layer.geometry.patch_size, layer.units))
        elif isinstance(layer, Whiten | Nystrom):
            whole = isinstance(layer, Whiten) and layer.kernel_size is None  # an image is one row
            found.append((1 if whole else math.prod(network.shapes[i][:-1]), *layer.matrix.shape))
    return found


def gemms(shapes: list[tuple[int, int, int]], images: int) -> Callable[[], None]:
    """Return a function that makes the products for so many images, each thread its share by pieces."""
    generator, threads = np.random.default_rng(0), parallel.threads()
    work = []
    for rows, size, columns in shapes:
        share = rows * images // threads
        piece = min(share, ROWS)
        arrays = [generator.random((piece, size), np.float32) for _ in range(threads)]
        outs = [np.empty((piece, columns), np.float32) for _ in range(threads)]
        work.append((arrays, generator.random((size, columns), np.float32), outs, share / piece))

    def of_a_thread(thread: int) -> None:
        for arrays, matrix, outs, pieces in work:
            for _ in range(round(pieces)):
                np.matmul(arrays[thread], matrix, out=outs[thread])

    return lambda: parallel.run([lambda thread=thread: of_a_thread(thread) for thread in range(threads)]) and None


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Return the milliseconds of a call, and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what was measured of a network."""
    own = {"dictionary": dictionary, "one-layer": one_layer}
    network = own[name]() if name in own else hebbcore.preset(name, device="cpu")
    assert network.image_shape is not None
    images = np.random.default_rng(0).integers(0, 256, (args.images, *network.image_shape), np.uint8)
    shapes = products(network)
    alone = gemms(shapes, 2 * args.images)

    def transform() -> Any:
        return network.transform(images, mirror=True)

    transform(), alone()
    runs = [(timed(transform), timed(alone)) for _ in range(args.rounds)]
    (wall, cpu), (gemm_wall, gemm_cpu) = np.array(runs).min(axis=0).tolist()
    network = copy.deepcopy(network)  # without its work memory
    tracemalloc.start()
    out = network.transform(images, mirror=True)
    peak = tracemalloc.get_traced_memory()[1] - out.nbytes
    tracemalloc.stop()
    return {
        "network": name, "images": args.images, "images_per_second": 1e3 * args.images / wall,
        "images_per_cpu_second": 1e3 * args.images / cpu, "gflop": 4e-9 * sum(map(math.prod, shapes)),
        "ratio": wall / gemm_wall, "cpu_ratio": cpu / gemm_cpu, "peak_bytes": peak,
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ("dictionary", "one-layer", *(name for name in hebbcore.PRESETS if name != "dictionary"))
    parser.add_argument("--network", nargs="+", default=["dictionary", "fasthebb-6", "softhebb-cifar"], choices=known)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args()
    rows = []
    for name in args.network:
        rows.append(row := measure(name, args))
        print(
            f"{name}: {row['images_per_second']:.0f} images a second mirrored ({row['gflop']:.2f} GFLOP each), "
            f"{row['ratio']:.2f} × its products ({row['cpu_ratio']:.2f} by CPU time), "
            f"peak {row['peak_bytes'] / 2**20:.0f} MiB",
            flush=True,
        )
    if args.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"threads": parallel.threads(), "versions": versions, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
