"""A shard of a part on its way into the joined set: attributes change, and a kill at any moment leaves nothing torn.

HDF5 would change several places of the file, one after the other. So its changes stay in memory, are noted in a file,
and then made: a join that was killed meanwhile makes all of them again.
"""

import io
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py

from loaders.files import cannot_write, sync, write_text
from loaders.shards.format import NUMBERS, table_digest

MOVE = "move.json"  # in the folder of the joined set, while a shard moves there


class _Changes(io.FileIO):
    """A file that is read, and whose changes stay in memory: pieces are (place, bytes), in their order."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.size = os.fstat(self.fileno()).st_size
        self.pieces: list[tuple[int, bytes]] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.pieces.append((self._at, piece))
        self._at += len(piece)
        self.size = max(self.size, self._at)
        return len(piece)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, end = self._at, max(self._at, min(self._at + len(view), self.size))
        there = os.pread(self.fileno(), end - start, start)
        view[: end - start] = there.ljust(end - start, b"\0")
        for at, piece in self.pieces:
            first, last = max(at, start), min(at + len(piece), end)
            if first < last:
                view[first - start : last - start] = piece[first - at : last - at]
        self._at = end
        return end - start


def move(folder: Path, path: Path, target: Path, attributes: Mapping[str, Any]) -> None:
    """Give a shard other attributes, and another name in a folder; when it was written stays.

    Raises OSError if that cannot be written, and `finish_move` goes on.
    """
    # in a thread of its own, because Ctrl-C would otherwise raise in the middle of HDF5
    with _Changes(path) as changes, ThreadPoolExecutor(1) as thread:
        thread.submit(_change, changes, attributes).result()
    note = {
        "from": str(path.relative_to(folder)),
        "to": target.name,
        "written": path.stat().st_mtime_ns,
        "size": changes.size,
        "pieces": [[at, piece.hex()] for at, piece in changes.pieces],
    }
    write_text(folder / MOVE, json.dumps(note) + "\n")
    finish_move(folder)


def _change(file: _Changes, attributes: Mapping[str, Any]) -> None:
    with h5py.File(file, "r+") as shard:
        for name, value in attributes.items():
            shard.attrs[name] = value
        columns = {name: shard[name][...] for name in NUMBERS if name in shard}
        shard.attrs["digest"] = table_digest(shard.attrs, columns, shard["images"].shape)


def finish_move(folder: Path) -> None:
    """Move the shard whose changes are noted in a folder, if there is one.

    Raises ValueError if the note is damaged, OSError if the shard cannot be written.
    """
    note = folder / MOVE
    if not note.exists():
        return
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        path, target = folder / found["from"], folder / found["to"]
        pieces = [(int(at), bytes.fromhex(piece)) for at, piece in found["pieces"]]
        size, written = int(found["size"]), int(found["written"])
    except (ValueError, TypeError, LookupError, RecursionError):
        raise ValueError(f"build_shards: {note} is damaged; delete the folder, and build the parts again") from None
    try:
        if path.exists():  # else only the note is left
            with path.open("r+b") as file:
                for at, piece in pieces:
                    file.seek(at)
                    file.write(piece)
                file.truncate(size)
            os.utime(path, ns=(written, written))
            sync(path)
            os.replace(path, target)
            sync(folder)
    except OSError as error:
        raise cannot_write(path, error) from error
    note.unlink()
