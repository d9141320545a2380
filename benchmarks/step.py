"""Measure a full training step of a layer (patches, forward, competition, update, new weights) against its GEMMs.

    python benchmarks/step.py [--json FILE] [--layers SUBSTRING ...] [--rules RULE ...]
                              [--device cuda --batch 256 --precision tf32]

Columns: step and gemms in milliseconds (medians of alternating runs); a step is all that train_layer does from one
callback to the next in its last pass; ratio step / gemms; numpy: the straightforward
NumPy step over the engine's (above 1: the engine is faster); sklearn: MiniBatchKMeans (rules of one winner) or
IncrementalPCA (HPCA) on patches that are there already, over the engine's; naive: a per-patch update over the engine's,
measured on part of the batch and scaled by its patches; features: those of the batch over their GEMM alone (patches,
forward, activation); memory: peak beside the weights and ΔW. The GEMMs are those of
the whole batch with all BLAS threads, in the order the engine chooses; of a rule of one winner too, though it adds
patches in place of the second.
"""

import argparse
import gc
import json
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import machine
import numpy as np
from baselines import forward, gemms, naive_step, numpy_step, patches_of, sklearn_step
from layers import OTHERS, SIX_LAYER, TEN_LAYER, Shape

import hebbcore
from hebbcore import checks
from hebbcore.engine import backend, devices, gemm, tuning
from hebbcore.engine.chunks import Plan
from hebbcore.engine.output import Output
from hebbcore.engine.patches import Geometry
from hebbcore.engine.update import BatchedUpdate, add_scaled
from hebbcore.layers.hebbian import project
from hebbcore.rules import as_rule

SHAPES = SIX_LAYER + OTHERS + TEN_LAYER
RULES = ("hpca", "swta", "signedwta", "hardwta", "kwta")
LEARNING_RATE = 1e-3
NAIVE_PATCHES = 2000
ROUNDS = 4  # turns
REPEATS, TURN, SHORT = 5, 0.5, 0.02  # runs a turn, fewer if they take longer than TURN seconds, more within SHORT ones
REST = 0.2  # seconds; the threads of BLAS spin on for some 0.1 s after a product
WARM_UP = 0.15  # seconds; after a pause a virtual machine's kernel wakes threads on one core for some 0.05 s


class Stepper:
    """One layer's training steps, and its features."""

    def __init__(self, shape: Shape, rule: str, xp: Any, precision: str, workspace: str) -> None:
        generator = np.random.default_rng(0)
        dtype = gemm.dtype_of(precision)
        self.images = xp.asarray(generator.random(shape.images), dtype)
        bound = shape.patch_size**-0.5
        self.weights = xp.asarray(generator.uniform(-bound, bound, (shape.units, shape.patch_size)), dtype)
        self.kernel, self.precision, self.workspace = shape.kernel, precision, workspace
        inside = self.images if shape.kernel else self.images.reshape(shape.batch, 1, 1, -1)
        g = Geometry.of("step", inside.shape, shape.kernel or 1, 1, 0, "zeros")
        size = checks.byte_size("step", "workspace", workspace)
        self.inside, self.rule = inside, as_rule("step", rule)
        self.update = BatchedUpdate(self.rule, g, shape.units, precision, size, "step")
        self.plan = Plan("step", g, shape.units, precision, size, backend.device_of(inside))
        self.out = xp.empty((shape.patches, shape.units), dtype)

    def steps(self, synchronize: Callable[[], None]) -> list[float]:
        """Return the milliseconds of steps of train_layer, each from the callback before, in steady state."""
        ends: list[float] = []
        warm = 0

        def batches() -> Iterator[Any]:
            nonlocal warm
            begin = time.perf_counter()
            while len(ends) < 1 or time.perf_counter() - begin < WARM_UP:
                yield self.images
            warm, turn = len(ends), time.perf_counter()
            while goes_on(len(ends) - warm, turn):
                yield self.images

        def end(step: hebbcore.Step) -> None:
            synchronize()
            ends.append(time.perf_counter())

        shape = (len(self.weights), self.kernel, self.kernel, -1) if self.kernel else self.weights.shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units that win nothing
            hebbcore.train_layer(
                batches(), len(self.weights), self.kernel or None, rule=self.rule, learning_rate=LEARNING_RATE,
                initial_weights=self.weights.reshape(shape), device=backend.device_of(self.images),
                precision=self.precision, workspace=self.workspace, check_finite=False, callback=end,
            )  # fmt: skip
        return [1e3 * (b - a) for a, b in pairwise(ends[warm - 1 :])]

    def change(self) -> None:
        """Make the batch's ΔW and the new weights."""
        delta, scale = self.update.delta(self.inside, self.weights)
        add_scaled(self.weights, self.rule.rate(self.weights, LEARNING_RATE) * scale, delta)

    def features(self) -> None:
        """Put the layer's features out."""
        project(self.plan, self.inside, self.weights, Output(self.rule), self.out)


def goes_on(count: int, turn: float) -> bool:
    """Return whether a turn goes on after so many runs, which began at a time."""
    seconds = time.perf_counter() - turn
    return seconds < SHORT or (count < REPEATS and seconds < TURN)


