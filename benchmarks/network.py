"""Measure a training step of whole networks, all layers at once, against the sum of their layers' GEMMs.

    python benchmarks/network.py [--preset fasthebb-6 ...] [--rule hpca] [--batch 64] [--device cuda --precision tf32]
                                 [--json FILE]

A step is the forward pass, every layer's update and the running statistics, as hebbcore.fit makes it, on images in
memory. The GEMMs are those of each layer's whole batch alone, one layer after the other, in the order the engine
chooses. Runs alternate; images a second are of the median step, and the ratio is of the fastest step to the sum of the
layers' fastest GEMMs, which the machine's other work disturbs least. Stages are timed one by one in runs of their own.
Memory is the peak of a fresh network's first step; the plan is the weights, the largest ΔW, the outputs (image_bytes ·
batch) and the workspace, which the layers share.
"""

import argparse
import gc
import json
import math
import platform
import statistics
import time
import tracemalloc
from functools import partial
from typing import Any

import numba
import numpy as np
from baselines import gemms

import hebbcore
from hebbcore import Conv, Network
from hebbcore.engine import backend, tuning
from hebbcore.engine.winners import Tally, spread
from hebbcore.layers import Learner

ROUNDS = 5
REST = 0.2  # seconds, in which the threads of the BLAS stop spinning
WARM_UP = 0.15  # seconds; after a pause a virtual machine's kernel wakes threads on one core for some 0.05 s


def synchronize(xp: Any) -> None:
    """Wait for the device."""
    if xp is not np:
        xp.cuda.get_current_stream().synchronize()


def learn_layer(network: Network, i: int, before: Any, out: Any, rate: float = 1e-3) -> None:
    """Let a layer learn, and count who wins, as hebbcore.fit does."""
    layer = network.layers[i]
    tally = Tally(
        layer.rule, layer.weights.reshape(layer.units, -1), spread(out.size // layer.units, out[0, ..., 0].size)
    )
    layer.learn(before, out, rate, measure=False, tally=tally)


def train_step(network: Network, x: Any) -> None:
    """Learn a batch, as hebbcore.fit does."""
    learn = partial(learn_layer, network)
    network.run(x, 0, len(network), training=True, learn=learn)


def stages(network: Network, x: Any, xp: Any) -> dict[str, float]:
    """Return the milliseconds of each layer of one step."""
    learn, times = partial(learn_layer, network), {}
    for i, name in enumerate(network.names):
        synchronize(xp)
        begin = time.perf_counter()
        x = network.run(x, i, i + 1, training=True, learn=learn)
        synchronize(xp)
        times[name] = 1e3 * (time.perf_counter() - begin)
    return times


def gemms_of(network: Network, batch: int, xp: Any, args: argparse.Namespace) -> list[tuple[str, Any]]:
    """Return for each learner a function that makes the GEMMs of its step alone."""
    found = []
    for name, layer in network.learners.items():
        shape = network.shapes[network.index_of("benchmark", name)]
        places = shape[0] * shape[1] if isinstance(layer, Conv) else 1
        rule = next(key for key, kind in hebbcore.RULES.items() if isinstance(layer.rule, kind))
        size = math.prod(layer.weights.shape[1:])
        # arrays are made when called, so that only one layer's are in memory
        found.append(
            (name, lambda n=batch * places, d=size, k=layer.units, r=rule: gemms(
                xp, n, d, k, r, args.precision, tuning.MEASURED.block_units[args.device]
            ))
        )  # fmt: skip
    return found


def timed(function: Any, xp: Any) -> float:
    """Return the milliseconds of a call in steady state: after others, the threads of those before having rested."""
    time.sleep(REST)
    start = time.perf_counter()
    while (begin := time.perf_counter()) - start < WARM_UP:
        function()
        synchronize(xp)
    function()
    synchronize(xp)
    return 1e3 * (time.perf_counter() - begin)


def peak_bytes(make: Any, x: Any, xp: Any) -> int:
    """Return the most memory that a fresh network takes during its first step."""
    gc.collect()
    if xp is np:
        tracemalloc.start()
        network = make()
        tracemalloc.reset_peak()
        train_step(network, x)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return int(peak)
    pool = xp.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    network = make()
    pool.free_all_blocks()
    train_step(network, x)
    return int(pool.total_bytes() - before)


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what was measured of one preset."""
    xp = backend.module(args.device)
    rule = None if name.startswith("softhebb") else args.rule

    def make() -> Network:
        return hebbcore.preset(name, rule=rule, device=args.device, precision=args.precision)

    network = make()
    assert network.image_shape is not None
    x = xp.asarray(np.random.default_rng(0).integers(0, 256, (args.batch, *network.image_shape), np.uint8))
    train_step(network, x)
    steps, shares = [], []
    products: dict[str, list[float]] = {}
    pieces = gemms_of(network, args.batch, xp, args)
    for _ in range(args.rounds):
        steps.append(timed(lambda: train_step(network, x), xp))
        shares.append(stages(network, x, xp))
        for layer, make_gemms in pieces:
            products.setdefault(layer, []).append(timed(make_gemms(), xp))
    step = statistics.median(steps)
    parts = {key: statistics.median(s[key] for s in shares) / step for key in network.names}
    weights = [layer.weights.nbytes for layer in network.layers if isinstance(layer, Learner)]
    plan = sum(weights) + max(weights) + network.image_bytes() * args.batch + network.site.workspace
    return {
        "preset": name, "rule": rule or "softhebb", "batch": args.batch, "step_ms": step,
        "fastest_step_ms": min(steps), "gemms_ms": {layer: min(times) for layer, times in products.items()},
        "ratio": min(steps) / sum(map(min, products.values())),
        "images_per_second": 1e3 * args.batch / step, "stages": parts, "peak_bytes": peak_bytes(make, x, xp),
        "plan_bytes": plan,
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=["fasthebb-6", "softhebb-cifar"], choices=hebbcore.PRESETS)
    parser.add_argument("--rule", default="hpca", help="of the FastHebb and VGG networks")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args()
    rows = []
    for name in args.preset:
        row = measure(name, args)
        rows.append(row)
        print(
            f"{row['preset']} {row['rule']} batch {row['batch']}: {row['images_per_second']:.1f} img/s, "
            f"step {row['step_ms']:.0f} ms, {row['ratio']:.2f} × its GEMMs, peak {row['peak_bytes'] / 2**20:.0f} MiB "
            f"of {row['plan_bytes'] / 2**20:.0f} planned"
        )
        print("   " + ", ".join(f"{key} {100 * share:.0f} %" for key, share in row["stages"].items()), flush=True)
    if args.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(
                {"device": args.device, "precision": args.precision, "versions": versions, "rows": rows}, file, indent=1
            )


if __name__ == "__main__":
    main()
