"""Training one layer."""

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator
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
from hebbcore.layers import WORKSPACE, HebbianLayer
from hebbcore.layers.arguments import as_weights, check_images, check_no_steps, geometry_of
from hebbcore.rules import Rule, as_rule
from hebbcore.training.batches import Batches, as_batches, batching

_FUNCTION, _NAME = "train_layer", "the layer"  # in messages


class Step(NamedTuple):
    """What train_layer's callback gets after each batch.

    Attributes
    ----------
    epoch, step : int
        Both count from 0; step goes on from epoch to epoch.
    images : int
        Seen so far.
    weights : Array
        The live array (units, …), which the next step changes.
    """

    epoch: int
    step: int
    images: int
    weights: Array


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

    The same seed, data and device (and number of CPU threads) give the same bits. Calls for different layers may run
    side by side in threads.

    Parameters
    ----------
    data : Array or iterable
        (n, H, W, C) or (n, features), uint8 (read as 0…1), float16, float32 or float64; NumPy (also memory-mapped),
        CuPy, or convertible by DLPack, __cuda_array_interface__ or __array__; or a re-iterable of such batches, or of
        (images, labels) pairs, for data larger than memory.
    units : int
        Number of units.
    kernel_size : int or (int, int) or None
        Height and width of the kernels, in pixels; None: a dense layer, images flattened.
    stride, padding : int or (int, int)
        Height and width, in pixels.
    padding_mode : {"zeros", "reflect"}
        What lies beyond the image.
    rule : Rule or str
        A rule, or a name in hebbcore.RULES.
    learning_rate : float or "auto"
        W ← W + learning_rate · ΔW (see the rule for exceptions); "auto": half of the largest stable rate on the first
        batch, for rules that know it (Rule.stable_rate: hpca).
    epochs : int
        Passes over the data.
    batch_size : int or None
        Images a step; the last batch of an epoch may be smaller; None: 64. For arrays: an iterable makes its own
        batches.
    shuffle : bool or None
        Another order each epoch; None: True. For arrays.
    initial_weights : Array or {"rule", "patches", "k-means++"} or None
        (units, kernel height, kernel width, C) or (units, features), floating; None or "rule": drawn by the rule;
        "patches": different patches of the first data, as the layer sees them, scaled as the rule expects; "k-means++":
        patches far apart.
    conscience, revival : float
        Help for units that win nothing; 0: off, as in the published rules (see Conv).
    seed : int or numpy.random.Generator
        Draws the weights and the order.
    device : {"auto", "cpu", "cuda"}
        Where the layer learns; "auto": CUDA when it works (see hebbcore.devices()). Batches are moved to it.
    precision : {"float32", "float64", "tf32", "bf16"}
        The last two, on CUDA, only round the factors of the GEMMs.
    workspace : int or str
        Bytes, or text like "256 MiB", of work memory beside the weights, ΔW, 4 MiB a thread and, for HPCA, an array of
        units × units a thread; whatever the batch.
    progress : bool
        Show a bar with images per second and the time left.
    callback : callable or None
        Called with a Step after each batch.
    check_finite : bool
        Refuse data that hold NaN, infinity or numbers beyond 1e12 (arrays: before any work), and look every few steps
        whether the weights diverge, at the end whether the output for the first batch is finite.

    Returns
    -------
    HebbianLayer
        The layer, its weights on the device.

    Raises
    ------
    ValueError, TypeError
        For bad arguments, and for those that would have no effect, before any work.
    FloatingPointError
        If the weights diverge.

    Warns
    -----
    UserWarning
        If more than a tenth of units that compete won nothing in the last epoch.
    """
    rule = as_rule(_FUNCTION, rule)
    units = checks.integer(_FUNCTION, "units", units, 1)
    rule.check_units(_FUNCTION, units)
    conscience, revival = check_rivalry(_FUNCTION, rule, conscience, revival)
    rate = as_rate(_FUNCTION, "learning_rate", learning_rate)
    epochs = checks.integer(_FUNCTION, "epochs", epochs, 1)
    size_of_batches, order = batching(_FUNCTION, data, batch_size, shuffle)
    workspace = checks.byte_size(_FUNCTION, "workspace", workspace)
    device = devices.resolve(_FUNCTION, device)
    dtype = gemm.check_precision(_FUNCTION, precision, device)
    kernel = None if kernel_size is None else checks.pair(_FUNCTION, "kernel_size", kernel_size, 1)
    if kernel is None:
        check_no_steps(_FUNCTION, stride, padding)
    initial_weights = "rule" if initial_weights is None else initial_weights
    weight_generator, order_generator = _generators(seed, order, isinstance(initial_weights, str))
    batches = as_batches(_FUNCTION, data, size_of_batches, order_generator if order else None, epochs, check_finite)
    first_epoch = _FirstEpoch(batches, once=isinstance(data, Iterator))
    if isinstance(initial_weights, str):
        checks.choice(_FUNCTION, "initial_weights", initial_weights, STARTS)
        weights = _drawn_weights(rule, units, kernel, first_epoch.first, weight_generator)
    else:
        weights = _given_weights(initial_weights, units, kernel, check_finite)
    first = check_images(_FUNCTION, first_epoch.first, weights.shape, "data")
    g = geometry_of(_FUNCTION, first, weights.shape, stride, padding, padding_mode)
    weights = devices.to_device(weights, device).astype(dtype, order="C", copy=True)
    layer = HebbianLayer(weights, rule, g.stride, g.padding, padding_mode, precision)
    training = _Training(layer, g, workspace, check_finite)
    if isinstance(initial_weights, str) and initial_weights != "rule":
        training.start(initial_weights, first_epoch, weight_generator.spawn(1)[0])
    if conscience or revival:
        training.rival(conscience, revival, weight_generator.spawn(1)[0])
    training.rate = rate
    if rate == AUTO:
        training.rate = measured_rate(_FUNCTION, _NAME, rule, devices.to_device(first, device), g)
    images = batches.images(first)
    total = None if images is None else images * epochs
    with tqdm(total=total, unit="img", unit_scale=True, disable=not progress) as bar:
        for epoch in range(epochs):
            source = first_epoch if epoch == 0 else batches.epoch(epoch)
            training.run(epoch, source, epoch == 0 and not batches.checked, epoch == epochs - 1, bar, callback)
    training.finish(first)
    return layer


def _generators(seed: Any, shuffled: bool, drawn: bool) -> list[np.random.Generator]:
    """Return the generators of the weights and of the order, one of which must be drawn if there is a seed."""
    try:
        generators = np.random.default_rng(seed).spawn(2)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{_FUNCTION}: seed must be an integer of at least 0, got {seed!r} ({error}).") from error
    if seed and not drawn and not shuffled:
        raise ValueError(
            f"{_FUNCTION}: seed {seed!r} has no effect, since initial_weights are given and nothing is shuffled; leave "
            "it out, or let the weights be drawn or the data be shuffled."
        )
    return generators


def _drawn_weights(
    rule: Rule, units: int, kernel: tuple[int, int] | None, first: Any, generator: np.random.Generator
) -> Array:
    """Return weights drawn by the rule, for the channels or features of the first batch."""
    shape = as_images(_FUNCTION, "data", first).shape
    checks.channels_last(_FUNCTION, "data", shape)  # drawn weights say how many channels there are
    shape = (units, *kernel, shape[3]) if kernel else (units, shape[1] * shape[2] * shape[3])
    return rule.initial_weights(generator, units, math.prod(shape[1:])).reshape(shape)


def _given_weights(value: Any, units: int, kernel: tuple[int, int] | None, check_finite: bool) -> Array:
    """Return initial_weights as an array. Raises ValueError or TypeError for others than units and kernel say."""
    weights = as_weights(_FUNCTION, "initial_weights", value)
    expected = 2 if kernel is None else 4
    if len(weights) != units or weights.ndim != expected or (kernel and weights.shape[1:3] != kernel):
        wanted = f"({units}, {kernel[0]}, {kernel[1]}, channels)" if kernel else f"({units}, features)"
        raise ValueError(f"{_FUNCTION}: initial_weights must be {wanted}, got shape {weights.shape}.")
    if check_finite:
        require_finite(_FUNCTION, "initial_weights", weights)
    return weights


class _FirstEpoch:
    """The batches of the first epoch, of which the first can be looked at before they are learned from.

    once: they come from an iterator, so that what was looked at is kept.
    """

    def __init__(self, batches: Batches, once: bool) -> None:
        self._batches, self._once = batches, once
        self._rest = batches.epoch(0)
        self.first = next(self._rest)
        self._read = [self.first]

    def look(self) -> Generator[Array, None, None]:
        """Return the batches, from the first."""
        if not self._once:
            yield from self._batches.epoch(0)
            return
        yield from list(self._read)
        for batch in self._rest:
            self._read.append(batch)
            yield batch

    def rewind(self) -> None:
        """Begin anew after a look, which may have drawn another order."""
        if not self._once:
            self._rest, self._read = self._batches.epoch(0), []

    def __iter__(self) -> Iterator[Array]:
        return itertools.chain(self._read, self._rest)


class _Training:
    """What changes the weights of a layer, batch by batch, and looks after them."""

    def __init__(self, layer: HebbianLayer, g: Geometry, workspace: int, check_finite: bool) -> None:
        self._layer, self._g, self._workspace = layer, g, workspace
        self._rule, self._matrix = layer.rule, layer.weights.reshape(layer.units, -1)
        self._device = backend.device_of(layer.weights)
        self._update = BatchedUpdate(layer.rule, g, layer.units, layer.precision, workspace, _FUNCTION)
        self._divergence = Divergence(_FUNCTION) if check_finite else None
        self._rivalry: Rivalry | None = None
        self._wins = np.zeros(layer.units, np.uint64)  # of the last epoch
        self._steps = self._seen = 0
        self.rate = 0.0

    def start(self, how: str, first_epoch: _FirstEpoch, generator: np.random.Generator) -> None:
        """Let the weights start from patches of the first data."""
        drawn = devices.to_device(self._matrix, "cpu")

        def inputs() -> Iterator[Array]:
            with closing(first_epoch.look()) as source:
                for batch in source:
                    yield devices.to_device(self._images(batch), self._device)

        found = starting_weights(_FUNCTION, how, self._rule, drawn, self._g, inputs, generator)
        self._matrix[...] = devices.to_device(found, self._device)
        first_epoch.rewind()

    def rival(self, conscience: float, revival: float, generator: np.random.Generator) -> None:
        """Let units compete with a bias, or be revived."""
        seed = int(generator.integers(2**63))
        self._rivalry = Rivalry(self._rule, self._g, self._matrix, conscience, revival, seed)

    def run(
        self, epoch: int, source: Iterable[Any], unchecked: bool, last: bool, bar: Any,
        callback: Callable[[Step], None] | None,
    ) -> None:  # fmt: skip
        """Learn from the batches of an epoch; unchecked: nobody has looked whether they are finite."""
        stable = None
        for batch in source:
            images = self._images(batch)
            if unchecked:
                require_finite(_FUNCTION, "data", images)
            x = devices.to_device(images, self._device)
            if self._divergence is not None:
                self._divergence.begin(_NAME, self._rule, self._matrix, x, self._g)
            won = self._learn(x, counting=last and self._rule.competes)
            self._steps += 1
            self._seen += len(images)
            stable = partial(largest_stable_rate, self._rule, x, self._g)
            if self._divergence is not None and is_due(self._steps):
                self._divergence.require(_NAME, self._matrix, self._steps, self.rate, stable)
            if won is not None:
                self._wins = self._wins + devices.to_device(won, "cpu")
            bar.update(len(images))
            if callback is not None:
                callback(Step(epoch, self._steps - 1, self._seen, self._layer.weights))
        if self._divergence is not None:
            self._divergence.require(_NAME, self._matrix, self._steps, self.rate, stable)

    def _images(self, batch: Any) -> Array:
        """Return a batch as (n, H, W, C) images of the geometry. Raises ValueError for others."""
        images = check_images(_FUNCTION, batch, self._layer.weights.shape, "data")
        if images.shape[1:3] != self._g.size:
            raise ValueError(f"{_FUNCTION}: data changed from images of {self._g.size} to {images.shape[1:3]}.")
        return images

    def _learn(self, images: Array, counting: bool) -> Array | None:
        """Change the weights by one batch; if counting, return how many of some patches each unit wins."""
        rule, matrix, rivalry, rows = self._rule, self._matrix, self._rivalry, len(images) * self._g.positions
        bias = out = won = None
        if rivalry is not None:
            bias = rivalry.bias(matrix.dtype)
            won = rivalry.count(images, matrix)
        elif counting and rows > tuning.MEASURED.few_patches:
            won = winners.count(rule, images, self._g, matrix)
        elif counting:
            out = backend.namespace(matrix).empty((rows, len(matrix)), matrix.dtype)
        delta, scale = self._update.delta(images, matrix, out, bias)
        add_scaled(matrix, rule.rate(matrix, self.rate) * scale, delta)
        if rivalry is not None:
            rivalry.revive(matrix)
        if out is not None:
            won = winners.wins(rule, out)
        return won if counting else None

    def finish(self, first: Array) -> None:
        """Look at what was learned: whether it is sound, and which units won nothing. first: the first batch."""
        if self._divergence is not None:
            self._divergence.tell(_NAME, self._rule, self._matrix, 3)
            transform = partial(self._layer.transform, workspace=self._workspace)
            image_bytes = self._g.positions * self._matrix[:, 0].nbytes
            require_finite_output(_FUNCTION, _NAME, transform, first, image_bytes)
        if self._rule.competes:
            tell_dead(_FUNCTION, _NAME, self._rule, self._wins, 3)
