"""Pictures for the page: thumbnails, made once and kept in files, and photos for a closer look."""

import contextlib
import os
import threading
from pathlib import Path
from typing import Protocol

THUMB, PHOTO = 256, 1_600  # sides at most, in pixels
_JPEG = (b"\xff\xd8", b"\xff\xd9")  # how a whole file begins and ends


class Pictures(Protocol):
    """Where pictures of the photos come from. Both methods raise ValueError or OSError if a photo cannot be read."""

    def version(self, photo: int) -> str:
        """Return a name for what the file of a photo holds, fit for a file's name."""

    def jpeg(self, photo: int, side: int) -> bytes:
        """Return the photo as a JPEG of at most so many pixels a side."""


class Thumbs:
    """Thumbnails in a folder. Files are renamed into place; a power cut may tear them, and then they are made anew.

    What a kill has left half written is removed; no other process may be writing there.
    """

    def __init__(self, folder: Path, pictures: Pictures) -> None:
        self._folder, self._pictures = folder, pictures
        for left in folder.glob("*/.*.partial"):
            left.unlink()

    def of(self, photo: int, version: str) -> bytes:
        """Return the thumbnail of a photo. Raises ValueError or OSError if the photo cannot be read."""
        path = self._folder / version[:2] / f"{version}.jpg"
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        if data.startswith(_JPEG[0]) and data.endswith(_JPEG[1]):
            return data
        data = self._pictures.jpeg(photo, THUMB)
        with contextlib.suppress(OSError):  # a full disk: the photo can be seen all the same
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{version}.{threading.get_ident()}.partial")
            temporary.write_bytes(data)
            os.replace(temporary, path)
        return data
