"""What a training tells while it goes on: a bar on the terminal, records for a file and a callback, the time left."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hebbcore.engine.group.team import Team
from hebbcore.network import Network
from hebbcore.training.diagnostics import Diagnostics, Record, append
from hebbcore.training.header import Position, State
from hebbcore.training.phases import Phase


class Progress:
    """What a training tells while it goes on.

    Parameters
    ----------
    network : Network
        What is trained.
    log_seconds : float
        Between two records.
    epoch_images : int or None
        About how many images a pass over the data has; None if that is unknown.
    missing : int
        How many of them the first pass lacks, since a stream was within an epoch.
    batch_images : int or None
        Of a batch, if epoch_images is estimated by so many in each; None: it is known.
    show : bool
        Whether there is a bar.
    metrics : Path or None
        The file that gets the records.
    callback : callable or None
        Gets the records too.
    """

    def __init__(
        self,
        network: Network,
        log_seconds: float,
        epoch_images: int | None,
        missing: int,
        batch_images: int | None,
        show: bool,
        metrics: Path | None,
        callback: Callable[[Record], None] | None,
    ) -> None:
        self.epoch_images, self.missing, self.batch_images = epoch_images, missing, batch_images
        self.diagnostics = Diagnostics(network, log_seconds, self._tell)
        self._show, self._metrics, self._callback = show, metrics, callback
        self.team: Team | None = None  # whose processes train together; rank 0 alone tells
        self._total: int | None = None  # images of the whole training

    @contextlib.contextmanager
    def shown(self, phases: Sequence[Phase], state: State) -> Iterator[None]:
        """Start the clock where the training is, and show the bar until it ends."""
        from tqdm import tqdm  # not before: `import hebbcore` would take a tenth longer

        self.diagnostics.start(state.seconds)
        images = self.epoch_images
        if images is not None:
            passes = [phase.epochs + (phase.sample is not None) for phase in phases]  # one more to gather a sample
            self._total = sum(min(images, p.images or images) * n for p, n in zip(phases, passes, strict=True))
            most = phases[0].images or images
            short = min(images, most) - min(images - self.missing, most)  # the first pass, or the sample from it
            self._total -= short * (1 if phases[0].sample is None else passes[0])
        with tqdm(
            total=self._total, initial=state.position.images, unit="img", unit_scale=True, disable=not self._show
        ) as self._bar:
            yield

    def describe(self, text: str) -> None:
        """Say beside the bar what is being done."""
        self._bar.set_description(text)

    def repeating(self, images: int) -> None:
        """Make room for images that are looked at once more, and were counted before."""
        if self._bar.total is not None:
            self._bar.total += images

    def restart(self) -> None:
        """Leave what was done since the last record out of the next one."""
        self.diagnostics.start(self.diagnostics.elapsed)

    def stepped(self, images: int) -> None:
        """Count the images of a step."""
        self.diagnostics.stepped(images)
        self._bar.update(images)

    def record(self, at: Position, end: bool = False) -> None:
        """Tell what happened since the last record; end: a pass has ended, see Diagnostics."""
        if self.team is not None:
            self.diagnostics.add_up(self.team, end)
        where = {"phase": at.phase, "epoch": at.epoch, "step": at.step, "images": at.images}
        left = None if self._total is None else max(0, self._total - at.images)
        self.diagnostics.record(where, left, end)

    def _tell(self, record: Record) -> None:
        if self.team is not None and self.team.rank:
            return
        if self._metrics is not None:
            append(self._metrics, record)
        if self._callback is not None:
            self._callback(record)
