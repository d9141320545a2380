"""Flipped bytes, large numbers and cuts anywhere in any file: an error that names it, or harmless."""

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from cifar_helpers import cifar_binary, cifar_python
from loaders_helpers import contents, crop, encoded, make_arrays, make_tar
from loaders_hostile_helpers import idx_of, measured, read_shards, read_tar, set_of

import loaders
from loaders.images.decode import decode
from loaders.sources.imagenet import read_synsets

pytest_plugins = "loaders_hostile_helpers"
pytestmark = pytest.mark.usefixtures("traced")


def mutations(data: bytes, count: int, seed: int = 0):
    """Copies with flipped bytes, numbers that claim much, and cuts."""
    choice = random.Random(seed)
    claims = [b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 3, b"\0\0\0\x7f", (10**12).to_bytes(8, "little"), bytes(8)]
    for number in range(count):
        changed = bytearray(data)
        # the first kilobytes, where files say what they hold, get half of it
        place = choice.randrange(len(data) if number % 2 else min(len(data), 2048))
        kind = number % 4
        if kind < 2:
            changed[place] ^= 1 << choice.randrange(8)
        elif kind == 2:
            claim = choice.choice(claims)
            changed[place : place + len(claim)] = claim[: len(data) - place]
        elif number % 8 == 3:
            del changed[place:]
        else:
            changed[place : place + 16] = choice.randbytes(16)[: len(data) - place]
        yield bytes(changed)


def sample(folder: Path, kind: str) -> tuple[Path, Callable[[Path], object]]:
    """A small file of a kind, and what reads it."""
    arrays = make_arrays(12, 32, 32)
    if kind in ("index raw", "index packed"):
        return set_of(folder, kind.split()[1]) / "index.json", read_shards
    if kind in ("shard raw", "shard packed"):
        return set_of(folder, kind.split()[1]) / "shard-00000.h5", read_shards
    if kind.startswith("idx"):
        packed = kind == "idx gz"
        path = folder / ("train-images-idx3-ubyte" + ".gz" * packed)
        idx_of(path, arrays[0][..., 0], packed)
        idx_of(folder / "train-labels-idx1-ubyte", arrays[1].astype(np.uint8), False)
        return path, lambda path: loaders.open_mnist(path.parent)
    if kind == "pickle":
        return cifar_python(folder / "cifar", False, arrays) / "data_batch_2", lambda path: loaders.open_cifar(
            path.parent
        )
    if kind == "meta pickle":
        return cifar_python(folder / "cifar", True, arrays) / "meta", lambda path: loaders.open_cifar(path.parent)
    if kind in ("cifar tar.gz", "cifar tar"):
        files = contents(cifar_binary(folder / "cifar", False, arrays))
        return make_tar(folder / "c.tar", files, "w:gz" if kind.endswith("gz") else "w"), loaders.open_cifar
    if kind == "tar":
        return make_tar(folder / "t.tar", {f"c{i % 2}/{i}.jpg": encoded(crop(i, 16, 16)) for i in range(6)}), read_tar
    if kind == "tar of tars":
        inner = make_tar(folder / "i.tar", {f"{i}.jpg": encoded(crop(i, 16, 16)) for i in range(3)}).read_bytes()
        return make_tar(folder / "t.tar", {"n01.tar": inner, "n02.tar": inner}), read_tar
    if kind == "hdf5":
        with h5py.File(folder / "a.h5", "w") as file:
            file["train/images"], file["train/labels"] = make_arrays(12)
            file["train/filenames"] = np.array([b"x%d" % i for i in range(12)])
            file.attrs["class_names"] = list("abcde")
        return folder / "a.h5", lambda path: loaders.open_hdf5(path).images[:]
    if kind == "mat":
        from scipy.io import savemat

        fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
        rows = [(number, f"n{number:02d}", 0) for number in range(1, 5)]
        savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=fields)}, do_compression=True)
        return folder / "meta.mat", read_synsets
    assert kind == "synsets"
    (folder / "synsets.txt").write_text("n01 a\nn02 b\n")
    return folder / "synsets.txt", read_synsets


KINDS = [
    "index raw",
    "index packed",
    "shard raw",
    "shard packed",
    "idx",
    "idx gz",
    "pickle",
    "meta pickle",
    "cifar tar.gz",
]
KINDS += ["cifar tar", "tar", "tar of tars", "hdf5", "mat", "synsets"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_to_any_file_is_an_error_that_names_it_or_harmless(tmp_path, kind):
    path, read = sample(tmp_path, kind)
    whole = path.read_bytes()
    assert measured(lambda: read(path), path.name) is None
    refused = 0
    allowed = (TypeError,) if kind == "hdf5" else ()  # of a dtype
    # HDF5 itself takes the length of a text attribute at its word, up to 4 GB; this seed has no such claim
    for data in mutations(whole, 80, seed=2):
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's and Pillow's
            refused += measured(lambda: read(path), path.parent.name, allowed) is not None
    assert refused > 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF"])
def test_any_damage_to_an_image_is_a_reason_or_harmless(kind):
    whole = encoded(crop(2, 24, 24), kind)
    for data in mutations(whole, 120):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                reason = None
                decode(data, lambda width, height: ((0, 0, width, height), (8, 8)))
            except ValueError as error:
                reason = str(error)
        assert reason != ""
