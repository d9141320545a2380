"""Tell what a training step costs beside its arithmetic: launches, synchronisations, and the time to ask for them.

    python benchmarks/launches.py [--device cuda] [--precision tf32] [--batch 256] [--steps 50] [--lines 25]

First the microseconds of one launch of a small kernel, queued, and with the device's time; then, of layers' and
networks' steps, how many kernels of ours, GEMMs and other operations a step asks for (counted by a stand-in for CuPy,
see counting.py), how often it waits for the device (also by a count in CuPy's own arrays), the time of a step with one
synchronisation behind all of them and the time until they were queued; and where Python spends it.
"""

import argparse
import contextlib
import cProfile
import io
import pstats
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from counting import COUNTS, counting, total
from layers import SIX_LAYER
from network import train_step
from step import Stepper

import hebbcore
from hebbcore.engine import backend, devices, gemm, kernels

LAYERS = ("conv1", "conv4", "fc5")
RAW = 'extern "C" __global__ void copy_one(const float* x, float* y, long long n) { if (n) y[0] = x[0]; }'
WAITS = ("get", "item", "tolist", "__bool__", "__float__", "__int__", "__index__", "__complex__")


def synchronize(xp: Any) -> None:
    """Wait for the device."""
    if xp is not np:
        xp.cuda.get_current_stream().synchronize()


def each(function: Callable[[], Any], xp: Any, times: int) -> tuple[float, float]:
    """Return the microseconds a call takes until it is queued, and until the device has done it; of many in a row."""
    for _ in range(3):
        function()
    synchronize(xp)
    begin = time.perf_counter()
    for _ in range(times):
        function()
    queued = time.perf_counter()
    synchronize(xp)
    return 1e6 * (queued - begin) / times, 1e6 * (time.perf_counter() - begin) / times


def launch_functions(xp: Any) -> dict[str, Callable[[], Any]]:
    """Return launches of small kernels, by what they are."""
    rows, columns = 256, 96
    x, y = xp.ones((rows, columns), np.float32), xp.ones((rows, columns), np.float32)
    row, column = xp.ones(rows, np.float32), xp.ones(columns, np.float32)
    module = kernels.for_array(x)
    mass, decay = (xp.zeros((module.cells(rows, columns), columns), np.float32) for _ in range(2))
    images, patches = xp.ones((4, 8, 8, 6), np.float32), xp.empty((4 * 16, 25 * 6), np.float32)
    sharp = np.float32(20)
    found: dict[str, Callable[[], Any]] = {
        "ours: norms, 2 arrays": lambda: module.norms(x, row),
        "ours: add_scaled, 3 arrays": lambda: module.add_scaled(x, row, y),
        "ours: standardize, 3 arrays": lambda: module.standardize(y, column, column),
        "ours: swta, 5 arrays, 2 numbers": lambda: module.swta(x, row, column, sharp, False, mass, decay),
        "ours: gather, with its starts": lambda: module.gather(images, (5, 5), (1, 1), patches),
        "library: multiply(x, y, out)": lambda: xp.multiply(x, y, out=y),
        "library: sum(axis=0)": lambda: x.sum(axis=0),
        "library: zeros": lambda: xp.zeros((rows, columns), np.float32),
    }
    if xp is not np:
        raw = xp.RawKernel(RAW, "copy_one")
        found["library: RawKernel, 2 arrays, 1 number"] = lambda: raw((1,), (32,), (x, y, 1))
    return found


