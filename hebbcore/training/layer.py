"""Training one layer, and the weight change of one batch."""

import itertools
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from hebbcore import checks
from hebbcore.engine import backend, devices, gemm, tuning, winners
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import require_finite
from hebbcore.engine.patches import Geometry, as_images
from hebbcore.engine.rivalry import Rivalry, check_rivalry
from hebbcore.engine.soundness import (
    AUTO,
    Divergence,
    as_rate,
    is_due,
    largest_stable_rate,
    measured_rate,
    require_finite_output,
)
from hebbcore.engine.starting import STARTS, starting_weights
from hebbcore.engine.update import BatchedUpdate, add_scaled
from hebbcore.engine.winners import tell_dead
from hebbcore.layers import WORKSPACE, HebbianLayer, fit_images, flat
from hebbcore.rules import Rule, as_rule
from hebbcore.training.batches import as_batches, batching


class Step(NamedTuple):
    """What train_layer's callback gets after each batch.

    epoch and step count from 0; images: seen so far; weights: the live array (units, …), changed in the next step.
    """

    epoch: int
    step: int
    images: int
    weights: Array


def weight_update(
    images: Any,
    weights: Any,
    rule: Rule | str,
    *,
    stride: Any = 1,
    padding: Any = 0,
    padding_mode: str = "zeros",
    precision: str | None = None,
    workspace: int | str = WORKSPACE,
    check_finite: bool = True,
) -> Array:
    """Return the change ΔW that a rule gives the weights for one batch, before the learning rate.

    images: (n, H, W, C), or (n, features) for dense weights; uint8 (read as 0…1), float16, float32 or float64.
    weights: (units, kernel height, kernel width, C) or (units, features), float32 or float64, on the images' device.
    rule: a Rule or its name. stride, padding: an int or a (height, width) pair. padding_mode: "zeros" or "reflect".
    precision: "float32", "float64", on CUDA also "tf32" and "bf16"; None: the weights' own.
    workspace: bytes, or text like "256 MiB", of work memory beside ΔW; the result does not depend on it but for
    rounding. check_finite: look for NaN and infinity in images and weights first.

    Returns ΔW of the shape of the weights, on their device.
    Raises ValueError or TypeError for arguments that do not fit each other.
    Source: FastHebb (Lagani et al. 2022), whose merging of update and sum over the batch this generalises to all rules.
    """
    function = "weight_update"
    rule = as_rule(function, rule)
    weights = _as_weights(function, "weights", weights)
    array = fit_images(function, images, weights.shape)
    backend.same_device(function, "images", array, "weights", weights)
    dtype = gemm.check_precision(function, precision or weights.dtype.name, backend.device_of(weights))
    if weights.ndim == 2:
        _no_steps(function, stride, padding)
    g = _geometry(function, array, weights.shape, stride, padding, padding_mode)
    rule.check_units(function, len(weights))
    if check_finite:
        require_finite(function, "images", array)
        require_finite(function, "weights", weights)
    size = checks.byte_size(function, "workspace", workspace)
    update = BatchedUpdate(rule, g, len(weights), precision or weights.dtype.name, size, function)
    delta, scale = update.delta(array, flat(weights, dtype))
    delta *= scale
    return delta.reshape(weights.shape)


