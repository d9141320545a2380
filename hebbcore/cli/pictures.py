"""Pictures of photos for the page of `hebbcore label`: from their own files, or as shards hold them."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hebbcore.cli.photos import Photos
from hebbcore.labelling.pictures import picture_of
from hebbcore.page.thumbs import Pictures
from loaders.images.decode import decode, encode_jpeg
from loaders.images.transforms import Frame
from loaders.images.wide import FULL
from loaders.shards.format import INDEX
from loaders.shards.read import ShardSet
from loaders.sources.base import Item
from loaders.sources.detect import kind_of

_SMALL, _QUALITIES = 96, (95, 85)  # side of pictures that are shown enlarged; quality of these, and of others


def pictures_of(photos: Photos, names: Sequence[str]) -> Pictures:
    """Return the pictures of photos: of a folder's own files, and of what else there is those in the shards."""
    stored = Stored(photos.shards)
    if photos.path.is_dir() and not (photos.path / INDEX).is_file() and kind_of(photos.path) is None:
        return Originals(photos.path, names, stored)
    return stored


class Stored:
    """Pictures in shards."""

    def __init__(self, folder: Path) -> None:
        self._shards = ShardSet(folder)
        self._range: int = self._shards.index.settings.get("range") or FULL

    def shown(self, data: bytes | memoryview, side: int) -> bytes:
        """Return an encoded image as a picture: what is white among the images in the shards is white in it."""
        return _encoded(decode(data, _within(side), self._range))

    def marks(self) -> list[str]:
        """Return what tells pictures from those of another range of values, as parts of their versions."""
        return [] if self._range == FULL else [str(self._range)]

    def version(self, photo: int) -> str:
        """Return a name for a picture."""
        return _digest(self._shards.index.identity, str(photo), *self.marks())

    def jpeg(self, photo: int, side: int) -> bytes:
        """Return a picture. Raises ValueError or OSError if it is damaged."""
        data = self._shards.read(np.array([photo]))[0]
        if (fault := self._shards.damage(photo, data)) is not None:
            raise ValueError(f"{self._shards.describe(photo)}: {fault}")
        index = self._shards.index
        if index.image_shape is None:
            return self.shown(data, side)
        image = picture_of(np.frombuffer(data, index.dtype).reshape(index.image_shape))
        image.thumbnail((side, side))
        return _encoded(image)


class Originals:
    """Pictures of the files of a folder; of files that a link leads out of it to, those that the shards hold."""

    def __init__(self, root: Path, names: Sequence[str], stored: Stored) -> None:
        self._root, self._names, self._stored = root.resolve(), names, stored

    def version(self, photo: int) -> str:
        """Return a name for a file as it is now. Raises OSError or ValueError if there is none."""
        path = self._path(photo)
        if path is None:
            return self._stored.version(photo)
        found = path.stat()
        return _digest(self._names[photo], str(found.st_size), str(found.st_mtime_ns), *self._stored.marks())

    def jpeg(self, photo: int, side: int) -> bytes:
        """Return a picture. Raises ValueError or OSError if it cannot be read."""
        path = self._path(photo)
        if path is None:
            return self._stored.jpeg(photo, side)
        return self._stored.shown(Item(self._names[photo], -1, str(path)).read(), side)

    def _path(self, photo: int) -> Path | None:
        """Return the file of a photo; None if it lies outside of the folder."""
        path = (self._root / self._names[photo]).resolve(strict=True)
        if not path.is_relative_to(self._root):
            return None
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe could wait for ever
            raise ValueError(f"{path} is no file")
        return path


def _within(side: int) -> Frame:
    """Return the frame that shrinks an image to at most so many pixels a side."""

    def frame(width: int, height: int) -> tuple[tuple[float, float, float, float], tuple[int, int]] | None:
        longest = max(width, height)
        if longest <= side:
            return None
        scaled = max(1, round(width * side / longest)), max(1, round(height * side / longest))
        return (0, 0, width, height), scaled

    return frame


def _encoded(image: Image.Image) -> bytes:
    return encode_jpeg(image, _QUALITIES[max(image.size) > _SMALL])


def _digest(*parts: str) -> str:
    return hashlib.blake2b(b"\0".join(map(os.fsencode, parts)), digest_size=16).hexdigest()
