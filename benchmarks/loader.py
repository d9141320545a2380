"""Speed of shards against doing the same by hand; prints JSON.

    python benchmarks/loader.py [--source images.tar] [--images 1000] [--raw-images 4096] [--repeats 5] [--threads N]

Raw shards against np.memmap copying the same bytes, JPEG shards against Pillow in a bare thread pool, and building
against a bare multiprocessing pool that decodes, resizes and encodes and writes nothing. Everything is in the page
cache; the two sides of a ratio take turns within one run, and the ratio is the median over the repeats.
"""

import argparse
import io
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import PIL
from PIL import Image
from sklearn.datasets import load_sample_images

import loaders
from loaders.shards.read import ShardSet

SIZE = 224
BATCH = 256
JPEG_SIDE = 256


class Repeated:
    """A source again and again, so that a small sample keeps all cores busy for a while."""

    unit = "images"

    def __init__(self, source: Any, times: int) -> None:
        self._items = [item for item in source.items() if item.problem is None] * times
        self.class_names = source.class_names
        self.total = len(self._items)

    def describe(self) -> dict[str, Any]:
        return {"kind": "benchmark", "images": self.total}

    def items(self) -> Iterator[loaders.Item]:
        return (replace(item, position=position) for position, item in enumerate(self._items, 1))


def photographs(folder: Path, count: int) -> Path:
    """A tree of 500 x 375 JPEGs cut from scikit-learn's photographs, for want of a better source."""
    random = np.random.default_rng(0)
    (folder / "class").mkdir(parents=True)
    for number in range(count):
        image = load_sample_images().images[number % 2]
        top, left = random.integers(427 - 375), random.integers(640 - 500)
        cut = Image.fromarray(image[top : top + 375, left : left + 500])
        cut.save(folder / "class" / f"{number:04d}.jpg", quality=95)
    return folder


def timed(work: Callable[[], int]) -> float:
    """Images per second of one run."""
    start = time.perf_counter()
    images = work()
    return images / (time.perf_counter() - start)