def train_layer(
    data: Any,
    units: int,
    kernel_size: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    padding_mode: str = "zeros",
    rule: Rule | str = "hpca",
    learning_rate: float | str = 1e-3,
    epochs: int = 1,
    batch_size: int | None = None,
    shuffle: bool | None = None,
    initial_weights: Any = None,
    conscience: float = 0.0,
    revival: float = 0.0,
    seed: int | np.random.Generator = 0,
    device: str = "auto",
    precision: str = "float32",
    workspace: int | str = WORKSPACE,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    check_finite: bool = True,
) -> HebbianLayer:
    """Train a Hebbian layer on images, without labels, and return it.

    data: (n, H, W, C) or (n, features), uint8 (read as 0…1), float16, float32 or float64; NumPy (also memory-mapped),
        CuPy, or convertible by DLPack, __cuda_array_interface__ or __array__; or a re-iterable of such batches, or of
        (images, labels) pairs, for data larger than memory.
    units: number of units. kernel_size: an int or a (height, width) pair; None: a dense layer, images flattened.
    stride, padding: an int or a pair. padding_mode: "zeros" or "reflect".
    rule: a Rule, or a name in hebbcore.RULES. learning_rate: W ← W + learning_rate · ΔW (see the rule for exceptions);
        "auto": half of the largest stable rate on the first batch, for rules that know it (Rule.stable_rate: hpca).
    epochs: passes over the data. batch_size: images a step; the last batch of an epoch may be smaller; None: 64.
        shuffle: another order each epoch; None: True. Both are for arrays: an iterable makes its own batches.
    initial_weights: (units, kernel height, kernel width, C) or (units, features), floating; None
        or "rule": drawn by the rule; "patches": different patches of the first data, as the layer sees them, scaled as
        the rule expects; "k-means++": patches far apart.
    conscience, revival: against units that win nothing; 0: off, as in the published rules (see Conv).
    seed: the same seed, data and device (and number of CPU threads) give the same bits.
    device: "cpu", "cuda", or "auto": CUDA when it works (see hebbcore.devices()); batches are moved to it.
    precision: "float32" or "float64"; on CUDA also "tf32" and "bf16", which only round the factors of the GEMMs.
    workspace: bytes, or text like "256 MiB", of work memory beside the weights, ΔW, 4 MiB a thread and, for
        HPCA, an array of units × units a thread; whatever the batch.
    progress: show a bar with images per second and the time left. callback: called with a Step after each batch.
    check_finite: refuse data that hold NaN, infinity or numbers beyond 1e12 (arrays: before any work), and look every
        few steps whether the weights diverge, at the end whether the output for the first batch is finite.

    Returns the layer, its weights on the device.
    Raises ValueError or TypeError for bad arguments, and for those that would have no effect, before any work;
    FloatingPointError if the weights diverge. Warns if more than a tenth of units that compete won nothing in the last
    epoch. Calls for different layers may run side by side in threads.
    """
    function = "train_layer"
    rule = as_rule(function, rule)
    units = checks.integer(function, "units", units, 1)
    rule.check_units(function, units)
    conscience, revival = check_rivalry(function, rule, conscience, revival)
    rate = as_rate(function, "learning_rate", learning_rate)
    epochs = checks.integer(function, "epochs", epochs, 1)
    size_of_batches, order = batching(function, data, batch_size, shuffle)
    size = checks.byte_size(function, "workspace", workspace)
    place = devices.resolve(function, device)
    dtype = gemm.check_precision(function, precision, place)
    kernel = None if kernel_size is None else checks.pair(function, "kernel_size", kernel_size, 1)
    if kernel is None:
        _no_steps(function, stride, padding)
    try:
        weight_generator, order_generator = np.random.default_rng(seed).spawn(2)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{function}: seed must be an integer of at least 0, got {seed!r} ({error}).") from error
    if seed and initial_weights is not None and not isinstance(initial_weights, str) and not order:
        raise ValueError(
            f"{function}: seed {seed!r} has no effect, since initial_weights are given and nothing is shuffled; leave "
            "it out, or let the weights be drawn or the data be shuffled."
        )
    batches = as_batches(function, data, size_of_batches, order_generator if order else None, epochs, check_finite)
    first_epoch = batches.epoch(0)
    first = next(first_epoch)
    start = initial_weights if isinstance(initial_weights, str) else None
    if start is not None:
        checks.choice(function, "initial_weights", start, STARTS)
    if initial_weights is None or start is not None:
        shape = as_images(function, "data", first).shape
        checks.channels_last(function, "data", shape)  # initial weights say how many channels there are
        shape = (units, *kernel, shape[3]) if kernel else (units, shape[1] * shape[2] * shape[3])
        weights = rule.initial_weights(weight_generator, units, math.prod(shape[1:])).reshape(shape)
    else:
        weights = _as_weights(function, "initial_weights", initial_weights)
        _match_initial(function, weights, units, kernel)
        if check_finite:
            require_finite(function, "initial_weights", weights)
    first_images = fit_images(function, first, weights.shape, "data")
    g = _geometry(function, first_images, weights.shape, stride, padding, padding_mode)
    weights = devices.to_device(weights, place).astype(dtype, order="C", copy=True)
    layer = HebbianLayer(weights, rule, g.stride, g.padding, padding_mode, precision)
    matrix = weights.reshape(units, -1)
    once = isinstance(data, Iterator)
    read = [first]  # of the first epoch

    def first_batches() -> Generator[Array, None, None]:
        if not once:
            yield from batches.epoch(0)
            return
        yield from list(read)
        for batch in first_epoch:
            read.append(batch)
            yield batch

    if start in ("patches", "k-means++"):
        drawn, generator = devices.to_device(matrix, "cpu"), weight_generator.spawn(1)[0]

        def inputs() -> Iterator[Array]:
            with closing(first_batches()) as source:
                for batch in source:
                    yield devices.to_device(_batch(function, batch, weights.shape, g), place)

        found = starting_weights(function, start, rule, drawn, g, inputs, generator)
        matrix[...] = devices.to_device(found, place)
        if not once:
            first_epoch, read = batches.epoch(0), []
    rivalry = None
    if conscience or revival:
        rivalry = Rivalry(rule, g, matrix, conscience, revival, int(weight_generator.spawn(1)[0].integers(2**63)))
    update = BatchedUpdate(rule, g, units, precision, size, function)
    divergence = Divergence(function) if check_finite else None
    if rate == AUTO:
        rate = measured_rate(function, "the layer", rule, devices.to_device(first_images, place), g)

    step, seen, total_wins = 0, 0, np.zeros(units, np.uint64)
    total = batches.images(first_images)
    total = None if total is None else total * epochs
    with tqdm(total=total, unit="img", unit_scale=True, disable=not progress) as bar:
        for epoch in range(epochs):
            for batch in itertools.chain(read, first_epoch) if epoch == 0 else batches.epoch(epoch):
                images = _batch(function, batch, weights.shape, g)
                if epoch == 0 and not batches.checked:
                    require_finite(function, "data", images)
                x = devices.to_device(images, place)
                if divergence is not None:
                    divergence.begin("the layer", rule, matrix, x, g)
                counting = rule.competes and epoch == epochs - 1
                won = _learn(update, rivalry, x, matrix, rate, counting)
                step += 1
                stable = partial(largest_stable_rate, rule, x, g)
                if divergence is not None and is_due(step):
                    divergence.require("the layer", matrix, step, rate, stable)
                if counting:
                    total_wins = total_wins + devices.to_device(won, "cpu")
                seen += len(images)
                bar.update(len(images))
                if callback is not None:
                    callback(Step(epoch, step - 1, seen, weights))
            if divergence is not None:
                divergence.require("the layer", matrix, step, rate, stable)
    if divergence is not None:
        divergence.tell("the layer", rule, matrix, 2)
        transform = partial(layer.transform, workspace=size)
        require_finite_output(function, "the layer", transform, first_images, g.positions * units * dtype.itemsize)
    if rule.competes:
        tell_dead(function, "the layer", rule, total_wins, 2)
    return layer


