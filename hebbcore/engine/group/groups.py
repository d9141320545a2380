"""The processes that were started together, by mpiexec or srun, and what they would use."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from hebbcore import checks
from hebbcore.engine import backend, devices, parallel
from hebbcore.engine.group import nccl
from hebbcore.engine.group.team import Team, wait

_log = logging.getLogger("hebbcore")

# by which launchers tell a process how many were started
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


class Member(NamedTuple):
    """A process of a group.

    Attributes
    ----------
    rank : int
        Its number, from 0.
    host : str
        The machine it runs on.
    local_rank : int
        Its number among the processes of that machine, which chooses the GPU.
    device : str
        "cpu", or the GPU: its number on the machine, and its name.
    """

    rank: int
    host: str
    local_rank: int
    device: str


class Group:
    """Processes that train, extract or evaluate together; made by `world`.

    Those of one machine that may run on the same cores share them from then on: each takes its part in threads.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm or None
        The processes; None: this one alone.

    Attributes
    ----------
    rank, size : int
        Which of how many processes this is; rank 0 alone writes files.
    members : list of Member
        All processes.
    transport : str
        By what arrays on the training's device are added up, and why not by NCCL.
    """

    def __init__(self, communicator: Any = None) -> None:
        self._comm = communicator
        self.rank: int = 0 if communicator is None else communicator.rank
        self.size: int = 1 if communicator is None else communicator.size
        local = 0
        if communicator is not None:
            from mpi4py import MPI

            wait(communicator.Ibarrier().Test)  # until all have started; MPI's own waiting would take a core
            machine = communicator.Split_type(MPI.COMM_TYPE_SHARED)
            local, cores = machine.rank, parallel.usable_cores()
            parallel.share_cores(sum(not cores.isdisjoint(others) for others in machine.allgather(cores)))
        self._gpu = _gpu(local)
        name, unique = ("cpu", None) if self._gpu is None else _names(self._gpu)
        me = (Member(self.rank, socket.gethostname(), local, name), unique)
        found = [me] if communicator is None else communicator.allgather(me)
        self.members = [member for member, _ in found]
        self._problem, self._told = nccl.problem([unique for _, unique in found]), False
        self.transport = self._described()

    def _described(self) -> str:
        if self._comm is None:
            return "none: one process"
        from mpi4py import MPI

        library = MPI.Get_library_version().splitlines()[0].replace("\t", " ").strip("\0")
        host = f"MPI ({library})"
        if all(member.device == "cpu" for member in self.members):
            return host
        return f"{host} through the hosts; not NCCL: {self._problem}" if self._problem else f"NCCL, and {host}"

    def __repr__(self) -> str:
        return f"Group(rank={self.rank}, size={self.size}, transport={self.transport!r})"

    def team(self, function: str, device: str) -> Team:
        """Return what the processes of one training use; all of them call this.

        Parameters
        ----------
        function : str
            What trains, for messages.
        device : str
            "cpu" or "cuda", where the training computes.
        """
        own = None
        if device == "cuda" and self._problem is None:
            own = nccl.Nccl(self.rank, self.size, self._comm.bcast)
        elif device == "cuda" and self.rank == 0 and not self._told:
            self._told = True
            _log.warning("%s: sums go through the hosts, not by NCCL: %s", function, self._problem)
        own_comm, request = self._comm.Idup()
        wait(request.Test)  # MPI's own waiting would take a core
        return Team(own_comm, function, own)


def world() -> Group:
    """Return the processes that were started together by mpiexec or srun; without them this process alone.

    On machines with several GPUs each process takes the one of its number among the machine's processes.

    Returns
    -------
    Group
        The same in each call.

    Raises
    ------
    ModuleNotFoundError
        If several processes were started, and mpi4py is not installed.
    """
    if not _WORLD:
        _WORLD.append(Group(_communicator()))
    return _WORLD[0]


_WORLD: list[Group] = []


def launched() -> bool:
    """Return whether this process is one of a launcher's: started by `python -m mpi4py`, or told of others."""
    return "mpi4py" in sys.modules or _told() > 1


def _told() -> int:
    return max(int(text) if (text := os.environ.get(name, "")).isdecimal() else 1 for name in _SIZES)


def _communicator() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        if _told() > 1:
            raise ModuleNotFoundError(
                f"world: {_told()} processes were started together, but mpi4py does not work here ({error}); install "
                'hebbcore with the extra "mpi".'
            ) from error
        return None
    return MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None


def _gpu(local: int) -> int | None:
    """Return the GPU of a process, by number, which becomes CuPy's current one; None without one."""
    try:
        cuda = backend.module("cuda").cuda
        count = int(cuda.runtime.getDeviceCount())
        if count > 1:  # before anything takes memory of the first one
            cuda.Device(local % count).use()
    except (ImportError, RuntimeError):
        return None
    return int(cuda.Device().id) if devices.cuda_status()[0] else None


def _names(gpu: int) -> tuple[str, str]:
    """Return how a GPU is called, and a name that no other GPU has."""
    found = backend.module("cuda").cuda.runtime.getDeviceProperties(gpu)
    name = f"cuda:{gpu} ({found['name'].decode()})"
    return name, f"{socket.gethostname()} {found.get('uuid', '')!r} {found.get('pciBusID', gpu)}"


def require_group(function: str, group: Any) -> None:
    """Raise TypeError for what is neither a group nor None, such as a communicator of mpi4py."""
    if not isinstance(group, Group | None):
        problem = f"must be hebbcore.world(), a Group of your own, or None, got {group!r}."
        raise checks.wrong(TypeError, function, "group", problem)


@contextmanager
def joined(group: Group | None, function: str, device: str) -> Iterator[Team | None]:
    """Let the processes of a group do one thing together; None: there is one process.

    An error of one of them becomes an error of all, wherever they are.
    """
    if group is None or group.size == 1:
        yield None
        return
    team = group.team(function, device)
    try:
        yield team
        team.close()
    except BaseException as error:
        team.fail(error)
        raise
