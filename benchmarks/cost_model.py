"""A model of what a step of a training costs on many processes; benchmarks/cluster.py fits it, checks it and uses it.

Work. A process makes five kinds of work, counted from the network's shapes by `work_of`, and takes a fixed time for a
unit of each, which is fitted to measured steps: layers (what each costs by itself: launches, Python), blocks of units
of HPCA's decay (launches again), FLOP of matrix products, bytes of patches and scores, and bytes of weights. Layers,
blocks, weights and part of HPCA's decay, K²·D or K·block·D of its FLOP, are the same however small a process's share of
the batch is.

Messages. A sum of M bytes over n processes takes 2 log₂ n latencies and 2 (n − 1)/n · M / bandwidth: an all-reduce by
recursive halving and doubling (Rabenseifner 2004), whose bandwidth is that of a ring too. Each learner sends one; each
normalisation sends two numbers a channel, through the hosts.

A step is its computing, then its messages, one after the other; with `overlap` a message travels while later layers
compute. Reading goes on beside both, so that the slower of the two counts.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from hebbcore import Conv, Network
from hebbcore.engine import tuning
from hebbcore.engine.decay import blocked_is_cheaper
from hebbcore.engine.group.team import NOTES
from hebbcore.layers import BatchNorm, Learner, Scale
from hebbcore.rules import HPCA

WORK = ("layers", "blocks", "flop", "rows", "weights")
SPENT = ("images", "uneven", "fixed work", "latency", "bytes", "reading")  # what the seconds of a step go to


class Part(NamedTuple):
    """A learner, with the layers behind it up to the next one: its N an image, K, D, and channels of normalisations."""

    positions: int
    units: int
    size: int
    hpca: bool
    layers: int
    channels: tuple[int, ...]

    @property
    def message(self) -> int:
        """Bytes of its sum: ΔW, a mass and counts of the units, and five numbers."""
        return 4 * (self.units * self.size + 2 * self.units + 1 + NOTES)


def parts_of(network: Network) -> list[Part]:
    """Return the parts of a chain; layers before the first learner are of its part."""
    parts: list[Part] = []
    layers, channels = 0, ()
    for layer, shape in zip(network.layers, network.shapes, strict=True):
        before = shape[-1:] if isinstance(layer, BatchNorm | Scale) else ()
        if isinstance(layer, Learner):
            positions = math.prod(shape[:-1]) if isinstance(layer, Conv) else 1
            size = math.prod(layer.weights.shape[1:])
            hpca = isinstance(layer.rule, HPCA)
            parts.append(Part(positions, layer.units, size, hpca, layers + 1, channels))
            layers, channels = 0, ()
        elif parts:
            last = parts[-1]
            parts[-1] = last._replace(layers=last.layers + 1, channels=(*last.channels, *before))
        else:
            layers, channels = layers + 1, (*channels, *before)
    return parts


def work_of(part: Part, images: int, batch: int, device: str) -> np.ndarray:
    """Return the work (5,) of a part of a step with so many images of the batch; see WORK."""
    rows, units, size = images * part.positions, part.units, part.size
    flop, blocks, block = 4.0 * rows * units * size, 0, tuning.MEASURED.block_units[device]
    if part.hpca:
        blocks = -(-units // block)
        if blocked_is_cheaper(batch * part.positions, units, size, block):
            flop += 2.0 * (rows * units * (size + block) + units * block * size)
        else:
            flop += float(units) ** 2 * (rows + size)
    return np.array([part.layers, blocks, flop, 4.0 * rows * (units + size), 4.0 * units * size])


def fitted(work: np.ndarray, seconds: np.ndarray, known: dict[int, float] | None = None) -> np.ndarray:
    """Return the seconds (5,), none negative, of a unit of each kind of work, by least squares of relative errors.

    work: (n, 5) of n measurements. seconds: (n,). known: of kinds that were measured by themselves.
    """
    found = np.zeros(len(WORK))
    for kind, value in (known or {}).items():
        found[kind] = value
    free = [kind for kind in range(len(WORK)) if kind not in (known or {})]
    rest = np.maximum(seconds - work @ found, 0)
    found[free] = nnls(work[:, free] / seconds[:, None], rest / seconds)[0]
    return found


class Link(NamedTuple):
    """What messages go through: seconds of a latency, and bytes a second."""

    latency: float
    bandwidth: float

    def seconds(self, size: int, processes: int) -> tuple[float, float]:
        """Return the seconds of the latencies and of the bytes of a sum."""
        return 2 * math.log2(processes) * self.latency, 2 * (processes - 1) / processes * size / self.bandwidth


def fitted_link(measured: Iterable[tuple[int, float, int, float]]) -> Link:
    """Return the link that fits (processes, share of a core each has, bytes, seconds), by relative errors."""
    rows, seconds = [], []
    for processes, share, size, value in measured:
        rows.append((2 * math.log2(processes), 2 * (processes - 1) / processes * size / share))
        seconds.append(value)
    times = np.array(seconds)
    latency, byte = nnls(np.array(rows) / times[:, None], np.ones(len(times)))[0]
    return Link(latency, 1 / byte)


@dataclass(frozen=True)
class Place:
    """Where the processes of a training run.

    speed: seconds (5,) that a process takes for a unit of each kind of work. together: processes of one machine, which
    are joined by `inside`, machines by `outside`; small messages go through `host`. reading: images a second that a
    process decodes. storage: images a second that the file system gives to all. overlap: see above.
    """

    device: str
    speed: np.ndarray
    inside: Link
    outside: Link
    host: Link
    together: int = 1
    reading: float = math.inf
    storage: float = math.inf
    overlap: bool = False


def step(parts: Sequence[Part], batch: int, processes: int, place: Place) -> dict[str, float]:
    """Return the seconds of a step, by what they go to; see SPENT."""
    share = -(-batch // processes)
    computing, fixed = ([float(work_of(p, n, batch, place.device) @ place.speed) for p in parts] for n in (share, 0))
    images = sum(computing) - sum(fixed)
    even = images * batch / (processes * share)
    spent = dict.fromkeys(SPENT, 0.0)
    spent.update({"images": even, "uneven": images - even, "fixed work": sum(fixed)})
    if processes > 1:
        _add_messages(spent, parts, computing, processes, place)
    reading = max(share / place.reading, batch / place.storage)
    spent["reading"] = max(0.0, reading - sum(spent.values()))
    return spent


def _add_messages(
    spent: dict[str, float], parts: Sequence[Part], computing: list[float], processes: int, place: Place
) -> None:
    link = place.inside if processes <= place.together else place.outside
    clock = free = latency = sending = 0.0
    for part, seconds in zip(parts, computing, strict=True):
        clock += seconds
        for channels in part.channels:
            small = sum(place.host.seconds(8 * (2 * channels + 1), processes))
            spent["latency"] += small
            clock += small
        first, then = link.seconds(part.message, processes)
        latency, sending = latency + first, sending + then
        free = max(free, clock) + first + then
    seen = (free - clock) / (latency + sending) if place.overlap else 1.0  # the part that is not hidden
    spent["latency"] += seen * latency
    spent["bytes"] += seen * sending


def rate(parts: Sequence[Part], batch: int, processes: int, place: Place) -> float:
    """Return images a second."""
    return batch / sum(step(parts, batch, processes, place).values())


def efficiency(parts: Sequence[Part], batch: int, processes: int, place: Place) -> float:
    """Return the images a second beside those of as many processes that each train alone with the same batch."""
    return rate(parts, batch, processes, place) / (processes * rate(parts, batch, 1, place))


def limit(spent: dict[str, float]) -> str:
    """Return what keeps a step from being shorter: reading, if all wait for it, else what is most beside the images."""
    if spent["reading"] > 0:
        return "reading"
    return max((key for key in spent if key != "images"), key=lambda key: spent[key])


def needed(parts: Sequence[Part], processes: int, place: Place, wanted: float, most: int = 2**20) -> int | None:
    """Return the smallest batch, in images of all processes, with an efficiency; None: none up to `most` a process."""
    return first_of(lambda each: efficiency(parts, each * processes, processes, place) >= wanted, most, processes)


def first_of(holds: Callable[[int], bool], most: int, factor: int = 1) -> int | None:
    """Return `factor` times the first number that holds of 1, 2, 3 …, in steps of a tenth; None: none up to `most`."""
    each = 1
    while each <= most:
        if holds(each):
            return each * factor
        each = max(each + 1, each * 11 // 10)
    return None
