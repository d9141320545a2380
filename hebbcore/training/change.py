"""The weight change of one batch."""

from typing import Any

from hebbcore import checks
from hebbcore.engine import backend, gemm
from hebbcore.engine.answers import require_counts, require_untouched
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import faint_is_zero, require_finite
from hebbcore.engine.teaching import as_masks
from hebbcore.engine.update import BatchedUpdate
from hebbcore.layers import WORKSPACE
from hebbcore.layers.arguments import as_weights, check_images, check_no_steps, flat, geometry_of
from hebbcore.rules import Rule, as_rule
from hebbcore.training.teacher import require_teachable


@faint_is_zero
def weight_update(
    images: Any,
    weights: Any,
    rule: Rule | str,
    *,
    stride: Any = 1,
    padding: Any = 0,
    padding_mode: str = "zeros",
    teacher: Any = None,
    precision: str | None = None,
    workspace: int | str = WORKSPACE,
    check_finite: bool = True,
) -> Array:
    """Return the change ΔW that a rule gives the weights for one batch, before the learning rate.

    Parameters
    ----------
    images : Array
        (n, H, W, C), or (n, features) for dense weights; uint8 (read as 0…1), float16, float32 or float64.
    weights : Array
        (units, kernel height, kernel width, C) or (units, features), float32 or float64, on the images' device.
    rule : Rule or str
        A rule or its name.
    stride : int or (int, int)
        Height and width, in pixels.
    padding : int or (int, int)
        Above and below, left and right, in pixels.
    padding_mode : {"zeros", "reflect", "edge"}
        What lies beyond the image; without padding it has no effect.
    teacher : Array or None
        (images, units), 0 and 1: which units may learn from which image, and from all of its patches; for swta, kwta,
        hpca and supervised, which needs one. None: all units from all images.
    precision : str or None
        "float32", "float64", on CUDA also "tf32" and "bf16"; None: the weights' own.
    workspace : int or str
        Bytes, or text like "256 MiB", of work memory beside ΔW; the result does not depend on it but for rounding.
    check_finite : bool
        Look for NaN and infinity in images and weights first.

    Returns
    -------
    Array
        ΔW, of the shape of the weights, on their device.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit each other.

    References
    ----------
    FastHebb (Lagani et al. 2022), whose merging of update and sum over the batch this generalises to all rules.
    """
    function = "weight_update"
    rule = as_rule(function, rule)
    weights = as_weights(function, "weights", weights)
    array = check_images(function, images, weights.shape)
    backend.same_device(function, "images", array, "weights", weights)
    precision = weights.dtype.name if precision is None else precision
    dtype = gemm.check_precision(function, precision, backend.device_of(weights))
    if weights.ndim == 2:
        check_no_steps(function, stride, padding)
    g = geometry_of(function, array, weights.shape, stride, padding, padding_mode)
    require_counts(function, rule, len(weights))
    if checks.boolean(function, "check_finite", check_finite):
        require_finite(function, "images", array)
        require_finite(function, "weights", weights)
    size = checks.byte_size(function, "workspace", workspace)
    masks = None
    if teacher is not None:
        require_teachable(function, "", rule)
        masks = as_masks(function, teacher, len(array), len(weights), backend.device_of(array))
    elif rule.supervised:
        problem = "is needed: Supervised learns from labels alone; give a mask (images, units), one-hot by class."
        raise checks.wrong(ValueError, function, "teacher", problem)
    matrix = flat(weights, dtype)
    require_untouched(rule, matrix)
    update = BatchedUpdate(rule, g, len(weights), precision, size, function)
    delta, scale = update.delta(array, matrix, teacher=masks)
    delta *= scale
    return delta.reshape(weights.shape)