def _learn(
    update: BatchedUpdate, rivalry: Rivalry | None, images: Array, matrix: Array, rate: float, counting: bool
) -> Array | None:
    """Change the weights (K, D) by one batch; if counting, return how many places each unit wins of some of them."""
    rule, rows = update.rule, len(images) * update.geometry.positions
    bias = out = won = None
    if rivalry is not None:
        bias = rivalry.bias(matrix.dtype)
        won = rivalry.count(images, matrix)
    elif counting and rows > tuning.MEASURED.few_patches:
        won = winners.count(rule, images, update.geometry, matrix)
    elif counting:
        out = backend.namespace(matrix).empty((rows, len(matrix)), matrix.dtype)
    delta, scale = update.delta(images, matrix, out, bias)
    add_scaled(matrix, rule.rate(matrix, rate) * scale, delta)
    if rivalry is not None:
        rivalry.revive(matrix)
    return winners.wins(rule, out) if out is not None else won


def _batch(function: str, batch: Any, weights_shape: tuple[int, ...], g: Geometry) -> Array:
    """Return a batch as (n, H, W, C) images of the geometry. Raises ValueError for others."""
    images = fit_images(function, batch, weights_shape, "data")
    if images.shape[1:3] != g.size:
        raise ValueError(f"{function}: data changed from images of {g.size} to {images.shape[1:3]}.")
    return images


def _as_weights(function: str, name: str, value: Any) -> Array:
    """Return weights (units, kh, kw, C) or (units, features), floating."""
    array = backend.as_array(function, name, value)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{function}: {name} must be float32 or float64, got {array.dtype}; convert them.")
    if array.ndim not in (2, 4) or array.size == 0:
        raise ValueError(
            f"{function}: {name} must be (units, kernel height, kernel width, channels) or (units, features), "
            f"got shape {array.shape}."
        )
    return array


def _no_steps(function: str, stride: Any, padding: Any) -> None:
    """Raise ValueError if a dense layer is given a stride or padding."""
    if stride not in (1, (1, 1)) or padding not in (0, (0, 0)):
        raise ValueError(f"{function}: stride and padding are for convolutions; a dense layer has neither.")


def _match_initial(function: str, weights: Array, units: int, kernel: tuple[int, int] | None) -> None:
    expected = 2 if kernel is None else 4
    if len(weights) != units or weights.ndim != expected or (kernel and weights.shape[1:3] != kernel):
        wanted = f"({units}, {kernel[0]}, {kernel[1]}, channels)" if kernel else f"({units}, features)"
        raise ValueError(f"{function}: initial_weights must be {wanted}, got shape {weights.shape}.")


def _geometry(
    function: str, images: Array, weights_shape: tuple[int, ...], stride: Any, padding: Any, padding_mode: str
) -> Geometry:
    kernel = (1, 1) if len(weights_shape) == 2 else weights_shape[1:3]
    return Geometry.of(function, images.shape, kernel, stride, padding, padding_mode)
