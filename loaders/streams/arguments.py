"""What may be asked of a ShardStream: its arguments, checked and brought to one form."""

import operator
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from loaders.images.transforms import CenterCrop, Floats, RandomResizedCrop, Transform, draws_at_random
from loaders.shards.index import Index

Normalization = Literal["stored"] | tuple[Sequence[float], Sequence[float]]

SHUFFLE_BUFFER = 2**28  # bytes, unless one says otherwise


def check_integers(least: int, **values: Any) -> None:
    """Raise ValueError unless each of the values is an integer of at least that."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"ShardStream: {name} must be an integer >= {least}, got {value!r}")


def check_choices(subset: object, subset_seed: int | None, on_error: str) -> None:
    """Raise ValueError for a seed that chooses nothing, and for another way with damaged records."""
    if subset_seed is not None and subset is None:
        raise ValueError(f"ShardStream: subset_seed {subset_seed} chooses nothing without subset; give both")
    if on_error not in ("raise", "skip"):
        raise ValueError(f'ShardStream: on_error must be "raise" or "skip", got {on_error!r}')


def without_effect(shuffle: bool, transform: Transform | None, seed: int, shuffle_buffer: int) -> set[str]:
    """Return which settings of the order and of random crops change nothing.

    Raises ValueError for such a one that was given; a default never counts.
    """
    if shuffle:
        return set()
    if shuffle_buffer != SHUFFLE_BUFFER:
        raise ValueError(
            f"ShardStream: shuffle_buffer={shuffle_buffer} has no effect without shuffle: it is the memory of the "
            "shuffle; leave it out, or give shuffle=True"
        )
    if draws_at_random(transform):
        return {"shuffle_buffer"}
    if seed:
        raise ValueError(
            f"ShardStream: seed={seed} has no effect without shuffle and a random transform: nothing is drawn; leave "
            "it out, give shuffle=True, or choose a subset by subset_seed"
        )
    return {"shuffle_buffer", "seed"}


def checked_part(part: tuple[int, int]) -> tuple[int, int]:
    """(rank, world) as integers."""
    try:
        rank, world = map(operator.index, part)
    except (TypeError, ValueError):
        rank, world = 0, 0
    if not 0 <= rank < world:
        raise ValueError(f"ShardStream: part must be (rank, world) with 0 <= rank < world, got {part!r}")
    return rank, world


def checked_transform(transform: Transform | None, image_size: int | None) -> Transform | None:
    """The transform, or the one that image_size stands for."""
    if image_size is not None:
        if transform is not None:
            raise ValueError("ShardStream: give image_size or transform, not both; a transform has its own size")
        return CenterCrop(image_size)
    if transform is not None and not isinstance(transform, (CenterCrop, RandomResizedCrop)):
        raise TypeError(f"ShardStream: transform must be CenterCrop or RandomResizedCrop, got {transform!r}")
    return transform


def checked_subset(subset: int | float | None, records: int) -> int | float | None:
    """A number of records, a fraction of them, or None."""
    if subset is None or (isinstance(subset, float) and 0 < subset <= 1):
        return subset
    if isinstance(subset, (int, np.integer)) and not isinstance(subset, bool) and 1 <= subset <= records:
        return int(subset)
    raise ValueError(
        f"ShardStream: subset must be an int between 1 and the number of records ({records}), or a float fraction "
        f"of every class, 0 < fraction <= 1, got {subset!r}"
    )


def scaling(index: Index, dtype: str | None, normalize: Normalization | None) -> tuple[Floats, Floats] | None:
    """(scale, offset) per channel such that pixels * scale + offset is what a stream's arguments ask for."""
    if dtype not in (None, "uint8", "float32", "stored"):
        raise ValueError(f'ShardStream: dtype must be "uint8", "float32" or "stored", got {dtype!r}')
    if dtype == "uint8" and index.dtype != "uint8":
        raise ValueError(f'ShardStream: the images are {index.dtype}, not uint8; dtype must be "float32" or "stored"')
    if dtype in ("uint8", "stored") or (dtype is None and index.dtype == "uint8"):
        if normalize is not None:
            raise ValueError(f'ShardStream: normalize needs dtype="float32", got "{dtype or "uint8"}"')
        return None
    channels = len(index.mean)
    if normalize is None:
        normalize = ([0.0] * channels, [1.0] * channels)
    elif normalize == "stored":
        normalize = (index.mean, index.std)
    try:
        mean, std = (np.asarray(values, np.float64) for values in normalize)
    except (TypeError, ValueError):
        mean, std = np.zeros(0), np.zeros(0)
    right = mean.shape == std.shape == (channels,) and (std > 0).all()
    if not right or not np.isfinite([mean, std]).all():
        raise ValueError(
            f'ShardStream: normalize must be "stored" or (mean, std) with {channels} numbers each and std > 0, '
            f"got {normalize}"
        )
    return 1 / (index.white * std), -mean / std
