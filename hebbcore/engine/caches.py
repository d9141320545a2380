"""The caches of the CPU that the process runs on, as the operating system tells them."""

import functools
from pathlib import Path

_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux
_UNITS = {"K": 2**10, "M": 2**20}


@functools.cache
def sizes() -> dict[int, int]:
    """Return the bytes of each level's cache for data; empty where the system does not tell.

    A cache of level 3 is often shared by cores, and a virtual machine may say too much of it.
    """
    found = {}
    for folder in sorted(_FOLDER.glob("index*")):
        try:
            kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction":
                found[int(level)] = int(size.rstrip("KM")) * _UNITS.get(size[-1:], 1)
        except (OSError, ValueError):  # a system that tells less, or in other words
            continue
    return found
