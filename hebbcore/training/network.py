"""Training a network from arrays or a stream, together or layer by layer, with checkpoints to go on from."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checkpoint, checks
from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.group.groups import Group, joined, require_group
from hebbcore.engine.group.portion import Portion
from hebbcore.engine.group.team import Team
from hebbcore.engine.patches import as_images
from hebbcore.engine.pixel_scale import require_scale
from hebbcore.engine.soundness import require_finite_output
from hebbcore.layers.kept import make_writable
from hebbcore.network import Network
from hebbcore.training.agreement import agreed_scale, begin_alike, require_same, scale_of, scale_shown_by
from hebbcore.training.ahead import ahead
from hebbcore.training.batches import Batches, as_batches, batching, is_array
from hebbcore.training.diagnostics import METRICS, Record
from hebbcore.training.header import RunHeader, State
from hebbcore.training.loop import Loop
from hebbcore.training.phases import phases_of, whitened
from hebbcore.training.progress import Progress
from hebbcore.training.run import opened
from hebbcore.training.settings import NO_SAMPLE, Training, meant, require_effect
from hebbcore.training.shares import Shares
from hebbcore.training.steps import Steps
from hebbcore.training.teacher import Teacher, Teaching, who_needs_labels


def fit(
    network: Network,
    data: Any,
    *,
    labels: Any = None,
    teacher: Teacher | None = None,
    classes: int | None = None,
    epochs: int | None = None,
    learning_rate: float | str | None = None,
    rate_factor: float = 1.0,
    schedule: str = "constant",
    mode: str | None = None,
    batch_size: int | None = None,
    shuffle: bool | None = None,
    seed: int = 0,
    statistics_images: int | None = None,
    sample: int | str | None = None,
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
    group: Group | None = None,
) -> Network:
    """Train a network's layers by their rules and return it: without labels, unless a layer or a teacher asks for them.

    Parameters
    ----------
    network : Network
        It is changed, and built for the data's images if it is not yet.
    data : array or iterable
        As for train_layer: an array (n, H, W, C) or (n, features), uint8 (read as 0…1) or floating, or a re-iterable of
        such batches or of (images, labels) pairs, such as a ShardStream. A stream is left where it was, so that the
        same call goes on with the training.
    labels : array, optional
        (n,), integers: the class of each image of an array, 0, 1, …; below 0: it has none. Batches of a stream bring
        theirs, as pairs (images, labels). For networks with a supervised layer (Supervised), and for a teacher; see
        Notes.
    teacher : dict of str to int, or str, optional
        By name of the layer, how many of its units stand for classes, from its last on; or whose numbers those are:
        "fasthebb-6". For layers that learn by SWTA, k-WTA, HPCA or ICA. See Notes.
    classes : int, optional
        With a teacher, how many classes there are; None: as many as a supervised layer has units, or as the data have
        (labels, or class_names of a stream).
    epochs : int, optional
        Passes over the data; with mode="layerwise" for each layer that learns. See Notes for a run that goes on. Where
        epochs, mode, batch_size (of arrays), statistics_images and sample are None, what network.training says is
        taken, which presets may set, and else the value named here: 1.
    learning_rate : float or "auto", optional
        The rate of layers that have none of their own; None: 1e-3. "auto" (also of a layer): half of the largest stable
        rate on the layer's first input, for rules that know it (Rule.stable_rate: hpca), or of that on its input after
        1, 2, 4, 8, … steps of the training where that is lower, as it is while layers before it learn too.
    rate_factor : float
        The rates of all layers are multiplied by it, their own ones too.
    schedule : {"constant", "linear", "cosine", "epochs"}
        What becomes of the rates: "linear" and "cosine" go to 0 at the end, "epochs" is 1 − epoch / epochs, once an
        epoch.
    mode : {"together", "layerwise"}, optional
        "together": all layers learn from one forward pass, each by its weights from before the step. "layerwise": each
        layer sees what the finished layers before it make; batch norms take the statistics of a pass of their own.
        None: "together", see epochs.
    batch_size : int, optional
        Images a step, of an array, or with a sample at a time; None: 64, see epochs. An iterable makes its own batches.
    shuffle : bool, optional
        Whether an array is shuffled in each epoch; None: True.
    seed : int
        Decides the order in which an array is shuffled, and the places of a sample.
    statistics_images : int, optional
        How many images Whiten (and with mode="layerwise" BatchNorm and Scale) looks at, at most: those at the start of
        a pass; and of how many a sample is taken. None: 10,000, see epochs.
    sample : int or "none", optional
        With mode="layerwise", how many patches each layer that learns by a rule learns from, as it cuts them from its
        input; "none": all of them, batch by batch. None: "none", see epochs. See Notes.
    cache : {"none", "memory", "disk"}
        With mode="layerwise", where outputs of finished layers are kept; "disk": in a nameless file in run, else in the
        working folder. See Notes.
    cache_bytes : int or str
        The most bytes, or text such as "4 GiB", that a cache may take.
    run : path, optional
        A folder for checkpoints, metrics.jsonl and config.json. If it holds checkpoints, the training goes on from the
        latest.
    checkpoint_minutes : float
        Minutes between checkpoints, beside those at the start and at the end of each epoch.
    keep : int
        How many of the latest checkpoints stay.
    previous : bool
        If the latest checkpoint is damaged, go on from the one before.
    log_seconds : float
        Seconds between records (hebbcore.training.diagnostics), which go to metrics.jsonl of a run and to callback; one
        of them must be given with it.
    progress : bool
        Show a bar.
    callback : callable, optional
        Called with each record, a dict.
    check_finite : bool
        Refuse images that hold NaN, infinity or numbers beyond 1e12; every few steps, and before each checkpoint, look
        whether weights diverge, and at the end whether features are finite.
    group : Group, optional
        The processes that train the same network together, see world; each calls fit with the same arguments. None:
        this process alone.

    Returns
    -------
    Network
        The same network.

    Raises
    ------
    ValueError, TypeError
        For bad arguments, and for those that would have no effect, before any work; and for a run of other settings or
        data.
    FloatingPointError
        If weights diverge, or features are not finite at the end.
    BlockingIOError
        While another process trains into the run.
    OSError
        If the run cannot be written; the latest checkpoint stays.
    RuntimeError
        If another thread trains the network; and if another process of the group failed, with its rank, host and
        cause.
    KeyboardInterrupt
        After SIGINT, SIGTERM or SIGHUP to a training with a run: (message, signal number).

    Notes
    -----
    A run that goes on gives the bits of one that was never stopped, on the same device with the same number of
    threads and the same workspace. SIGINT, SIGTERM and SIGHUP let the step (or a cache's batch) finish and save; a
    second one but SIGHUP, which a closed terminal sends twice, stops it at once. A program's own handler of SIGHUP
    stays. A training with mode="together" and the constant schedule goes on with more epochs; elsewhere what was
    learned depends on their number, and it must stay.

    A network that has learned learns on from its weights; to learn anew, make a new network. Schedules begin anew in
    each call. A Whiten that has learned stays as it is, also for other data, since the weights behind it know it so.
    BatchNorm and Scale take new statistics: with mode="layerwise" of these data alone, else the running ones move on.

    The next batch is read while the current one is learned.

    A cache keeps outputs if they take at most cache_bytes; else they are computed again, and a warning in the log says
    so. The next layers' are made from those kept, so there are up to twice cache_bytes until they are complete.

    A sample is gathered in one pass over the first statistics_images images: about equally many patches of each, at
    different places; all of them if there are fewer. It is held on the network's device, and each epoch is one step
    from the whole of it, so that at rate 1 KWTA(1) with normalize_patches is Lloyd's iteration of spherical k-means. A
    training that goes on gathers it again. Data that do not tell their number of images are read once more for it.

    In a group each process takes an even share of every batch (of few images some get none), and the changes are summed
    before they are applied: the training is the same, to rounding, whatever the number of processes, and the same to
    the bit for the same number of equal machines. Rank 0's weights are what all begin with, and rank 0 alone reads and
    writes the run, shows progress and calls callback; a signal at any process stops all. Batch sizes are those of the
    whole batch.

    A teacher gives each class ⌊units / classes⌋ of a layer's units: the last ones, in the order of the classes; the
    rest belong to none. From an image with a label the units of its class and those of none may learn, at all of its
    positions; the layer's output is as without a teacher. An image without a label lets all units learn, as without a
    teacher, but teaches a supervised layer nothing. A class that a batch has not leaves its unit of a supervised layer
    as it is. Where the last layer is supervised and learns from images, not from a sample, the records at the end of a
    pass say its accuracy in the pass, each batch by the weights from before it: see hebbcore.training.diagnostics.

    `transform` may run beside fit in other threads, and sees the weights between two steps.

    References
    ----------
    mode="together" and the teacher follow FastHebb, Lagani et al. (2022), the latter its program.
    """
    for name, value in (("previous", previous), ("progress", progress)):
        checks.boolean("fit", name, value)
    checks.callback("fit", "callback", callback)
    require_group("fit", group)
    if not isinstance(network, Network):
        raise TypeError(f"fit: network must be a Network, got {type(network).__name__}.")
    if isinstance(data, Iterator):
        raise ValueError("fit: data is an iterator, which can be read once; pass an array, a list or a stream.")
    own = meant(network.training, mode, sample)
    sample = None if sample == NO_SAMPLE else sample
    own_size = own.pop("batch_size", None)  # data that come in batches have their own
    size, mixed = batching("fit", data, own_size if batch_size is None and is_array(data) else batch_size, shuffle)
    given = {"epochs": epochs, "mode": mode, "statistics_images": statistics_images, "sample": sample}
    settings = Training(
        **own | {key: value for key, value in given.items() if value is not None},
        learning_rate=learning_rate,
        rate_factor=rate_factor,
        schedule=schedule,
        batch_size=size,
        shuffle=mixed,
        seed=seed,
        cache=cache,
        cache_bytes=cache_bytes,
        checkpoint_minutes=checkpoint_minutes,
        keep=keep,
        log_seconds=log_seconds,
        check_finite=check_finite,
        teacher=teacher,
        classes=classes,
    )
    heard = run is not None or callback is not None or (group is not None and group.rank > 0)  # rank 0 tells for all
    goes_on = run is not None and (group is not None or bool(checkpoint.checkpoints(Path(run))))
    done = () if goes_on else whitened(network)  # what a run has learned, its settings were looked at for
    require_effect(network, settings, shuffled=mixed, run=run is not None, heard=heard, done=done)
    if previous and run is None:
        raise ValueError("fit: previous has no effect: there is no run to go on with; give run its folder.")
    order = np.random.default_rng(settings.seed).spawn(2)[1] if mixed else None
    learner = who_needs_labels(network, teacher)
    batches = as_batches("fit", data, size, order, settings.epochs, check_finite, labels, learner)
    teaching = Teaching.of(network, teacher, classes, data, labels)
    teaching.require("fit", getattr(batches, "labels", None))  # those of a stream are looked at as they come
    network.begin_training("fit")
    try:
        with joined(group, "fit", network.site.device) as team, np.errstate(under="ignore"):
            taken: Any = batches if team is None else Shares("fit", batches, team)
            first, portion = _first_batch(taken, team)
            _build(network, first)  # before a checkpoint: its folder would refuse the right network
            require_scale(network.pixel_scale, "fit", "data", scale_shown_by(first, batches))
            size = len(first) if portion is None else portion.total
            images = batches.images(size)
            _require_possible(network, settings, batches, images, size)
            state = State(whitened=whitened(network))
            metrics = None if run is None else Path(run) / METRICS
            told = Progress(
                network, log_seconds, images, batches.missing(size), None if batches.images() == images else size,
                progress and (team is None or team.rank == 0), metrics, callback,
            )  # fmt: skip
            steps = Steps(network, settings, state, told, teaching)
            if team is not None:
                _require_alike(team, network, settings, batches)
                taken.require_same_first()
            with opened(run, network, batches, settings, steps.require_sound, team) as folder:
                if folder is not None:
                    folder.resume(state, previous)
                if team is not None:
                    begin_alike(team, network, state)
                before, scale = network.pixel_scale, agreed_scale(scale_of(first, batches), team)
                if before is not None:  # of the images until now
                    scale.tell_unlike("fit", before)
                    scale = scale.beside(before)
                network.pixel_scale = scale
                loop = Loop(network, taken, settings, state, steps, told, folder, team)
                loop.go()
                network.pixel_scale = agreed_scale(network.pixel_scale, team)
                if check_finite:
                    _require_finite_features(network, first)
                loop.answer()
        return network
    finally:
        network.end_training()
        batches.rewind()


def _first_batch(batches: Any, team: Team | None) -> tuple[Array, Portion | None]:
    """Return the first images, or of a team's the share of this process, and which part that is."""
    with closing(ahead(batches.epoch(0), lambda batch: batch)) as peek:
        first, portion = next(peek), None
    if team is not None:
        first, portion = first.portion(team)
    first = backend.as_array("fit", "data", first.images)
    as_images("fit", "data", first)  # a list of images, say, which would be read as batches
    return first, portion


def _require_alike(team: Team, network: Network, settings: Training, batches: Batches) -> None:
    """Raise ValueError if the processes of a team could not do the same training, or would not; see require_same."""
    if settings.cache != "none":
        raise ValueError(
            f"fit: cache={settings.cache!r} is for one process, which sees all images of an epoch; leave it out."
        )
    for layer in network.layers:
        if layer.observes and not layer.adds_up:
            raise ValueError(
                f"fit: {layer.name} ({type(layer).__name__}) is for one process: of a group each would observe its own "
                "share of the images; train without group."
            )
    header = RunHeader.of(network, settings, batches.identity(), State()).table()
    require_same("fit", team, header)


def _build(network: Network, first: Array) -> None:
    """Build the network for the first batch, unless it is built, and let it have its own arrays.

    Raises ValueError if network and batch do not fit each other.
    """
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
    network.check_images("fit", first, advice)
    with network.lock:
        for layer in network.layers:
            make_writable(layer)


def _require_possible(
    network: Network, settings: Training, batches: Batches, epoch_images: int | None, size: int
) -> None:
    """Raise ValueError for a network, settings and data that do not go with each other. size: of the first batch."""
    s = settings
    phases_of("fit", network, s.mode, s.epochs, s.statistics_images, whitened(network))
    if s.cache != "none" and s.mode == "layerwise" and batches.order(0) is None:
        raise ValueError(
            "fit: cache needs data whose images are the same in every epoch and known by their number (an array, "
            'or a ShardStream without random transform, part and drop_last); use cache="none".'
        )
    if s.schedule in ("linear", "cosine") and s.sample is None:
        if epoch_images is None:
            raise ValueError(
                f"fit: schedule {s.schedule!r} needs data with a length (len), to know where the end is; "
                'use "constant" or "epochs".'
            )
        if s.epochs == 1 and epoch_images - batches.missing(size) <= size:
            raise ValueError(
                f"fit: schedule={s.schedule!r} has no effect: the training is one step, which has the whole rate; "
                "leave it out, or take more epochs or smaller batches."
            )


def _require_finite_features(network: Network, first: Array) -> None:
    """Raise FloatingPointError if the trained network makes NaN or infinity of the first batch."""
    size = math.prod(network.shapes[-1]) * network.site.dtype.itemsize
    images = backend.as_array("fit", "images", first)
    rules = [layer.bound_rule for layer in network.learners.values()]
    require_finite_output("fit", network.names[-1], network.transform, images, size, rules)
