"""Where benchmarks/predict.py predicts trainings: speeds fitted to benchmarks/results, and what is assumed."""

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cost_model import WORK, Link, Part, Place, fitted, fitted_link, parts_of, work_of

import hebbcore

RESULTS = Path(__file__).parent / "results"
LEAST = 2**20  # bytes of the messages that the transport is fitted to


@dataclass
class Assumed:
    """What none of our measurements says of a cluster; bandwidths are bytes a second each way, of a GPU or a node."""

    gpus: int = 8  # of a machine
    gpu_cores: int = 12  # that decode for a GPU
    gpu_inside: float = 200e9  # NVLink, as all-reduces reach it
    gpu_outside: float = 25e9  # 200 Gbit/s
    gpu_latency: float = 10e-6  # of one of the 2 log₂ n stages of NCCL
    host_latency: float = 50e-6  # the same of a small message, which waits for the GPU
    node_cores: int = 64  # of a CPU node, which one process has
    node_speed: float = 0.8  # of that many single cores
    node_memory: float = 16.0  # times what one core gets
    node_outside: float = 10e9  # 100 Gbit/s, as MPI reaches it from the hosts' memory
    node_latency: float = 20e-6
    storage: float = 20e9  # bytes a second of the file system, for all
    gpu_hour: float = 2.5  # US dollars, with its share of the machine
    node_hour: float = 2.5
    disk_month: float = 20.0  # a terabyte
    overlap: bool = False  # messages travel while later layers compute


def read(name: str) -> Any:
    """Return a file of benchmarks/results."""
    return json.loads((RESULTS / name).read_text("utf-8"))


@functools.cache
def network_parts(preset: str) -> list[Part]:
    """Return the parts of a preset."""
    return parts_of(hebbcore.preset(preset, device="cpu"))


def work(preset: str, batch: int, device: str) -> np.ndarray:
    """Return the work (5,) of a step of one process."""
    return np.sum([work_of(part, batch, batch, device) for part in network_parts(preset)], axis=0)


def fastest(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of equal runs the fastest one: the machine's other work only slows."""
    found: dict[Any, dict[str, Any]] = {}
    for row in rows:
        key = row["preset"], row["batch"], row["processes"], row["threads"]
        if key not in found or row["images_per_second"] > found[key]["images_per_second"]:
            found[key] = row
    return list(found.values())


class Fit:
    """Speeds (5,) that are fitted to measurements; see cost_model.fitted.

    names: of the measurements. errors: relative, of the seconds that the speeds say.
    """

    def __init__(
        self, names: list[str], work: list[np.ndarray], seconds: list[float], known: dict[int, float] | None = None
    ) -> None:
        self.names = names
        self.speed = fitted(np.array(work), np.array(seconds), known)
        self.errors = np.array(work) @ self.speed / np.array(seconds) - 1


class Measured:
    """The measurements, and what is fitted to them.

    core, gpu: a core's and an H100's speed. link: of processes of this machine. runs: of several threads or processes.
    image_bytes: of an image in a shard. decoded, built: images a second of a core.
    """

    def __init__(self) -> None:
        rows = read("scaling_cpu.json")["rows"]
        training = fastest(row for row in rows if row["kind"] == "training")
        single = [row for row in training if row["processes"] == row["threads"] == 1]
        self.runs = [row for row in training if row not in single]
        self.core = Fit(
            [f"{row['preset']}, {row['batch']}" for row in single],
            [work(row["preset"], row["batch"], "cpu") for row in single],
            [row["batch"] / row["images_per_second"] for row in single],
        )
        self.gpu = gpu_fit()
        self.sums = sums_of(row for row in rows if row["kind"] == "transport")
        self.link = fitted_link(self.sums)
        loader = read("loader_cpu.json")
        jpeg, built = loader["jpeg_256_to_224"], loader["build_256"]["images_per_s"]["build"]
        images = jpeg["images_per_s"]["shuffled"]
        self.image_bytes = jpeg["MB_per_s"]["shuffled"] * 1e6 / images
        self.decoded, self.built = images / loader["threads"], built / loader["threads"]

    def here(self, cores: float) -> Place:
        """Return this machine, of which a process has so many cores: with half a one it shares it with another."""
        link = Link(self.link.latency, self.link.bandwidth * min(1, cores))
        return Place("cpu", self.core.speed / cores, link, link, link)

    def gpus(self, assumed: Assumed) -> Place:
        """Return a cluster of GPUs."""
        inside, outside = (Link(assumed.gpu_latency, speed) for speed in (assumed.gpu_inside, assumed.gpu_outside))
        host = Link(assumed.host_latency, assumed.node_outside)
        reading, storage = assumed.gpu_cores * self.decoded, assumed.storage / self.image_bytes
        return Place("cuda", self.gpu.speed, inside, outside, host, assumed.gpus, reading, storage, assumed.overlap)

    def nodes(self, assumed: Assumed) -> Place:
        """Return a cluster of machines without GPUs, each of one process."""
        core, weights = self.core.speed, WORK.index("weights")
        speed = core / (assumed.node_cores * assumed.node_speed)
        speed[weights] = core[weights] / assumed.node_memory
        link = Link(assumed.node_latency, assumed.node_outside)
        reading, storage = assumed.node_cores * self.decoded, assumed.storage / self.image_bytes
        return Place("cpu", speed, link, link, link, 1, reading, storage, assumed.overlap)


def gpu_fit() -> Fit:
    """Return the speeds of an H100: that of products is the fastest network's in its GEMMs alone."""
    names, done, seconds, flops = [], [], [], 0.0
    for row in read("step_cuda_float32.json")["rows"]:
        part = Part(row["N"] // row["batch"], row["K"], row["D"], row["rule"] == "hpca", 1, ())
        names.append(f"{row['layer'].removeprefix('6-layer ')} {row['rule']}")
        done.append(work_of(part, row["batch"], row["batch"], "cuda"))
        seconds.append(row["step_ms"] / 1e3)
    for row in read("network_cuda.json")["rows"]:
        names.append(f"{row['preset']}")
        done.append(work(row["preset"], row["batch"], "cuda"))
        seconds.append(row["step_ms"] / 1e3)
        flops = max(flops, done[-1][WORK.index("flop")] / sum(row["gemms_ms"].values()) * 1e3)
    return Fit(names, done, seconds, {WORK.index("flop"): 1 / flops})


def sums_of(rows: Iterable[dict[str, Any]]) -> list[tuple[int, float, int, float]]:
    """Return the fastest sums as (processes, cores of each, at most 1, bytes, seconds)."""
    found: dict[tuple[int, float, int], float] = {}
    for row in rows:
        for size, seconds in row["seconds"].items():
            key = row["processes"], min(1, row["cores"] / row["processes"]), int(size)
            if key[-1] >= LEAST:
                found[key] = min(seconds, found.get(key, seconds))
    return [(*key, seconds) for key, seconds in sorted(found.items())]
