"""Training one layer."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from hebbcore import checkpoint, checks
from hebbcore.engine import devices, gemm
from hebbcore.engine.answers import initial_weights_of, require_counts
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import require_finite
from hebbcore.engine.group.groups import Group, joined, require_group
from hebbcore.engine.group.portion import taking
from hebbcore.engine.group.team import Team
from hebbcore.engine.patches import as_images
from hebbcore.engine.rivalry import check_rivalry
from hebbcore.engine.soundness import AUTO, as_rate, measured_rate
from hebbcore.engine.starting import STARTS
from hebbcore.layers import WORKSPACE, HebbianLayer
from hebbcore.layers.arguments import as_weights, check_images, check_no_steps, geometry_of
from hebbcore.rules import Rule, as_rule
from hebbcore.training.agreement import agreed_scale, require_same, scale_of
from hebbcore.training.batches import as_batches, batching
from hebbcore.training.layer_steps import FUNCTION, NAME, FirstEpoch, LayerTraining, Step
from hebbcore.training.shares import Shares

__all__ = ["Step", "train_layer"]


def train_layer(
    data: Any,
    units: int,
    kernel_size: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    padding_mode: str = "zeros",
    rule: Rule | str = "hpca",
    labels: Any = None,
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
    group: Group | None = None,
) -> HebbianLayer:
    """Train a Hebbian layer on images, without labels unless it learns by Supervised, and return it.

    The same seed, data and device (and number of CPU threads) give the same bits. Calls for different layers may run
    side by side in threads.

    Parameters
    ----------
    data : Array or iterable
        (n, H, W, C) or (n, features), uint8 (read as 0…1), float16, float32 or float64; NumPy (also memory-mapped),
        CuPy, or convertible by DLPack, `__cuda_array_interface__` or `__array__`; or a re-iterable of such batches, or
        of (images, labels) pairs, for data larger than memory. A stream is left where it was.
    units : int
        Number of units.
    kernel_size : int or (int, int) or None
        Height and width of the kernels, in pixels; None: a dense layer, images flattened.
    stride : int or (int, int)
        Height and width, in pixels.
    padding : int or (int, int)
        Above and below, left and right, in pixels.
    padding_mode : {"zeros", "reflect", "edge"}
        What lies beyond the image; without padding it has no effect.
    rule : Rule or str
        A rule, or a name in hebbcore.RULES.
    labels : Array or None
        For Supervised: (n,), integers, the class 0 … units − 1 of each image of an array; below 0: none, the image
        teaches nothing. Batches of an iterable bring theirs, as (images, labels) pairs.
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
        Draws the weights, the order, and what revived units learn from.
    device : {"auto", "cpu", "cuda"}
        Where the layer learns; "auto": CUDA when it works (see hebbcore.devices()). Batches are moved to it.
    precision : {"float32", "float64", "tf32", "bf16"}
        The last two, on CUDA, only round the factors of the GEMMs.
    workspace : int or str
        Bytes, or text like "256 MiB", of work memory beside the weights, ΔW, 4 MiB a thread, for HPCA and ICA an array
        of units × units a thread, for SignedWTA of several winners one, and for units that compete their responses to
        up to 1,024 patches; whatever the batch.
    progress : bool
        Show a bar with images per second and the time left.
    callback : callable or None
        Called with a Step after each batch.
    check_finite : bool
        Refuse data that hold NaN, infinity or numbers beyond 1e12 (arrays: before any work), and look every few steps
        whether the weights diverge, at the end whether the output for the first batch is finite.
    group : Group or None
        The processes that train the same layer together, see world; each calls train_layer with the same arguments,
        and takes an even share of each batch (see fit). Rank 0 alone shows progress and calls callback. None: this
        process alone.

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
    RuntimeError
        If another process of the group failed, with its rank, host and cause.

    Warns
    -----
    UserWarning
        If more than a tenth of units that compete won nothing in the last epoch, and if some batches hold floating
        numbers of 0…1 and others go beyond 50.
    """
    for name, value in (("progress", progress), ("check_finite", check_finite)):
        checks.boolean(FUNCTION, name, value)
    checks.callback(FUNCTION, "callback", callback)
    require_group(FUNCTION, group)
    rule = as_rule(FUNCTION, rule)
    units = checks.integer(FUNCTION, "units", units, 1)
    require_counts(FUNCTION, rule, units)
    conscience, revival = check_rivalry(FUNCTION, rule, conscience, revival)
    rate = as_rate(FUNCTION, "learning_rate", learning_rate)
    epochs = checks.integer(FUNCTION, "epochs", epochs, 1)
    size_of_batches, order = batching(FUNCTION, data, batch_size, shuffle)
    workspace = checks.byte_size(FUNCTION, "workspace", workspace)
    device = devices.resolve(FUNCTION, device)
    dtype = gemm.check_precision(FUNCTION, precision, device)
    kernel = None if kernel_size is None else checks.pair(FUNCTION, "kernel_size", kernel_size, 1)
    if kernel is None:
        check_no_steps(FUNCTION, stride, padding)
    initial_weights = "rule" if initial_weights is None else initial_weights
    weight_generator, order_generator = _generators(seed, order, isinstance(initial_weights, str) or revival > 0)
    learner = NAME if rule.supervised else ""
    batches = as_batches(
        FUNCTION, data, size_of_batches, order_generator if order else None, epochs, check_finite, labels, learner
    )  # fmt: skip
    once = isinstance(data, Iterator)
    if once and group is not None and group.size > 1:
        raise ValueError(f"{FUNCTION}: data is an iterator, which a group cannot share; pass a list or a stream.")
    with joined(group, FUNCTION, device) as team, np.errstate(under="ignore"), ExitStack() as after:
        after.callback(batches.rewind)
        taken: Any = batches if team is None else Shares(FUNCTION, batches, team)
        if team is not None and team.rank:
            progress, callback = False, None
        first_epoch = FirstEpoch(taken, once, team)
        if isinstance(initial_weights, str):
            checks.choice(FUNCTION, "initial_weights", initial_weights, STARTS)
            weights = _drawn_weights(rule, units, kernel, first_epoch.first.images, weight_generator)
        else:
            weights = _given_weights(initial_weights, units, kernel, check_finite)
        first = check_images(FUNCTION, first_epoch.first.images, weights.shape, "data")
        g = geometry_of(FUNCTION, first, weights.shape, stride, padding, padding_mode)
        weights = devices.to_device(weights, device).astype(dtype, order="C", copy=True)
        scale = agreed_scale(scale_of(first, batches), team)
        layer = HebbianLayer(weights, rule, g.stride, g.padding, padding_mode, precision, pixel_scale=scale)
        if team is not None:
            generators = [str(each.bit_generator.state) for each in (weight_generator, order_generator)]
            same = {
                "data": batches.identity(), "generators": generators, "geometry": repr(g), "rate": rate,
                "epochs": epochs, "rivalry": [conscience, revival], "device": device,
            }  # fmt: skip
            _begin_alike(team, layer, same)
            taken.require_same_first()
        training = LayerTraining(layer, g, workspace, check_finite, team)
        if isinstance(initial_weights, str) and initial_weights != "rule":
            training.start(initial_weights, first_epoch, weight_generator.spawn(1)[0])
        if conscience or revival:
            training.rival(conscience, revival, weight_generator.spawn(1)[0])
        training.rate, training.auto = rate, rate == AUTO
        if training.auto:
            with taking(first_epoch.portion):
                training.rate = measured_rate(FUNCTION, NAME, rule, devices.to_device(first, device), g)
        size = len(first) if first_epoch.portion is None else first_epoch.portion.total
        images = batches.images(size)
        total = None if images is None else images * epochs - batches.missing(size)
        from tqdm import tqdm  # not before: `import hebbcore` would take a tenth longer

        with tqdm(total=total, unit="img", unit_scale=True, disable=not progress) as bar:
            for epoch in range(epochs):
                source = first_epoch if epoch == 0 else taken.epoch(epoch)
                training.run(epoch, source, not batches.checked, epoch == epochs - 1, bar, callback)
        training.finish(first)
        layer.pixel_scale = agreed_scale(layer.pixel_scale or scale, team)
    return layer


def _begin_alike(team: Team, layer: HebbianLayer, here: dict[str, Any]) -> None:
    """Give all processes rank 0's weights. Raises ValueError if they would not do the same; see require_same."""
    require_same(FUNCTION, team, {**here, "layer": checkpoint.describe(FUNCTION, layer), "shape": layer.weights.shape})
    layer.weights[...] = devices.to_device(team.broadcast(devices.to_device(layer.weights, "cpu")), here["device"])


