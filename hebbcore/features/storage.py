"""The file of an extraction: while it grows, with a note of how far it got, and when it is done, with a digest."""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import hdf5
from hebbcore.checks import printable
from hebbcore.files import cannot_write, forget, forget_lock, parse_json, reserve, sync, write_text
from hebbcore.serialize import compared
from hebbcore.texts import as_text

DTYPES = ("float32", "float16")
VERSION = 1  # of the format; files from before there was one have no digest
_PIECE = 2**24  # bytes, or names, that are handled at a time
_LONGEST_NAME = 4096  # bytes

_log = logging.getLogger("hebbcore")


def finished(function: str, path: Path, settings: dict[str, Any]) -> bool:
    """Return whether the file is there, and as it was written; reads all of it.

    Raises FileExistsError if it holds something else, ValueError if it is damaged.
    """
    if not path.exists():
        return False
    sealed = path.is_file() and hdf5.seal_of(path, "features") is not None
    if sealed:
        try:
            hdf5.check(function, path, "features", VERSION)
        except ValueError as error:
            raise ValueError(f"{error} Remove it, and the same call writes it anew.") from None
    theirs = _settings_of(path) if sealed or (path.is_file() and hdf5.is_plain(path)) else None
    if not are_same(settings, theirs):
        raise _something_else(function, path, settings, theirs)
    if not sealed:
        _log.warning(
            "%s: %s was written by an earlier version and has no digest, so that damage goes unnoticed; remove it to "
            "have it written anew", function, path,
        )  # fmt: skip
    with suppress(OSError):  # as where nothing can be written, nor need be
        forget(_note_of(path))  # a kill may have left it
    forget_lock(path)
    return True


def are_same(settings: dict[str, Any], theirs: Any) -> bool:
    """Return whether settings are those of a file."""
    return isinstance(theirs, dict) and _known(settings, theirs) == theirs


