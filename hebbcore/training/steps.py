"""What the layers of a network do with a batch: they observe it, or learn from it at their rates, which are watched."""

import logging
import warnings
from collections.abc import Callable, Generator
from contextlib import closing
from copy import copy
from functools import partial
from typing import Any

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.portion import current
from hebbcore.engine.patches import convert
from hebbcore.engine.soundness import AUTO, AUTO_SHARE, Divergence, is_due, largest_stable_rate, measured_rate, watched
from hebbcore.engine.winners import Tally, count_sample, spread, tell_dead
from hebbcore.layers import Layer, Learner, Site
from hebbcore.layers.base import as_read, rows_of
from hebbcore.layers.kept import require_moving
from hebbcore.network import Network
from hebbcore.predictions import judge
from hebbcore.rules import Rule, as_rule
from hebbcore.training.ahead import ahead
from hebbcore.training.batch import Batch
from hebbcore.training.cache import Inputs
from hebbcore.training.header import State
from hebbcore.training.phases import Phase, factor
from hebbcore.training.progress import Progress
from hebbcore.training.sample import Sample
from hebbcore.training.settings import LEARNING_RATE, Training
from hebbcore.training.teacher import Labelled, Teaching

_WARNING_LEVEL = 6  # frames from tell_lost up to whoever called fit

_log = logging.getLogger("hebbcore")


def _as_read(layer: Layer, x: Array, site: Site) -> Array:
    """Return a layer's input of the network's dtype, unless the layer reads images as they are."""
    if layer.reads_images or x.dtype == site.dtype:
        return x
    own = backend.module(site.device).empty(x.shape, site.dtype)
    convert(x, own)
    return own


