"""Features by many processes: rank 0 reads images and writes what becomes of them, and all compute."""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.groups import Group, joined
from hebbcore.engine.group.team import Team
from hebbcore.features.choice import Features, computed, helping


class Helpers:
    """The processes that compute features for rank 0, each for an even share of every batch.

    Parameters
    ----------
    team : Team
        All processes.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._known: tuple[Features, ...] = ()

    def features(self, choices: Sequence[Features], images: Array) -> list[Array]:
        """Return what choice.features_of does, of the whole batch."""
        host = np.ascontiguousarray(devices.to_device(images, "cpu"))
        news = None if self._is_known(choices) else pickle.dumps(list(choices))
        self._team.broadcast((news, host.shape, host.dtype.str))
        found = self._team.collect(_computed(choices, self._team.scatter(host, host.shape, host.dtype)))
        parts = zip(*(each for each in found if each), strict=True)
        xp = backend.namespace(images)
        return [xp.asarray(np.concatenate(part)) for part in parts]

    def _is_known(self, choices: Sequence[Features]) -> bool:
        known, self._known = self._known, tuple(choices)
        return len(known) == len(choices) and all(a is b for a, b in zip(known, choices, strict=True))

    def serve(self) -> None:
        """Compute what rank 0 asks for, until it has no more to ask."""
        choices: list[Features] = []
        while (asked := self._team.broadcast(None)) is not None:
            news, shape, dtype = asked
            choices = choices if news is None else pickle.loads(news)
            self._team.collect(_computed(choices, self._team.scatter(None, shape, np.dtype(dtype))))

    def release(self) -> None:
        """Tell the others that there is no more to do."""
        self._team.broadcast(None)


def _computed(choices: Sequence[Features], images: Array) -> list[Any]:
    """Return the features of this process's images, on the host; nothing for none."""
    if not len(images):
        return []
    return [devices.to_device(features, "cpu") for features in computed(choices, images)]


@contextmanager
def helped(function: str, group: Group | None) -> Iterator[bool]:
    """Let the processes of a group compute features together.

    The block gets True where its work is to be done: in rank 0, whose features the others compute with it. There they
    have done that when the block gets False.

    Parameters
    ----------
    function : str
        What is done, for messages.
    group : Group or None
        The processes; None: this one alone.
    """
    with joined(group, function, "cpu") as team:
        if team is None:
            yield True
            return
        helpers = Helpers(team)
        if team.rank:
            helpers.serve()
            yield False
            return
        with helping(helpers.features):
            yield True
        helpers.release()
