"""Images and folders the loaders' tests share."""

import io
import json
import os
import tarfile
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import loaders
from loaders.shards.format import read_names


def shared_file(name: str) -> Path:
    """A file of the data folder beside the checkout; the test is skipped where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared"
    path = Path(os.environ.get("HEBBCORE_SHARED", default)) / "data" / name
    if not path.exists():
        pytest.skip(f"{path} is not there; set HEBBCORE_SHARED to the folder that holds data/{name}")
    return path


@lru_cache
def photographs() -> list[np.ndarray]:
    """scikit-learn's two photographs, (427, 640, 3) uint8."""
    return list(load_sample_images().images)


def crop(number: int, height: int = 96, width: int = 120) -> Image.Image:
    """A part of a real photograph, another one for each number."""
    photograph = photographs()[number % 2]
    top, left = (37 * number) % (427 - height), (53 * number) % (640 - width)
    return Image.fromarray(photograph[top : top + height, left : left + width])


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_tree(root: Path, classes: int = 3, images: int = 4, **size: int) -> Path:
    """root/class_<c>/<i>.jpg from real photographs."""
    for label in range(classes):
        folder = root / f"class_{label}"
        folder.mkdir(parents=True)
        for i in range(images):
            (folder / f"{i:03d}.jpg").write_bytes(encoded(crop(label * images + i, **size), quality=90))
    return root


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def files_of(tree: Path) -> dict[str, bytes]:
    """The JPEG files of make_tree's tree, by name."""
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*.jpg"))}


def make_arrays(count: int = 40, height: int = 8, width: int = 10, channels: int = 3, seed: int = 0):
    """Random (images, labels) in which every image differs from every other."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, height, width, channels), np.uint8), random.integers(0, 5, count)


def read_all(folder: Path, **options: object) -> tuple[list[np.ndarray], list[int]]:
    """Every image and label of a set in stored order, one at a time, whatever their sizes."""
    images, labels = [], []
    shards = loaders.shards.read.ShardSet(folder)
    for record in range(len(shards)):
        data = shards.read(np.array([record]))[0]
        if shards.index.image_shape is None:
            images.append(np.asarray(loaders.images.decode.decode(data)))
        else:
            images.append(np.frombuffer(data, np.uint8).reshape(shards.index.image_shape))
        labels.append(int(shards.labels[record]))
    return images, labels


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones included."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def built(source, folder, **options):
    return loaders.build_shards(source, folder, workers=1, **options)


def names_of(folder):
    return [name for path in sorted(folder.glob("shard-*.h5")) for name in read_names(path)]


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def picture(number: int) -> bytes:
    return encoded(crop(number, 20, 30))


def members(session: int) -> list[int]:
    """The live processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, _, number = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == session and state != "Z":
            found.append(int(entry.name))
    return found
