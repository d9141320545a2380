"""Images of any kind and size for the commands that give labels: read once into shards of one size, with names."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

import loaders
from hebbcore.checks import printable
from hebbcore.cli.since import Since, photos_are_the_same
from hebbcore.cli.stages import Stages
from hebbcore.files import make_folder
from hebbcore.labelling.features import BATCH
from hebbcore.labelling.work import IMAGES
from loaders.images.decode import open_image
from loaders.images.formats import NOT_AN_IMAGE
from loaders.shards.changes import as_before
from loaders.shards.format import INDEX, PLAN, REPORT
from loaders.shards.plan import found_instead, other_set
from loaders.shards.ranges import found_range
from loaders.sources.base import sample_of
from loaders.sources.detect import is_archive, kind_of
from loaders.sources.hdf5 import hdf5_arrays, hdf5_names
from loaders.sources.tar_images import open_tar
from loaders.sources.zip_members import is_zip

T = TypeVar("T")
_MADE = ".read-anew"  # in a folder that may be removed
_READ = re.compile(
    r"\.lock|\.read-anew|\.?(shard-\d+\.h5|(index|build|report|progress)\.json|rows\.csv)(\.(partial|writing|lock))?"
)
_log = logging.getLogger("hebbcore")

SHARD_BYTES = 2**24  # small ones: a kill loses no more than the one that is being written
SMALLEST, LARGEST = 8, 48  # sides that are chosen, in pixels: larger ones cost more and say little more
_SAMPLE = 64  # images that are asked for their size
_FEW = 500  # images that are read sooner than other processes have started
_SHOWN = 10  # images left out that are named


@dataclass(frozen=True)
class Photos:
    """Images that a command was given.

    path: as it was given. shards: the folder that holds them now. image_size: the side of the central square that is
    cut out of each, in pixels; None: they are taken as they are stored.
    """

    path: Path
    shards: Path
    image_size: int | None

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """Names of files that are not among them, and the reasons; damaged images before what is none."""
        if not loaders.read_index(self.shards).skipped:
            return []
        report = json.loads((self.shards / REPORT).read_text("utf-8"))
        found = [(entry["path"], entry["reason"]) for entry in report["skipped"]]
        return sorted(found, key=lambda entry: entry[1] == NOT_AN_IMAGE or "in a hidden folder" in entry[1])

    def stream(self, shuffle: bool = False) -> loaders.ShardStream:
        """Return batches of them, in order or shuffled anew in each epoch."""
        return loaders.ShardStream(
            self.shards, batch_size=BATCH, image_size=self.image_size, shuffle=shuffle, labels=not shuffle
        )


def read_photos(
    path: Path,
    folder: Path,
    *,
    size: int | None,
    split: str | None,
    without_labels: bool,
    stages: Stages,
    check: Callable[[int], None] | None = None,
    value_range: int | None = None,
    setting: str = "--image-size",
) -> Photos:
    """Return images that lie in shards: those at path, or new ones in a folder, built from what is at path.

    size: in pixels; None: chosen from the images. without_labels: folders are no classes. A build that was interrupted
    goes on. Images that cannot be read are named on standard error. check: called with the size that image files get,
    before they are read. value_range: which value of 16-bit images is white, as among those that were learned from;
    None: what their largest ones say. Shards in which it is another are told. setting: what sets the size,
    as a user is told where it is chosen.
    """
    if (path / INDEX).is_file():
        if split is not None:
            raise ValueError(f"--split is for sources of several splits; {path} is a folder of shards, which is one.")
        photos = Photos(path, path, _size_of_shards(path) if size is None else size)
        if size is None and photos.image_size is not None:
            say_side(stages, setting, photos.image_size)
        _tell_left_out(photos, stages)
        tell_unlike(path, value_range)
        return photos
    # folders of an archive were classes in earlier versions, whose works go on
    source = as_before(_source(path, split, without_labels, in_archives=_has_classes(folder)), folder)
    if split is None and (others := [name for name in all_splits(path) if name != "train"]):
        stages.say("images", f"those of the split train; --split takes others: {', '.join(others)}")
    options: dict[str, Any] = {}
    if not isinstance(source, loaders.ArraySource):
        few = source.unit == "images" and source.total <= _FEW
        options = {"size": size or _chosen_size(source), "layout": "raw", "workers": 1 if few else None}
        options["value_range"] = value_range
        if check is not None:
            check(options["size"])
        if size is None and not (folder / INDEX).is_file():
            say_side(stages, setting, options["size"])

    def show(progress: loaders.Progress) -> None:
        stages.tell("images", progress.position, progress.total)

    require_own(folder)
    try:
        loaders.build_shards(source, folder, shard_bytes=SHARD_BYTES, progress=show, **options)
    except ValueError as error:
        if (found := found_instead(error)) is None or isinstance(source, loaders.ArraySource):
            raise
        _require_same_photos(source, path, folder, found, stages)
    if not options and size is None:
        size = _size_of_shards(folder)  # arrays are stored as they are
        if size is not None:
            say_side(stages, setting, size)
    photos = Photos(path, folder, None if options else size)
    _tell_left_out(photos, stages)
    return photos


def _require_same_photos(source: loaders.ImageSource, path: Path, folder: Path, found: str, stages: Stages) -> None:
    """Raise ValueError, which names what has changed, unless that are files beside photos. found: see other_set."""
    left_out = [name for name, _ in Photos(path, folder, None).left_out] if (folder / INDEX).is_file() else []
    since = Since.of([item.name for item in source.items()], folder, left_out)
    if not path.is_dir() or not photos_are_the_same(source, folder, found, since, left_out):
        raise other_set(f"{found.removesuffix(')')}; {since.told()})" if since.told() else found)
    if since.told():
        stages.say("images", f"those of before, though files have changed that are none: {since.told()}")


def is_photos(path: Path) -> bool:
    """Return whether a path is of images that are read into shards first: a folder of files, or an archive of them."""
    if path.is_dir():
        return not (path / INDEX).is_file()
    return path.is_file() and is_archive(path)


def as_shards(
    path: Path,
    folder: Path,
    size: int | None,
    split: str | None = None,
    check: Callable[[int], None] | None = None,
    value_range: int | None = None,
    setting: str = "--image-size",
) -> Path:
    """Return the shards of images: those at path, or new ones in a folder if path is of image files.

    size: the side of the central square that is taken of each image; None: chosen from the images. Class folders are
    labels; without them no image has one. check, value_range, setting: see read_photos. Raises ValueError if the new
    ones would lie among the images, or the folder holds those of other images.
    """
    if not is_photos(path):
        return path
    require_apart(path, folder)
    stages = Stages()
    try:
        read = read_photos(
            path, folder, size=size, split=split, without_labels=False, stages=stages, check=check,
            value_range=value_range, setting=setting,
        )  # fmt: skip
    except ValueError as error:
        if (found := found_instead(error)) is None:
            raise
        raise ValueError(
            f"{found}, so not of {path} as it is now; name another output, or remove that folder."
        ) from None
    return read.shards


def range_of(shards: Path) -> int | None:
    """Return which value of images of 16 or more bits is white in a folder of shards; None: there are none."""
    return loaders.read_index(shards).value_range if (shards / INDEX).is_file() else None


def range_at(path: Path, split: str) -> int | None:
    """Return which value of 16-bit images is white at a path, as a training takes them; None: there are none."""
    if not is_photos(path):
        return range_of(path)
    source = _source(path, split if split in splits_at(path) else None, False)
    return None if isinstance(source, loaders.ArraySource) else found_range(source)


def tell_unlike(path: Path, value_range: int | None) -> None:
    """Warn of shards in which another value is white than among the images that were learned from; None: not known."""
    own = range_of(path)
    if None not in (own, value_range) and own != value_range:
        _log.warning(
            "%s: %d is white in these images, and %d in those that were learned from: equal numbers mean unlike "
            "brightness; hebbcore shards build --stats-from takes the range of other shards", printable(str(path)), own,
            value_range,
        )  # fmt: skip


def require_apart(path: Path, folder: Path) -> None:
    """Raise ValueError if a folder to write would lie in the one of the images."""
    if folder.resolve().is_relative_to(path.resolve()):
        raise ValueError(f"{folder.parent} must lie outside of the images' folder, {path}: name another output.")


def read_anew(folder: Path, read: Callable[[], T]) -> T:
    """Return what `read` reads into a folder; what was read there before of other images is removed first.

    The caller holds the folder. Nothing is removed from one that was not made here, or that holds other files: it is a
    user's.
    """
    before, mark = folder.exists(), folder / _MADE
    is_hidden = folder.name.startswith(".")  # so no user calls one
    if not before and not is_hidden:
        make_folder(folder)
        mark.touch()
    try:
        return read()
    except ValueError:
        is_own = before and (is_hidden or mark.exists()) and all(map(_is_read, folder.rglob("*")))
        if not is_own:
            raise
        for place in folder.iterdir():
            if place != mark:  # which goes last: without it a removal that is killed could not go on
                shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
        shutil.rmtree(folder)
    return read_anew(folder, read)


def _is_read(path: Path) -> bool:
    """Return whether a file is one that reading photos leaves, and `predict` beside them; or the folder of photos."""
    if path.is_dir() and not path.is_symlink():
        return path.name == IMAGES
    return _READ.fullmatch(path.name) is not None


def require_own(folder: Path) -> None:
    """Raise ValueError if images would be read into a folder among files of others."""
    if any((folder / name).exists() for name in (INDEX, PLAN)):
        return
    others = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
    if others:
        raise ValueError(
            f"{folder} holds files of others, such as {printable(others[0])}, and images would be read into it: name "
            "another output, or move them."
        )


def side_at(path: Path, split: str) -> int | None:
    """Return the side of the images at a path, as a training takes them without a size; None: they are not square."""
    shape = shape_at(path, split)
    return shape[0] if shape is not None and len(shape) == 3 and shape[0] == shape[1] else None


def shape_at(path: Path, split: str, chosen: Callable[[int], None] | None = None) -> Sequence[int] | None:
    """Return the shape of the images at a path, as a training takes them without a size; None: they have several.

    chosen: called with the side that image files get.
    """
    if is_photos(path):
        source = _source(path, split if split in splits_at(path) else None, False)
        if isinstance(source, loaders.ArraySource):
            return source.shape
        side = _chosen_size(source)
        if chosen is not None:
            chosen(side)
        return (side, side, 3)
    return loaders.read_index(path).image_shape if path.is_dir() else hdf5_arrays(path, split)[0].shape[1:]


def side_begun(folder: Path) -> int | None:
    """Return the side of the images that are being read, or were read, into a folder; None: there are none."""
    if (folder / INDEX).is_file():
        return loaders.read_index(folder).settings.get("size")
    try:
        side = json.loads((folder / PLAN).read_text("utf-8"))["settings"]["size"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # what is damaged the reading says
        return None
    return side if isinstance(side, int) else None


def say_side(stages: Stages, setting: str, side: int) -> None:
    """Print how large photos are read, where nobody has said it. setting: what sets it."""
    chosen = f"as large as their usual shorter side, {SMALLEST} to {LARGEST}; {setting} sets another size"
    stages.say("images", f"read in {side} × {side} pixels, {chosen}")


def splits_at(path: Path) -> Collection[str]:
    """Return the splits of images that are read into shards first; none if they are one."""
    return all_splits(path) if is_photos(path) else ()


def all_splits(path: Path) -> Collection[str]:
    """Return the splits of images, also of an HDF5 file; none if they are one."""
    kind = kind_of(path)
    return kind.splits(path) if kind is not None and kind.splits is not None else ()


def labelled_split(path: Path, split: str) -> str | None:
    """Return the split of several that is to train or to test with: val for a test whose labels nobody has."""
    splits = splits_at(path)
    if split == "test" and "val" in splits and ("test" not in splits or not _source(path, split, False).class_names):
        return "val"
    return split if split in splits else None


def _has_classes(folder: Path) -> bool:
    """Return whether a folder holds shards whose images are of classes."""
    return (folder / INDEX).is_file() and bool(loaders.read_index(folder).class_names)


def _source(
    path: Path, split: str | None, without_labels: bool, in_archives: bool = False
) -> loaders.ArraySource | loaders.ImageSource:
    """Return what is at path, opened. Unlike for a build of shards, files of arrays need no labels.

    without_labels: folders are no classes, but those in archives are if in_archives says so.
    """
    import h5py

    if path.is_file() and h5py.is_hdf5(path):
        images, labels = hdf5_arrays(path, split or "train")
        if labels is None:
            names = hdf5_names(path, split or "train")
            return loaders.array_source(images, np.full(len(images), -1), names=names, caller="classify")
    if without_labels and path.is_dir() and kind_of(path) is None:
        if split is not None:
            raise ValueError(f"--split is for sources of several splits; {path} is a folder of images.")
        source: loaders.ArraySource | loaders.ImageSource = loaders.ImageFiles(path)
    elif without_labels and not in_archives and path.is_file() and is_archive(path):
        source = _of_archive(path, split)
    else:
        source = loaders.open_source(path, split=split)
    if isinstance(source, loaders.ImageFiles | loaders.ZipImages | loaders.ClassFolderTar) and not source.class_names:
        del source.remarks[-1:]  # that no image has a label; one that folders are no classes stays
    return source


def _of_archive(path: Path, split: str | None) -> loaders.ArraySource | loaders.ImageSource:
    """Return what an archive holds; the folders of a zip or a tar are no classes."""
    if is_zip(path):
        return loaders.ZipImages(path, split, classes=False)
    kind = kind_of(path)
    if kind is not None and kind.open is open_tar:
        return loaders.ClassFolderTar(path, classes=False, split=split)
    return loaders.open_source(path, split=split)


def _chosen_size(source: loaders.ImageSource) -> int:
    """Return the side that images get: the usual shorter side of the images, between the smallest and the largest."""
    sides = []
    for item in sample_of(source, _SAMPLE):
        if item.problem is not None:
            continue
        try:
            sides.append(min(open_image(item.read()).size))
        except MemoryError:
            raise
        except Exception:  # decoders meet damage with all kinds of exceptions; the build says what is wrong
            continue
    return min(LARGEST, max(SMALLEST, int(median(sides)))) if sides else LARGEST


def _size_of_shards(path: Path) -> int | None:
    """Return the side that images of a set of shards get; None: arrays that are small, or no pictures, stay whole."""
    index = loaders.read_index(path)
    if index.image_shape is not None:
        resizable = index.image_shape[2] in (1, 3) and index.dtype == "uint8"
        return LARGEST if resizable and min(index.image_shape[:2]) > 2 * LARGEST else None
    stored = index.settings.get("size")
    return min(LARGEST, stored) if isinstance(stored, int) and stored >= SMALLEST else LARGEST


def _tell_left_out(photos: Photos, stages: Stages) -> None:
    """Name files that were left out, with the reasons."""
    found = photos.left_out
    for name, reason in found[:_SHOWN]:
        stages.say("left out", f"{name} ({reason})")
    if len(found) > _SHOWN:
        stages.say("left out", f"{len(found) - _SHOWN:,} more files; {photos.shards / REPORT} names them")
