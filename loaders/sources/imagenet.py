"""ImageNet as its own tar files: training (a tar of class tars), and validation with the devkit's ground truth."""

import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from loaders.sources.base import Item, name_key
from loaders.sources.tar import Member, TarSource, first_members, is_hidden_member, tar_members
from loaders.sources.unpack import FREE
from loaders.sources.walk import Listed, folder_items
from loaders.text import printable, read_lines, read_words


def is_train_tar(path: Path) -> bool:
    """Whether a file is a tar that begins with another tar."""
    try:
        first = first_members(path, 1)
    except ValueError:
        return False
    return bool(first) and first[0].name.endswith(".tar")


class ImageNetTrain(TarSource):
    """ILSVRC2012_img_train.tar: a tar of one tar for each class. Labels follow the sorted names (wnids).

    Parameters
    ----------
    path : str or path
        The uncompressed tar. It is read where it lies, and nothing is unpacked.

    Raises
    ------
    ValueError
        If the tar is compressed, damaged or cut short, or a class has two tars.
    """

    kind = "ImageNet train tar"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        archives = [member.name for member in self.members() if _is_class_tar(member)]
        self.class_names = sorted({PurePosixPath(name).stem for name in archives}, key=name_key)
        if len(self.class_names) < len(archives):
            raise ValueError(f"ImageNetTrain: {printable(path)} must hold one tar for each class, some class has two")

    def items(self) -> Iterator[Item]:
        """Return the images in the tar's order.

        Raises
        ------
        ValueError
            While iterating, if the tar or one in it is damaged or cut short.
        """
        labels = {name: label for label, name in enumerate(self.class_names)}
        with open(self.path, "rb") as file:
            for outer in self.members():
                if not _is_class_tar(outer):
                    yield self.item(outer.name, 0, outer, "not the tar of a class")
                    continue
                wnid = PurePosixPath(outer.name).stem
                for inner in tar_members(file, outer.offset, outer.offset + outer.size):
                    yield self.item(f"{wnid}/{inner.name}", labels[wnid], inner)


class ImageNetValidation(TarSource):
    """ILSVRC2012_img_val.tar or the folder it unpacks to, whose images are numbered, not sorted by class.

    Labels follow the sorted wnids, as in ImageNetTrain.

    Parameters
    ----------
    path : str or path
        The uncompressed tar, or the folder.
    ground_truth : str or path
        The devkit's ILSVRC2012_validation_ground_truth.txt: line k is the class id (1, 2, …) of image k.
    synsets : str or path
        What the ids mean: the devkit's meta.mat, or a text file whose line i starts with the wnid of id i.

    Raises
    ------
    ValueError
        If ground_truth or synsets is another file, or damaged.
    """

    kind = "ImageNet validation"

    def __init__(
        self,
        path: str | os.PathLike[str],
        ground_truth: str | os.PathLike[str],
        synsets: str | os.PathLike[str],
    ) -> None:
        super().__init__(path)
        wnids = read_synsets(synsets)
        self.class_names: Sequence[str] = sorted(wnids, key=name_key)
        labels = {wnid: label for label, wnid in enumerate(self.class_names)}
        self._labels = [labels[wnids[number - 1]] for number in _read_ids(ground_truth, len(wnids))]
        self._files = folder_items(self.path) if os.path.isdir(path) else None
        if self._files is not None:
            self.total, self.unit = len(self._files), "images"
            self._listed = Listed(self._files)
            self.changed = self._listed.changed

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        labels = hashlib.sha256(str(self._labels).encode()).hexdigest()[:16]
        if self._files is None:
            return {**super().describe(), "labels": labels}
        names = hashlib.sha256(b"\0".join(name_key(item.name) for item in self._files)).hexdigest()[:16]
        return {"kind": self.kind, **self._listed.describe(), "names": names, "labels": labels}

    def items(self) -> Iterator[Item]:
        """Return the images in the order of the tar, or of their names in the folder."""
        if self._files is not None:
            entries = iter(self._files)
        else:
            entries = (self.item(member.name, 0, member) for member in self.members())
        for item in entries:
            number = re.search(r"(?<!\d)(\d{1,9})\.\w+$", item.name)
            if item.problem is None and (number is None or not 1 <= int(number[1]) <= len(self._labels)):
                yield replace(item, problem="no image number of the ground truth in its name")
            else:
                yield replace(item, label=self._labels[int(number[1]) - 1] if number and not item.problem else 0)


def _is_class_tar(member: Member) -> bool:
    return member.plain and member.name.endswith(".tar") and not is_hidden_member(member.name)


def _read_ids(path: str | os.PathLike[str], classes: int) -> list[int]:
    words = read_words(path)
    for number, word in enumerate(words, 1):
        if not word.isdecimal() or len(word) > 9 or not 1 <= int(word) <= classes:
            raise ValueError(
                f"ImageNetValidation: {printable(path)} line {number} must be a class id 1…{classes}, got "
                f"{printable(word)!r}"
            )
    return [int(word) for word in words]


def read_synsets(path: str | os.PathLike[str]) -> list[str]:
    """The wnids in the order of the devkit's class ids, from meta.mat or from a text file, one line each."""
    if str(path).endswith(".mat"):
        return _read_mat(path)
    wnids = [line.split()[0] for line in read_lines(path) if line.strip()]
    if len(set(wnids)) < len(wnids):
        raise ValueError(f"read_synsets: {printable(path)} must name every class once, some wnid occurs twice")
    if len(wnids) == 1000 and wnids == sorted(wnids):
        raise ValueError(
            f"read_synsets: {printable(path)} lists ImageNet's wnids sorted, but the devkit's ids count them in "
            "another order; use the devkit's meta.mat"
        )
    return wnids


def _read_mat(path: str | os.PathLike[str]) -> list[str]:
    from scipy.io import loadmat

    try:
        _check_mat(Path(path))
        rows = loadmat(path, squeeze_me=True, variable_names=["synsets"])["synsets"]
        leaves = sorted((int(row["ILSVRC2012_ID"]), str(row["WNID"])) for row in rows if not row["num_children"])
    except FileNotFoundError:
        raise
    except Exception as error:  # scipy meets damage with all kinds of exceptions, MemoryError among them
        reason = printable(error or type(error).__name__)
        raise ValueError(
            f"read_synsets: {printable(path)} is not the devkit's meta.mat: {reason}; get it again"
        ) from error
    return [wnid for _, wnid in leaves]


def _check_mat(path: Path) -> None:
    """Raise ValueError if a MATLAB 5 file's variables unpack to more than any meta.mat does."""
    if path.stat().st_size > FREE:
        raise ValueError(f"it has more than {FREE} bytes")
    data, position = path.read_bytes(), 128
    order: Literal["big", "little"] = "big" if data[126:128] == b"MI" else "little"
    while position + 8 <= len(data):
        kind, size = (int.from_bytes(data[at : at + 4], order) for at in (position, position + 4))
        if kind == 15:
            unpacker = zlib.decompressobj()
            if len(unpacker.decompress(data[position + 8 : position + 8 + size], FREE)) == FREE or not unpacker.eof:
                raise ValueError(f"it is cut short, or unpacks to more than {FREE} bytes")
        position += 8 + size
