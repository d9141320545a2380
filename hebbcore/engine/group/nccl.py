"""Sums of arrays on GPUs by NCCL, on CuPy's stream, one process a GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hebbcore.engine import backend
from hebbcore.engine.backend import Array


def problem(gpus: list[str | None]) -> str | None:
    """Return why NCCL cannot be used by processes on these GPUs, one name a process; None if it can."""
    if None in gpus:
        return "not every process has a GPU"
    if len(set(gpus)) < len(gpus):
        return "several processes share a GPU, and NCCL needs one for each"
    nccl = _module()
    if nccl is None:
        return "CuPy finds no NCCL; install nvidia-nccl-cu12 or nvidia-nccl-cu13"
    return None


def _module() -> Any:
    try:
        from cupy.cuda import nccl  # a module, which `import cupy` leaves out
    except ImportError:
        return None
    return nccl if nccl.available else None


class Nccl:
    """A communicator of NCCL.

    Parameters
    ----------
    rank, size : int
        Which of how many processes this is.
    broadcast : callable
        Returns rank 0's value.
    """

    def __init__(self, rank: int, size: int, broadcast: Callable[[Any], Any]) -> None:
        self._cuda, self._nccl = backend.module("cuda").cuda, _module()
        name = broadcast(self._nccl.get_unique_id() if rank == 0 else None)
        self._communicator = self._nccl.NcclCommunicator(size, name, rank)

    def start(self, array: Array) -> Callable[[], bool]:
        """Begin to replace an array by its sum on the current stream; what is returned tells whether it is there."""
        kinds = {np.dtype(np.float32): self._nccl.NCCL_FLOAT32, np.dtype(np.float64): self._nccl.NCCL_FLOAT64}
        stream = self._cuda.get_current_stream()
        data = array.data.ptr
        self._communicator.allReduce(data, data, array.size, kinds[array.dtype], self._nccl.NCCL_SUM, stream.ptr)
        event = self._cuda.Event(disable_timing=True)
        event.record(stream)
        return lambda: bool(event.done)

    def abort(self) -> None:
        """End what is under way, for which others will never come."""
        self._communicator.abort()
