"""Fetch CIFAR and MNIST from their official addresses: resumed after a broken connection, checked by checksum."""

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loaders.checks import require_callback
from loaders.files import PARTIAL, locked, make_folder, sync
from loaders.transfer import complete

_TORONTO = ("https://www.cs.toronto.edu/~kriz/",)
# yann.lecun.com is the original address; it is often closed, the second one is a copy kept by the PyTorch project
_MNIST = ("http://yann.lecun.com/exdb/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
_FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A file's bytes and its checksum, "md5:…" or "sha256:…"."""

    size: int
    checksum: str


@dataclass(frozen=True)
class Dataset:
    """Where a data set's files are, and what they must be."""

    addresses: tuple[str, ...]
    files: dict[str, File]


def _idx(*files: File) -> dict[str, File]:
    return dict(zip(_IDX, files, strict=True))


DATASETS = {
    "cifar10": Dataset(
        _TORONTO,
        {
            "cifar-10-python.tar.gz": File(
                170498071, "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
            )
        },
    ),
    "cifar100": Dataset(
        _TORONTO,
        {
            "cifar-100-python.tar.gz": File(
                169001437, "sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
            )
        },
    ),
    "mnist": Dataset(
        _MNIST,
        _idx(
            File(9912422, "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            File(28881, "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            File(1648877, "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            File(4542, "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion-mnist": Dataset(
        _FASHION,
        _idx(
            File(26421880, "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            File(29515, "md5:25c81989df183df01b3e8a0aad5dffbe"),
            File(4422102, "md5:bef4ecab320f06d8554ea6380940ec79"),
            File(5148, "md5:bb300cfdad3c16e7a12a480ee83cd310"),
        ),
    ),
}


def download_dataset(
    name: str,
    folder: str | os.PathLike[str],
    *,
    mirror: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Fetch a data set into folder/name and return the path to build shards from.

    Files that are there with the right checksum are kept, half ones are completed. While another process downloads
    into the folder this one waits, and says so in the log.

    Parameters
    ----------
    name : str
        "cifar10", "cifar100", "mnist" or "fashion-mnist".
    folder : str or path
        Where the folder `name` goes; both are made if they are not there.
    mirror : str, optional
        Another address that has the same files.
    progress : callable, optional
        Called with a file's name, its bytes so far and all its bytes.

    Returns
    -------
    Path
        The file, or the folder that holds the files.

    Raises
    ------
    ValueError
        For an unknown name, or a file whose checksum is wrong (it is deleted).
    ConnectionError
        If no address delivers a whole file.
    OSError
        If a file cannot be written.
    """
    require_callback("download_dataset", "progress", progress)
    if name not in DATASETS:
        raise ValueError(f"download_dataset: name must be one of {', '.join(DATASETS)}, got {name!r}")
    dataset = DATASETS[name]
    target = Path(folder) / name
    make_folder(target)
    addresses = (mirror.rstrip("/") + "/",) if mirror else dataset.addresses
    with locked(target, partial(log.warning, "another process is downloading into %s; waiting for it", target)):
        for file, wanted in dataset.files.items():
            urls = tuple(address + file for address in addresses)
            fetch(urls, target / file, wanted, partial(progress, file) if progress else None)
    return target / next(iter(dataset.files)) if len(dataset.files) == 1 else target


def fetch(
    urls: tuple[str, ...], path: Path, wanted: File, progress: Callable[[int, int], object] | None = None
) -> None:
    """Download one file to path from the first of urls that delivers it; no other may be writing there."""
    if path.exists() and _digest(path, wanted) == wanted.checksum:
        return
    half = path.with_name(f".{path.name}{PARTIAL}")
    wrong: ValueError | None = None
    reasons = []
    for url in urls:
        if half.exists() and half.stat().st_size >= wanted.size and _digest(half, wanted) != wanted.checksum:
            half.unlink()  # else it was killed just before the rename
        reason = complete(url, half, wanted.size, progress)
        if reason is not None:
            reasons.append(f"{url}: {reason}")
            continue
        found = _digest(half, wanted)
        if found == wanted.checksum:
            sync(half)
            os.replace(half, path)
            sync(path.parent)
            return
        half.unlink()
        wrong = ValueError(
            f"download_dataset: {url} must have the checksum {wanted.checksum}, got {found}; it was deleted, try again"
        )
    raise wrong or ConnectionError(
        f"download_dataset: {path.name} could not be fetched ({'; '.join(reasons)}); try again to go on"
    )


def _digest(path: Path, wanted: File) -> str:
    kind = wanted.checksum.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"
