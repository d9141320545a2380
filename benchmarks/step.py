"""Measure a full training step of a layer (patches, forward, competition, update, new weights) against its GEMMs.

    python benchmarks/step.py [--json FILE] [--layers SUBSTRING] [--device cuda --batch 256 --precision tf32]

Columns: step and gemms in milliseconds (medians of alternating runs); ratio step / gemms; numpy: the straightforward
NumPy step over the engine's (above 1: the engine is faster); naive: a per-patch update over the engine's, measured on
part of the batch and scaled by its patches; memory: peak beside the weights and ΔW. The GEMMs are those of the whole
batch with all BLAS threads, in the order the engine chooses; for a blocked (dense HPCA) update, forward and Gᵀ X only.
"""

import argparse
import gc
import json
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
from baselines import gemms, naive_step, numpy_step, patches_of
from layers import SIX_LAYER, TEN_LAYER, Shape

import hebbcore
from hebbcore import checks
from hebbcore.engine import backend, devices, gemm, parallel, tuning
from hebbcore.engine.patches import Geometry
from hebbcore.engine.update import BatchedUpdate, add_scaled
from hebbcore.rules import as_rule

LEARNING_RATE = 1e-3
NAIVE_PATCHES = 2000
ROUNDS, REPEATS, TURN = 4, 5, 0.5  # turns; runs a turn, fewer if they take longer than so many seconds
REST = 0.2  # seconds; the threads of BLAS spin on for some 0.1 s after a product


class Stepper:
    """One layer's training step, as train_layer runs it."""

    def __init__(self, shape: Shape, rule: str, xp: Any, precision: str, workspace: str) -> None:
        generator = np.random.default_rng(0)
        dtype = gemm.dtype_of(precision)
        self.images = xp.asarray(generator.random(shape.images), dtype)
        bound = shape.patch_size**-0.5
        self.weights = xp.asarray(generator.uniform(-bound, bound, (shape.units, shape.patch_size)), dtype)
        inside = self.images if shape.kernel else self.images.reshape(shape.batch, 1, 1, -1)
        g = Geometry.of("step", inside.shape, shape.kernel or 1, 1, 0, "zeros")
        size = checks.byte_size("step", "workspace", workspace)
        self.inside, self.rule = inside, as_rule("step", rule)
        self.update = BatchedUpdate(self.rule, g, shape.units, precision, size, "step")

    def step(self) -> None:
        """Learn the batch."""
        delta, scale = self.update.delta(self.inside, self.weights)
        add_scaled(self.weights, self.rule.rate(self.weights, LEARNING_RATE) * scale, delta)


def alternate(functions: dict[str, Callable[[], Any]], synchronize: Callable[[], None]) -> dict[str, float]:
    """Return the median milliseconds of each function in steady state.

    The functions take turns, so that they share the machine's noise. A turn begins with a rest, in which the threads of
    the one before stop spinning, and repeats the function; its first run is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            time.sleep(REST)
            function()
            synchronize()
            turn = time.perf_counter()
            for _ in range(REPEATS):
                begin = time.perf_counter()
                function()
                synchronize()
                end = time.perf_counter()
                times[name].append(1e3 * (end - begin))
                if end - turn > TURN:
                    break
    return {name: statistics.median(values) for name, values in times.items()}


def peak_bytes(stepper_of: Callable[[], Stepper], xp: Any) -> int:
    """Return the most memory a step takes beside weights and ΔW: a fresh stepper's first step."""
    stepper = stepper_of()
    gc.collect()
    if xp is np:
        tracemalloc.start()
        stepper.step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    else:
        pool = xp.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        stepper.step()
        peak = pool.total_bytes() - before
    return int(peak - stepper.weights.nbytes)


def measure(shape: Shape, rule: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return one row of the table."""
    xp = backend.module(args.device)
    stepper_of = partial(Stepper, shape, rule, xp, args.precision, args.workspace)
    stepper = stepper_of()
    block = tuning.MEASURED.block_units[args.device]
    functions = {
        "step": stepper.step,
        "gemms": gemms(xp, shape.patches, shape.patch_size, shape.units, rule, args.precision, block),
    }
    if args.device == "cpu":
        weights = stepper.weights.copy()
        functions["numpy"] = partial(numpy_step, stepper.images, weights, rule, shape.kernel, LEARNING_RATE)
    times = alternate(functions, (lambda: None) if xp is np else xp.cuda.get_current_stream().synchronize)
    row = {"layer": shape.name, "rule": rule, "batch": shape.batch, "N": shape.patches, "K": shape.units}
    row |= {"D": shape.patch_size, "step_ms": times["step"], "gemms_ms": times["gemms"]}
    row["ratio"] = times["step"] / times["gemms"]
    if args.device == "cpu":
        row["numpy_over_step"] = times["numpy"] / times["step"]
        part = patches_of(stepper.images[: max(1, shape.batch // 8)], shape.kernel)[:NAIVE_PATCHES]
        begin = time.perf_counter()
        naive_step(part, stepper.weights, rule, LEARNING_RATE)
        row["naive_over_step"] = (time.perf_counter() - begin) * 1e3 * shape.patches / len(part) / times["step"]
    row["peak_extra_mib"] = peak_bytes(stepper_of, xp) / 2**20
    return row


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--layers", default="", help='only layers whose name contains this, such as "6-layer"')
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=gemm.PRECISIONS)
    parser.add_argument("--batch", type=int, help="another batch size than the paper's")
    parser.add_argument("--workspace", default="256 MiB")
    args = parser.parse_args()
    gemm.check_precision("step.py", args.precision, devices.resolve("step.py", args.device))
    shapes = [shape for shape in SIX_LAYER + TEN_LAYER if args.layers in shape.name]
    if not shapes:
        parser.error(f"--layers {args.layers!r} is in no name: {', '.join(s.name for s in SIX_LAYER + TEN_LAYER)}")
    rows = []
    print(f"{'layer':16} {'rule':5} {'step ms':>9} {'gemms ms':>9} {'ratio':>6} {'numpy':>6} {'naive':>6} {'MiB':>6}")
    for shape in shapes:
        if args.batch:
            shape = shape._replace(batch=args.batch)
        for rule in ("hpca", "swta"):
            row = measure(shape, rule, args)
            rows.append(row)
            against = " ".join(f"{row.get(key, float('nan')):6.2f}" for key in ("numpy_over_step", "naive_over_step"))
            print(
                f"{row['layer']:16} {rule:5} {row['step_ms']:9.2f} {row['gemms_ms']:9.2f} {row['ratio']:6.2f} "
                f"{against} {row['peak_extra_mib']:6.1f}",
                flush=True,
            )
    convolutions = [row["ratio"] for row in rows if "conv" in row["layer"]]
    if convolutions:
        print(f"conv layers: median ratio {statistics.median(convolutions):.2f}, largest {max(convolutions):.2f}")
    if args.json:
        about = {
            "hebbcore": hebbcore.__version__, "python": platform.python_version(), "numpy": np.__version__,
            "numba": numba.__version__, "machine": platform.machine(), "threads": parallel.threads(),
            "device": {d.name: d.detail for d in hebbcore.devices()}[args.device],
            "precision": args.precision, "workspace": args.workspace,
        }  # fmt: skip
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"about": about, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
