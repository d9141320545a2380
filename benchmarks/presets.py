"""The preset "dictionary" beside the other presets, on images that it was not chosen on.

    python benchmarks/presets.py --json FILE [--cifar10 cifar10.h5] [--sets digits grey large FILE.h5] [--presets P ...]
        [--train 2000] [--test 2000] [--labels 10 100] [--seeds 3] [--device cuda]

digits: scikit-learn's, 8×8, 1,000 to train and 797 to test. grey, large: the first training images of CIFAR-10 as
luminance, or enlarged to 64×64, judged by as many of its last training images. FILE.h5: train/images, train/labels,
test/images and test/labels, not mirrored. Each preset trains on these images as it
does by itself, FastHebb's network normalised with HPCA for two epochs at half the stable rate, SoftHebb's with batches
of 10. The layers are judged as `hebbcore evaluate` does, averaged over mirror images where they make sense: the last of
the dictionary alone, and every block of the other presets. A preset that the images are too small for is said to be.
Rows that FILE holds are not measured again.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import hebbcore
import loaders
from hebbcore.evaluation.evaluate import evaluate

SETS = ("digits", "grey", "large")
TRAINING: dict[str, dict[str, Any]] = {
    "dictionary": {},
    "fasthebb": {"epochs": 2, "batch_size": 64, "learning_rate": "auto"},
    "softhebb": {"batch_size": 10},
}


def image_set(name: str, args: argparse.Namespace) -> tuple[Any, ...]:
    """Return images and labels to train on, then those to judge by."""
    if name == "digits":
        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        images = np.round(digits.images * 255 / 16).astype(np.uint8)[order][..., None]
        return images[:1000], digits.target[order][:1000], images[1000:], digits.target[order][1000:]
    if name not in SETS:
        with h5py.File(name) as file:
            return tuple(file[f"{part}/{what}"][()] for part in ("train", "test") for what in ("images", "labels"))
    with h5py.File(args.cifar10) as file:
        images, labels = file["train/images"], file["train/labels"]
        count = len(images)
        parts = [slice(args.train), slice(count - args.test, count)]
        found = [array[part] for part in parts for array in (images, labels)]
    change = luminance if name == "grey" else enlarged
    return change(found[0]), found[1], change(found[2]), found[3]


def luminance(images: Any) -> Any:
    """Return images (n, H, W, 3) as (n, H, W, 1)."""
    return np.round(images @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]


def enlarged(images: Any) -> Any:
    """Return images (n, 32, 32, 3) at 64×64."""
    return np.stack([np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)) for image in images])


def measure(name: str, preset: str, data: tuple[Any, ...], args: argparse.Namespace) -> dict[str, Any]:
    """Return one row: of each layer the mean accuracies, in percent, by the part of the labels."""
    images, labels, test, answers = data
    begin = time.perf_counter()
    more = {"preprocess": "normalize", "rule": "hpca"} if preset.startswith("fasthebb") else {}
    try:
        network = hebbcore.preset(preset, image_shape=images.shape[1:], device=args.device, **more)
    except ValueError as error:
        return {"set": Path(name).name, "preset": preset, "refused": str(error)}
    hebbcore.fit(network, images, **TRAINING[preset.split("-")[0]])
    streams = [loaders.ArrayStream(*part, batch_size=500) for part in ((images, labels), (test, answers))]
    with tempfile.TemporaryDirectory() as folder:
        results = evaluate(
            network, *streams, folder, layers=[network.names[-1]] if preset == "dictionary" else None,
            fractions=[part / 100 for part in args.labels], seeds=args.seeds, how="stratified", baselines=(), queries=0,
            mirror=name in ("grey", "large"),
        )  # fmt: skip
    top1: dict[str, dict[str, list[float]]] = {}
    for layer, source in results["sources"].items():
        for run in source["runs"]:
            top1.setdefault(layer, {}).setdefault(str(round(100 * run["labels"])), []).append(run["top1"])
    return {"set": Path(name).name, "preset": preset, "top1": top1, "seconds": time.perf_counter() - begin}


def main() -> None:
    """Measure every combination that the file does not hold yet, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", required=True, type=Path, help="where rows are kept")
    parser.add_argument("--cifar10", help="HDF5 file with train/images and train/labels")
    parser.add_argument("--sets", nargs="+", default=["digits"], help="of digits, grey and large, or files")
    parser.add_argument("--presets", nargs="+", default=["dictionary", "fasthebb-6", "softhebb-cifar", "softhebb-stl"])
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--labels", nargs="+", type=float, default=[10, 100], help="percent")
    parser.add_argument("--seeds", type=int, default=3, help="selections of labelled images")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    if args.cifar10 is None and {"grey", "large"} & set(args.sets):
        parser.error("--sets grey and large need --cifar10 FILE")
    device = {found.name: found.detail for found in hebbcore.devices()}[args.device]
    about = {
        "hebbcore": hebbcore.__version__, "numpy": np.__version__, "device": device, "train": args.train,
        "test": args.test, "seeds": args.seeds, "labels": args.labels,
    }  # fmt: skip
    rows = []
    if args.json.exists():
        kept = json.loads(args.json.read_text(encoding="utf-8"))
        if kept["about"] != about:
            parser.error(f"{args.json} holds figures of {kept['about']}, these are {about}; take another file")
        rows = kept["rows"]
    for name in args.sets:
        data = image_set(name, args)
        for preset in args.presets:
            if any((row["set"], row["preset"]) == (Path(name).name, preset) for row in rows):
                continue
            row = measure(name, preset, data, args)
            rows.append(row)
            args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1), encoding="utf-8")
            found = {
                layer: {part: round(float(np.mean(values)), 1) for part, values in parts.items()}
                for layer, parts in row.get("top1", {}).items()
            }
            print(f"{name} {preset}: {row.get('refused') or found}, {row.get('seconds', 0):.0f} s", flush=True)


if __name__ == "__main__":
    main()