def steps_of(device: str, precision: str, batch: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield steps to measure, by name; the arrays of one at a time are in memory."""
    xp = backend.module(device)
    for shape in SIX_LAYER:
        if shape.name.split()[-1] in LAYERS:
            for rule in ("hpca", "swta"):
                yield f"{shape.name} {rule}", Stepper(shape._replace(batch=batch), rule, xp, precision, "256 MiB").step
    for name, rule in (("fasthebb-6", "hpca"), ("fasthebb-6", "swta"), ("softhebb-cifar", None)):
        network = hebbcore.preset(name, rule=rule, device=device, precision=precision)
        assert network.image_shape is not None
        pixels = np.random.default_rng(0).integers(0, 256, (batch, *network.image_shape), np.uint8)
        x = xp.asarray(pixels)
        yield f"{name} {rule or ''}", lambda network=network, x=x: train_step(network, x)


def counts_of_steps(precision: str, batch: int) -> dict[str, Counter[str]]:
    """Return what each step asks for, in its steady state, by a stand-in for CuPy."""
    found = {}
    with counting():
        for name, step in steps_of("cuda", precision, batch):
            step()
            COUNTS.clear()
            step()
            found[name] = COUNTS.copy()
    return found


@contextlib.contextmanager
def waits(xp: Any) -> Iterator[Counter[str]]:
    """Count the calls by which CuPy's arrays wait for the device."""
    seen: Counter[str] = Counter()
    kind, before = xp.ndarray, {}
    names = WAITS if xp is not np else ()  # NumPy's arrays cannot be watched, and have nothing to wait for

    def watched(name: str, own: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            seen[name] += 1
            return own(*arguments, **options)

        return call

    try:
        for name in names:
            own = getattr(kind, name, None)
            if own is not None:
                setattr(kind, name, watched(name, own))
                before[name] = own
        yield seen
    finally:
        for name, own in before.items():
            setattr(kind, name, own)


def profiled(step: Callable[[], Any], steps: int, lines: int) -> str:
    """Return where Python spends the time of so many steps, none of which is waited for."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(steps):
        step()
    profile.disable()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(lines)
    kept = [line for line in text.getvalue().splitlines() if line.strip()]
    return "\n".join(line.replace("/site-packages/", "§").split("§")[0][:48] + line.split("§")[-1]
                     if "§" in line else line[:150] for line in kept[:2] + kept[4:])  # fmt: skip


def tell(name: str, step: Callable[[], Any], counts: Counter[str], xp: Any, args: argparse.Namespace) -> None:
    """Measure a step and print what was found."""
    COUNTS.clear()
    COUNTS.update(counts)
    asked = {kind: total(kind) for kind in ("kernel", "gemm", "operation", "synchronisation")}
    step()  # compiles
    seconds = each(step, xp, 1)[1] / 1e6
    steps = max(1, min(args.steps, int(args.seconds / seconds)))
    queued, whole = each(step, xp, steps)
    with waits(xp) as seen:
        step()
    synchronize(xp)
    print(f"\n== {name}: {whole / 1e3:.3f} ms a step, queued in {queued / 1e3:.3f} ms, of {steps} in a row", flush=True)
    print("   a step asks for " + ", ".join(f"{count} {kind}s" for kind, count in asked.items()) + "; CuPy saw",
          dict(seen))  # fmt: skip
    print("   " + ", ".join(f"{count} {key}" for key, count in counts.most_common()))
    print(profiled(step, steps, args.lines), flush=True)
    synchronize(xp)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=gemm.PRECISIONS)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=0.5, help="most for the steps of one kind")
    parser.add_argument("--lines", type=int, default=25, help="of each profile")
    args = parser.parse_args()
    gemm.check_precision("launches.py", args.precision, devices.resolve("launches.py", args.device))
    xp = backend.module(args.device)
    begin = time.perf_counter()
    print({d.name: d.detail for d in hebbcore.devices()}[args.device], args.precision, "batch", args.batch)
    with warnings.catch_warnings(record=True) as caught:
        for name, function in launch_functions(xp).items():
            queued, whole = each(function, xp, 200)
            print(f"{name:38} {queued:8.1f} µs queued, {whole:8.1f} µs done", flush=True)
        counts = counts_of_steps(args.precision, args.batch)
        for name, step in steps_of(args.device, args.precision, args.batch):
            tell(name, step, counts[name], xp, args)
    kinds = Counter(f"{w.category.__name__}: {str(w.message)[:90]!r}" for w in caught)
    print(f"\n{len(caught)} warnings", dict(kinds.most_common(5)), f"; {time.perf_counter() - begin:.1f} s in all")


if __name__ == "__main__":
    main()
