"""Measure how a training scales over processes, and predict it for more of them by a model of its costs.

    python benchmarks/scaling.py                                        # one process, as many threads as it may use
    OPENBLAS_NUM_THREADS=1 mpiexec -n 2 python -m mpi4py benchmarks/scaling.py
    python benchmarks/scaling.py --predict

Images a second are those of the second of two epochs of hebbcore.fit on images in memory, all layers at once. Waiting
is the share of that training's time in which rank 0 waits for sums, bytes are what it gives to them in a step.

The model: a step of B images on N processes takes the longer of computing B / (N · images a second of one) and reading
them, and then, for each message of M bytes, 2 · log2(N) latencies and 2 · (N − 1) / N · M / bandwidth, as of a ring; no
overlap of messages and computing is counted. The rates of --predict are assumptions, which its table names.
"""

import argparse
import json
import math
import time
from typing import Any

import numpy as np

import hebbcore
from hebbcore.engine.group.team import Team

IMAGENET = 1_281_167  # images
LATENCY, BANDWIDTH = 5e-6, 25e9  # seconds and bytes a second of a network of 200 Gbit/s
READING = 5_000  # images a second that a process can decode, on some ten cores
# preset: images a second of one GPU (assumed, of its GFLOP an image at 20 TFLOP/s, three times for a step)
PRESETS = ("fasthebb-10", "vgg11", "softhebb-imagenet")
TFLOPS, PASSES = 20.0, 3.0
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def measured(preset: str, batch: int, batches: int) -> dict[str, Any]:
    """Return the images a second of this group, and what rank 0 spends on others."""
    spent = {"seconds": 0.0, "bytes": 0, "steps": 0}
    wait, start = Team._wait, Team.start

    def timed(self: Team, done: Any) -> None:
        began = time.perf_counter()
        wait(self, done)
        spent["seconds"] += time.perf_counter() - began

    def counted(self: Team, array: Any) -> Any:
        spent["bytes"] += array.nbytes
        return start(self, array)

    Team._wait, Team.start = timed, counted  # type: ignore[method-assign]
    group, ends = hebbcore.world(), []
    images = np.random.default_rng(0).integers(0, 256, (batch * batches, 32, 32, 3), np.uint8)
    network = hebbcore.preset(preset, device="cpu")

    def tell(record: dict[str, Any]) -> None:
        ends.append((record["seconds"], dict(spent)))

    hebbcore.fit(
        network, images, epochs=2, batch_size=batch, learning_rate=1e-4, log_seconds=1e9, callback=tell, group=group
    )
    if group.rank:
        return {}
    (first, before), (second, after) = ends
    seconds = second - first
    return {
        "preset": preset, "batch": batch, "processes": group.size, "transport": group.transport,
        "images_per_second": round(len(images) / seconds, 1),
        "waiting": round((after["seconds"] - before["seconds"]) / seconds, 3),
        "bytes_a_step": (after["bytes"] - before["bytes"]) // batches,
    }  # fmt: skip


def step_seconds(batch: int, processes: int, rate: float, messages: list[int]) -> float:
    """Return the seconds of a step by the model; rate: images a second of one process, messages: bytes of each."""
    share = -(-batch // processes)
    work = max(share / rate, share / READING)
    sent = sum(2 * (processes - 1) / processes * size / BANDWIDTH for size in messages)
    return work + (sent + 2 * math.log2(processes) * LATENCY * len(messages) if processes > 1 else 0.0)


def predicted(preset: str, batch: int) -> list[dict[str, Any]]:
    """Return images a second, efficiency and hours an epoch of ImageNet, for all numbers of processes."""
    network = hebbcore.preset(preset, device="cpu")
    messages = [layer.weights.size * 4 for layer in network.learners.values()]
    rate = TFLOPS * 1e3 / (PASSES * network.gflop())
    one = batch / step_seconds(batch, 1, rate, messages)
    rows = []
    for size in SIZES:
        images = batch / step_seconds(batch, size, rate, messages)
        efficiency, hours = round(images / (size * one), 3), round(IMAGENET / images / 3600, 3)
        row = {"preset": preset, "batch": batch, "processes": size, "images_per_second": round(images)}
        rows.append({**row, "efficiency": efficiency, "hours": hours})
    return rows


def main() -> None:
    """Print a line of JSON for each measurement or prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="fasthebb-6")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=6, help="of an epoch")
    parser.add_argument("--predict", action="store_true")
    options = parser.parse_args()
    if options.predict:
        for preset in PRESETS:
            for batch in (4096, 65536):
                for row in predicted(preset, batch):
                    print(json.dumps(row))
        return
    found = measured(options.preset, options.batch, options.batches)
    if found:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
