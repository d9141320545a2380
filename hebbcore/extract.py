"""Features of a stream of images into a file, in bounded memory; an interrupted extraction goes on."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import backend, checkpoint, checks
from hebbcore.backend import Array
from hebbcore.data import require_stored_order
from hebbcore.files import locked_file, sync, write_atomically
from hebbcore.layers import GridPool
from hebbcore.network import Network

DTYPES = ("float32", "float16")
_SAVE_SECONDS = 10.0  # between notes of how far it got


def extract_features(
    network: Network,
    stream: Any,
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
        `images` and `image_shape` say how many there are and of what shape.
    layer: a name in network.names; None: the last. dtype: "float32" or "float16".
    pool: average the output over a grid of pool × pool cells first. mirror: average with the output for the mirror
        image, see Network.transform.
    progress: called with the number of images written so far.

    The file holds features (n, …) and labels (n,), and as attributes what they are. While it grows it is called
    path.partial, with path.progress beside it; the same call goes on from there.

    Raises ValueError for an unknown layer, a partial file of another extraction, and bad arguments; FileExistsError if
    path exists and holds something else; BlockingIOError while another process extracts into it; OverflowError if a
    feature is too large for float16, FloatingPointError if it is NaN or infinite.
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
    require_stored_order(function, "stream", stream)
    if tuple(stream.image_shape) != network.image_shape:
        raise ValueError(
            f"{function}: images must be {network.image_shape}, as the network was made for, got "
            f"{tuple(stream.image_shape)}."
        )
    path = Path(path)
    count = int(stream.images)
    settings = {
        "layer": name, "dtype": dtype, "pool": pool, "mirror": mirror, "images": count, "shape": list(shape),
        "weights": checkpoint.digest_of(network), "data": {**stream.state(), "epoch": 0, "batch": 0},
    }  # fmt: skip
    settings = json.loads(json.dumps(settings))
    partial, note = path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.progress")
    if _finished(function, path, note, settings):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(path, "extracting into"):
        if _finished(function, path, note, settings):  # by the process that held it until now
            return path
        batch, done = _begin(function, partial, note, settings, count, shape)
        features, labels = _arrays(partial)
        stream.restore({**settings["data"], "batch": batch})
        saved = time.monotonic()
        try:
            for images, classes in stream:
                output = network.transform(images, name, mirror=mirror)
                if pool is not None:
                    output = pool_to_grid(output, pool)
                some = backend.to_device(output, "cpu")
                with np.errstate(over="ignore"):
                    features[done : done + len(some)] = some
                finite = np.isfinite(some.reshape(len(some), -1)).all(axis=1)
                if not finite.all():
                    image = done + int(finite.argmin())
                    raise FloatingPointError(
                        f"{function}: {name} made NaN or infinity of image {image} (counted from 0); clean the "
                        "image, or train the network with a lower learning_rate."
                    )
                if dtype == "float16" and not np.isfinite(features[done : done + len(some)]).all():
                    raise OverflowError(f'{function}: a feature of {name} does not fit float16; use dtype="float32".')
                labels[done : done + len(some)] = classes
                batch += 1
                done += len(some)
                if time.monotonic() - saved >= _SAVE_SECONDS:
                    features.flush()
                    labels.flush()
                    _note(note, settings, batch, done)
                    saved = time.monotonic()
                if progress is not None:
                    progress(done)
        except Exception:
            if not done:  # nothing to go on from, and in the way of other settings
                partial.unlink()
                note.unlink()
            raise
        if done != count:
            raise ValueError(f"{function}: the stream gave {done} images instead of {count}.")
        features.flush()
        labels.flush()
        del features, labels
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
        note.unlink()
    return path


def pool_to_grid(images: Array, cells: int) -> Array:
    """Return the averages (n, cells, cells, C) of images (n, H, W, C), float32 or float64, over an even grid."""
    device, precision = backend.device_of(images), images.dtype.name
    network = Network([GridPool(cells)], device=device, precision=precision)
    network.lay_out(images.shape[1:])
    return network.transform(images)


def _finished(function: str, path: Path, note: Path, settings: dict[str, Any]) -> bool:
    """Return whether the file is there. Raises FileExistsError if it holds something else."""
    if not path.exists():
        return False
    if _settings_of(path) != settings:
        raise FileExistsError(f"{function}: {path} exists and holds something else; remove it or name another file.")
    note.unlink(missing_ok=True)  # a kill may have left it
    return True


def _settings_of(path: Path) -> Any:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return json.loads(str(file.attrs.get("settings", "null")))
    except (OSError, ValueError):
        return None


def _begin(
    function: str, partial: Path, note: Path, settings: dict[str, Any], count: int, shape: tuple[int, ...]
) -> tuple[int, int]:
    """Make the partial file, or find how far it got: (batches, images)."""
    import h5py

    if partial.exists() and note.exists():
        try:
            before = json.loads(note.read_text("utf-8"))
            batch, done, theirs = int(before["batch"]), int(before["done"]), before["settings"]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{function}: {note} does not say how far {partial} got ({type(error).__name__}: {error}); remove both "
                "to begin again."
            ) from None
        if theirs != settings:
            raise ValueError(f"{function}: {partial} is of another extraction; finish that one, or remove it.")
        return batch, done
    note.unlink(missing_ok=True)  # of another file: it must not speak for this one
    with h5py.File(partial, "w") as file:
        # early: all space is there from the beginning, so that the arrays can be mapped and no kill tears the file
        for name, size, dtype in (("features", (count, *shape), settings["dtype"]), ("labels", (count,), "int64")):
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            plan.set_obj_track_times(False)  # the same features make the same file
            h5py.h5d.create(
                file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(size), plan
            )
        file.attrs["settings"] = json.dumps(settings)
    with partial.open("r+b") as whole:  # else a full disk kills the process while it writes to the map
        os.posix_fallocate(whole.fileno(), 0, partial.stat().st_size)
    _note(note, settings, 0, 0)
    return 0, 0


def _arrays(partial: Path) -> tuple[Any, Any]:
    """Return the features and labels of a file as memory maps."""
    import h5py

    with h5py.File(partial, "r") as file:
        places = [(d.id.get_offset(), d.dtype, d.shape) for d in (file["features"], file["labels"])]
    features, labels = (
        np.memmap(partial, dtype=dtype, mode="r+", offset=offset, shape=shape) for offset, dtype, shape in places
    )
    return features, labels


def _note(note: Path, settings: dict[str, Any], batch: int, done: int) -> None:
    text = json.dumps({"settings": settings, "batch": batch, "done": done})
    write_atomically(note, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
