"""Training a network from arrays or a stream, together or layer by layer, with checkpoints to go on from."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import as_images
from hebbcore.engine.soundness import require_finite_output
from hebbcore.network import Network
from hebbcore.training.batches import Batches, ahead, as_batches, batching
from hebbcore.training.diagnostics import METRICS, Record
from hebbcore.training.header import State
from hebbcore.training.loop import Loop
from hebbcore.training.phases import phases_of, whitened
from hebbcore.training.progress import Progress
from hebbcore.training.run import opened
from hebbcore.training.settings import Training, require_effect
from hebbcore.training.steps import Steps


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
        epochs=epochs,
        learning_rate=learning_rate,
        rate_factor=rate_factor,
        schedule=schedule,
        mode=mode,
        batch_size=size,
        shuffle=mixed,
        seed=seed,
        statistics_images=statistics_images,
        cache=cache,
        cache_bytes=cache_bytes,
        checkpoint_minutes=checkpoint_minutes,
        keep=keep,
        log_seconds=log_seconds,
        check_finite=check_finite,
    )
    require_effect(network, settings, shuffled=mixed, run=run is not None)
    if previous and run is None:
        raise ValueError("fit: previous has no effect: there is no run to go on with; give run its folder.")
    order = np.random.default_rng(settings.seed).spawn(2)[1] if mixed else None
    batches = as_batches("fit", data, size, order, epochs, check_finite)
    network.begin_training("fit")
    try:
        first = _first_batch(batches)
        _build(network, first)  # before a checkpoint: its folder would refuse the right network
        images = batches.images(first)
        _require_possible(network, settings, batches, images)
        state = State(whitened=whitened(network))
        metrics = None if run is None else Path(run) / METRICS
        told = Progress(network, log_seconds, images, progress, metrics, callback)
        steps = Steps(network, settings, state, told)
        with opened(run, network, batches, settings, steps.require_sound) as folder:
            if folder is not None:
                folder.resume(state, previous)
            Loop(network, batches, settings, state, steps, told, folder).go()
            if check_finite:
                _require_finite_features(network, first)
        return network
    finally:
        network.end_training()
        batches.rewind()


def _first_batch(batches: Batches) -> Array:
    with closing(ahead(batches.epoch(0), lambda batch: backend.as_array("fit", "data", batch))) as peek:
        first = next(peek)
    as_images("fit", "data", first)  # a list of images, say, which would be read as batches
    return first


def _build(network: Network, first: Array) -> None:
    """Build the network for the first batch, unless it is built. Raises ValueError if they do not fit each other."""
    shape = first.shape[1:]
    if network.image_shape is None:
        checks.channels_last("fit", "data", first.shape)
        network.build(shape)
    advice = ""
    if len(shape) == 3:
        advice = (
            f" For these, make the network or preset with image_shape={shape} (network.image_shape={list(shape)} "
            "in a configuration), or take another preset."
        )
    network.fit_images("fit", first, advice)


def _require_possible(network: Network, settings: Training, batches: Batches, epoch_images: int | None) -> None:
    """Raise ValueError for a network, settings and data that do not go with each other."""
    s = settings
    phases_of("fit", network, s.mode, s.epochs, s.statistics_images, whitened(network))
    if s.cache != "none" and s.mode == "layerwise" and batches.order(0) is None:
        raise ValueError(
            "fit: cache needs data whose images are the same in every epoch and known by their number (an array, "
            'or a ShardStream without random transform, part and drop_last); use cache="none".'
        )
    if s.schedule in ("linear", "cosine") and epoch_images is None:
        raise ValueError(
            f"fit: schedule {s.schedule!r} needs data with a length (len), to know where the end is; "
            'use "constant" or "epochs".'
        )


def _require_finite_features(network: Network, first: Array) -> None:
    """Raise FloatingPointError if the trained network makes NaN or infinity of the first batch."""
    size = math.prod(network.shapes[-1]) * network.site.dtype.itemsize
    images = backend.as_array("fit", "images", first)
    require_finite_output("fit", network.names[-1], network.transform, images, size)
