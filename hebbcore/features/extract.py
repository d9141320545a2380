"""Features of a stream of images into a file, in bounded memory; an interrupted extraction goes on."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checkpoint, checks, streams
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.features.storage import DTYPES, Growing, finished
from hebbcore.files import locked_file
from hebbcore.layers import GridPool
from hebbcore.network import Network
from hebbcore.streams import Stream

_MOST_STATE = 50_000  # characters
_SAVE_SECONDS = 10.0  # between notes of how far it got


def extract_features(
    network: Network,
    stream: Stream,
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    dtype: str = "float32",
    pool: int | None = None,
    mirror: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a layer's output for every image of a stream to an HDF5 file, and return its path.

    stream: unshuffled batches of (images, labels) with state() and restore(), such as a loaders.ShardStream; its
        `images` and `image_shape` say how many there are and of what shape; `names`, if it has them, whose they are.
    layer: a name in network.names; None: the last. dtype: "float32" or "float16".
    pool: average the output over a grid of pool × pool cells first. mirror: average with the output for the mirror
        image, see Network.transform.
    progress: called with the number of images written so far.

    The file is HDF5: features (n, …), labels (n,), names (n,) as UTF-8 if the stream has them, and as attributes what
    they are; before it a line with a digest of all that, which `hebbcore verify` and a call for the same file compare.
    While it grows it is called path.partial, with path.progress beside it; the same call goes on from there.

    Raises ValueError for an unknown layer, bad arguments, a partial file that is damaged or of another extraction, and
    a damaged path; FileExistsError if path exists and holds something else; BlockingIOError while another process
    extracts into it; OverflowError if a feature is too large for float16, FloatingPointError if it is NaN or infinite;
    OSError if the disk is full, of which nothing stays but an extraction to go on with.
    """
    function = "extract"
    name = network.names[-1] if layer is None else layer
    shape = network.shapes[network.index_of(function, name)]
    checks.choice(function, "dtype", dtype, DTYPES)
    if checks.boolean(function, "mirror", mirror):
        network.require_mirror(function)
    if pool is not None:
        checks.integer(function, "pool", pool, 1)
        if len(shape) != 3 or pool > min(shape[:2]):
            raise ValueError(f"{function}: pool must be at most the sides of {name}'s output {shape}, got {pool}.")
        shape = (pool, pool, shape[2])
    streams.require_stream(function, "stream", stream, ("images", "image_shape", "state", "restore"))
    if tuple(stream.image_shape) != network.image_shape:
        raise ValueError(
            f"{function}: images must be {network.image_shape}, as the network was made for, got "
            f"{tuple(stream.image_shape)}."
        )
    path = Path(path)
    count = int(stream.images)
    start = streams.at(stream.state(), 0, 0)
    settings = {
        "layer": name, "dtype": dtype, "pool": pool, "mirror": mirror, "images": count, "shape": list(shape),
        "weights": checkpoint.digest_of(network), "data": _short(start),
    }  # fmt: skip
    settings = json.loads(json.dumps(settings))
    if finished(function, path, settings):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(path, "extracting into"):
        if finished(function, path, settings):  # by the process that held it until now
            return path
        file = Growing(function, path, settings, streams.names_of(stream))
        saved = time.monotonic()
        try:
            stream.restore(streams.at(start, 0, file.batch))
            for images, classes in stream:
                output = network.transform(images, name, mirror=mirror)
                if pool is not None:
                    output = pool_to_grid(output, pool)
                some = devices.to_device(output, "cpu")
                if file.done + len(some) > count:
                    raise ValueError(f"{function}: the stream gives more images than the {count} that it says.")
                finite = np.isfinite(some.reshape(len(some), -1)).all(axis=1)
                if not finite.all():
                    image = file.done + int(finite.argmin())
                    raise FloatingPointError(
                        f"{function}: {name} made NaN or infinity of image {image} (counted from 0); clean the "
                        "image, or train the network with a lower learning_rate."
                    )
                kept = file.add(some, classes)
                if dtype == "float16" and not np.isfinite(kept).all():
                    raise OverflowError(f'{function}: a feature of {name} does not fit float16; use dtype="float32".')
                file.count(len(some))
                if time.monotonic() - saved >= _SAVE_SECONDS:
                    file.save()
                    saved = time.monotonic()
                if progress is not None:
                    progress(file.done)
        except Exception:
            if not file.done:  # nothing to go on from, and in the way of other settings
                file.drop()
            raise
        if file.done != count:
            raise ValueError(f"{function}: the stream gave {file.done} images instead of {count}.")
        file.finish()
    return path


def _short(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a stream, or its digest if it is too long for an attribute."""
    text = json.dumps(state)
    if len(text) <= _MOST_STATE:
        return state
    return {"digest": hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def pool_to_grid(images: Array, cells: int) -> Array:
    """Return the averages (n, cells, cells, C) of images (n, H, W, C), float32 or float64, over an even grid."""
    device, precision = backend.device_of(images), images.dtype.name
    return Network([GridPool(cells)], images.shape[1:], device=device, precision=precision).transform(images)
