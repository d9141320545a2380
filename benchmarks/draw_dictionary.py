"""Draw what benchmarks/dictionary.py measured: accuracy against units and against labels, learned and otherwise.

    python benchmarks/draw_dictionary.py FILE [FILE …] [--out PICTURE]

It prints the GFLOP of an image and its mirror image at which each method reaches 80 and 84 % with all labels,
interpolated in the logarithm of GFLOP between measured rows. Files may lack rows. Of rows of one method, network and
seed the first counts; figures of fewer labels than the most of all rows are none of all labels.
"""

import argparse
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {"learned": "tab:blue", "random": "tab:gray", "k-means": "tab:orange"}
TARGETS = (80.0, 84.0)  # %

Rows = list[dict[str, Any]]
Lines = dict[tuple[str, str], dict[int, list[float]]]  # accuracies by x, of each method and network


def rows_of(paths: Sequence[Path]) -> Rows:
    """Return the rows of all files. Raises ValueError if some are judged by other images than others."""
    found: dict[Any, dict[str, Any]] = {}
    judged = set()
    for path in paths:
        kept = json.loads(path.read_text(encoding="utf-8"))
        judged.add(kept["about"]["validation"])
        for row in kept["rows"]:
            found.setdefault((row["method"], tuple(row["units"]), row["seed"]), row)
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
                found.setdefault((row["method"], layers), {}).setdefault(row["units"][1], []).extend(accuracies)
            elif by == "labels":
                found.setdefault((row["method"], units), {}).setdefault(int(labels), []).extend(accuracies)
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


def draw(axes: Any, lines: Lines) -> None:
    """Draw each line through its means, with ± 1.96 standard errors where there are several figures."""
    networks = sorted({network for _, network in lines}, key=lambda network: (len(network), network))
    styles = dict(zip(networks, ("-", "--", ":", "-."), strict=False))
    for (method, network), values in sorted(lines.items()):
        x = sorted(values)
        means = [np.mean(values[i]) for i in x]
        errors = [1.96 * np.std(v, ddof=1) / len(v) ** 0.5 if len(v := values[i]) > 1 else 0 for i in x]
        axes.errorbar(
            x, means, errors, color=COLOURS[method], linestyle=styles[network], marker="o", markersize=3, capsize=2,
            label=f"{method}, {network}",
        )  # fmt: skip


def picture_of(rows: Rows, out: Path) -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw(left, series(rows, "units"))
    left.set_xlabel("units of layer 2")
    left.set_title("all labels")
    few = series(rows, "labels")
    compared = {network for method, network in few if method != "learned"}  # else a line would say nothing
    draw(right, {key: values for key, values in few.items() if key[1] in compared})
    right.set_xlabel("labels")
    right.set_title("few labels")
    for axes in (left, right):
        axes.set_xscale("log", base=2 if axes is left else 10)
        axes.set_ylabel("test accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
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
