"""What the processes of one training say to each other: sums, what one of them knows, and that one of them failed."""

import math
import pickle
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.group.cuts import cut
from hebbcore.engine.group.nccl import Nccl

NOTES = 5  # numbers that each process adds to a sum: what they are is up to the training

_FAILED = 7  # the tag of messages of failure
_MOST_TEXT = 4000  # bytes of one: so few are sent without waiting for who gets them
_SPIN = 200  # looks without a pause
_unended: dict[int, Any] = {}  # requests of MPI by identity, and what each reads and writes
_PAUSE, _LONGEST = 0.00002, 0.001  # seconds of the first pause and the longest


def wait(done: Callable[[], Any], look: Callable[[], None] = lambda: None) -> None:
    """Wait until done() is true, and leave the core to others if it takes long; look is called now and then."""
    looks, pause = 0, _PAUSE
    while not done():
        looks += 1
        if looks >= _SPIN:
            look()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)


def _tested(request: Any, *arrays: Any) -> Callable[[], bool]:
    """Return what tells whether a request of MPI has ended, which reads and writes arrays.

    They stay until it has: mpi4py lets go of those of some requests. One that a failure leaves behind may be answered
    at any later time, so that what it writes into stays for ever.
    """
    _unended[id(request)] = request, arrays

    def ended() -> bool:
        done: bool = request.Test()
        if done:
            _unended.pop(id(request), None)
        return done

    return ended


