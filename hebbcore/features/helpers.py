"""Batches by many processes: rank 0 asks for what becomes of them, and each process reads and computes its share."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.cuts import cut
from hebbcore.engine.group.groups import Group, joined
from hebbcore.engine.group.team import Team
from hebbcore.pairs import pairs_of
from hebbcore.training.agreement import require_same

Numbered = tuple[int, Array, Any]  # images, their labels, and the number of the first one, from the stream's position
Work = Callable[[int, Array, Any], Any]  # of such
Task = Callable[[Team, Iterable[Numbered]], Iterator[Any]]  # of all processes, each with its parts of the batches

_here = threading.local()  # .helpers: the processes that help this thread


class Helpers:
    """The processes that help rank 0, each with an even share of every batch.

    They read their shares themselves from a stream that has `share`; of others, such as arrays, rank 0 hands them out.

    Parameters
    ----------
    team : Team
        All processes.
    """

    def __init__(self, team: Team) -> None:
        self._team = team

    def ask(self, task: Task, stream: Any, tell: Callable[[int, int], None] = lambda first, end: None) -> Iterator[Any]:
        """Yield what a task yields in rank 0, while all processes go through it; task must pickle.

        tell: called with where a batch begins and ends, counted in images from the stream's position.
        """
        reads = hasattr(stream, "share")
        self._team.broadcast((task, stream if reads else None))
        yield from task(self._team, self._parts(stream, reads, tell))

    def serve(self) -> None:
        """Do what rank 0 asks for, until it has no more to ask."""
        while (asked := self._team.broadcast(None)) is not None:
            task, stream = asked
            for _ in task(self._team, self._parts(stream, stream is not None)):
                pass

    def release(self) -> None:
        """Tell the others that there is no more to do."""
        self._team.broadcast(None)

    def _parts(
        self, stream: Any, reads: bool, tell: Callable[[int, int], None] = lambda first, end: None
    ) -> Iterator[Numbered]:
        """Yield this process's part of each batch, which may be empty."""
        team, done = self._team, 0
        for images, labels in stream.share(team.rank, team.size) if reads else _handed_out(team, stream):
            counts = team.gather(len(images))
            yield done + sum(counts[: team.rank]), images, labels
            tell(done, done + sum(counts))
            done += sum(counts)


def _handed_out(team: Team, stream: Any) -> Iterator[tuple[Array, Any]]:
    """Yield this process's part of each batch of rank 0's stream."""
    batches = pairs_of(() if stream is None else stream)
    while True:
        batch, images, told = next(batches, None), None, None
        if batch is not None:
            images = np.ascontiguousarray(devices.to_device(batch[0], "cpu"))
            told = images.shape, images.dtype.str, np.asarray(batch[1])
        told = team.broadcast(told)
        if told is None:
            return
        shape, dtype, labels = told
        yield team.scatter(images, shape, np.dtype(dtype)), labels[slice(*cut(shape[0], team.rank, team.size))]


class _Collecting:
    """The task of work on each part: yields for each batch what it returned, in the order of the images."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, team: Team, parts: Iterable[Numbered]) -> Iterator[list[Any]]:
        for first, images, labels in parts:
            found = team.collect(self._work(first, images, labels) if len(images) else None)
            yield [each for each in found if each is not None]


def of_batches(work: Work, stream: Any) -> Iterator[list[Any]]:
    """Yield for each batch of a stream, from its position on, what work(first, images, labels) returns, in a list.

    Where processes help, the list has it of each process's part, in the order of the images; work must pickle then.
    first: the number of the first image.
    """
    helpers = helping()
    if helpers is not None:
        yield from helpers.ask(_Collecting(work), stream)
        return
    first = 0
    for images, labels in pairs_of(stream):
        yield [work(first, images, labels)]
        first += len(images)


def whole(parts: Sequence[Array]) -> Array:
    """Return arrays one after the other as one."""
    return parts[0] if len(parts) == 1 else backend.namespace(parts[0]).concatenate(parts)


def helping() -> Helpers | None:
    """Return the processes that help this thread."""
    found: Helpers | None = getattr(_here, "helpers", None)
    return found


@contextmanager
def helped(function: str, group: Group | None, same: dict[str, Any]) -> Iterator[bool]:
    """Let the processes of a group read images and compute their features together.

    The block gets True where its work is to be done: in rank 0, which the others help. There they have done that when
    the block gets False.

    Parameters
    ----------
    function : str
        What is done, for messages.
    group : Group or None
        The processes; None: this one alone.
    same : dict
        What must be the same in all processes besides versions, as JSON types.

    Raises
    ------
    ValueError
        If it is not.
    """
    with joined(group, function, "cpu") as team:
        if team is None:
            yield True
            return
        require_same(function, team, same)
        helpers = Helpers(team)
        if team.rank:
            helpers.serve()
            yield False
            return
        _here.helpers = helpers
        try:
            yield True
        finally:
            _here.helpers = None
        helpers.release()