class Steps:
    """The steps of a training.

    Parameters
    ----------
    network : Network
        What is trained.
    settings : Training
        How.
    state : State
        Where the training is, which its loop moves on.
    progress : Progress
        Told what each layer learned.
    teaching : Teaching
        What labels say to layers.
    """

    def __init__(
        self, network: Network, settings: Training, state: State, progress: Progress, teaching: Teaching
    ) -> None:
        self._network, self._settings, self._state, self._progress = network, settings, state, progress
        self._teaching, self._labelled = teaching, Labelled()
        self._divergence = Divergence("fit") if settings.check_finite else None
        self._steps_before = 0  # how many there were when this phase began, or went on
        self._goes_on = False  # whether the pass began before
        self._is_new = network.pixel_scale is None  # it has learned nothing yet, from images that differ
        self._missing = 0  # images of the phase's passes that a stream had behind it
        self._told_more = False  # that the data gave more images than they say

    def begin(self, phase: Phase, source: Inputs, number: int, sample: Sample | None) -> None:
        """Begin a phase, or go on with it; number: which pass over the data is its first, from 0.

        Layers that start from patches do so, the first first, with the inputs that this pass gives them, or with their
        sample.
        """
        self._steps_before = self._state.position.step
        self._goes_on = self._state.position.batch > 0
        self._missing = 0 if number else self._progress.missing
        for i in () if phase.observes else phase.targets:
            layer = self._network.layers[i]
            assert isinstance(layer, Learner)
            if not layer.started and sample is not None:
                with self._network.lock, layer.taking_patches():
                    layer.start("fit", sample.pieces)
            elif not layer.started:
                self._start_alike(i, layer, phase, source, number)

    def _start_alike(self, i: int, layer: Learner, phase: Phase, source: Inputs, number: int) -> None:
        """Let a layer start from patches; of a team rank 0 does, from whole batches, and tells the others."""
        team = self._progress.team
        if team is None:
            self._start(i, layer, phase, source, number)
            return
        shares: Any = source.batches
        whole = copy(source)
        whole.batches = shares.whole
        shares.by_first(partial(self._start, i, layer, phase, whole, number))
        theirs = team.broadcast({key: devices.to_device(array, "cpu") for key, array in layer.arrays().items()})
        if team.rank:
            layer.restore({key: devices.to_device(array, self._network.site.device) for key, array in theirs.items()})

    def _start(self, i: int, layer: Learner, phase: Phase, source: Inputs, number: int) -> None:
        network = self._network
        between = [network.layers[j] for j in range(source.layer, i) if network.layers[j].observes]
        kept = [{key: array.copy() for key, array in other.arrays().items()} for other in between]

        def inputs() -> Generator[Array, None, None]:
            with closing(ahead(source.batches.epoch(number), source.prepare)) as batches:
                for x in batches:
                    yield network.run(x.images, source.layer, network.graph.entries[i], training=phase.together)

        with network.lock:
            layer.start("fit", inputs)
            for other, arrays in zip(between, kept, strict=True):  # the running statistics of batch norms
                other.restore(arrays)

    def observe(self, phase: Phase, first: int, x: Array) -> None:
        """Let the layer of a phase take a batch into account; x: the input of layer `first`."""
        network, i = self._network, max(phase.targets)
        with network.lock:
            given = network.run(x, first, network.graph.entries[i])
            seen, observe = _as_read(network.layers[i], given, network.site), network.layers[i].observe
            observe(as_read(observe, seen) if seen is x else seen)  # the user's own images, perhaps

    def learn(self, phase: Phase, first: int, batch: Batch, measure: bool) -> None:
        """Let the layers of a phase learn from a batch: the input of layer `first`. measure: note their change."""
        self._teaching.require("fit", batch.labels)
        self._labelled.count(batch.labels)
        x, labels = batch.images, batch.labels
        network, at = self._network, self._state.position
        slower = factor(self._settings.schedule, at.epoch, phase.epochs, self._done(phase))
        waits, later = self._waiting() if current() is not None else set(), []

        def learn(i: int, before: Array, out: Array) -> None:
            layer = network.layers[i]
            assert isinstance(layer, Learner)
            rule, matrix = layer.bound_rule, layer.weights.reshape(layer.units, -1)
            tally = Tally(rule, matrix, spread(len(rows_of(out)), layer.geometry.positions))
            teacher = self._teaching.masks(i, labels, network.site.device)
            step = partial(layer.begin, out=out, measure=measure, tally=tally, teacher=teacher)
            change = self._learn(layer, before, slower, step)
            if labels is not None and rule.supervised and i == len(network) - 1:
                self._progress.diagnostics.judged(*judge(out, labels))

            def end() -> None:
                self._progress.diagnostics.learned(i, change(), tally.counts)

            if i in waits:
                later.append(end)
            else:
                end()

        with network.lock, watched(self._divergence):
            if phase.together:
                is_first = self._is_new and bool((x != x[:1]).any())
                self._is_new = self._is_new and not is_first
                with require_moving("fit", network.layers if is_first else ()):
                    network.run(x, first, len(network), training=True, learn=learn)
            else:
                (target,) = phase.targets
                entry = network.graph.entries[target]
                network.run(network.run(x, first, entry), entry, target + 1, learn=learn)
            for end in later:
                end()

    def _waiting(self) -> set[int]:
        """Return the layers whose change may wait for the next layers' outputs, while it is summed over processes.

        Not where it decides these outputs, as units do that a layer follows, and not where the input, whose memory the
        next layers take, is looked at once more with the changed weights.
        """
        network = self._network
        if self._looks(self._state.position.step + 1):
            return set()
        followers = (i for i, layer in enumerate(network.layers) if type(layer).follow is not Layer.follow)
        return set(range(len(network))) - {value - 1 for i in followers for value in network.graph.before(i)}

    def _looks(self, step: int) -> bool:
        """Return whether the weights are looked at after so many steps."""
        return self._divergence is not None and is_due(step - self._steps_before)

    def _done(self, phase: Phase) -> float:
        """Return the part of a phase that lies behind the batch at hand, 0…1; 0 if nobody knows how much there is."""
        images = self._progress.epoch_images
        if images is None:
            return 0.0
        return self._behind(images, self._state.position.batch - 1) / max(1, images * phase.epochs - self._missing)

    def _behind(self, images: int, batches: int) -> int:
        """Return how many images of a phase lie behind, of so many an epoch, with so many batches of this one."""
        at, size = self._state.position, self._progress.batch_images
        if size is None:
            return at.phase_images
        return at.epoch * images - self._missing * (at.epoch > 0) + batches * size  # they may be of any sizes

    def _tell_more(self, phase: Phase) -> None:
        """Warn once if passes had more images than the data say: a schedule then ends before them."""
        images, team, at = self._progress.epoch_images, self._progress.team, self._state.position
        ends = self._settings.schedule in ("linear", "cosine") and not phase.observes and phase.sample is None
        if images is None or not ends or self._told_more or (team is not None and team.rank):
            return
        told, found = images * (at.epoch + 1) - self._missing, self._behind(images, at.batch)
        if found > told:
            self._told_more = True
            warnings.warn(
                f"fit: by their images or len data say that there are {told} images until here, but {found} came: "
                f"schedule={self._settings.schedule!r} ends before the training does. Let data say how many there are.",
                stacklevel=_WARNING_LEVEL + 1,
            )

    def learn_sample(self, phase: Phase, sample: Sample) -> None:
        """Let the layer of a phase learn from its sample, all at once, and note its change."""
        self._teaching.require("fit", sample.labels)
        self._labelled.count(sample.labels)
        (i,), epoch = phase.targets, self._state.position.epoch
        layer = self._network.layers[i]
        assert isinstance(layer, Learner)
        slower = factor(self._settings.schedule, epoch, phase.epochs, epoch / phase.epochs)
        with self._network.lock, layer.taking_patches(), watched(self._divergence):
            matrix = layer.weights.reshape(layer.units, -1)
            won = count_sample(layer.bound_rule, sample.patches, layer.geometry, matrix)
            tally = Tally(layer.bound_rule, matrix, won)
            teacher = self._teaching.masks(i, sample.labels, self._network.site.device)
            step = partial(layer.begin, out=None, measure=True, tally=tally, teacher=teacher)
            change = self._learn(layer, sample.patches, slower, step)()
        self._progress.diagnostics.learned(i, change, won)

    def _learn(
        self, layer: Learner, x: Array, slower: float, learn: Callable[..., Callable[[], float | None]]
    ) -> Callable[[], float | None]:
        """Let a layer begin to learn from x by learn(x, rate=…); what is returned ends it, and looks after its weights.

        It returns the change.
        """
        step, rate = self._state.position.step + 1, self._rate(layer, x) * slower
        rule, seen = as_rule("fit", layer.rule), layer.as_input(x)
        divergence = self._divergence
        if divergence is None:
            return learn(x, rate=rate)
        divergence.begin(layer.name, rule, layer.weights, seen, layer.geometry)
        change = learn(x, rate=rate)

        def end() -> float | None:
            size = change()
            if self._looks(step):
                stable = partial(largest_stable_rate, rule, seen, layer.geometry)
                divergence.require(layer.name, layer.weights, step, rate, stable, self._given_rate(layer) == AUTO)
            return size

        return end

    def _rate(self, layer: Learner, x: Array | None = None) -> float:
        """Return a layer's learning rate, before the schedule; "auto" is measured on its inputs x."""
        rate = self._given_rate(layer)
        return float(self._auto_rate(layer, x) if rate == AUTO else rate) * self._settings.rate_factor

    def _given_rate(self, layer: Learner) -> float | str:
        """Return the layer's own rate, or else the training's."""
        if layer.learning_rate is not None:
            return layer.learning_rate
        return LEARNING_RATE if self._settings.learning_rate is None else self._settings.learning_rate

    def _auto_rate(self, layer: Learner, x: Array | None) -> float:
        """Return the rate that was measured on a layer's first input, or a later one if that was lower.

        The layers before it learn too, so that its input changes, most of all at first: it is measured again on x after
        1, 2, 4, 8, … steps of the training.
        """
        measured, done = self._state.rates, self._state.position.step
        known = measured.get(layer.name)
        if x is None or (known is not None and done & (done - 1)):
            return known or 0.0  # 0: it has not learned yet
        rule, seen = as_rule("fit", layer.rule), layer.as_input(x)
        if known is None:
            rate = measured_rate("fit", layer.name, rule, seen, layer.geometry)
        else:
            stable = largest_stable_rate(rule, seen, layer.geometry)
            rate = known if stable is None else min(known, AUTO_SHARE * stable)
        if rate != known:
            _log.info("fit: the learning rate of %s is %.3g (auto)", layer.name, rate)
        measured[layer.name] = rate
        return rate

    def require_sound(self) -> None:
        """Raise FloatingPointError if the weights of a layer that learns diverge."""
        if self._divergence is None:
            return
        for name, layer in self._network.learners.items():
            auto = self._given_rate(layer) == AUTO
            self._divergence.require(name, layer.weights, self._state.position.step, self._rate(layer), auto=auto)

    def end_pass(self, phase: Phase) -> None:
        """Look at what a pass has left: sound weights, and whether layers that learn from labels got any."""
        self.require_sound()
        self._tell_more(phase)
        names = [self._network.names[i] for i in phase.targets if i in self._teaching.units]
        if names and not self._goes_on:  # as in all processes
            self._labelled.tell("fit", names, self._progress.team, _WARNING_LEVEL)
        self._labelled, self._goes_on = Labelled(), False

    def tell_lost(self, layer: Layer, wins: Array | None) -> None:
        """Warn of units that won nothing in the last pass, and of those that steps threw off; wins: (units,)."""
        if not isinstance(layer, Learner) or not isinstance(layer.rule, Rule):
            return
        if wins is not None:
            tell_dead("fit", layer.name, layer.rule, wins, _WARNING_LEVEL)
        if self._divergence is not None:
            auto = self._given_rate(layer) == AUTO
            self._divergence.tell(layer.name, layer.rule, layer.weights, _WARNING_LEVEL, auto)
