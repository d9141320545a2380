"""Features of a stream of images into a file, in bounded memory; an interrupted extraction goes on."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checkpoint, checks, streams
from hebbcore.engine import devices
from hebbcore.features import formats
from hebbcore.features.choice import Features
from hebbcore.features.helpers import of_batches, whole
from hebbcore.features.storage import DTYPES, Growing, drop_other, finished, require_names, require_no_other
from hebbcore.files import forget_lock, locked_file, make_folder
from hebbcore.network import Network
from hebbcore.streams import Stream

_MOST_STATE = 50_000  # characters
_SAVE_SECONDS = 10.0  # between notes of how far it got
_FAINT = 3e-6  # numbers that float16 rounds by 1 % or more, or to 0
_MOST_FAINT = 0.01  # share of images whose features may all be so: blank ones
_log = logging.getLogger("hebbcore")


def extract_features(
    network: Network,
    stream: Stream,
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    dtype: str = "float32",
    pool: int | None = None,
    mirror: bool = False,
    shifts: int = 0,
    format: str = "hdf5",
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a layer's output for every image of a stream to an HDF5 file, or in another format; return its path.

    The file is HDF5: features (n, …), labels (n,), names (n,) of the images and classes (k,), what the labels 0, 1, …
    mean, as UTF-8 if the stream has them, and as attributes what they are. Before it stands a line with a digest of all
    that, which `hebbcore verify` and a call for the same file compare. While the file grows it is called path.partial,
    with path.progress beside it; the same call goes on from there. In another format they are written from such a file,
    .path.h5, when that is done, and it is removed.

    Parameters
    ----------
    network : Network
        Computes the features; built.
    stream : Stream
        Unshuffled batches of (images, labels), such as a loaders.ShardStream or a stream of one's own, see
        hebbcore.streams. Its images have the shape that the network was made for.
    path : str or path
        The file; its folder is made if it is not there.
    layer : str, optional
        A name in `network.names`; the last by default.
    dtype : {"float32", "float16"}
        Numbers in the file. float16 keeps three digits of numbers from 6e-5 to 65,504, fewer of smaller ones, and none
        below 3e-8; a warning tells if that is all that many images have.
    pool : int, optional
        The output is averaged over a grid of pool × pool cells first.
    mirror : bool
        The output is averaged with the output for the mirror image, see Network.transform.
    shifts : int
        The output is averaged over each image and the same shifted by so many pixels left, right, up and down, its
        outermost pixels repeated: five views, with mirror ten. 0: it is not.
    format : {"hdf5", "npy", "parquet", "zarr"}
        npy: path is a folder with features.npy, labels.npy and names.npy, to map into memory. parquet: a file with the
        columns name, label and features (pyarrow; extra parquet). zarr: a folder, a group with the arrays features,
        labels and names (extra zarr).
    progress : callable, optional
        Called with the number of images written so far: before the first batch too, with those of an interrupted
        extraction that goes on.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ImportError
        If the format's package is not installed.
    TypeError
        If the stream lacks something.
    ValueError
        For an unknown layer, bad arguments, a partial file that is damaged or of another extraction, and a damaged
        path.
    FileExistsError
        If path exists and holds something else, or features of the same images under other names.
    BlockingIOError
        While another process extracts into it.
    OverflowError
        If a feature is too large for the dtype.
    FloatingPointError
        If a feature is NaN or infinite.
    OSError
        If the disk is full; nothing stays then but an extraction to go on with.
    """
    function = "extract"
    checks.callback(function, "progress", progress)
    features = asked(
        function, network, path, layer=layer, dtype=dtype, pool=pool, mirror=mirror, shifts=shifts, format=format
    )
    streams.require_stream(function, "stream", stream, ("images", "image_shape", "state", "restore"))
    if tuple(stream.image_shape) != network.image_shape:
        raise ValueError(
            f"{function}: images must be {network.image_shape}, as the network was made for, got "
            f"{tuple(stream.image_shape)}."
        )
    path, settings = Path(path), _settings(features, dtype, stream)
    make_folder(path.parent)
    if format == "hdf5":
        _into_hdf5(function, path, settings, features, stream, progress)
    else:
        file, names = path.with_name(f".{path.name}.h5"), streams.names_of(stream)
        if not formats.finished(function, format, path, settings, names):
            with locked_file(path, "extracting into"):
                if not formats.finished(function, format, path, settings, names):  # by who held it until now
                    _into_hdf5(function, file, settings, features, stream, progress)
                    formats.write(format, file, path, settings)
        with suppress(OSError):  # as where nothing can be written, nor need be
            file.unlink()  # a kill may have left it
        for each in (file, path):
            forget_lock(each)
    return path


