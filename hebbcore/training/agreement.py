"""What the processes of a training agree on between its steps, and that they do the same training."""

import json
import platform
import signal
import socket
import sys
from functools import reduce
from typing import Any

import numpy as np

from hebbcore import checkpoint, serialize, streams
from hebbcore.engine import devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.team import Team
from hebbcore.engine.pixel_scale import PixelScale
from hebbcore.interrupts import SIGNALS
from hebbcore.network import Network
from hebbcore.training.array_batches import ArrayBatches
from hebbcore.training.batches import Batches, IterableBatches
from hebbcore.training.diagnostics import Diagnostics
from hebbcore.training.header import State
from hebbcore.training.run import Run

_LOOKED_AT = 64  # images of an array, evenly spread
_SAVE, _RECORD = len(SIGNALS), len(SIGNALS) + 1  # among the notes, behind one for each signal
# what unlike processors may round differently between two checkpoints, of the largest number of an array
_ROUNDING = {"float32": 1e-3, "float64": 1e-8}


class Agreement:
    """What comes between two steps, in all processes alike: whoever got a signal, and rank 0's clocks, decide.

    Parameters
    ----------
    team : Team
        The processes.
    run : Run or None
        Where the training is saved.
    diagnostics : Diagnostics
        Knows when a record is due.

    Attributes
    ----------
    record : bool
        Whether the next step is told of.
    """

    def __init__(self, team: Team, run: Run | None, diagnostics: Diagnostics) -> None:
        self.team, self._run, self._diagnostics, self.record = team, run, diagnostics, False

    def say(self) -> None:
        """Note for the next sum what this process has to say."""
        notes, run = self.team.notes, self._run
        notes[:] = 0
        if run is not None and run.got is not None:
            notes[SIGNALS.index(signal.Signals(run.got))] = 1
        if self.team.rank == 0:
            notes[_SAVE:] = run is not None and run.is_due(False), self._diagnostics.due

    def hear(self, anew: bool = False) -> bool:
        """Take what all said, with the latest sum or now, and return whether the training is to be saved."""
        self.say()
        if anew:
            self.team.hear(None)
        heard = self.team.heard()
        self.record = bool(heard[_RECORD])
        if self._run is not None:
            told = np.flatnonzero(heard[:_SAVE])
            if len(told):
                self._run.told = int(SIGNALS[told[0]])
        return bool(heard[:_RECORD].any())


def require_same(function: str, team: Team, here: dict[str, Any]) -> None:
    """Check that the processes do the same: raise ValueError where something is not as rank 0 has it.

    Parameters
    ----------
    function : str
        What they do, for messages.
    team : Team
        The processes.
    here : dict
        What must be the same, as JSON types.
    """
    own = sys.modules["hebbcore"].__version__
    versions = {"hebbcore": own, "python": platform.python_version(), "numpy": np.__version__}
    versions |= here.get("versions", {})
    mine = json.loads(checkpoint.as_json({**here, "versions": versions}))
    theirs = team.broadcast(mine)
    different = serialize.differences(mine, theirs)
    if different:
        raise ValueError(
            f"{function}: rank {team.rank} on {socket.gethostname()} differs from rank 0: {'; '.join(different)} (of "
            "rank 0). Start all processes with the same arguments, files and versions."
        )
    team.gather(None)  # nobody begins before all have compared


def scale_shown_by(first: Array, batches: Batches) -> Array:
    """Return images whose scale is that of all, as far as it shows before: some of an array, else the first ones."""
    if isinstance(batches, ArrayBatches):
        return batches.array[:: -(-len(batches.array) // _LOOKED_AT)]
    return first


def scale_of(first: Array, batches: Batches) -> PixelScale:
    """Return the scale of what is learned from, as far as it shows before."""
    white = streams.range_of(batches.source) if isinstance(batches, IterableBatches) else None
    return PixelScale.of(scale_shown_by(first, batches))._replace(white=white)


def agreed_scale(scale: PixelScale, team: Team | None) -> PixelScale:
    """Return the scale of what all processes of a team have seen, each its share."""
    return scale if team is None else reduce(PixelScale.beside, team.gather(scale))


def begin_alike(team: Team, network: Network, state: State) -> None:
    """Give all processes what rank 0 begins with: the arrays of the network, and how far the training is."""
    arrays = {key: devices.to_device(array, "cpu") for key, array in checkpoint.arrays_of(network).items()}
    theirs, arrays = team.broadcast((vars(state), arrays))
    if team.rank == 0:
        return
    vars(state).update(theirs)
    state.wins, state.judged = {name: [0] * len(counts) for name, counts in state.wins.items()}, [0, 0]
    checkpoint.restore_arrays(network, arrays)
    for layer in network.layers:
        if layer.observes:
            layer.forget()  # what rank 0 saw of a pass is counted there, as the wins are


def keep_alike(function: str, team: Team, network: Network) -> None:
    """Check that all processes have learned the same: raise RuntimeError in one whose numbers are not rank 0's.

    Those that differ by rounding alone, as of unlike processors, become rank 0's.
    """
    if len(set(team.gather(checkpoint.digest_of(network)))) == 1:
        return
    mine = {key: devices.to_device(array, "cpu") for key, array in checkpoint.arrays_of(network).items()}
    theirs = team.broadcast(mine)
    for key, array in theirs.items():
        largest = max(np.abs(array).max(initial=0), np.finfo(np.float32).tiny)
        with np.errstate(invalid="ignore"):
            apart = np.abs(np.subtract(mine[key], array, dtype=np.float64)).max(initial=0) / largest
        if not apart <= _ROUNDING[network.site.dtype.name]:
            raise RuntimeError(
                f"{function}: rank {team.rank} on {socket.gethostname()} has learned other numbers than rank 0: {key} "
                f"is {apart:.1g} of its largest number apart. The memory or the processor of one of the two fails, or "
                "they do not run the same program. Nothing was saved: the same command goes on from the latest "
                "checkpoint, on other machines."
            )
    checkpoint.restore_arrays(network, theirs)
    team.gather(None)  # nobody saves before all have compared