def _generators(seed: Any, shuffled: bool, drawn: bool) -> list[np.random.Generator]:
    """Return the generators of the weights, and of what revived units become, and of the order.

    Raises TypeError or ValueError for what is no seed, and ValueError for one by which neither draws.
    """
    if not isinstance(seed, np.random.Generator):
        seed = checks.integer(FUNCTION, "seed", seed, 0)
    generators = np.random.default_rng(seed).spawn(2)
    if seed and not drawn and not shuffled:
        raise ValueError(
            f"{FUNCTION}: seed {seed!r} has no effect, since initial_weights are given, and nothing is shuffled or "
            "revived; leave it out, or let the weights be drawn or the data be shuffled."
        )
    return generators


def _drawn_weights(
    rule: Rule, units: int, kernel: tuple[int, int] | None, first: Any, generator: np.random.Generator
) -> Array:
    """Return weights drawn by the rule, for the channels or features of the first batch."""
    shape = as_images(FUNCTION, "data", first).shape
    checks.channels_last(FUNCTION, "data", shape)  # drawn weights say how many channels there are
    shape = (units, *kernel, shape[3]) if kernel else (units, shape[1] * shape[2] * shape[3])
    what = f"the weights {' × '.join(map(str, shape))} take"
    devices.require_room(FUNCTION, "cpu", 8 * math.prod(shape), what, "use fewer units or smaller kernels")
    flat = units, math.prod(shape[1:])
    return initial_weights_of(rule, generator, flat).reshape(shape)


def _given_weights(value: Any, units: int, kernel: tuple[int, int] | None, check_finite: bool) -> Array:
    """Return initial_weights as an array. Raises ValueError or TypeError for others than units and kernel say."""
    weights = as_weights(FUNCTION, "initial_weights", value)
    expected = 2 if kernel is None else 4
    if len(weights) != units or weights.ndim != expected or (kernel and weights.shape[1:3] != kernel):
        wanted = f"({units}, {kernel[0]}, {kernel[1]}, channels)" if kernel else f"({units}, features)"
        raise ValueError(f"{FUNCTION}: initial_weights must be {wanted}, got shape {weights.shape}.")
    if check_finite:
        require_finite(FUNCTION, "initial_weights", weights)
    return weights