def asked(
    function: str,
    network: Network,
    path: str | os.PathLike[str],
    *,
    layer: str | None,
    dtype: str,
    pool: int | None,
    mirror: bool,
    shifts: int,
    format: str,
) -> Features:
    """Return which features are wanted; see extract_features.

    Raises ValueError, TypeError or FileExistsError for what that refuses whatever the images are.
    """
    features = Features.checked(function, network, layer, pool, mirror, shifts)
    checks.choice(function, "dtype", dtype, DTYPES)
    checks.choice(function, "format", format, formats.FORMATS)
    formats.require(function, format)
    if format == "hdf5":
        require_no_other(function, Path(path), _settings(features, dtype))
    return features


def forget_other(features: Features, stream: Stream, path: Path) -> None:
    """Remove what an interrupted extraction of other features or images left of a file, in a folder of the caller's."""
    drop_other(path, _settings(features, "float32", stream))


def _into_hdf5(
    function: str,
    path: Path,
    settings: dict[str, Any],
    features: Features,
    stream: Stream,
    progress: Callable[[int], None] | None,
) -> None:
    """Write the features to an HDF5 file unless it is done."""
    names = streams.names_of(stream)
    if finished(function, path, settings):
        require_names(function, path, names)
        return
    with locked_file(path, "extracting into"):
        if not finished(function, path, settings):  # by the process that held it until now
            file = Growing(function, path, settings, names, streams.class_names_of(stream))
            try:
                _fill(function, file, features, stream, progress or (lambda done: None))
            except Exception:
                if not file.done:  # nothing to go on from, and in the way of other settings
                    file.drop()
                raise
            file.finish()


def _settings(features: Features, dtype: str, stream: Stream | None = None) -> dict[str, Any]:
    """Return what tells this extraction from others, as JSON types. stream: None: all but the images."""
    settings: dict[str, Any] = {
        "layer": features.layer, "dtype": dtype, "pool": features.grid, "mirror": features.mirror
    }  # fmt: skip
    if stream is not None:
        settings["images"] = int(stream.images)
    settings |= {"shape": list(features.shape), "weights": checkpoint.digest_of(features.network)}
    if stream is not None:
        settings["data"] = _short(streams.at(streams.written_state(stream, stream.state()), 0, 0))
        if (pixels := streams.pixels_of(stream)) is not None:
            settings["pixels"] = pixels
    if features.shifts:  # earlier files do not say that there are none
        settings["shifts"] = features.shifts
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _short(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a stream, or its digest if it is too long for an attribute."""
    text = json.dumps(state)
    if len(text) <= _MOST_STATE:
        return state
    return {"digest": hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def _made(features: Features, first: int, images: Any, labels: Any) -> tuple[Any, Any]:
    return devices.to_device(features.of(images), "cpu"), labels


def _fill(function: str, file: Growing, features: Features, stream: Stream, progress: Callable[[int], None]) -> None:
    """Write the features of all images that are not in the file yet."""
    count, saved, faint, first = int(stream.images), time.monotonic(), 0, file.done
    stream.restore(streams.at(stream.state(), 0, file.batch))
    progress(file.done)
    for parts in of_batches(partial(_made, features), stream):
        batch, classes = (whole(some) for some in zip(*parts, strict=True))
        if file.done + len(batch) > count:
            raise ValueError(f"{function}: the stream gives more images than the {count} that it says.")
        finite = np.isfinite(batch.reshape(len(batch), -1)).all(axis=1)
        if not finite.all():
            image = file.done + int(finite.argmin())
            raise FloatingPointError(
                f"{function}: {features.layer} made NaN or infinity of {streams.image_at(stream, image)}; clean the "
                "image, or train the network with a lower learning_rate."
            )
        kept = file.add(batch, classes)
        if kept.dtype != batch.dtype and not np.isfinite(kept).all():
            advice = 'use dtype="float32"' if kept.dtype == np.float16 else "scale the data"
            raise OverflowError(f"{function}: a feature of {features.layer} does not fit {kept.dtype}; {advice}.")
        faint += _faint(batch) if kept.dtype == np.float16 else 0
        file.count(len(batch))
        if time.monotonic() - saved >= _SAVE_SECONDS:
            file.save()
            saved = time.monotonic()
        progress(file.done)
    if file.done != count:
        raise ValueError(f"{function}: the stream gave {file.done} images instead of {count}.")
    if faint > _MOST_FAINT * (count - first):
        _log.warning(
            '%s: the features of %d of %d images are all below %g, of which float16 keeps a digit or two, and of the '
            'smallest none; use dtype="float32"', function, faint, count - first, _FAINT,
        )  # fmt: skip


def _faint(features: Any) -> int:
    """Return of how many images the largest feature is too small for float16; 0 is not."""
    largest = np.abs(features.reshape(len(features), -1)).max(axis=1, initial=0)
    return int(np.count_nonzero((largest > 0) & (largest < _FAINT)))
