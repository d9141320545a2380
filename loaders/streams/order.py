"""Which record comes when: subsets, parts, and the shuffle. Index arithmetic only, no files."""

import numpy as np
import numpy.typing as npt

from loaders.shards.format import Ints

BLOCK_BYTES = 2**19
BLOCKS = 256


def block_length(records: int, mean_bytes: float) -> int:
    """How many neighbours on disk stay together in a shuffle.

    Half a megabyte of them reads at nearly the full speed of a disk; a set too small for 256 such blocks, which the
    system keeps in memory anyway, gets shorter ones, so that parts still change from epoch to epoch.
    """
    return max(1, min(int(BLOCK_BYTES / max(1.0, mean_bytes)), records // BLOCKS))


def choose(labels: Ints, subset: int | float | None, seed: int) -> Ints:
    """The records of a subset, in increasing order.

    subset: an int is the first n of a seeded shuffle; a float is that fraction of every class, and of the records
    without a label, rounded, at least one; None is everything. A smaller subset is part of a larger one of the same
    kind and seed.
    """
    if subset is None:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    if isinstance(subset, float):
        classes = [shuffled[labels[shuffled] == label] for label in np.unique(labels)]
        return np.sort(np.concatenate([members[: max(1, round(subset * len(members)))] for members in classes]))
    return np.sort(shuffled[:subset])


def part_of(count: int, rank: int, world: int) -> slice:
    """The share of a rank in count things: shares differ by one at most, do not overlap, and leave nothing out."""
    return slice(count * rank // world, count * (rank + 1) // world)


def shares_of(count: int, batch_size: int, batches: int, rank: int, world: int) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Which of so many records in an epoch's order are in a rank's share of its batches, and where its batches begin.

    The share of n records is those from ⌈rank·n/world⌉ to ⌈(rank + 1)·n/world⌉, of each batch; the last of the edges is
    where the last share ends.
    """
    places = np.arange(min(count, batches * batch_size))
    sizes = np.minimum(batch_size, len(places) - np.arange(batches) * batch_size)
    first, end = -(-rank * sizes // world), -(-(rank + 1) * sizes // world)
    number, within = np.divmod(places, batch_size)
    mine = np.zeros(count, bool)
    mine[: len(places)] = (within >= first[number]) & (within < end[number])
    return mine, np.concatenate([[0], np.cumsum(end - first)])


def epoch_order(
    records: Ints, part: tuple[int, int], block: int, window: int, seed: int, epoch: int, shuffle: bool
) -> Ints:
    """A part's records in the order of an epoch.

    Shuffled, blocks of `block` neighbours are permuted over the whole set, so that every part gets another
    selection each epoch, and then each `window` records in a row are shuffled among themselves.
    """
    rank, world = part
    share = part_of(len(records), rank, world)
    if not shuffle:
        return records[share]
    blocks = np.random.default_rng((seed, epoch)).permutation(-(-len(records) // block))
    positions = (blocks[:, None] * block + np.arange(block)).ravel()
    order: Ints = records[positions[positions < len(records)][share]]
    random = np.random.default_rng((seed, epoch, 1 + rank))  # a trailing zero would repeat the blocks' numbers
    for first in range(0, len(order), window):
        random.shuffle(order[first : first + window])
    return order
