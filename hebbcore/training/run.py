"""The folder of a training: which checkpoint it goes on from, when it is saved, and when it stops for a signal."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hebbcore import checkpoint
from hebbcore.engine.group.team import Team
from hebbcore.engine.pixel_scale import PixelScale
from hebbcore.files import locked, make_folder, remove_partial
from hebbcore.network import Network
from hebbcore.training.batches import Batches
from hebbcore.training.diagnostics import METRICS, cut_after, require_wins
from hebbcore.training.header import Position, RunHeader, State, differences
from hebbcore.training.phases import phases_of
from hebbcore.training.record import keep_config
from hebbcore.training.settings import Training, listed
from hebbcore.training.signals import Signals


class Run:
    """The folder of a training under way; opened makes one.

    Parameters
    ----------
    folder : Path
        Where it is; it exists, and no other process trains into it.
    network, batches, settings
        What is trained, on what and how.
    signals : Signals
        Who is told to stop.
    require_sound : callable
        Raises FloatingPointError if what was learned is not worth a checkpoint.
    team : Team or None
        The processes that train together, of which rank 0 alone reads and writes the folder; None: one process.

    Attributes
    ----------
    told : int or None
        By which signal all processes of a team are told to stop.
    """

    def __init__(
        self,
        folder: Path,
        network: Network,
        batches: Batches,
        settings: Training,
        signals: Signals,
        require_sound: Callable[[], None],
        team: Team | None = None,
    ) -> None:
        self.folder = folder
        self.told: int | None = None
        self._team, self._writes = team, team is None or team.rank == 0
        self._network, self._batches, self._settings, self._signals = network, batches, settings, signals
        self._require_sound = require_sound
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()

    def resume(self, state: State, previous: bool) -> None:
        """Give the network the arrays of the latest checkpoint, if there is one, and state what it says.

        Raises ValueError for a checkpoint that is damaged (unless previous, and the one before is not) or of another
        training.
        """
        if not self._writes:
            return
        (self.folder / checkpoint.FOLDER).mkdir(exist_ok=True)
        for folder in (self.folder, self.folder / checkpoint.FOLDER):
            remove_partial(folder)
        if checkpoint.checkpoints(self.folder):
            vars(state).update(vars(self._restore(previous)))
        else:
            cut_after(self.folder / METRICS, None)
            self.save(state)  # what cannot be saved is said before any work
        keep_config(self.folder, self._network, self._batches, self._settings)

    def _restore(self, previous: bool) -> State:
        path = checkpoint.find("fit", self.folder, previous)
        table, arrays = checkpoint.read("fit", path)
        if "position" not in table:
            raise ValueError(
                f"fit: {path} was written by hebbcore.save, and does not say how to go on with a training; "
                "move it out of the run."
            )
        with checkpoint.naming("fit", path, "does not hold a training of this version"):
            there = RunHeader.from_table(table)
        different = differences(self._header(there.state), there)
        if different:
            raise ValueError(
                f"fit: {self.folder} holds another training: {listed(different)}. "
                "Train into another folder, or with the settings from there."
            )
        self._begin_at(there.position, path, there.whitened)
        with checkpoint.naming("fit", path, "does not hold this network"):
            checkpoint.restore_arrays(self._network, arrays)
            require_wins(self._network, there.wins)
        self._network.pixel_scale = PixelScale.from_table("fit", there.pixel_scale)
        self._saved_step = there.position.step
        for later in checkpoint.checkpoints(self.folder):
            if later > path:  # damaged
                later.unlink()
        cut_after(self.folder / METRICS, there.position)
        return there.state

    def _begin_at(self, at: Position, path: Path, whitened: list[int]) -> None:
        """Go back into the last phase, if it now has more epochs. Raises ValueError if it never got there."""
        s = self._settings
        phases = phases_of("fit", self._network, s.mode, s.epochs, s.statistics_images, whitened)
        if at.phase > len(phases):
            raise ValueError(f"fit: {path} is of a training with more phases; train into another folder.")
        if s.epochs < (begun := at.epoch + bool(at.batch)):
            raise ValueError(
                f"fit: epochs is {s.epochs}, but {self.folder} has begun epoch {begun}; "
                f"give at least {begun}, or train into another folder."
            )
        if at.phase == len(phases) and at.epoch < phases[-1].epochs:
            at.phase -= 1

    @property
    def got(self) -> int | None:
        """The signal that this process got; None before there is one."""
        return self._signals.got

    def is_due(self, end: bool) -> bool:
        """Return whether to save: at the end of an epoch, after a signal, and every few minutes."""
        minutes = (time.monotonic() - self._saved_at) / 60
        return end or self._signals.got is not None or minutes >= self._settings.checkpoint_minutes

    def settled(self) -> None:
        """Let the next save write a checkpoint even of the same step, since arrays changed after it."""
        self._saved_step = None

    def save(self, state: State) -> None:
        """Write a checkpoint, unless there is one of this step, and remove the oldest ones."""
        self._saved_at = time.monotonic()
        step = state.position.step
        if self._saved_step == step:
            return
        self._saved_step = step
        if not self._writes:
            return
        self._require_sound()  # sound checkpoints must not make room for ruined ones
        header, arrays = self._header(state).table(), checkpoint.arrays_of(self._network)
        checkpoint.write(checkpoint.checkpoint_path(self.folder, step), header, arrays)
        for path in checkpoint.checkpoints(self.folder)[: -self._settings.keep]:
            path.unlink()

    def stop_if_told(self, step: int) -> None:
        """Raise KeyboardInterrupt(message, signal number) if there was a signal; what was learned is saved."""
        stopped = self._signals.got if self._team is None else self.told
        if stopped is not None:
            error = KeyboardInterrupt(
                f"stopped by {signal.Signals(stopped).name} after step {step}; saved in {self.folder}, from where "
                "the same command goes on",
                stopped,
            )
            if self._team is not None:
                self._team.stopping = vars(error)["agreed"] = True
            raise error

    def _header(self, state: State) -> RunHeader:
        return RunHeader.of(self._network, self._settings, self._batches.identity(), state)


@contextlib.contextmanager
def opened(
    folder: str | os.PathLike[str] | None,
    network: Network,
    batches: Batches,
    settings: Training,
    require_sound: Callable[[], None],
    team: Team | None,
) -> Iterator[Run | None]:
    """Hold a run's folder, made if need be, and answer signals; None: there is none, and nothing is answered."""
    if folder is None:
        yield None
        return
    path = Path(folder)
    alone: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if team is None or team.rank == 0:
        make_folder(path)
        alone = locked(path, "training into")
    with alone, Signals() as signals:
        yield Run(path, network, batches, settings, signals, require_sound, team)
