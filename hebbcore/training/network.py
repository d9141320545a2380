"""Training a network from arrays or a stream, together or layer by layer, with checkpoints to go on from."""

import dataclasses
import json
import logging
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from tqdm import tqdm

from hebbcore import checkpoint, checks, serialize
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import require_finite
from hebbcore.engine.patches import as_images
from hebbcore.engine.soundness import (
    AUTO,
    Divergence,
    is_due,
    largest_stable_rate,
    measured_rate,
    require_finite_output,
)
from hebbcore.engine.winners import tell_dead
from hebbcore.files import locked, remove_partial
from hebbcore.layers import Learner
from hebbcore.network import Network
from hebbcore.rules import Rule, as_rule
from hebbcore.training.batches import ArrayBatches, Batches, ahead, as_batches, batching
from hebbcore.training.cache import Inputs
from hebbcore.training.diagnostics import Diagnostics, Record, append, cut_after
from hebbcore.training.phases import Phase, factor, phases_of, whitened
from hebbcore.training.record import keep_config
from hebbcore.training.settings import LEARNING_RATE, Training, listed, may_change, require_effect

METRICS = "metrics.jsonl"  # of a run

_log = logging.getLogger("hebbcore")


def fit(
    network: Network,
    data: Any,
    *,
    epochs: int = 1,
    learning_rate: float | str | None = None,
    rate_factor: float = 1.0,
    schedule: str = "constant",
    mode: str = "together",
    batch_size: int | None = None,
    shuffle: bool | None = None,
    seed: int = 0,
    statistics_images: int = 10_000,
    cache: str = "none",
    cache_bytes: int | str = "4 GiB",
    run: str | os.PathLike[str] | None = None,
    checkpoint_minutes: float = 10.0,
    keep: int = 3,
    previous: bool = False,
    log_seconds: float = 5.0,
    progress: bool = False,
    callback: Callable[[Record], None] | None = None,
    check_finite: bool = True,
) -> Network:
    """Train a network's layers by their rules, without labels, and return it.

    network: changed in place; built for the data's images if it is not yet.
    data: as for train_layer: an array, or a re-iterable of batches or (images, labels) pairs such as a ShardStream.
        The next batch is read while the current one is learned. A stream is left where it was, so that the same call
        goes on with the training.
    epochs: passes over the data (layer by layer: for each layer that learns). A training together with the constant
        schedule goes on with more of them; elsewhere what was learned depends on their number, and it must stay.
    learning_rate: of the layers that have none of their own; None: 1e-3. "auto" (also of a layer): half of the largest
        stable rate on the layer's first input, for rules that know it (Rule.stable_rate: hpca).
    rate_factor: what the rates of all layers are multiplied by, their own ones too.
    batch_size, shuffle, seed: images a step (None: 64), whether arrays are shuffled (None: True), and in which order;
        an iterable makes its own batches.
    schedule: "constant"; "linear" or "cosine" (to 0 at the end); "epochs" (1 − epoch / epochs, once an epoch).
    mode: "together": all layers learn from one forward pass, each by its weights from before the step. "layerwise":
        each layer sees what the finished layers before it make; batch norms take the statistics of a pass of their own.
    statistics_images: how many images Whiten (and layer by layer BatchNorm) looks at, at most; at the start of a pass.
    cache: "none", "memory" or "disk" (a nameless file in run, else in the working folder): layer by layer, outputs of
        finished layers are kept if they take at most cache_bytes, else computed again (a warning in the log says so).
        The next layers' are made from those kept, so there are up to twice cache_bytes until they are complete.
    run: a folder for checkpoints, metrics.jsonl and config.json. If it holds checkpoints the training goes on from the
        latest, and gives the bits of one that was never stopped (same device and number of threads). SIGINT and SIGTERM
        then let the step (or a cache's batch) finish, save, and raise KeyboardInterrupt(message, signal number).
    checkpoint_minutes: between checkpoints, beside those at the start and the end of each epoch; keep: the latest so
        many.
    previous: if the latest checkpoint is damaged, go on from the one before.
    log_seconds: between records of diagnostics (hebbcore.diagnostics), which go to metrics.jsonl and callback.
    progress: show a bar. check_finite: refuse images that hold NaN, infinity or numbers beyond 1e12; every few steps,
        and before each checkpoint, look whether weights diverge, and at the end whether features are finite.

    Raises ValueError or TypeError for bad arguments, and for those that would have no effect, before any work, and for
    a run of other settings or data; FloatingPointError if weights diverge; RuntimeError if another thread trains the
    network. transform may run beside it in other threads, and sees the weights between two steps.
    Inputs: FastHebb (Lagani et al. 2022) for learning together.
    """
    if not isinstance(network, Network):
        raise TypeError(f"fit: network must be a Network, got {type(network).__name__}.")
    if isinstance(data, Iterator):
        raise ValueError("fit: data is an iterator, which can be read once; pass an array, a list or a stream.")
    size, mixed = batching("fit", data, batch_size, shuffle)
    settings = Training(
        epochs, learning_rate, rate_factor, schedule, mode, size, mixed, seed, statistics_images, cache, cache_bytes,
        checkpoint_minutes, keep, log_seconds, check_finite,
    )  # fmt: skip
    require_effect(network, settings, shuffled=mixed, run=run is not None)
    if previous and run is None:
        raise ValueError("fit: previous has no effect: there is no run to go on with; give run its folder.")
    order = np.random.default_rng(settings.seed).spawn(2)[1]
    batches = as_batches("fit", data, size, order if mixed else None, epochs, check_finite)
    network.begin_training("fit")
    try:
        with closing(ahead(batches.epoch(0), lambda batch: backend.as_array("fit", "data", batch))) as peek:
            first = next(peek)
        as_images("fit", "data", first)  # a list of images, say, which would be read as batches
        if network.image_shape is None:
            checks.channels_last("fit", "data", first.shape)
            network.build(first.shape[1:])
        shape = first.shape[1:]
        advice = ""
        if len(shape) == 3:
            advice = (
                f" For these, make the network or preset with image_shape={shape} (network.image_shape={list(shape)} "
                "in a configuration), or take another preset."
            )
        network.check_images("fit", first, advice)  # before a checkpoint: its folder would refuse the right network
        folder = None if run is None else Path(run)
        training = _Fit(network, batches, settings, batches.images(first), folder, progress, callback)
        if folder is None:
            training.go()
            training.require_finite_features(first)
            return network
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, "training into"), _Signals() as signals:
            training.signals = signals
            training.resume(previous)
            keep_config(folder, network, batches, settings, may_change(dataclasses.asdict(settings)))
            training.go()
            training.require_finite_features(first)
        return network
    finally:
        network.end_training()
        batches.rewind()


