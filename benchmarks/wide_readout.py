"""Fit the ridge readout to features on the disk, more than memory holds, and judge it.

    python benchmarks/wide_readout.py TRAIN TEST --json FILE [--memory "10 GiB"]

TRAIN and TEST are folders that `hebbcore extract --format npy` wrote. The matrix of the readout lies beside the JSON
file where memory has no room for it.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np

from hebbcore.evaluation import RidgeReadout


def rows_of(folder: Path) -> tuple[Any, Any]:
    """Return features (n, d), mapped from the disk, and labels (n,)."""
    features, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("features", "labels"))
    return features.reshape(len(features), -1), np.array(labels)


def main() -> None:
    """Fit, judge, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--memory", default="10 GiB")
    args = parser.parse_args()
    (x, y), begin = rows_of(args.train), time.perf_counter()
    model = RidgeReadout(standardize=True, memory=args.memory, folder=args.json.parent, progress=print).fit(x, y)
    seconds, scores = time.perf_counter() - begin, model.validation_scores_
    found = machine.about() | {
        "images": len(x), "features": x.shape[1], "dtype": str(x.dtype), "memory": args.memory, "seconds_fit": seconds,
        "alpha": model.alpha_, "validation": None if scores is None else [None if v != v else float(v) for v in scores],
        "top1": 100 * model.score(*rows_of(args.test)),
    }  # fmt: skip
    args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{found['top1']:.2f} % of the test images after {seconds:.0f} s")


if __name__ == "__main__":
    main()
