"""ImageNet as its own tar files: training (a tar of class tars) and validation, and any tar of class folders.

The archives are read where they lie: headers one after the other, images by their position in the file.
"""

import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from loaders.images.kinds import looks_like_an_image
from loaders.sources.base import Item, name_key
from loaders.sources.content import ITEMS, Spread, archive_digest
from loaders.sources.folder import Listed, folder_items
from loaders.sources.layout import splits_in
from loaders.sources.unpack import FREE, Part, tar_faults
from loaders.text import printable, read_lines, read_words


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
    name, archive = printable(file.name), Part(file, 0, stop)
    archive.seek(start)
    with (
        tar_faults(f"tar_members: {name} is not a whole uncompressed tar archive at byte {start}"),
        tarfile.open(fileobj=archive, mode="r:") as tar,
    ):
        while tar.offset < stop and (entry := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # would grow to a gigabyte over ImageNet
            if entry.size < 0 or (entry.isreg() and entry.offset_data + entry.size > stop):
                raise tarfile.ReadError(f"unexpected end of data in {printable(entry.name)} of {entry.size} bytes")
            if not entry.isdir():
                plain = entry.isreg() and not entry.issparse()
                yield Member(entry.name, entry.offset_data, entry.size, plain)
        end = tar.offset
    # tarfile takes a damaged header for the end of the archive
    file.seek(min(end, stop))
    if end < stop and file.read(512) != bytes(512):
        raise ValueError(f"tar_members: {name} has a damaged header at byte {end}; get the archive again")
    if start == 0 and end >= stop:
        raise ValueError(
            f"tar_members: {name} ends without the mark of a tar's end; it is cut short, get the archive again"
        )


class _Tar:
    """What the tar sources share."""

    unit = "B"
    kind = ""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        found = os.stat(path)
        self.total, self.changed = found.st_size, found.st_ctime

    def describe(self) -> dict[str, Any]:
        content = archive_digest(self.path)
        return {"kind": self.kind, "name": os.path.basename(self.path), "bytes": self.total, "content": content}

    def members(self) -> Iterator[Member]:
        with open(self.path, "rb") as file:
            yield from tar_members(file, 0, self.total)

    def item(self, name: str, label: int, member: Member, problem: str | None = None) -> Item:
        if problem is None and not member.plain:
            problem = "a link or not a file"
        return Item(name, label, self.path, member.offset, member.size, member.offset + member.size, problem)


class ImageNetTrain(_Tar):
    """ILSVRC2012_img_train.tar: a tar of one tar for each class. Labels follow the sorted names (wnids)."""

    kind = "ImageNet train tar"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        archives = [member.name for member in self.members() if _is_class_tar(member)]
        self.class_names = sorted({PurePosixPath(name).stem for name in archives}, key=name_key)
        if len(self.class_names) < len(archives):
            raise ValueError(f"ImageNetTrain: {printable(path)} must hold one tar for each class, some class has two")

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
    """A tar of …/<class>/<image>: labels follow the sorted names of the folders that hold files directly.

    A folder that holds other folders is a class only if it holds a file that is called like an image.
    """

    kind = "tar of class folders"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._sample = Spread[Item](ITEMS)
        folders: dict[PurePosixPath, bool] = {}  # and whether something in it is called like an image
        for member in self.members():
            folder = PurePosixPath(member.name).parent
            folders[folder] = folders.get(folder, False) or looks_like_an_image(member.name)
            self._sample.add(self.item(member.name, 0, member))
        inside: dict[PurePosixPath, set[str]] = {}
        for folder in folders:
            for inner, outer in zip([folder, *folder.parents], folder.parents, strict=False):
                inside.setdefault(outer, set()).add(inner.name)
        self._classes = {
            folder for folder, images in folders.items() if folder.name and (images or folder not in inside)
        }
        self.class_names = sorted({folder.name for folder in self._classes}, key=name_key)
        name = f"ClassFolderTar: {printable(path)}"
        if not self.class_names:
            raise ValueError(f"{name} must hold one folder for each class, it has none")
        if len(self.class_names) < len(self._classes):
            raise ValueError(
                f"{name} has two folders of one class's name; pack each split by itself, or unpack it and give the "
                "folder of classes if they have folders in them"
            )
        for folder, names in inside.items():
            if splits := splits_in(names):
                listed = ", ".join(printable(folder / split) for split in splits)
                raise ValueError(
                    f"{name} holds splits, not classes ({listed}); pack each split by itself, or unpack it and give "
                    "the folder of one"
                )

    @property
    def sample(self) -> list[Item]:
        """Items spread over the source."""
        return list(self._sample)

    def items(self) -> Iterator[Item]:
        labels = {name: label for label, name in enumerate(self.class_names)}
        for member in self.members():
            folder = PurePosixPath(member.name).parent
            problem = None if folder in self._classes else "outside the class folders"
            yield self.item(member.name, labels.get(folder.name, 0), member, problem)


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
            self._listed = Listed(self._files)
            self.changed = self._listed.changed

    def describe(self) -> dict[str, Any]:
        labels = hashlib.sha256(str(self._labels).encode()).hexdigest()[:16]
        if self._files is None:
            return {**super().describe(), "labels": labels}
        names = hashlib.sha256(b"\0".join(name_key(item.name) for item in self._files)).hexdigest()[:16]
        return {"kind": self.kind, **self._listed.describe(), "names": names, "labels": labels}

    def items(self) -> Iterator[Item]:
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
    return member.plain and member.name.endswith(".tar")


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
