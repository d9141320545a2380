"""The loop of a training: its phases, their epochs and batches."""

from contextlib import closing
from pathlib import Path

from hebbcore import checks
from hebbcore.engine import devices
from hebbcore.engine.finite import require_finite
from hebbcore.network import Network
from hebbcore.training.ahead import ahead
from hebbcore.training.batch import Batch
from hebbcore.training.batches import Batches
from hebbcore.training.cache import Inputs
from hebbcore.training.header import State
from hebbcore.training.phases import Phase, phases_of
from hebbcore.training.progress import Progress
from hebbcore.training.run import Run
from hebbcore.training.sample import Sample, count_images, gather
from hebbcore.training.settings import Training
from hebbcore.training.steps import Steps


class Loop:
    """The loop of a training.

    Parameters
    ----------
    network, batches, settings
        What is trained, on what and how.
    state : State
        Where the training is; the loop moves it on.
    steps : Steps
        What layers do with a batch.
    progress : Progress
        Told of all that is done.
    run : Run or None
        Where the training is saved.
    """

    def __init__(
        self,
        network: Network,
        batches: Batches,
        settings: Training,
        state: State,
        steps: Steps,
        progress: Progress,
        run: Run | None,
    ) -> None:
        self._network, self._batches, self._settings = network, batches, settings
        self._state, self._steps, self._progress, self._run = state, steps, progress, run
        s = settings
        self._phases = phases_of("fit", network, s.mode, s.epochs, s.statistics_images, state.whitened, s.sample)
        self._caches = s.cache != "none" and s.mode == "layerwise"
        folder = (Path.cwd() if run is None else run.folder) if s.cache == "disk" else None
        most = checks.byte_size("fit", "cache_bytes", s.cache_bytes)
        self._sample: Sample | None = None
        self._source = Inputs(network, batches, self._prepare, most, folder, self._pause)

    def go(self) -> None:
        """Run all phases from where the training is."""
        at = self._state.position
        with self._progress.shown(self._phases, self._state):
            try:
                while at.phase < len(self._phases):
                    self._run_phase(self._phases[at.phase])
            finally:
                self._source.release()  # and its file, which an error's traceback would keep

    def _run_phase(self, phase: Phase) -> None:
        network, at = self._network, self._state.position
        if self._caches:
            # or what an earlier phase has kept, also after a resume
            graph, begun = network.graph, [p.targets[0] for p in self._phases[: at.phase + 1]]
            self._source.advance({graph.entries[i] for i in begun} & graph.before(begun[-1]))
        layers = "all layers" if phase.together else ", ".join(network.names[i] for i in phase.targets)
        passes_before = sum(p.epochs for p in self._phases[: at.phase])
        self._sample = None
        if phase.sample is not None and at.epoch + bool(at.batch) < phase.epochs:
            self._progress.describe(f"sampling {layers}")
            self._sample = self._gather(phase, passes_before)
        self._progress.describe(f"{'observing' if phase.observes else 'learning'} {layers}")
        if phase.observes and not at.batch:
            for i in phase.targets:
                network.layers[i].forget()
        self._steps.begin(phase, self._source, passes_before, self._sample)
        while at.epoch < phase.epochs:
            self._run_epoch(phase, passes_before + at.epoch)
            at.epoch, at.batch, at.pass_images = at.epoch + 1, 0, 0
            if not phase.observes:
                self._progress.record(at, end=True)
            if at.epoch < phase.epochs:
                self._pause(end=True)
        self._end_phase(phase)

    def _run_epoch(self, phase: Phase, number: int) -> None:
        """Run what is left of an epoch; number: which pass over the data this is, from 0."""
        at, source = self._state.position, self._source
        start = at.batch
        self._progress.diagnostics.begin_pass()
        if phase.sample is not None:
            self._learn_sample(phase)
            return
        with closing(ahead(source.batches.epoch(number, start), source.prepare)) as batches:
            for count, x in enumerate(batches, 1):
                left = len(x) if phase.images is None else phase.images - at.pass_images
                if left <= 0:
                    break
                at.batch = source.batches.following(start, count)
                self._step(phase, x.first(left))
        self._steps.require_sound()

    def _step(self, phase: Phase, x: Batch) -> None:
        measure = self._progress.diagnostics.due
        if phase.observes:
            self._steps.observe(phase, self._source.layer, x.images)
        else:
            self._steps.learn(phase, self._source.layer, x, measure)
        self._stepped(len(x), measure)

    def _learn_sample(self, phase: Phase) -> None:
        """Run an epoch of one step, unless it was done before the training was stopped."""
        at, measure = self._state.position, self._progress.diagnostics.due
        if not at.batch:
            assert self._sample is not None
            self._steps.learn_sample(phase, self._sample, measure)
            at.batch = 1
            self._stepped(self._sample.images, measure)
        self._steps.require_sound()

    def _gather(self, phase: Phase, number: int) -> Sample:
        """Gather the sample of a phase, anew if it goes on; number: which pass over the data it is from, from 0."""
        at, batches, progress, s = self._state.position, self._batches, self._progress, self._settings
        assert phase.sample is not None
        assert phase.images is not None
        images = count_images(batches, number, phase.images, self._pause)
        again = bool(at.epoch or at.batch)
        if again:
            progress.repeating(images)

        def told(count: int) -> None:
            progress.stepped(count)
            self._pause()

        source = batches.epoch(number)
        sample = gather(self._network, phase.targets[0], phase.sample, images, source, self._prepare, s.seed, told)
        if again:
            progress.restart()
        else:
            at.images += sample.images
        return sample

    def _stepped(self, images: int, measure: bool) -> None:
        """Count a step and its images; measure: and tell of it."""
        at = self._state.position
        at.step += 1
        at.images += images
        at.phase_images += images
        at.pass_images += images
        self._progress.stepped(images)
        if measure:
            self._progress.record(at)
        self._pause()

    def _end_phase(self, phase: Phase) -> None:
        at, diagnostics = self._state.position, self._progress.diagnostics
        for i in phase.targets:
            layer = self._network.layers[i]
            if phase.observes:
                with self._network.lock:
                    layer.settle()
            else:
                self._steps.tell_lost(layer, diagnostics.pass_wins.get(i))
        at.phase += 1
        if at.phase < len(self._phases):  # else it stays, for more epochs to follow
            at.epoch, at.phase_images = 0, 0
        if self._run is not None:
            self._run.settled()
        self._pause(end=True)

    def _pause(self, end: bool = False) -> None:
        """Save if it is time, and stop if a signal said so; end: an epoch has ended."""
        run, at = self._run, self._state.position
        if run is None:
            return
        if run.is_due(end):
            self._state.seconds = self._progress.diagnostics.elapsed
            run.save(self._state)
        if at.phase < len(self._phases):
            run.stop_if_told(at.step)

    def _prepare(self, batch: Batch) -> Batch:
        images = self._network.check_images("fit", batch.images)
        if not self._batches.checked:
            require_finite("fit", "data", images)
        return Batch(devices.to_device(images, self._network.site.device), batch.labels)
