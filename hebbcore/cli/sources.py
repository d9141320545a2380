"""Images for the commands: shards, or an HDF5 file of arrays."""

from pathlib import Path
from typing import Any

import loaders


def is_shards(path: Path) -> bool:
    """Return True for a folder. Raises FileNotFoundError if there is nothing."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; give a folder of shards (hebbcore shards build), or an HDF5 file."
        )
    return path.is_dir()


def read_arrays(path: Path, split: str) -> tuple[Any, Any]:
    """Return images and labels of <split> of an HDF5 file."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:  # HDF5 does not always say which file
        raise ValueError(
            f"{path} cannot be read as HDF5 ({error}); give an HDF5 file, or a folder of shards (hebbcore shards)."
        ) from None
    with file:
        if not all(isinstance(file.get(f"{split}/{name}"), h5py.Dataset) for name in ("images", "labels")):
            held = ", ".join(file) or "nothing"
            raise ValueError(f"{path} must hold {split}/images and {split}/labels; it holds {held}.")
        return file[split]["images"][...], file[split]["labels"][...]


def labelled_stream(path: Path, split: str, batch_size: int, image_size: int | None) -> Any:
    """Return batches of (images, labels) in order, with state() and restore(), of shards or an HDF5 file."""
    if is_shards(path):
        return loaders.ShardStream(path, batch_size=batch_size, image_size=image_size)
    if image_size is not None:
        raise ValueError(f"--image-size is for shards; {path} is a file of arrays.")
    return loaders.ArrayStream(*read_arrays(path, split), batch_size=batch_size)
