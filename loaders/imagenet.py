"""ImageNet as its own tar files: training (a tar of class tars) and validation, and any tar of class folders.

The archives are read where they lie: headers one after the other, images by their position in the file.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from loaders.folder import NOT_AN_IMAGE, folder_items
from loaders.images import SUFFIXES
from loaders.sources import Item, name_key


@dataclass(frozen=True)
class Member:
    """One entry of a tar file: size bytes at offset of the file."""

    name: str
    offset: int
    size: int
    plain: bool


def tar_members(file: BinaryIO, start: int, stop: int) -> Iterator[Member]:
    """The entries, without folders, of the uncompressed tar archive in file[start:stop], in order.

    Raises ValueError if the archive is compressed, damaged or cut short.
    """
    file.seek(start)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while tar.offset < stop and (entry := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # would grow to a gigabyte over ImageNet
                if not entry.isdir():
                    yield Member(entry.name, entry.offset_data, entry.size, entry.isreg())
            end = tar.offset
    except tarfile.TarError as error:
        raise ValueError(
            f"tar_members: {file.name} is not a whole uncompressed tar archive at byte {start}: {error}"
        ) from error
    # tarfile takes a damaged header for the end of the archive
    file.seek(end)
    if end < stop and file.read(512) != bytes(512):
        raise ValueError(f"tar_members: {file.name} has a damaged header at byte {end}; get the archive again")
    if start == 0 and end >= stop:
        raise ValueError(
            f"tar_members: {file.name} ends without the mark of a tar's end; it is cut short, get the archive again"
        )


class _Tar:
    """What the tar sources share."""

    unit = "B"
    kind = ""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        self.total = os.path.getsize(path)

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": os.path.basename(self.path), "bytes": self.total}

    def members(self) -> Iterator[Member]:
        with open(self.path, "rb") as file:
            yield from tar_members(file, 0, self.total)

    def item(self, name: str, label: int, member: Member, problem: str | None = None) -> Item:
        if problem is None and not member.plain:
            problem = "a link or not a file"
        if problem is None and PurePosixPath(member.name).suffix.lower() not in SUFFIXES:
            problem = NOT_AN_IMAGE
        return Item(name, label, self.path, member.offset, member.size, member.offset + member.size, problem)


class ImageNetTrain(_Tar):
    """ILSVRC2012_img_train.tar: a tar of one tar for each class. Labels follow the sorted names (wnids)."""

    kind = "ImageNet train tar"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        archives = [member.name for member in self.members() if _is_class_tar(member)]
        self.class_names = sorted({PurePosixPath(name).stem for name in archives}, key=name_key)
        if len(self.class_names) < len(archives):
            raise ValueError(f"ImageNetTrain: {path} must hold one tar for each class, some class has two")

    def items(self) -> Iterator[Item]:
        labels = {name: label for label, name in enumerate(self.class_names)}
        with open(self.path, "rb") as file:
            for outer in self.members():
                if not _is_class_tar(outer):
                    yield self.item(outer.name, 0, outer, "not the tar of a class")
                    continue
                wnid = PurePosixPath(outer.name).stem
                for inner in tar_members(file, outer.offset, outer.offset + outer.size):
                    yield self.item(f"{wnid}/{inner.name}", labels[wnid], inner)


class ClassFolderTar(_Tar):
    """A tar of …/<class>/<image>: labels follow the sorted names of the folders that hold images directly."""

    kind = "tar of class folders"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        folders = {str(PurePosixPath(member.name).parent) for member in self.members()} - {"."}
        self.class_names = sorted({PurePosixPath(folder).name for folder in folders}, key=name_key)
        if not self.class_names:
            raise ValueError(f"ClassFolderTar: {path} must hold one folder for each class, it has none")
        if len(self.class_names) < len(folders):
            raise ValueError(f"ClassFolderTar: {path} has two folders of one class's name; pack each split by itself")

    def items(self) -> Iterator[Item]:
        labels = {name: label for label, name in enumerate(self.class_names)}
        for member in self.members():
            label = labels.get(PurePosixPath(member.name).parent.name)
            problem = "outside the class folders" if label is None else None
            yield self.item(member.name, label or 0, member, problem)


class ImageNetValidation(_Tar):
    """ILSVRC2012_img_val.tar or the folder it unpacks to, whose images are numbered, not sorted by class.

    ground_truth: the devkit's ILSVRC2012_validation_ground_truth.txt: line k is the class id (1, 2, …) of image k.
    synsets: what the ids mean: the devkit's meta.mat, or a text file whose line i starts with the wnid of id i.
    Labels follow the sorted wnids, as in ImageNetTrain.
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
        place = {wnid: label for label, wnid in enumerate(self.class_names)}
        self._labels = [place[wnids[number - 1]] for number in _read_ids(ground_truth, len(wnids))]
        self._files = folder_items(self.path) if os.path.isdir(path) else None
        if self._files is not None:
            self.total, self.unit = len(self._files), "images"

    def describe(self) -> dict[str, Any]:
        labels = hashlib.sha256(str(self._labels).encode()).hexdigest()[:16]
        if self._files is None:
            return {**super().describe(), "labels": labels}
        names = hashlib.sha256(b"\0".join(name_key(item.name) for item in self._files)).hexdigest()[:16]
        return {"kind": self.kind, "files": self.total, "names": names, "labels": labels}

    def items(self) -> Iterator[Item]:
        if self._files is not None:
            entries = iter(self._files)
        else:
            entries = (self.item(member.name, 0, member) for member in self.members())
        for item in entries:
            number = re.search(r"(\d+)\.\w+$", item.name)
            if item.problem is None and (number is None or not 1 <= int(number[1]) <= len(self._labels)):
                yield replace(item, problem="no image number of the ground truth in its name")
            else:
                yield replace(item, label=self._labels[int(number[1]) - 1] if number and not item.problem else 0)


def _is_class_tar(member: Member) -> bool:
    return member.plain and member.name.endswith(".tar")


def _read_ids(path: str | os.PathLike[str], classes: int) -> list[int]:
    lines = Path(path).read_text(encoding="utf-8").split()
    for number, line in enumerate(lines, 1):
        if not line.isdecimal() or not 1 <= int(line) <= classes:
            raise ValueError(f"ImageNetValidation: {path} line {number} must be a class id 1…{classes}, got {line!r}")
    return [int(line) for line in lines]


def read_synsets(path: str | os.PathLike[str]) -> list[str]:
    """The wnids in the order of the devkit's class ids, from meta.mat or from a text file, one line each."""
    if str(path).endswith(".mat"):
        from scipy.io import loadmat

        rows = loadmat(path, squeeze_me=True)["synsets"]
        leaves = sorted((int(row["ILSVRC2012_ID"]), str(row["WNID"])) for row in rows if not row["num_children"])
        return [wnid for _, wnid in leaves]
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    wnids = [line.split()[0] for line in lines if line.strip()]
    if len(set(wnids)) < len(wnids):
        raise ValueError(f"read_synsets: {path} must name every class once, some wnid occurs twice")
    if len(wnids) == 1000 and wnids == sorted(wnids):
        raise ValueError(
            f"read_synsets: {path} lists ImageNet's wnids sorted, but the devkit's ids count them in another order; "
            "use the devkit's meta.mat"
        )
    return wnids