def runs(function: Callable[[], Any], synchronize: Callable[[], None]) -> list[float]:
    """Return the milliseconds of runs of a function in steady state."""
    times: list[float] = []
    turn = time.perf_counter()
    while (begin := time.perf_counter()) - turn < WARM_UP:
        function()
        synchronize()
    turn = begin
    while goes_on(len(times), turn):
        begin = time.perf_counter()
        function()
        synchronize()
        times.append(1e3 * (time.perf_counter() - begin))
    return times


def alternate(contestants: dict[str, Callable[[], list[float]]]) -> dict[str, float]:
    """Return the median of each contestant's milliseconds.

    They take turns, so that they share the machine's noise. A turn begins with a rest, in which the threads of the one
    before stop spinning.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, turn in contestants.items():
            time.sleep(REST)
            times[name] += turn()
    return {name: statistics.median(values) for name, values in times.items()}


def peak_bytes(stepper_of: Callable[[], Stepper], xp: Any) -> int:
    """Return the most memory a step takes beside weights and ΔW: a fresh stepper's first step."""
    stepper = stepper_of()
    gc.collect()
    if xp is np:
        tracemalloc.start()
        stepper.change()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    else:
        pool = xp.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        stepper.change()
        peak = pool.total_bytes() - before
    return int(peak - stepper.weights.nbytes)


def measure(shape: Shape, rule: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return one row of the table."""
    xp = backend.module(args.device)
    stepper_of = partial(Stepper, shape, rule, xp, args.precision, args.workspace)
    stepper = stepper_of()
    block = tuning.MEASURED.block_units[args.device]
    functions = {
        "gemms": gemms(xp, shape.patches, shape.patch_size, shape.units, rule, args.precision, block),
    }
    if args.device == "cpu":
        alone = forward(shape.patches, shape.patch_size, shape.units, args.precision)
        functions |= {"features": stepper.features, "forward": alone}
        weights = stepper.weights.copy()
        functions["numpy"] = partial(numpy_step, stepper.images, weights, rule, shape.kernel, LEARNING_RATE)
        sklearn = sklearn_step(patches_of(stepper.images, shape.kernel), shape.units, rule)
        if sklearn is not None:
            functions["sklearn"] = sklearn
    synchronize = (lambda: None) if xp is np else xp.cuda.get_current_stream().synchronize
    times = alternate(
        {"step": partial(stepper.steps, synchronize)}
        | {name: partial(runs, function, synchronize) for name, function in functions.items()}
    )
    row = {"layer": shape.name, "rule": rule, "batch": shape.batch, "N": shape.patches, "K": shape.units}
    row |= {"D": shape.patch_size, "step_ms": times["step"], "gemms_ms": times["gemms"]}
    row["ratio"] = times["step"] / times["gemms"]
    if args.device == "cpu":
        row["features_over_forward"] = times["features"] / times["forward"]
        row["rows_per_second"] = 1e3 * shape.patches / times["step"]
        for name in {"numpy", "sklearn"} & times.keys():
            row[f"{name}_over_step"] = times[name] / times["step"]
    if args.device == "cpu" and rule in ("hpca", "swta"):
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
    parser.add_argument("--layers", nargs="+", default=[""], help='layers whose name contains one, such as "6-layer"')
    parser.add_argument("--rules", nargs="+", default=RULES, choices=RULES)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=gemm.PRECISIONS)
    parser.add_argument("--batch", type=int, help="another batch size than the paper's")
    parser.add_argument("--workspace", default="256 MiB")
    args = parser.parse_args()
    gemm.check_precision("step.py", args.precision, devices.resolve("step.py", args.device))
    shapes = [shape for shape in SHAPES if any(name in shape.name for name in args.layers)]
    for name in args.layers:
        if not any(name in shape.name for shape in SHAPES):
            parser.error(f"--layers {name!r} is in no name: {', '.join(s.name for s in SHAPES)}")
    rows = []
    against = ("numpy", "sklearn", "naive")
    header = " ".join(f"{name:>8}" for name in ("ratio", *against, "features", "MiB"))
    print(f"{'layer':22} {'rule':9} {'step ms':>9} {'gemms ms':>9} {header}")
    for shape in shapes:
        if args.batch:
            shape = shape._replace(batch=args.batch)
        for rule in args.rules:
            row = measure(shape, rule, args)
            rows.append(row)
            names = [f"{name}_over_step" for name in against] + ["features_over_forward"]
            others = " ".join(f"{row.get(name, float('nan')):8.2f}" for name in names)
            print(
                f"{row['layer']:22} {rule:9} {row['step_ms']:9.2f} {row['gemms_ms']:9.2f} {row['ratio']:8.2f} "
                f"{others} {row['peak_extra_mib']:8.1f}",
                flush=True,
            )
    convolutions = [row["ratio"] for row in rows if "-layer conv" in row["layer"] and row["rule"] in ("hpca", "swta")]
    if convolutions:
        median, largest = statistics.median(convolutions), max(convolutions)
        print(f"networks' conv layers, HPCA and SWTA: median ratio {median:.2f}, largest {largest:.2f}")
    if args.json:
        about = machine.about() | {
            "device": {d.name: d.detail for d in hebbcore.devices()}[args.device],
            "precision": args.precision, "workspace": args.workspace,
        }  # fmt: skip
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"about": about, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
