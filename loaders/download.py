"""Fetch CIFAR and MNIST from their official addresses: resumed after a broken connection, checked by checksum."""

import hashlib
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loaders.files import PARTIAL, make_folder, sync

ATTEMPTS = 5
BLOCK = 2**18
TIMEOUT = 30.0

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


@dataclass(frozen=True)
class Dataset:
    """Where a data set's files are and their checksums, "md5:…" or "sha256:…"."""

    addresses: tuple[str, ...]
    files: dict[str, str]


DATASETS = {
    "cifar10": Dataset(
        _TORONTO,
        {"cifar-10-python.tar.gz": "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"},
    ),
    "cifar100": Dataset(
        _TORONTO,
        {"cifar-100-python.tar.gz": "sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"},
    ),
    "mnist": Dataset(
        _MNIST,
        dict(
            zip(
                _IDX,
                (
                    "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
                strict=True,
            )
        ),
    ),
    "fashion-mnist": Dataset(
        _FASHION,
        dict(
            zip(
                _IDX,
                (
                    "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    "md5:25c81989df183df01b3e8a0aad5dffbe",
                    "md5:bef4ecab320f06d8554ea6380940ec79",
                    "md5:bb300cfdad3c16e7a12a480ee83cd310",
                ),
                strict=True,
            )
        ),
    ),
}


def download_dataset(
    name: str,
    folder: str | os.PathLike[str],
    *,
    mirror: str | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Fetch a data set into folder/name and return the path to build shards from.

    name: "cifar10", "cifar100", "mnist" or "fashion-mnist". Files already there with the right checksum are kept, half
    ones are completed. mirror: another address with the same files. progress: called with the file's name, the bytes
    so far and all bytes (None if the server does not say).

    Raises ValueError for an unknown name or a file whose checksum is wrong (it is deleted), ConnectionError if no
    address delivers a whole file.
    """
    if name not in DATASETS:
        raise ValueError(f"download_dataset: name must be one of {', '.join(DATASETS)}, got {name!r}")
    dataset = DATASETS[name]
    target = Path(folder) / name
    make_folder(target)
    addresses = (mirror.rstrip("/") + "/",) if mirror else dataset.addresses
    for file, checksum in dataset.files.items():
        urls = tuple(address + file for address in addresses)
        fetch(urls, target / file, checksum, partial(progress, file) if progress else None)
    return target / next(iter(dataset.files)) if len(dataset.files) == 1 else target


def fetch(
    urls: tuple[str, ...], path: Path, checksum: str, progress: Callable[[int, int | None], object] | None = None
) -> None:
    """Download one file to path from the first of urls that delivers it; see download."""
    if path.exists() and _digest(path, checksum) == checksum:
        return
    half = path.with_name(f".{path.name}{PARTIAL}")
    whole = half.exists() and _digest(half, checksum) == checksum  # killed just before the rename
    reasons = []
    for url in urls:
        reason = None if whole else _complete(url, half, progress)
        if reason is None:
            break
        reasons.append(f"{url}: {reason}")
    else:
        raise ConnectionError(
            f"download_dataset: {path.name} could not be fetched ({'; '.join(reasons)}); try again to go on"
        )
    found = _digest(half, checksum)
    if found != checksum:
        half.unlink()
        raise ValueError(
            f"download_dataset: {url} must have the checksum {checksum}, got {found}; it was deleted, try again"
        )
    sync(half)
    os.replace(half, path)
    sync(path.parent)


def _complete(url: str, half: Path, progress: Callable[[int, int | None], object] | None) -> str | None:
    """Append to half until it is whole; None, or why it is not after several attempts without any progress."""
    failures, reason = 0, ""
    while failures < ATTEMPTS:
        start = half.stat().st_size if half.exists() else 0
        try:
            if _transfer(url, half, start, progress):
                return None
            reason = "the connection broke"
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP status {error.code}"
            if error.code == 416 and start:  # what is there is longer than the file
                half.unlink()
            elif error.code < 500:
                return reason
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and not _is_network(error):
                raise
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        advanced = half.exists() and half.stat().st_size > start
        failures = 0 if advanced else failures + 1
        if failures:
            time.sleep(min(0.1 * 2**failures, 5))
    return reason


def _is_network(error: OSError) -> bool:
    return isinstance(error, (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError))


def _transfer(url: str, half: Path, start: int, progress: Callable[[int, int | None], object] | None) -> bool:
    """One request for the bytes from start on; True if the file is whole afterwards."""
    headers = {"User-Agent": "hebbcore", **({"Range": f"bytes={start}-"} if start else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != 206:  # the server sends everything, whatever was asked
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with open(half, "ab" if start else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                if progress:
                    progress(file.tell(), total)
            return total is None or file.tell() == total


def _digest(path: Path, checksum: str) -> str:
    kind = checksum.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"