def _known(settings: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Return what of settings a file has: those of earlier versions do not say of pixels."""
    return {key: value for key, value in settings.items() if key != "pixels" or key in theirs}


def require_no_other(function: str, path: Path, settings: dict[str, Any]) -> None:
    """Raise FileExistsError if the file is there and holds something else than features of such settings.

    settings: those that are known before the images are.
    """
    if not path.exists():
        return
    theirs = _settings_of(path) if path.is_file() else None
    if isinstance(theirs, dict):
        theirs = {key: value for key, value in theirs.items() if key not in ("images", "data", "pixels")}
    if theirs != settings:
        raise _something_else(function, path, settings, theirs)


def _something_else(function: str, path: Path, settings: dict[str, Any], theirs: Any) -> FileExistsError:
    return FileExistsError(
        f"{function}: {path} exists and holds something else; remove it or name another file"
        f"{_difference(settings, theirs)}."
    )


def require_names(function: str, path: Path, names: Sequence[str] | None) -> None:
    """Raise FileExistsError if features are of images of other names; a file's settings say nothing of names.

    A stream without names (None) and a file without any are not compared.
    """
    if names is None:
        return
    step, different = _PIECE // _LONGEST_NAME, None
    with hdf5.reading(path, f"{function}: {path} holds no features") as file:
        theirs: Any = file.get("names", ())
        for first in range(0, len(theirs), step):
            different = different or different_name(names, theirs[first : first + step].tolist(), first)
    if different is not None:
        raise other_names(function, path, different)


def different_name(names: Sequence[str], theirs: Sequence[str | bytes], first: int) -> str | None:
    """Return in words the first image that has another name in a file. theirs: the names there, from image `first` on.

    Bytes that are not UTF-8 are compared as other formats than HDF5 show them.
    """
    for number, (name, other) in enumerate(zip(names[first : first + len(theirs)], theirs, strict=False), first):
        here, there = as_text(_encoded(name)), as_text(other)
        if here != there:
            return f"image {number} is {printable(here)} here and {printable(there)} there"
    return None


def other_names(function: str, path: Path, different: str) -> FileExistsError:
    """Return the error for features of images that have other names; different: how the first one is called."""
    return FileExistsError(
        f"{function}: {path} exists and holds features of the same images under other names: {different}; remove it or "
        "name another file."
    )


def _difference(ours: dict[str, Any], theirs: Any) -> str:
    """Return in words how the settings of a file differ; nothing for a file of something else."""
    if not isinstance(theirs, dict):
        return ""
    others = {"weights": "another network", **dict.fromkeys(("data", "images", "pixels"), "other images or batches")}
    found = [others.get(path.partition(".")[0], text) for path, text in compared(_known(ours, theirs), theirs)]
    return f" ({'; '.join(dict.fromkeys(found))})"


def verify(path: Path) -> bool:
    """Return whether a file of features has a digest; an earlier version wrote none. Reads all of it.

    Raises ValueError if it is damaged or is none of hebbcore's.
    """
    sealed = not hdf5.is_plain(path)
    if sealed:
        hdf5.check("verify", path, "features", VERSION)
    settings = _settings_of(path)
    try:
        count, dtype = settings["images"], DTYPES[DTYPES.index(settings["dtype"])]
        shape = (count, *settings["shape"])
    except (TypeError, LookupError, ValueError):
        raise ValueError(f"verify: {path} is damaged or holds no features of hebbcore.") from None
    _offsets(path, path, count, shape, dtype)
    return sealed


def _settings_of(path: Path) -> Any:
    try:
        with hdf5.reading(path, f"{path} holds no features") as file:
            plain = hdf5.is_plain(path)  # of an earlier version
            return parse_json(str(file.attrs.get("settings")) if plain else hdf5.attribute(file, "settings"))
    except ValueError:
        return None


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.progress")


def drop_other(path: Path, settings: dict[str, Any]) -> None:
    """Remove what an interrupted extraction with other settings left beside path; the caller holds its folder."""
    note = _note_of(path)
    try:
        theirs = parse_json(note.read_bytes())["settings"]
    except FileNotFoundError:
        return
    except (ValueError, LookupError, TypeError):  # damaged
        theirs = None
    if not are_same(settings, theirs):
        forget(note)  # first: it must not speak for another file
        path.with_name(f"{path.name}.partial").unlink(missing_ok=True)


class Growing:
    """Features (count, …) and labels (count,) on their way into a file: first into path.partial, mapped into memory.

    Goes on from what path.progress says is there, if its settings are the same. names: a name of each image, or None.
    classes: names of the classes 0, 1, …, as far as they are known. done: how many images are there. batch: how many
    batches.

    Raises ValueError if the files are of another extraction or damaged; OSError, leaving nothing, if they cannot be
    made.
    """

    def __init__(
        self, function: str, path: Path, settings: dict[str, Any], names: Sequence[str] | None, classes: Sequence[str]
    ) -> None:
        self._function, self._path, self._settings = function, path, settings
        self._partial, self._note = path.with_name(f"{path.name}.partial"), _note_of(path)
        self.batch = self.done = 0
        count, dtype = settings["images"], settings["dtype"]
        shape = (count, *settings["shape"])
        if not (self._partial.exists() and self._note.exists()):
            self._begin(count, shape, dtype, names, classes)
        digest = self._read_note(count)
        features, labels = _offsets(path, self._partial, count, shape, dtype)
        require_names(function, self._partial, names)
        self._sealed = not hdf5.is_plain(self._partial)
        self.features: Any = np.memmap(self._partial, dtype, "r+", features, shape)
        self.labels: Any = np.memmap(self._partial, np.int64, "r+", labels, (count,))
        self._end = features + self.features.nbytes
        self._digest = hdf5.new_digest()
        if self._sealed:
            self._feed(hdf5.BLOCK, features + self.features[: self.done].nbytes)
            if digest not in (None, self._so_far()):
                raise ValueError(self._damaged("its contents do not match the digest of that note"))

    def _begin(
        self, count: int, shape: tuple[int, ...], dtype: str, names: Sequence[str] | None, classes: Sequence[str]
    ) -> None:
        import h5py

        self._note.unlink(missing_ok=True)  # of another file: it must not speak for this one
        arrays: dict[str, Any] = {"features": (shape, dtype), "labels": ((count,), np.int64)}
        texts: dict[str, Sequence[str]] = {}  # before the rest, since they are known
        if names is not None:
            self._require_one_each(names)
            texts["names"] = names
        if classes:
            texts["classes"] = classes
        kinds = {called: h5py.string_dtype("utf-8", self._longest(some)) for called, some in texts.items()}
        arrays = {**{called: ((len(texts[called]),), kind) for called, kind in kinds.items()}, **arrays}
        try:
            with self._writing():
                plan = hdf5.Plan(arrays, {"settings": json.dumps(self._settings)})
                with self._partial.open("w+b") as file:
                    reserve(file, plan.size)
                    plan.write(file)
                    for called, whole in texts.items():
                        file.seek(plan.offsets[called] or 0)
                        for first in range(0, len(whole), _PIECE // _LONGEST_NAME):
                            some = whole[first : first + _PIECE // _LONGEST_NAME]
                            file.write(np.array([_encoded(text) for text in some], kinds[called]).tobytes())
            self.save()
        except BaseException:
            self.drop()
            raise

    def _require_one_each(self, names: Sequence[str]) -> None:
        if len(names) != self._settings["images"]:
            raise ValueError(
                f"{self._function}: stream.names must be one for each image, {self._settings['images']} in all, got "
                f"{len(names)}."
            )

    def _longest(self, names: Sequence[str]) -> int:
        longest = max(len(_encoded(name)) for name in names)
        if longest > _LONGEST_NAME:
            raise ValueError(f"{self._function}: a name of {longest} bytes is too long; at most {_LONGEST_NAME}.")
        return max(1, longest)

    def _read_note(self, count: int) -> str | None:
        """Take over how far the file got, and return the digest of what is there; None in older notes."""
        try:
            before = parse_json(self._note.read_bytes())
            self.batch, self.done, theirs = int(before["batch"]), int(before["done"]), before["settings"]
            if not (0 <= self.done <= count and 0 <= self.batch <= count):
                raise ValueError("numbers out of range")
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            raise ValueError(
                f"{self._function}: {self._note} does not say how far {self._partial} got ({type(error).__name__}: "
                f"{error}); remove both to begin again."
            ) from None
        if not are_same(self._settings, theirs):
            raise ValueError(
                f"{self._function}: {self._partial} is of another extraction; finish that one, or remove it."
            )
        digest = before.get("digest")
        return None if digest is None else str(digest)

    def _damaged(self, reason: str) -> str:
        return f"{self._function}: {self._partial} is damaged ({reason}); remove it and {self._note} to begin again."

    def add(self, features: Any, labels: Any) -> Any:
        """Take the features and labels of one more batch; return them as they are kept."""
        end, numbers = self.done + len(features), np.asarray(labels)
        if numbers.dtype.kind == "f" and not (numbers == np.rint(numbers)).all():
            raise TypeError(f"{self._function}: labels must be whole numbers, got {numbers.dtype}.")
        if numbers.dtype.kind in "fu" and not (np.abs(numbers) < 2.0**63).all():  # else they wrap, perhaps to "none"
            raise ValueError(f"{self._function}: labels must be below 2**63, got {numbers.min()} to {numbers.max()}.")
        kept = self.features[self.done : end]
        with np.errstate(over="ignore"):
            kept[...] = features
        self.labels[self.done : end] = numbers
        return kept

    def count(self, images: int) -> None:
        """Count the images of a batch that was added, and is right."""
        if self._sealed:
            self._digest.update(self.features[self.done : self.done + images].data)
        self.batch, self.done = self.batch + 1, self.done + images

    def save(self) -> None:
        """Note how far it got."""
        note = {"settings": self._settings, "batch": self.batch, "done": self.done}
        if self.done:
            with self._writing():
                self.features.flush()
                self.labels.flush()
            if self._sealed:
                note["digest"] = self._so_far()
        write_text(self._note, json.dumps(note))

    def finish(self) -> None:
        """Seal the file and give it its name."""
        with self._writing():
            self.features.flush()
            self.labels.flush()
            if self._sealed:
                self._feed(self._end, self._partial.stat().st_size)
                with self._partial.open("r+b") as file:
                    hdf5.seal(file, "features", VERSION, self._digest.hexdigest())
            sync(self._partial)
            os.replace(self._partial, self._path)
            sync(self._path.parent)
            forget(self._note)

    def drop(self) -> None:
        """Remove what there is."""
        for path in (self._partial, self._note):
            with suppress(OSError):
                forget(path)

    def _so_far(self) -> str:
        digest = self._digest.copy()
        digest.update(self.labels[: self.done].data)
        return str(digest.hexdigest())

    def _feed(self, start: int, end: int) -> None:
        """Feed the digest with bytes start…end of the file."""
        with self._partial.open("rb") as file:
            file.seek(start)
            for first in range(start, end, _PIECE):
                self._digest.update(file.read(min(_PIECE, end - first)))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._path, error) from error


def _encoded(name: Any) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode("utf-8", "surrogateescape")


def _offsets(path: Path, file_path: Path, count: int, shape: tuple[int, ...], dtype: str) -> tuple[int, int]:
    """Return where features and labels begin in a file. Raises ValueError unless they are there, of these shapes."""
    refusal = f"{file_path} is damaged or holds no features of hebbcore"
    with hdf5.reading(file_path, refusal, f"; remove it to have {path} written anew.") as file:
        offsets = []
        for name, size, kind in (("features", shape, dtype), ("labels", (count,), "int64")):
            array = hdf5.member(file, name)
            hdf5.require_within(name, array)
            if array.shape != size or array.dtype != np.dtype(kind):
                raise ValueError(f"{name} must be {size} {kind}, got {array.shape} {array.dtype}")
            offsets.append(int(array.id.get_offset()))
    return offsets[0], offsets[1]
