"""Draw what benchmarks/dictionary.py measured: accuracy against units and against labels, learned and otherwise.

python benchmarks/draw_dictionary.py FILE [FILE …] --out PICTURE
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {"learned": "tab:blue", "random": "tab:gray", "k-means": "tab:orange"}


Lines = dict[tuple[str, str], dict[int, list[float]]]  # accuracies by x, of each method and network


def series(rows: list[dict[str, Any]], by: str) -> Lines:
    """Return the accuracies by units of layer 2 with all labels, for each number of layers, or by labels."""
    found: Lines = {}
    for row in rows:
        most = max(row["top1"], key=int)
        layers, units = f"{len(row['units']) - 1} layers", str(tuple(row["units"]))
        for labels, accuracies in row["top1"].items():
            if by == "units" and labels == most:
                found.setdefault((row["method"], layers), {}).setdefault(row["units"][1], []).extend(accuracies)
            elif by == "labels":
                found.setdefault((row["method"], units), {}).setdefault(int(labels), []).extend(accuracies)
    return found


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


def main() -> None:
    """Read the files and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    from matplotlib.figure import Figure

    rows = [row for path in args.files for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
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
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
