"""The names of records, read from the shards when they are asked for."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from loaders.shards.format import Ints, decode_name, read_encoded_names
from loaders.shards.read import ShardSet

AT_A_TIME = 2**16
TABLES = 4  # shards whose names stay in memory


class Names(Sequence[str]):
    """names[i] is where record records[i] of a set came from, such as "n01440764/n01440764_10026.JPEG".

    Bytes that are not UTF-8 are surrogate-escaped. In memory are the names of a few shards; iterating reads those of
    every shard once for 65,536 names. Raises ValueError or OSError, with the shard's path, if the names are damaged.
    """

    def __init__(self, shards: ShardSet, records: Ints) -> None:
        self._shards, self._records = shards, records
        self._tables: dict[int, npt.NDArray[np.bytes_]] = {}

    def _table(self, number: int) -> npt.NDArray[np.bytes_]:
        """The names of a shard, kept until others have been asked for."""
        table = self._tables.get(number)
        if table is None:
            for old in list(self._tables)[: -TABLES + 1]:
                self._tables.pop(old, None)
            table = read_encoded_names(self._shards.folder / self._shards.index.shards[number].file)
            self._tables[number] = table
        return table

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return self._of(self._records[i])
        return self._of(self._records[[i]])[0]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), AT_A_TIME):
            yield from self[first : first + AT_A_TIME]

    def _of(self, records: Ints) -> list[str]:
        shards, numbers = self._shards.locate(records)
        found = np.empty(len(records), object)
        for shard in np.unique(shards).tolist():
            rows = np.flatnonzero(shards == shard)
            found[rows] = [decode_name(name) for name in self._table(shard)[numbers[rows]]]
        return list(found)
