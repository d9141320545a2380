"""Files of an archive that come again under the same name, as where it was appended to: unpacking leaves the last."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import numpy as np

from loaders.sources.base import name_key


class Repeated:
    """Finds names that come more than once, by digests of 8 bytes, so that those of millions of files have room."""

    def __init__(self) -> None:
        self._digests = array("Q")

    def noted(self, names: Iterable[str]) -> Iterator[str]:
        """The same names, which are all of an archive."""
        for name in names:
            self._digests.append(_digest(name))
            yield name

    def problems(self) -> Callable[[str], str | None]:
        """A function to be asked once for each file, in order: why it is not read, if a later one replaces it."""
        left = dict(self._counts)

        def problem(name: str) -> str | None:
            digest = _digest(name) if left else 0
            if digest not in left:
                return None
            left[digest] -= 1
            return "a later file of the same name replaces it" if left[digest] else None

        return problem

    @cached_property
    def _counts(self) -> dict[int, int]:
        digests, counts = np.unique(np.frombuffer(self._digests, np.uint64), return_counts=True)
        again = counts > 1
        return dict(zip(digests[again].tolist(), counts[again].tolist(), strict=True))


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name_key(name), digest_size=8).digest(), "little")
