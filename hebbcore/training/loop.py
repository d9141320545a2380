"""The loop of a training: its phases, their epochs and batches."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from hebbcore import checks
from hebbcore.engine import devices
from hebbcore.engine.finite import require_finite
from hebbcore.engine.group.cuts import cut
from hebbcore.engine.group.portion import Portion, taking
from hebbcore.engine.group.team import Team
from hebbcore.network import Network
from hebbcore.training.agreement import Agreement, keep_alike
from hebbcore.training.ahead import ahead
from hebbcore.training.batch import Batch, kept, labels_at
from hebbcore.training.batches import Batches
from hebbcore.training.cache import Inputs
from hebbcore.training.header import State
from hebbcore.training.phases import Phase, phases_of
from hebbcore.training.progress import Progress
from hebbcore.training.run import Run
from hebbcore.training.sample import Sample, count_images, gather
from hebbcore.training.settings import Training
from hebbcore.training.shares import Share, here_of, portion_of
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
    team : Team or None
        The processes that train together; the batches are then Shares.
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
        team: Team | None = None,
    ) -> None:
        self._network, self._batches, self._settings = network, batches, settings
        self._state, self._steps, self._progress, self._run = state, steps, progress, run
        s = settings
        self._phases = phases_of("fit", network, s.mode, s.epochs, s.statistics_images, state.whitened, s.sample)
        self._caches = s.cache != "none" and s.mode == "layerwise"
        folder = (Path.cwd() if run is None else run.folder) if s.cache == "disk" else None
        most = checks.byte_size("fit", "cache_bytes", s.cache_bytes)
        self._sample: Sample | None = None
        self._pass_images: int | None = None  # of every pass, where they are known
        self._team = progress.team = team
        self._agreement = None if team is None else Agreement(team, run, progress.diagnostics)
        self._source = Inputs(network, batches, self._prepare, most, folder, self._pause)

    def go(self) -> None:
        """Run all phases from where the training is."""
        at, self._pass_images = self._state.position, self._batches.images()
        self._progress.diagnostics.begin_pass(self._state)
        with self._progress.shown(self._phases, self._state):
            try:
                while at.phase < len(self._phases):
                    self._run_phase(self._phases[at.phase])
            finally:
                self._source.release()  # and its file, which an error's traceback would keep

    def answer(self) -> None:
        """Answer a signal that came after the last step, to any process: it would be lost."""
        if self._run is None:
            return
        if self._agreement is not None:
            self._agreement.hear(anew=True)
        self._run.stop_if_told(self._state.position.step)

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
            self._state.wins, self._state.judged = {}, [0, 0]
            if not phase.observes:
                self._progress.record(at, end=True)
                if at.epoch < phase.epochs:  # else the end of the phase follows, which saves
                    self._pause(end=True)
        self._end_phase(phase)

    def _run_epoch(self, phase: Phase, number: int) -> None:
        """Run what is left of an epoch; number: which pass over the data this is, from 0."""
        at, source = self._state.position, self._source
        start = at.batch
        if not start:
            self._progress.diagnostics.begin_pass()
        if phase.sample is not None:
            self._learn_sample(phase)
            return
        with closing(ahead(source.batches.epoch(number, start), source.prepare)) as batches:
            for count, batch in enumerate(batches, 1):
                x, portion = self._here(batch)
                images = len(x) if portion is None else portion.total
                left = images if phase.images is None else min(images, phase.images - at.pass_images)
                if images and left <= 0:
                    break
                at.batch = source.batches.following(start, count)
                if portion is not None:
                    portion = portion.upto(left)
                if left:  # else all of it is damaged, in all processes
                    self._step(phase, x.first(left if portion is None else max(1, portion.images)), left, portion)
        self._steps.end_pass(phase)

    def _here(self, batch: Any) -> tuple[Batch, Portion | None]:
        """Return what this process has of a batch, and which part that is; None: the whole."""
        mine, portion = here_of(batch, self._team)
        return mine if portion is None else self._prepare_images(mine), portion

    def _step(self, phase: Phase, x: Batch, images: int, portion: Portion | None) -> None:
        """Let a phase take its step with a batch of so many images, of which x are here."""
        measure = self._measures()
        last = self._state.position.pass_images + images == self._pass_images  # the pass has a record of its own
        with taking(portion):
            if phase.observes:
                if portion is None or portion.images:
                    self._steps.observe(phase, self._source.layer, x.images)
            else:
                self._steps.learn(phase, self._source.layer, x, measure or last)
        self._stepped(images, measure, phase)

    def _measures(self) -> bool:
        """Return whether the next step is told of."""
        if self._agreement is None:
            return self._progress.diagnostics.due
        self._agreement.say()
        return self._agreement.record

    def _learn_sample(self, phase: Phase) -> None:
        """Run an epoch of one step, unless it was done before the training was stopped."""
        at, sample = self._state.position, self._sample
        if self._agreement is not None:
            self._agreement.say()
        if not at.batch:
            assert sample is not None
            if self._team is None:
                self._steps.learn_sample(phase, sample)
            else:
                first, end = cut(len(sample.patches), self._team.rank, self._team.size)
                with taking(Portion(self._team, first, end - first, len(sample.patches))):
                    some = slice(min(first, end - 1), end)
                    part = replace(sample, patches=sample.patches[some], labels=labels_at(sample.labels, some))
                    self._steps.learn_sample(phase, part)
            at.batch = 1
            self._stepped(sample.images, False, phase)
        self._steps.end_pass(phase)

    def _gather(self, phase: Phase, number: int) -> Sample:
        """Gather the sample of a phase, anew if it goes on; number: which pass over the data it is from, from 0."""
        at, batches, progress, s = self._state.position, self._batches, self._progress, self._settings
        assert phase.sample is not None
        assert phase.images is not None
        images = count_images(batches, number, phase.images, self._pause, self._team)
        again = bool(at.epoch or at.batch)
        if again:
            progress.repeating(images)

        def told(count: int) -> None:
            progress.stepped(count)
            self._pause()

        source = batches.epoch(number)
        sample = gather(
            self._network,
            phase.targets[0],
            phase.sample,
            images,
            source,
            self._prepare,
            seed=s.seed,
            told=told,
            here=self._here,
        )
        if self._team is not None:
            self._team.sum(sample.patches)  # each process took those of its images
            if sample.labels is not None:
                self._team.sum(sample.labels)
        if again:
            progress.restart()
        else:
            at.images += sample.images
        return sample

    def _stepped(self, images: int, measure: bool, phase: Phase) -> None:
        """Count a step and its images; measure: and tell of it, unless it is the last of a pass."""
        at = self._state.position
        at.step += 1
        at.images += images
        at.phase_images += images
        at.pass_images += images
        self._progress.stepped(images)
        if not phase.observes and (phase.sample is not None or at.pass_images == self._pass_images):
            return  # the end of the pass follows, with a record and a checkpoint of its own
        if measure:
            self._progress.record(at)
        self._pause(settled=not phase.observes)

    def _end_phase(self, phase: Phase) -> None:
        at, diagnostics = self._state.position, self._progress.diagnostics
        for i in phase.targets:
            layer = self._network.layers[i]
            if phase.observes:
                with self._network.lock, taking(None if self._team is None else portion_of(self._team)):
                    layer.settle()
            elif self._team is None or self._team.rank == 0:
                self._steps.tell_lost(layer, diagnostics.pass_wins.get(i))
        at.phase += 1
        if at.phase < len(self._phases):  # else it stays, for more epochs to follow
            at.epoch, at.phase_images = 0, 0
        if self._run is not None:
            self._run.settled()
        self._pause(end=True)

    def _pause(self, end: bool = False, settled: bool = True) -> None:
        """Save if it is time, and stop if a signal said so; end: an epoch has ended.

        settled: False in a pass of observations, which each process of a team has for itself until it ends; a training
        that goes on makes that pass again.
        """
        run, at, agreement = self._run, self._state.position, self._agreement
        due = run is not None and run.is_due(end)
        if agreement is not None:
            due = (agreement.hear() and settled) or end
        if run is None:
            return
        if due and self._team is not None:
            keep_alike("fit", self._team, self._network)
        if due and at.batch:
            self._progress.diagnostics.keep(self._state, self._team)
        if due:
            self._state.seconds = self._progress.diagnostics.elapsed
            run.save(self._state)
        run.stop_if_told(at.step)

    def _prepare(self, batch: Any) -> Any:
        """Check a batch, and bring it to the network's device; a share of one as soon as its place is known."""
        share = isinstance(batch, Share)
        if self._batches.lends:  # the next one is read while this one is learned
            batch = batch._replace(batch=kept("fit", batch.batch)) if share else kept("fit", batch)
        return batch if share else self._prepare_images(batch)

    def _prepare_images(self, batch: Batch) -> Batch:
        images = self._network.check_images("fit", batch.images)
        if not self._batches.checked:
            largest = require_finite("fit", "data", images)
            if self._network.pixel_scale is not None:
                self._network.pixel_scale = self._network.pixel_scale.after("fit", images, largest)
        return Batch(devices.to_device(images, self._network.site.device), batch.labels)
