"""Predict trainings on clusters: the tables and the picture of docs/explanation/scaling.md, printed as Markdown.

    python benchmarks/predict.py [--picture docs/images/scaling.png] [--processes 1 8 64 512] [--gpu-outside 50e9 …]

The model is that of benchmarks/cost_model.py, its speeds are fitted to files of benchmarks/results, and what is assumed
of a cluster is in benchmarks/cluster.py: each of it is an option.
"""

import argparse
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cluster import Assumed, Fit, Measured, network_parts
from cost_model import Part, Place, efficiency, limit, needed, rate, step

IMAGENET, SHARD_BYTES = 1_281_167, 256 * 2**20
PRESETS = ("fasthebb-10", "vgg11", "softhebb-imagenet")
BATCHES = (1024, 4096, 16384, 65536)  # of the picture
SIZES = tuple(2**i for i in range(10))
SHARES = (0.5, 0.8, 0.9)  # efficiencies
CLUSTER, LARGEST = 64, 65536  # processes and images a step for a billion images


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table of Markdown."""
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("|", " | ".join(str(cell) for cell in row), "|")
    print()


def show_fits(found: Measured) -> None:
    """Print the fitted speeds, and how far they are from what was measured."""
    print("### Speeds\n")
    heads = ("", "a layer, µs", "a block, µs", "TFLOP/s", "patches and scores, GB/s", "weights, GB/s")
    fits = (("a core", found.core), ("an H100", found.gpu))
    table(heads, ((name, *speeds_of(fit)) for name, fit in fits))
    for _, fit in fits:
        table((*fit.names,), [[f"{100 * error:+.0f} %" for error in fit.errors]])
    print(f"Sums: {found.link.latency * 1e3:.2f} ms and {found.link.bandwidth / 1e9:.2f} GB/s.\n")
    heads = ("processes", "MiB", "measured, ms", "model, ms")
    table(heads, (
        (n, size / 2**20, f"{1e3 * value:.1f}", f"{1e3 * sum(found.here(share).inside.seconds(size, n)):.1f}")
        for n, share, size, value in found.sums
    ))  # fmt: skip
    print(f"An image of a shard takes {found.image_bytes / 1e3:.1f} kB; a core decodes {found.decoded:.0f} a second.\n")


def speeds_of(fit: Fit) -> list[str]:
    """Return the cells of a speed: microseconds, TFLOP/s, GB/s."""
    layer, block, *others = fit.speed
    scales = (1e-12, 1e-9, 1e-9)
    rates = [f"{scale / value:.3g}" if value else "–" for scale, value in zip(scales, others, strict=True)]
    return [f"{1e6 * layer:.0f}", f"{1e6 * block:.0f}", *rates]


def show_check(found: Measured) -> None:
    """Print what the model says of runs of several threads and processes, which it was not fitted to."""
    print("### Check\n")
    heads = ("preset", "batch", "processes", "images/s", "model", "error", "waiting", "model")
    table(heads, (check_of(row, found) for row in found.runs))


def check_of(row: dict[str, Any], found: Measured) -> list[Any]:
    """Return the cells of a run."""
    n, threads = row["processes"], row["threads"]
    spent = step(network_parts(row["preset"]), row["batch"], n, found.here(row["cores"] / n))
    seconds = sum(spent.values())
    said = row["batch"] / seconds
    run = f"{n} of {threads} thread{'s' if threads > 1 else ''}"
    shares = said / row["images_per_second"] - 1, row["waiting"], (spent["latency"] + spent["bytes"]) / seconds
    error, *waiting = (100 * share for share in shares)
    cells = [row["preset"], row["batch"], run, f"{row['images_per_second']:.1f}", f"{said:.1f}", f"{error:+.0f} %"]
    return cells + [f"{share:.0f} %" for share in waiting]


def show_predictions(name: str, place: Place, parts: dict[str, list[Part]], processes: list[int]) -> None:
    """Print images a second, efficiency, hours of an epoch of ImageNet and what limits."""
    print(f"### ImageNet on {name}\n")
    heads = ("preset", "images a step", "processes", "images/s", "efficiency", "hours an epoch", "what limits")

    def cells(preset: str, batch: int, n: int) -> list[Any]:
        images = rate(parts[preset], batch, n, place)
        quality = [f"{efficiency(parts[preset], batch, n, place):.2f}", f"{IMAGENET / images / 3600:.2g}"]
        return [preset, f"{batch:,}", n, f"{images:,.0f}", *quality, limit(step(parts[preset], batch, n, place))]

    table(heads, (cells(preset, batch, n) for preset in parts for batch in (4096, 65536) for n in processes))


def show_needed(places: dict[str, Place], parts: dict[str, list[Part]], processes: list[int]) -> None:
    """Print the images a step that an efficiency takes."""
    print("### Needed images a step\n")
    asked = [(n, share) for n in processes if n > 1 for share in SHARES]

    def cell(some: list[Part], place: Place, n: int, share: float) -> str:
        batch = needed(some, n, place, share)
        return "–" if batch is None else f"{batch:,}"

    table(("", "preset", *(f"{n}: {100 * share:.0f} %" for n, share in asked)), (
        (name, preset, *(cell(some, place, *each) for each in asked))
        for name, place in places.items() for preset, some in parts.items()
    ))  # fmt: skip


def show_billion(found: Measured, places: dict[str, Place], parts: dict[str, list[Part]], assumed: Assumed) -> None:
    """Print what an epoch of a billion images takes, and their shards."""
    size, hours = 1e9 * found.image_bytes, 1e9 / found.built / 3600
    print("### A billion images\n")
    print(f"{math.ceil(size / SHARD_BYTES):,} shards of 256 MiB, {size / 1e12:.0f} TB: ", end="")
    print(f"{assumed.disk_month * size / 1e12:,.0f} $ a month. Built in {hours:,.0f} hours of a core: ", end="")
    print(f"{hours / assumed.node_cores:.0f} of a node, {hours / assumed.node_cores * assumed.node_hour:,.0f} $.\n")
    prices = dict(zip(places, (assumed.gpu_hour, assumed.node_hour), strict=True))

    def cells(name: str, preset: str) -> list[str]:
        images = rate(parts[preset], LARGEST, CLUSTER, places[name])
        hours = 1e9 / images / 3600
        whole = CLUSTER * hours
        figures = f"{images:,.0f}", f"{hours:,.3g}", f"{whole:,.0f}", f"{whole * prices[name]:,.0f}"
        return [f"{CLUSTER} {name}", preset, *figures]

    heads = ("", "preset", "images/s", "hours", "hours of one", "US dollars")
    table(heads, (cells(name, preset) for name in places for preset in parts))


def draw(places: dict[str, Place], parts: dict[str, list[Part]], out: Path) -> None:
    """Draw efficiency against processes, for each preset and place, by the images of a step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    grid = figure.subplots(len(places), len(parts), sharex=True, sharey=True)
    for line, (name, place) in zip(grid, places.items(), strict=True):
        for axes, (preset, some) in zip(line, parts.items(), strict=True):
            for batch in BATCHES:
                values = [100 * efficiency(some, batch, n, place) for n in SIZES]
                axes.plot(SIZES, values, "o-", markersize=3, label=f"{batch:,}")
            axes.set_xscale("log", base=2)
            axes.set_xticks(SIZES, [str(n) for n in SIZES], fontsize=7)
            axes.set_yticks([0, *(100 * share for share in SHARES), 100])
            axes.set_title(f"{preset}, {name}", fontsize=9)
            axes.grid(alpha=0.3)
        line[0].set_ylabel("efficiency, %")
    for axes in grid[-1]:
        axes.set_xlabel("processes")
    grid[0][0].legend(title="images a step", fontsize=7, title_fontsize=7)
    figure.savefig(out, dpi=110)


def main() -> None:
    """Print the tables, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="where it goes (default: none is drawn)")
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 8, 64, 512])
    for field in dataclasses.fields(Assumed):
        kind: Any = {"action": "store_true"} if field.type is bool else {"type": field.type, "default": field.default}
        parser.add_argument("--" + field.name.replace("_", "-"), **kind)
    options = vars(parser.parse_args())
    picture, presets, processes = (options.pop(name) for name in ("picture", "presets", "processes"))
    assumed, found = Assumed(**options), Measured()
    places = {"H100": found.gpus(assumed), "CPU nodes": found.nodes(assumed)}
    parts = {preset: network_parts(preset) for preset in presets}
    show_fits(found)
    show_check(found)
    for name, place in places.items():
        show_predictions(name, place, parts, processes)
    show_needed(places, parts, processes)
    show_billion(found, places, parts, assumed)
    if picture is not None:
        draw(places, parts, picture)


if __name__ == "__main__":
    main()
