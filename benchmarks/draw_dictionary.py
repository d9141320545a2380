"""Draw what benchmarks/dictionary.py measured: accuracy against units and labels, and what learning adds to it.

    python benchmarks/draw_dictionary.py FILE [FILE …] [--out PICTURE]

It prints the GFLOP of an image and its mirror image at which each method reaches 80 and 84 % with all labels,
interpolated in the logarithm of GFLOP between measured rows. Files may lack rows. Of rows of one method, network and
seed the first that has a number of labels counts; figures of fewer labels than the most of all rows are none of all
labels. A seed's figure is the mean of its selections; error bars are 95 % intervals of the mean over seeds.
"""

import argparse
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore.evaluation import mean_interval

COLOURS = {"learned": "tab:blue", "random": "tab:gray", "k-means": "tab:orange"}
TARGETS = (80.0, 84.0)  # %


Rows = list[dict[str, Any]]
Lines = dict[tuple[str, str], dict[int, list[float]]]  # accuracies of seeds by x, of each method and network


def rows_of(paths: Sequence[Path]) -> Rows:
    """Return the rows of all files. Raises ValueError if some are judged by other images than others."""
    found: dict[Any, dict[str, Any]] = {}
    judged = set()
    for path in paths:
        kept = json.loads(path.read_text(encoding="utf-8"))
        judged.add(kept["about"]["validation"])
        for row in kept["rows"]:
            first = found.setdefault((row["method"], tuple(row["units"]), row["seed"]), row)
            first["top1"] = row["top1"] | first["top1"]
    if len(judged) > 1:
        raise ValueError("some files are judged by the test images, others by training images; draw them apart.")
    return list(found.values())


def series(rows: Rows, by: str) -> Lines:
    """Return the accuracies by units of layer 2 with all labels, for each number of layers, or by labels."""
    found: Lines = {}
    most = max((labels for row in rows for labels in row["top1"]), key=int)
    for row in rows:
        layers, units = f"{len(row['units']) - 1} layers", str(tuple(row["units"]))
        for labels, accuracies in row["top1"].items():
            if by == "units" and labels == most:
                line = found.setdefault((row["method"], layers), {}).setdefault(row["units"][1], [])
            elif by == "labels":
                line = found.setdefault((row["method"], units), {}).setdefault(int(labels), [])
            else:
                continue
            line.append(float(np.mean(accuracies)))
    return found


def gains(rows: Rows) -> Lines:
    """Return the points of accuracy that learning adds to random patches, of each seed, by labels."""
    found: Lines = {}
    seeds = {(row["method"], tuple(row["units"]), row["seed"]): row["top1"] for row in rows}
    for (method, units, seed), random in seeds.items():
        learned = seeds.get(("learned", units, seed), {}) if method == "random" else {}
        for labels in learned.keys() & random.keys():
            gain = float(np.mean(learned[labels]) - np.mean(random[labels]))
            found.setdefault(("learned", str(units)), {}).setdefault(int(labels), []).append(gain)
    return found


def costs_of(rows: Rows) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return (GFLOP, mean accuracy with all labels), by cost, of each method and number of layers."""
    costs = {(f"{len(row['units']) - 1} layers", row["units"][1]): row["gflop_mirrored_image"] for row in rows}
    return {
        key: sorted((costs[key[1], units], float(np.mean(values))) for units, values in line.items())
        for key, line in series(rows, "units").items()
    }


def cost_at(target: float, points: Sequence[tuple[float, float]]) -> str:
    """Return the GFLOP at which points (GFLOP, accuracy), by cost, first reach an accuracy."""
    if points[0][1] >= target:
        return f"≤ {points[0][0]:.2f}"
    for (low, before), (high, after) in pairwise(points):
        if after >= target:
            part = (target - before) / (after - before)
            return f"{math.exp((1 - part) * math.log(low) + part * math.log(high)):.2f}"
    return f"> {points[-1][0]:.2f}"


def by_size(network: str) -> tuple[int, str]:
    """Return what networks are sorted by."""
    return len(network), network


def draw(axes: Any, lines: Lines, colours: dict[str, Any], styles: dict[str, Any], apart: float = 1.0) -> None:
    """Draw each line through its means; colours: of methods or networks, styles: of networks.

    apart: what x of a line is multiplied by for the next, so that error bars do not hide each other.
    """
    for i, ((method, network), values) in enumerate(sorted(lines.items(), key=lambda line: by_size(line[0][1]))):
        x = sorted(values)
        found = [mean_interval(values[each]) for each in x]
        errors = [interval.half_width if math.isfinite(interval.half_width) else 0 for interval in found]
        label, colour = (f"{method}, {network}", colours[method]) if method in colours else (network, colours[network])
        axes.errorbar(
            [each * apart**i for each in x], [interval.mean for interval in found], errors, color=colour,
            linestyle=styles[network], marker="o", markersize=3, capsize=2, label=label,
        )  # fmt: skip


def picture_of(rows: Rows, out: Path) -> None:
    """Write the picture."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw(left, series(rows, "units"), COLOURS, {"3 layers": "-", "2 layers": "--"})
    left.set_xlabel("units of layer 2")
    left.set_title("all labels")
    few = series(rows, "labels")
    networks = {network for _, network in few}
    labels = {n: min(len(few.get((method, n), ())) for method in COLOURS) for n in networks}  # that all methods have
    shown = sorted((n for n in labels if labels[n] == max(labels.values()) > 0), key=by_size)
    shown = [shown[0], shown[-1]] if len(shown) > 1 else shown
    styles = dict(zip(reversed(shown), ("-", "--"), strict=False))
    draw(middle, {key: values for key, values in few.items() if key[1] in shown}, COLOURS, styles)
    middle.set_title("few labels")
    added = gains(rows)
    compared = sorted({network for _, network in added}, key=by_size)
    shades = {n: colormaps["viridis"](i / max(1, len(compared) - 1) * 0.9) for i, n in enumerate(compared)}
    draw(right, added, shades, dict.fromkeys(compared, "-"), apart=1.08)
    right.axhline(0, color="black", linewidth=0.8)
    right.set_title("what learning adds to random patches")
    for axes in (left, middle, right):
        axes.set_xscale("log", base=2 if axes is left else 10)
        axes.set_ylabel("points of accuracy" if axes is right else "test accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    for axes in (middle, right):
        axes.set_xlabel("labels")
    units = sorted({row["units"][1] for row in rows})
    left.set_xticks(units, [str(u) for u in units])
    figure.savefig(out, dpi=110)


def main() -> None:
    """Read the files, print the costs and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="where the picture goes (default: none is drawn)")
    args = parser.parse_args()
    rows = rows_of(args.files)
    if not rows:
        parser.error("the files hold no rows yet.")
    print("GFLOP at            " + "".join(f"{target:>10g} %" for target in TARGETS))
    for (method, layers), points in sorted(costs_of(rows).items()):
        print(f"{method:<10}{layers:<10}" + "".join(f"{cost_at(target, points):>12}" for target in TARGETS))
    if args.out is not None:
        picture_of(rows, args.out)


if __name__ == "__main__":
    main()
