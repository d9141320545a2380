"""The slow float64 oracles as one module; see oracles, where each rule and each layer has its file."""

import importlib
import inspect
from pathlib import Path

import numpy as np
from oracles.layers.batchnorm import batch_norm
from oracles.layers.pool import average_pool, max_pool
from oracles.layers.triangle import triangle
from oracles.layers.whiten import contrast_normalised, whitening, zca
from oracles.parts import argmax_wta, k_wta, patches, pixels, power_wta, softmax_wta

__all__ = [
    "LAYERS", "RULES", "UNSUPERVISED", "argmax_wta", "average_pool", "batch_norm", "contrast_normalised", "delta",
    "k_wta", "layer_examples", "layers_before", "max_pool", "oracle", "output", "parameters_of", "patches", "power_wta",
    "rates", "softmax_wta", "state_after", "step", "triangle", "variants", "weight_update", "whitening", "zca",
]  # fmt: skip

FOLDER = Path(__file__).parent / "oracles"
RULES, LAYERS = (sorted(path.stem for path in (FOLDER / kind).glob("[a-z]*.py")) for kind in ("rules", "layers"))
UNSUPERVISED = [name for name in RULES if name != "supervised"]  # those that learn without labels


def oracle(kind, name):
    """The module that has the oracle of a rule or layer. kind: "rules" or "layers"; name: in RULES or LAYERS."""
    if not (FOLDER / kind / f"{name}.py").exists():
        raise LookupError(
            f"{name!r} has no oracle: write tests/oracles/{kind}/{name}.py, as tests/oracles/__init__.py tells."
        )
    return importlib.import_module(f"oracles.{kind}.{name}")


def parameters_of(function):
    """{name: default} of the parameters of a rule that an oracle's function takes."""
    found = inspect.signature(function).parameters.items()
    return {name: each.default for name, each in found if each.default is not inspect.Parameter.empty}


def variants(name):
    """The parameters that the tests of a rule go through."""
    return getattr(oracle("rules", name), "VARIANTS", [{}])


def layer_examples(name):
    """The (shape of an image or vector, parameters) that the tests of a layer go through."""
    return oracle("layers", name).EXAMPLES


def layers_before(name):
    """The (name, parameters) of the layers that a layer needs before it."""
    return getattr(oracle("layers", name), "BEFORE", [])


def output(X, W, rule, **params):
    """The (N, K) output of a layer, as the next layer receives it."""
    return oracle("rules", rule).output(np.asarray(X, np.float64), np.asarray(W, np.float64), **params)


def delta(X, W, rule, **params):
    """ΔW (K, D) of one batch of patches X (N, D), before the learning rate. rule: a name, whose parameters follow."""
    return oracle("rules", rule).delta(np.asarray(X, np.float64), np.asarray(W, np.float64), **params)


def weight_update(images, weights, rule, *, stride=1, padding=0, padding_mode="zeros", teacher=None, **params):
    """ΔW of one batch of images in the shape of weights, before the learning rate.

    images: (n, H, W, C) with weights (K, kh, kw, C), or (n, D) with weights (K, D), where stride and padding mean
    nothing; uint8 is divided by 255. teacher: (n, K), 0 and 1, the same for all patches of an image.
    Source: as delta; a convolution learns from all its patches as if they were samples.
    """
    weights = np.asarray(weights, dtype=np.float64)
    is_dense = weights.ndim == 2
    X = pixels(images) if is_dense else patches(images, weights.shape[1:3], stride, padding, padding_mode)
    W = weights.reshape(len(weights), -1)
    if teacher is not None:
        params["teacher"] = np.repeat(np.asarray(teacher, np.float64), len(X) // len(teacher), axis=0)
    return delta(X, W, rule, **params).reshape(weights.shape)


def rates(W, rule, learning_rate, **params):
    """The learning rate of a step: per unit (K,) for rules with rates of their own, else learning_rate itself.

    W: (K, D) or (K, kh, kw, C), from before the step.
    """
    own = getattr(oracle("rules", rule), "rates", None)
    return learning_rate if own is None else own(W, learning_rate, **params)


def state_after(images, weights, rule, state=None, *, stride=1, padding=0, padding_mode="zeros", **params):
    """The state of a rule after a batch, {name: (K,)}, from the one before it; None for rules without one."""
    following = getattr(oracle("rules", rule), "next_state", None)
    weights = np.asarray(weights, dtype=np.float64)
    is_dense = weights.ndim == 2
    X = pixels(images) if is_dense else patches(images, weights.shape[1:3], stride, padding, padding_mode)
    return None if following is None else following(X, weights.reshape(len(weights), -1), state, **params)


def step(images, weights, rule, learning_rate, *, stride=1, padding=0, padding_mode="zeros", **params):
    """The weights after one batch: w_i + rate_i · Δw_i, the rate taken at the weights from before the step.

    Source: as delta and rates.
    """
    weights = np.asarray(weights, dtype=np.float64)
    change = weight_update(images, weights, rule, stride=stride, padding=padding, padding_mode=padding_mode, **params)
    rate = np.broadcast_to(rates(weights, rule, learning_rate, **params), len(weights))
    return np.array([w + r * dw for w, r, dw in zip(weights, rate, change, strict=True)])