class Team:
    """The processes of one training. All of them call the same methods in the same order.

    Who waits for the others looks meanwhile whether one of them failed, and then raises RuntimeError, which names its
    rank, its host and the cause.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm
        Of this training alone.
    function : str
        What trains, for messages.
    nccl : Nccl or None
        What adds up arrays of the GPUs; None: they are copied to the host.

    Attributes
    ----------
    rank, size : int
        Which of how many processes this is.
    notes : numpy.ndarray
        (NOTES,), what this process adds to the next sum.
    stopping : bool
        All stop, as they agreed: that is no failure.
    """

    def __init__(self, communicator: Any, function: str, nccl: Nccl | None) -> None:
        from mpi4py import MPI

        self._mpi, self._comm, self._function, self._nccl = MPI, communicator, function, nccl
        self.rank, self.size = communicator.rank, communicator.size
        self.notes = np.zeros(NOTES)
        self.stopping = False
        self._heard: Any = None

    def start(self, array: Array) -> "Pending":
        """Begin to replace a contiguous array by its sum over the processes; the result is there after `wait`."""
        if backend.on_cuda(array) and self._nccl is not None:
            return Pending(self, array, self._nccl.start(array))
        host = array.get() if backend.on_cuda(array) else array
        request = self._comm.Iallreduce(self._mpi.IN_PLACE, host)
        return Pending(self, array, _tested(request, host), host)

    def sum(self, array: Array) -> None:
        """Replace a contiguous array by its sum over the processes."""
        self.start(array).wait()

    def hear(self, notes: Any) -> None:
        """Take the sum of the notes that came with another sum."""
        self._heard = notes

    def heard(self) -> Any:
        """Return the sum of all notes (NOTES,): of the latest sum that brought some, else of one for this."""
        if self._heard is None:
            self._heard = self.notes.copy()
            self.sum(self._heard)
        heard, self._heard = self._heard, None
        return heard

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value, which must pickle."""
        data = np.frombuffer(pickle.dumps(value) if self.rank == 0 else b"", np.uint8).copy()
        size = np.array([len(data)])
        self._wait(_tested(self._comm.Ibcast(size), size))
        if self.rank:
            data = np.empty(size[0], np.uint8)
        self._wait(_tested(self._comm.Ibcast(data), data))
        return pickle.loads(data.tobytes()) if self.rank else value

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, which must pickle, in the order of their ranks."""
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.empty(self.size, np.int64)
        size = np.array([len(data)])
        self._wait(_tested(self._comm.Iallgather(size, sizes), size, sizes))
        found = np.empty(sizes.sum(), np.uint8)
        self._wait(_tested(self._comm.Iallgatherv(data, (found, sizes)), data, found))
        ends = np.cumsum(sizes)
        return [pickle.loads(found[end - size : end].tobytes()) for size, end in zip(sizes, ends, strict=True)]

    def collect(self, value: Any) -> list[Any]:
        """Return to rank 0 the values of all processes, which must pickle, in the order of their ranks; else none."""
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.empty(self.size, np.int64)
        size = np.array([len(data)])
        self._wait(_tested(self._comm.Igather(size, sizes if self.rank == 0 else None), size, sizes))
        found = np.empty(sizes.sum() if self.rank == 0 else 0, np.uint8)
        whole = (found, sizes) if self.rank == 0 else None
        self._wait(_tested(self._comm.Igatherv(data, whole), data, found))
        ends: Any = np.cumsum(sizes) if self.rank == 0 else []
        return [pickle.loads(found[end - size : end].tobytes()) for size, end in zip(sizes, ends, strict=False)]

    def scatter(self, array: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return this process's even share of rank 0's array on the host, of a shape and dtype that all know."""
        edges = [cut(shape[0], rank, self.size) for rank in range(self.size)]
        size = math.prod(shape[1:]) * dtype.itemsize
        first, end = edges[self.rank]
        own = np.empty((end - first, *shape[1:]), dtype)
        whole = None if array is None else (array, [(b - a) * size for a, b in edges], self._mpi.BYTE)
        self._wait(_tested(self._comm.Iscatterv(whole, (own, own.nbytes, self._mpi.BYTE)), array, own))
        return own

    def fail(self, error: BaseException) -> None:
        """Tell the others that this process failed, unless they know."""
        if self.stopping or getattr(error, "failed_rank", None) is not None:
            return
        number = error.args[1] if isinstance(error, KeyboardInterrupt) and len(error.args) == 2 else None
        text = f"rank {self.rank} on {socket.gethostname()} failed: {type(error).__name__}: {error}"
        data = pickle.dumps((self.rank, text.encode()[:_MOST_TEXT].decode(errors="replace"), number))
        vars(error)["failed_rank"] = self.rank
        for other in self._others:
            _tested(self._comm.Isend(np.frombuffer(data, np.uint8), other, _FAILED), data)
        if self._nccl is not None:
            self._nccl.abort()

    def close(self) -> None:
        """End the training when all have come so far."""
        self._heard = None
        self.heard()
        self._comm.Free()

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]

    def _wait(self, done: Any) -> None:
        """Wait until done() is true. Raises RuntimeError if another process failed."""
        wait(done, self._look)

    def _look(self) -> None:
        status = self._mpi.Status()
        if self._comm.Iprobe(tag=_FAILED, status=status):
            data = np.empty(status.Get_count(), np.uint8)
            self._comm.Recv(data, status.source, _FAILED)
            self._raise(*pickle.loads(data.tobytes()))

    def _raise(self, rank: int, text: str, number: int | None) -> NoReturn:
        if self._nccl is not None:
            self._nccl.abort()
        error: BaseException = RuntimeError(f"{self._function}: {text}")
        if number is not None:  # a signal that could not wait
            error = KeyboardInterrupt(str(error), number)
        vars(error)["failed_rank"] = rank
        raise error


class Pending:
    """A sum that is on its way. host: where the sum of an array of a GPU comes to lie, if not in the array."""

    def __init__(self, team: Team, array: Array, done: Any, host: Any = None) -> None:
        self._team, self._array, self._done, self._host = team, array, done, host

    def wait(self) -> None:
        """Wait for the sum. Raises RuntimeError if another process failed."""
        self._team._wait(self._done)
        if self._host is not None and self._host is not self._array:
            self._array.set(self._host)
