"""Measure how a training scales over processes, and how fast their transport is; the rows go to a file of JSON.

    python benchmarks/scaling.py --json FILE                                   # one process, its threads
    OPENBLAS_NUM_THREADS=1 mpiexec -n 2 python -m mpi4py benchmarks/scaling.py --json FILE
    OPENBLAS_NUM_THREADS=1 mpiexec -n 2 python -m mpi4py benchmarks/scaling.py --transport --json FILE

A call adds its rows to those of the file, so that calls may alternate; benchmarks/cost_model.py reads them.

Training: hebbcore.fit on images in memory, all layers at once. Images a second are those of the median epoch after the
first, waiting is the share of its time in which rank 0 waits for sums, and bytes and messages are what it gives to them
in a step. Transport: the median seconds of a sum of float32 over the processes, by the training's own Team.

With more processes than cores each is bound to the core of its number modulo theirs.
"""

import argparse
import itertools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import about

import hebbcore
from hebbcore.engine import backend, parallel
from hebbcore.engine.group.team import Team

SIZES = (*(4**i for i in range(2, 11)), *(i * 2**20 for i in (2, 4, 8, 16, 32, 64)))  # bytes
LONGEST = 0.5  # seconds of the sums of one size, about


def share_cores(group: hebbcore.Group) -> int:
    """Bind this process to its core if there are too few; returns how many cores the machine's processes have."""
    cores = sorted(os.sched_getaffinity(0))
    if group.size > len(cores):
        os.sched_setaffinity(0, {cores[group.members[group.rank].local_rank % len(cores)]})
    return len(cores)


def images_of(shape: tuple[int, ...], count: int) -> np.ndarray:
    """Return so many images of noise."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def training(group: hebbcore.Group, options: argparse.Namespace) -> dict[str, Any]:
    """Return the images a second of this group, and what rank 0 spends on others."""
    spent = {"waiting": 0.0, "bytes": 0, "messages": 0}
    wait, start = Team._wait, Team.start

    def timed(self: Team, done: Any) -> None:
        began = time.perf_counter()
        wait(self, done)
        spent["waiting"] += time.perf_counter() - began

    def counted(self: Team, array: Any) -> Any:
        spent["bytes"] += array.nbytes
        spent["messages"] += 1
        return start(self, array)

    Team._wait, Team.start = timed, counted  # type: ignore[method-assign]
    network, ends = hebbcore.preset(options.preset, device=options.device), []
    images = images_of(network.image_shape or (), options.batch * options.batches)

    def tell(record: dict[str, Any]) -> None:
        ends.append({"seconds": record["seconds"], **spent})

    rate = None if options.preset.startswith("softhebb") else 1e-4  # whose layers have rates of their own
    hebbcore.fit(
        network, images, epochs=options.epochs + 1, batch_size=options.batch, learning_rate=rate, log_seconds=1e9,
        callback=tell, group=group,
    )  # fmt: skip
    Team._wait, Team.start = wait, start  # type: ignore[method-assign]
    epochs = [{key: b[key] - a[key] for key in a} for a, b in itertools.pairwise(ends)]
    if group.rank:
        return {}
    middle = sorted(epochs, key=lambda epoch: epoch["seconds"])[len(epochs) // 2]
    return {
        "preset": options.preset, "batch": options.batch,
        "images_per_second": round(len(images) / middle["seconds"], 2),
        "waiting": round(middle["waiting"] / middle["seconds"], 3),
        "bytes_a_step": middle["bytes"] // options.batches, "messages_a_step": middle["messages"] // options.batches,
    }  # fmt: skip


def transport(group: hebbcore.Group, options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of sums of several sizes."""
    team, seconds = group.team("benchmark", options.device), {}
    for size in SIZES:
        array = backend.module(options.device).zeros(size // 4, np.float32)
        times: list[float] = []
        repeats = 3
        while len(times) < repeats:
            team.gather(None)  # all begin together
            began = time.perf_counter()
            team.sum(array)
            times.append(time.perf_counter() - began)
            if len(times) == 3:
                repeats = team.broadcast(max(3, min(500, int(LONGEST / statistics.median(times)))))
        seconds[size] = statistics.median(times)
    team.close()
    return {"seconds": {str(size): round(value, 8) for size, value in seconds.items()}}


def main() -> None:
    """Print the row that was measured, and add it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="fasthebb-6", choices=sorted({*hebbcore.PRESETS} - {"dictionary"}))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=6, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="after the first (default: 3)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--transport", action="store_true", help="measure sums alone")
    parser.add_argument("--json", type=Path, help="the file that gets the row")
    options = parser.parse_args()
    group = hebbcore.world()
    cores = share_cores(group)
    found = (transport if options.transport else training)(group, options)
    if group.rank:
        return
    row = {
        "kind": "transport" if options.transport else "training", "device": options.device, "processes": group.size,
        "threads": parallel.threads(), "cores": cores, "transport": group.transport, **found,
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    if options.json:
        kept = json.loads(options.json.read_text("utf-8")) if options.json.exists() else {"about": about(), "rows": []}
        kept["rows"].append(row)
        options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
