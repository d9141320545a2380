"""Which devices work here, and moves between host and device. Above the kernels, one of which is tried."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hebbcore import checks
from hebbcore.engine.backend import Array, as_array, device_of, module, namespace

_UNKNOWN = 2**48  # bytes, where a host does not tell its memory: more than any has
_GROUPS, _LIMITS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # Linux's control groups, which containers are
CHOICES = ("auto", "cpu", "cuda")  # of device=


class Device(NamedTuple):
    """A device of hebbcore.devices().

    Attributes
    ----------
    name : str
        For `device=`: "cpu" or "cuda".
    works : bool
        Whether it works here.
    detail : str
        What was found, or why it does not work.
    """

    name: str
    works: bool
    detail: str


@functools.cache
def cuda_status() -> tuple[bool, str]:
    """Return whether CuPy can multiply matrices here and Numba run a kernel, and what was found or why not. Once."""
    try:
        import cupy
    except Exception as error:
        return False, f'CuPy cannot be imported ({error}); install hebbcore with the extra "cuda12" or "cuda13"'
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        ones = cupy.ones((8, 8), np.float32)
        if float((ones @ ones)[0, 0]) != 8.0:
            return False, "a test matrix product on the GPU gave a wrong result"
        name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    except Exception as error:
        return False, f"CuPy {cupy.__version__} is installed but no GPU works: {type(error).__name__}: {error}"
    try:
        from hebbcore.engine.kernels import cuda  # Numba's CUDA is loaded where it is needed only

        if int(cuda.bfloat16(ones)[0, 0]) != 0x3F80:
            return False, "a test kernel on the GPU gave a wrong result"
    except Exception as error:
        advice = 'install hebbcore with the extra "cuda12" or "cuda13", and leave NUMBA_ENABLE_CUDASIM unset'
        if isinstance(error, AttributeError) and "module 'numpy'" in str(error):  # row_stack went with NumPy 2.5
            advice = (
                f'numba-cuda takes from NumPy what NumPy {np.__version__} has not: python -m pip install "numpy<2.5"'
            )
        return False, f"CuPy works, but no kernel of Numba does: {type(error).__name__}: {error}; {advice}"
    return True, f"{name}, {count} device(s), CuPy {cupy.__version__}"


def here() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return what brings another thread to the CUDA device and stream of this one; CuPy keeps both for each thread."""
    if "cupy" not in sys.modules or not cuda_status()[0]:
        return contextlib.nullcontext
    cuda = module("cuda").cuda
    device, stream = cuda.Device().id, cuda.get_current_stream()

    @contextlib.contextmanager
    def enter() -> Iterator[None]:
        with cuda.Device(device), stream:
            yield

    return enter


def devices() -> list[Device]:
    """Return the devices that hebbcore knows, whether each works here, and what was found or why not.

    Returns
    -------
    list of Device
        "cpu" first, then "cuda".
    """
    works, detail = cuda_status()
    return [Device("cpu", True, f"NumPy {np.__version__}"), Device("cuda", works, detail)]


def resolve(function: str, device: str) -> str:
    """Return "cpu" or "cuda" for a device= argument; "auto" is CUDA when it works.

    Raises ValueError for an unknown name, RuntimeError if "cuda" is asked for and does not work.
    """
    checks.choice(function, "device", device, CHOICES)
    if device == "cpu":
        return "cpu"
    works, detail = cuda_status()
    if device == "cuda" and not works:
        raise RuntimeError(f'{function}: device="cuda" does not work: {detail}. Use device="cpu" or "auto".')
    return "cuda" if works else "cpu"


def free_bytes() -> int:
    """Return how much memory of the CUDA device is free, what CuPy keeps for later arrays included."""
    cupy = module("cuda")
    free, _ = cupy.cuda.runtime.memGetInfo()
    return int(free + cupy.get_default_memory_pool().free_bytes())


@functools.cache
def total_bytes(device: str) -> int:
    """Return how much memory a device has, or a container may use of the host's, whether it is free or not."""
    if device == "cuda":
        return int(module("cuda").cuda.runtime.memGetInfo()[1])
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        total = _UNKNOWN
    return min([total, *_limits()])


def _limits() -> Iterator[int]:
    """Yield the bytes that this process's control groups, and those around them, may use."""
    with contextlib.suppress(OSError, ValueError):  # no Linux, or lines that no kernel of today writes
        for line in _GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            # version 1 has a tree for each controller; a container sees its own group as the root of the tree
            root, name = (_LIMITS / "memory", "memory.limit_in_bytes") if controllers else (_LIMITS, "memory.max")
            group = root / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(root):
                    with contextlib.suppress(OSError, ValueError):  # not there, or "max"
                        yield int((folder / name).read_text(encoding="ascii"))


def require_room(function: str, device: str, needed: int, what: str, advice: str) -> None:
    """Raise ValueError if something takes more bytes than a device has, before they are asked for.

    what: and its number, such as "a unit has". advice: what to do.
    """
    total = total_bytes(device)
    if needed > total:
        problem = f"{what} {checks.byte_text(needed)}, and the memory is {checks.byte_text(total)}; {advice}."
        raise checks.wrong(ValueError, function, None, problem)


def to_device(array: Any, device: str) -> Array:
    """Return an array on a device, without a copy if it is there already.

    Parameters
    ----------
    array : array-like
        NumPy, CuPy or convertible.
    device : str
        "cpu" (NumPy), "cuda" (CuPy, its current device) or "auto" (CUDA if it works).

    Returns
    -------
    Array
        The same numbers, dtype and shape.

    Raises
    ------
    RuntimeError
        If "cuda" does not work here.
    """
    array = as_array("to_device", "array", array)
    device = resolve("to_device", device)
    if device == device_of(array):
        return array
    return namespace(array).asnumpy(array) if device == "cpu" else module("cuda").asarray(array)