class _Signals:
    """Notes SIGINT and SIGTERM while a training runs in the main thread; the second one stops it at once."""

    def __init__(self) -> None:
        self.got: int | None = None
        self._stopped = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as of a shell's background jobs: it stays ignored
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.got is None:
            self.got = number
        elif not self._stopped:  # a third one must not tear what the second one's interrupt puts in order
            self._stopped = True
            raise KeyboardInterrupt("stopped at once; the latest checkpoint holds", number)


@dataclass
class _Position:
    """What comes next: phase, its epoch, and the batch in it; and how much was done."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    pass_images: int = 0  # in this epoch of the phase
    phase_images: int = 0
    step: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            checks.integer("_Position", field.name, getattr(self, field.name), 0)


def _position_of(header: dict[str, Any], layers: int) -> _Position:
    """Return where the training of a checkpoint was. Raises ValueError, TypeError or KeyError if it does not say so."""
    if any(checks.integer("fit", "whitened", place, 0) >= layers for place in header["whitened"]):
        raise ValueError("whitened names layers that are not there.")
    checks.real("fit", "seconds", header["seconds"])
    for key in ("training", "data", "versions"):
        if not isinstance(header[key], dict):
            raise TypeError(f"{key} must be a table, got {header[key]!r}.")
    return serialize.build(_Position, header["position"], "position", "fit")


class _Fit:
    """A training under way."""

    def __init__(
        self,
        network: Network,
        batches: Batches,
        settings: Training,
        epoch_images: int | None,
        run: Path | None,
        progress: bool,
        callback: Callable[[Record], None] | None,
    ) -> None:
        self.network, self.batches, self.settings, self.run = network, batches, settings, run
        self.progress, self.callback = progress, callback
        self.signals: _Signals | None = None
        self._plan(whitened(network))
        self.at = _Position()
        self.elapsed = 0.0
        self.diagnostics = Diagnostics(network, settings.log_seconds, self._tell)
        self._saved_step: int | None = None
        self._rates: dict[str, float] = {}  # those of "auto", once they are measured
        self._divergence = Divergence("fit") if settings.check_finite else None
        self._phase_step = 0  # steps before this phase, or before it went on
        folder = (run or Path.cwd()) if settings.cache == "disk" else None
        most = checks.byte_size("fit", "cache_bytes", settings.cache_bytes)
        self._source = Inputs(network, batches, self._prepare, most, folder, lambda: self._save_or_stop(end=False))
        if settings.cache != "none" and settings.mode == "layerwise" and batches.order(0) is None:
            raise ValueError(
                "fit: cache needs data whose images are the same in every epoch and known by their number (an array, "
                'or a ShardStream without random transform, part and drop_last); use cache="none".'
            )
        self._epoch_images = epoch_images
        if settings.schedule in ("linear", "cosine") and self._epoch_images is None:
            raise ValueError(
                f"fit: schedule {settings.schedule!r} needs data with a length (len), to know where the end is; "
                'use "constant" or "epochs".'
            )

    def _plan(self, whitened: list[int]) -> None:
        """Lay out the phases; whitened: layers that had learned to whiten when the training began."""
        s, self._whitened = self.settings, whitened
        self.phases = phases_of("fit", self.network, s.mode, s.epochs, s.statistics_images, whitened)

    # Going on

    def header(self) -> dict[str, Any]:
        """Return what a checkpoint says besides its arrays."""
        return {
            **checkpoint.describe("fit", self.network),
            "training": dataclasses.asdict(self.settings),
            "data": self.batches.identity(),
            "whitened": self._whitened,
            "rates": self._rates,
            "position": dataclasses.asdict(self.at),
            "seconds": self.elapsed,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "device": self.network.site.device,
            },
        }

    def resume(self, previous: bool) -> None:
        """Go on from the run's latest checkpoint, if there is one."""
        assert self.run is not None
        (self.run / checkpoint.FOLDER).mkdir(exist_ok=True)
        for folder in (self.run, self.run / checkpoint.FOLDER):
            remove_partial(folder)
        if not checkpoint.checkpoints(self.run):
            cut_after(self.run / METRICS, -1)
            self.save()  # what cannot be saved is said before any work
            return
        path = checkpoint.find("fit", self.run, previous)
        header, arrays = checkpoint.read("fit", path)
        if "position" not in header:
            raise ValueError(
                f"fit: {path} was written by hebbcore.save, and does not say how to go on with a training; "
                "move it out of the run."
            )
        with checkpoint.naming("fit", path, "does not hold a training of this version"):
            at = _position_of(header, len(self.network))
            # as this version writes them: with the defaults of parameters that an older one did not know
            layers = [serialize.layer_of(table, f"layers[{i}]", "fit") for i, table in enumerate(header["layers"])]
            header["layers"] = json.loads(checkpoint.as_json([serialize.layer_table("fit", layer) for layer in layers]))
        self._plan(header["whitened"])
        mine = json.loads(checkpoint.as_json(self.header()))
        free = may_change(mine["training"])
        for table in (mine, header):
            for key in ("position", "seconds", "versions"):
                table.setdefault("kept", {})[key] = table.pop(key)
            table["kept"]["rates"] = table.pop("rates", {})
            table["training"] = self._comparable(table["training"], free)
        kept, _ = header.pop("kept"), mine.pop("kept")
        different = serialize.differences(mine, header)
        if different:
            raise ValueError(
                f"fit: {self.run} holds another training: {listed(different)}. "
                "Train into another folder, or with the settings from there."
            )
        if at.phase > len(self.phases):
            raise ValueError(f"fit: {path} is of a training with more phases; train into another folder.")
        if self.settings.epochs < (begun := at.epoch + bool(at.batch)):
            raise ValueError(
                f"fit: epochs is {self.settings.epochs}, but {self.run} has begun epoch {begun}; "
                f"give at least {begun}, or train into another folder."
            )
        with checkpoint.naming("fit", path, "does not hold this network"):
            checkpoint.restore_arrays(self.network, arrays)
        self.at, self.elapsed, self._rates = at, kept["seconds"], kept["rates"]
        if self.at.phase == len(self.phases) and self.at.epoch < self.phases[-1].epochs:
            self.at.phase -= 1
        self._saved_step = self.at.step
        for later in checkpoint.checkpoints(self.run):
            if later > path:  # damaged
                later.unlink()
        cut_after(self.run / METRICS, self.at.step)

    def save(self) -> None:
        """Write a checkpoint, and remove the oldest ones."""
        self._last_save = time.monotonic()
        if self.run is None or self._saved_step == self.at.step:
            return
        self._require_sound()  # sound checkpoints must not make room for ruined ones
        self.elapsed = self.diagnostics.elapsed
        checkpoint.write(
            checkpoint.checkpoint_path(self.run, self.at.step), self.header(), checkpoint.arrays_of(self.network)
        )
        self._saved_step = self.at.step
        for path in checkpoint.checkpoints(self.run)[: -self.settings.keep]:
            path.unlink()

    def _comparable(self, training: dict[str, Any], free: set[str]) -> dict[str, Any]:
        """Return the settings in which a run and its continuation must agree; a missing one is the default."""
        table = {**dataclasses.asdict(Training()), **training}
        if table["learning_rate"] is None or all(layer.learning_rate for layer in self.network.learners.values()):
            table["learning_rate"] = LEARNING_RATE  # what None means; without a layer that takes it, it decides nothing
        if not isinstance(self.batches, ArrayBatches):  # these are the stream's, and in its identity
            free = free | {"batch_size", "shuffle", "seed"}
        return {key: value for key, value in table.items() if key not in free}

    # Learning

    def go(self) -> None:
        """Run all phases from where the training is."""
        self.diagnostics.start(self.elapsed)
        self._last_save = time.monotonic()
        total = self._images_of(self.phases)
        with tqdm(
            total=total, initial=self.at.images, unit="img", unit_scale=True, disable=not self.progress
        ) as self._bar:
            try:
                while self.at.phase < len(self.phases):
                    self._run_phase(self.phases[self.at.phase])
            finally:
                self._source.release()  # and its file, which an error's traceback would keep

    def _run_phase(self, phase: Phase) -> None:
        learners = [i for i in phase.targets if not phase.observes]
        if self.settings.cache != "none" and self.settings.mode == "layerwise":
            # or what an earlier phase has kept, also after a resume
            self._source.advance(sorted({p.targets[0] for p in self.phases[: self.at.phase + 1]}, reverse=True))
        source = self._source
        bar_text = ", ".join(self.network.names[i] for i in phase.targets) if not phase.together else "all layers"
        self._bar.set_description(f"{'observing' if phase.observes else 'learning'} {bar_text}")
        if phase.observes and not self.at.batch:
            for i in phase.targets:
                self.network.layers[i].forget()
        passes_before = sum(p.epochs for p in self.phases[: self.at.phase])
        self._phase_step = self.at.step
        self._start(learners, phase.together, passes_before)
        while self.at.epoch < phase.epochs:
            start = self.at.batch
            self.diagnostics.pass_wins.clear()
            epoch = source.batches.epoch(passes_before + self.at.epoch, start)
            with closing(ahead(epoch, source.prepare)) as batches:
                for count, x in enumerate(batches, 1):
                    left = len(x) if phase.images is None else phase.images - self.at.pass_images
                    if left <= 0:
                        break
                    self.at.batch = source.batches.following(start, count)
                    self._step(phase, source.place, x[:left])
            self._require_sound()
            self.at.epoch, self.at.batch, self.at.pass_images = self.at.epoch + 1, 0, 0
            if learners:
                self.diagnostics.record(self._where(), self._left(), end=True)
            if self.at.epoch < phase.epochs:
                self._save_or_stop(end=True)
        for i in phase.targets if phase.observes else ():
            with self.network.lock:
                self.network.layers[i].settle()
        self._tell_lost(learners)
        self.at.phase += 1
        if self.at.phase < len(self.phases):  # else it stays, for more epochs to follow
            self.at.epoch, self.at.phase_images = 0, 0
        self._saved_step = None  # the arrays changed though no step was made
        self._save_or_stop(end=True)

    def _start(self, learners: list[int], training: bool, number: int) -> None:
        """Let layers that start from patches do so, the first first, with the inputs that pass `number` gives them."""
        source, network = self._source, self.network
        for i in learners:
            layer = network.layers[i]
            assert isinstance(layer, Learner)
            if layer.started:
                continue
            between = [network.layers[j] for j in range(source.place, i) if network.layers[j].observes]
            kept = [{key: array.copy() for key, array in other.arrays().items()} for other in between]

            def inputs(i: int = i) -> Generator[Array, None, None]:
                with closing(ahead(source.batches.epoch(number), source.prepare)) as batches:
                    for x in batches:
                        yield network.run(x, source.place, i, training=training)

            with network.lock:
                layer.start("fit", inputs)
                for other, arrays in zip(between, kept, strict=True):  # the running statistics of batch norms
                    other.restore(arrays)

    def _tell_lost(self, learners: list[int]) -> None:
        for i in learners:
            layer, counts = self.network.layers[i], self.diagnostics.pass_wins.get(i)
            if not isinstance(layer, Learner) or not isinstance(layer.rule, Rule):
                continue
            if counts is not None:
                tell_dead("fit", layer.name, layer.rule, counts, 5)
            if self._divergence is not None:
                self._divergence.tell(layer.name, layer.rule, layer.weights, 5)

    def _step(self, phase: Phase, first: int, x: Array) -> None:
        network, last = self.network, max(phase.targets)
        measure = self.diagnostics.due
        if phase.observes:
            with network.lock:
                network.layers[last].observe(network.run(x, first, last))
        else:
            done = 0.0
            if self._epoch_images is not None:
                done = self.at.phase_images / (self._epoch_images * phase.epochs)
            slower = factor(self.settings.schedule, self.at.epoch, phase.epochs, done)

            def learn(i: int, before: Array, out: Array) -> None:
                layer = network.layers[i]
                assert isinstance(layer, Learner)
                if i not in phase.targets:
                    layer.forward(before, out, False)
                    return
                rate = self._rate(layer, before) * slower
                rule, seen = as_rule("fit", layer.rule), layer.as_input(before)
                if self._divergence is not None:
                    self._divergence.begin(layer.name, rule, layer.weights, seen, layer.geometry)
                self.diagnostics.learned(i, layer.learn(before, out, rate, measure), out)
                if self._divergence is not None and is_due(self.at.step + 1 - self._phase_step):
                    stable = partial(largest_stable_rate, rule, seen, layer.geometry)
                    self._divergence.require(layer.name, layer.weights, self.at.step + 1, rate, stable)

            end = len(network) if phase.together else last + 1
            with network.lock:
                network.run(x, first, end, training=phase.together, learn=learn)
        images = len(x)
        self.at.step += 1
        self.at.images += images
        self.at.phase_images += images
        self.at.pass_images += images
        self.diagnostics.stepped(images)
        self._bar.update(images)
        if measure:
            self.diagnostics.record(self._where(), self._left())
        self._save_or_stop(end=False)

    def _save_or_stop(self, end: bool) -> None:
        stopped = None if self.signals is None else self.signals.got
        if end or stopped is not None or time.monotonic() - self._last_save >= 60 * self.settings.checkpoint_minutes:
            self.save()
        if stopped is not None and self.at.phase < len(self.phases):
            raise KeyboardInterrupt(
                f"stopped by {signal.Signals(stopped).name} after step {self.at.step}; saved in {self.run}, from where "
                "the same command goes on",
                stopped,
            )

    def _rate(self, layer: Learner, x: Array | None = None) -> float:
        """Return a layer's learning rate, before the schedule; "auto" is measured on its first input x."""
        rate = layer.learning_rate
        if rate is None:
            rate = LEARNING_RATE if self.settings.learning_rate is None else self.settings.learning_rate
        if rate == AUTO:
            if layer.name not in self._rates and x is None:
                return 0.0  # it has not learned yet
            if layer.name not in self._rates:
                self._rates[layer.name] = measured_rate(
                    "fit", layer.name, as_rule("fit", layer.rule), layer.as_input(x), layer.geometry
                )
                _log.info("fit: the learning rate of %s is %.3g (auto)", layer.name, self._rates[layer.name])
            rate = self._rates[layer.name]
        return float(rate) * self.settings.rate_factor

    def _require_sound(self) -> None:
        """Raise FloatingPointError if the weights of a layer that learns diverge."""
        if self._divergence is None:
            return
        for name, layer in self.network.learners.items():
            self._divergence.require(name, layer.weights, self.at.step, self._rate(layer))

    def require_finite_features(self, images: Array) -> None:
        """Raise FloatingPointError if the trained network makes NaN or infinity of these images."""
        network = self.network
        if self.settings.check_finite:
            size = math.prod(network.shapes[-1]) * network.site.dtype.itemsize
            images = backend.as_array("fit", "images", images)
            require_finite_output("fit", network.names[-1], network.transform, images, size)

    # Data

    def _prepare(self, batch: Array) -> Array:
        images = self.network.check_images("fit", batch)
        if not self.batches.checked:
            require_finite("fit", "data", images)
        return devices.to_device(images, self.network.site.device)

    # Telling

    def _images_of(self, phases: list[Phase]) -> int | None:
        if self._epoch_images is None:
            return None
        return sum(min(self._epoch_images, p.images or self._epoch_images) * p.epochs for p in phases)

    def _left(self) -> float | None:
        total = self._images_of(self.phases)
        return None if total is None else max(0, total - self.at.images)

    def _where(self) -> Record:
        at = self.at
        return {"phase": at.phase, "epoch": at.epoch, "step": at.step, "images": at.images}

    def _tell(self, record: Record) -> None:
        if self.run is not None:
            append(self.run / METRICS, record)
        if self.callback is not None:
            self.callback(record)
