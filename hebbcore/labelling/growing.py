"""Rows of a table on their way into it: kept while they come, so that a command that was killed goes on."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from hebbcore.files import cannot_write, make_folder, parse_json, write_text
from hebbcore.hdf5 import new_digest
from hebbcore.labelling.tables import lines_of

_ROWS, _NOTE = "rows.csv", "progress.json"
_SAVE_SECONDS = 2.0  # that a kill loses at most


class GrowingTable:
    """The rows of a table, in a folder until they are all there.

    Parameters
    ----------
    folder : Path
        What it holds of the same rows is gone on with; anything else is begun anew.
    made_from : str
        Digest of all that decides the rows.

    Attributes
    ----------
    batches : int
        How many batches of rows there are.
    images : int
        How many images these were of.
    rows : int
        How many rows; some images may have none.
    """

    def __init__(self, folder: Path, made_from: str) -> None:
        make_folder(folder)
        self._file, self._note, self._made_from = folder / _ROWS, folder / _NOTE, made_from
        self.batches = self.images = self.rows = 0
        self._kept = self._read()  # bytes on the disk
        self._new: list[bytes] = []
        self._saved = time.monotonic()

    def _read(self) -> bytes:
        """Return the rows of before, if they are of this table and undamaged."""
        try:
            note = parse_json(self._note.read_bytes())
            with self._file.open("rb") as file:
                kept = file.read(int(note["bytes"]))
            if (note["made_from"], note["digest"], note["bytes"]) == (self._made_from, digest_of(kept), len(kept)):
                self.batches, self.rows = int(note["batches"]), int(note["rows"])
                self.images = int(note["images"])
                return kept
        except (FileNotFoundError, ValueError, LookupError, TypeError, OverflowError):
            pass
        self._note.unlink(missing_ok=True)  # first: it must not speak for other rows
        return b""

    def add(self, rows: Sequence[Sequence[object]], images: int) -> None:
        """Add the rows of a batch of so many images; now and then all are saved."""
        self._new.append(lines_of(rows))
        self.batches, self.images, self.rows = self.batches + 1, self.images + images, self.rows + len(rows)
        if time.monotonic() - self._saved >= _SAVE_SECONDS:
            self.save()
            self._saved = time.monotonic()

    def save(self) -> None:
        """Bring all rows to the disk, and then the note that says so. Raises OSError that names the file."""
        new = b"".join(self._new)
        try:
            with self._file.open("r+b" if self._kept else "wb") as file:
                file.seek(len(self._kept))
                file.write(new)
                file.truncate()  # what a kill left behind
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self._file, error) from error
        self._kept, self._new = self._kept + new, []
        note = {
            "made_from": self._made_from, "batches": self.batches, "images": self.images, "rows": self.rows,
            "bytes": len(self._kept), "digest": digest_of(self._kept),
        }  # fmt: skip
        write_text(self._note, json.dumps(note))

    def whole(self, head: Sequence[str]) -> bytes:
        """Return the whole table."""
        return b"".join([lines_of([head]), self._kept, *self._new])


def digest_of(data: bytes) -> str:
    """Return a digest of bytes, that of done.digest_of_file."""
    digest: hashlib.blake2b = new_digest()
    digest.update(data)
    return digest.hexdigest()