def compare(repeats: int, bytes_per_image: float, **works: Callable[[], int]) -> dict[str, Any]:
    """Let the works take turns; medians, and the ratio of each to the last one, within each turn."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(repeats):
        for name, work in works.items():
            rates[name].append(timed(work))
    *others, baseline = works
    return {
        "images_per_s": {name: round(statistics.median(rate)) for name, rate in rates.items()},
        "MB_per_s": {name: round(statistics.median(rate) * bytes_per_image / 1e6, 1) for name, rate in rates.items()},
        f"ratio_to_{baseline}": {
            name: round(statistics.median(a / b for a, b in zip(rates[name], rates[baseline], strict=True)), 3)
            for name in others
        },
    }


def drain(stream: Any) -> int:
    return sum(len(images) for images, _ in stream)


def raw(folder: Path, count: int, repeats: int, threads: int) -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    loaders.write_shards((images, np.arange(count) % 10), folder / "raw")
    images.tofile(folder / "raw.bin")
    mapped = np.memmap(folder / "raw.bin", np.uint8, "r", shape=images.shape)
    del images
    random = np.random.default_rng(0)

    def memmap() -> int:
        return sum(len(np.array(mapped[at : at + BATCH])) for at in range(0, count, BATCH))

    def memmap_shuffled() -> int:
        order = random.permutation(count)
        return sum(len(mapped[order[at : at + BATCH]]) for at in range(0, count, BATCH))

    options: dict[str, Any] = {"batch_size": BATCH, "threads": threads}
    sequential = loaders.ShardStream(folder / "raw", **options)
    shuffled = loaders.ShardStream(folder / "raw", shuffle=True, **options)
    return compare(
        repeats,
        SIZE * SIZE * 3,
        sequential=lambda: drain(sequential),
        shuffled=lambda: drain(shuffled),
        sequential_first_epoch=lambda: drain(loaders.ShardStream(folder / "raw", **options)),
        shuffled_first_epoch=lambda: drain(loaders.ShardStream(folder / "raw", shuffle=True, **options)),
        memmap_shuffled=memmap_shuffled,
        memmap=memmap,
    )


def pillow(data: memoryview) -> np.ndarray:
    """What anyone would write: decode (reduced, if it shrinks by 2 or more) and resize the central square."""
    image = Image.open(io.BytesIO(data))
    side = min(image.size)
    if side >= 2 * SIZE:
        scale = side / SIZE
        image.draft("RGB", (int(image.width / scale) + 1, int(image.height / scale) + 1))
    image = image.convert("RGB")
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box))


def jpeg(folder: Path, repeats: int, threads: int) -> dict[str, Any]:
    shards = ShardSet(folder)
    block = shards.read(np.arange(len(shards)))
    encoded = [block[record] for record in range(len(shards))]

    def bare() -> int:
        images = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
        with ThreadPoolExecutor(threads) as pool:
            for number, image in enumerate(pool.map(pillow, encoded)):
                images[number % BATCH] = image
        return len(encoded)

    options: dict[str, Any] = {"batch_size": BATCH, "threads": threads, "image_size": SIZE}
    sequential = loaders.ShardStream(folder, **options)
    shuffled = loaders.ShardStream(folder, shuffle=True, **options)
    return compare(
        repeats,
        shards.mean_bytes,
        sequential=lambda: drain(sequential),
        shuffled=lambda: drain(shuffled),
        sequential_first_epoch=lambda: drain(loaders.ShardStream(folder, **options)),
        pillow_threads=bare,
    )


def recode(item: loaders.Item) -> bytes:
    """Decode, shrink to the same shorter side, encode: the least a build has to do."""
    image = Image.open(io.BytesIO(item.read()))
    short = min(image.size)
    size = (round(image.width * JPEG_SIDE / short), round(image.height * JPEG_SIDE / short))
    if short >= 2 * JPEG_SIDE:
        image.draft("RGB", size)
    image = image.convert("RGB")
    if short > JPEG_SIDE:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def building(source: Repeated, folder: Path, repeats: int, workers: int) -> dict[str, Any]:
    items = list(source.items())
    number = 0

    def build() -> int:
        nonlocal number
        number += 1
        return loaders.build_shards(source, folder / f"build{number}", size=JPEG_SIDE, workers=workers).records

    def bare() -> int:
        with multiprocessing.get_context("forkserver").Pool(workers) as pool:
            return sum(1 for _ in pool.imap(recode, items, chunksize=16))

    source_bytes = sum(item.size if item.size >= 0 else os.path.getsize(item.path) for item in items) / len(items)
    return compare(repeats, source_bytes, build=build, multiprocessing=bare)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="a tar or tree of real JPEGs (default: cut from scikit-learn's photographs)")
    parser.add_argument("--images", type=int, default=1000, help="JPEGs of each measurement, at least (default: 1000)")
    parser.add_argument("--raw-images", type=int, default=4096, help="of the raw set (default: 4096, 617 MB, twice)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = loaders.open_source(options.source or photographs(folder / "tree", 200))
        images = Repeated(source, -(-options.images // len(Repeated(source, 1)._items)))
        loaders.build_shards(images, folder / "small", size=JPEG_SIDE, workers=options.threads)
        loaders.build_shards(images, folder / "original", workers=options.threads)
        result = {
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "h5py": h5py.__version__,
                "pillow": PIL.__version__,
            },
            "cores": os.cpu_count(),
            "threads": options.threads,
            "repeats": options.repeats,
            "source": Path(options.source).name if options.source else "scikit-learn's photographs",
            "images": images.total,
            "shapes": {"raw": [options.raw_images, SIZE, SIZE, 3], "batch": BATCH, "jpeg_shorter_side": JPEG_SIDE},
            "raw": raw(folder, options.raw_images, options.repeats, options.threads),
            "jpeg_256_to_224": jpeg(folder / "small", options.repeats, options.threads),
            "jpeg_original_to_224": jpeg(folder / "original", options.repeats, options.threads),
            "build_256": building(images, folder, options.repeats, options.threads),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
