"""What the engine is compared with: straightforward NumPy and scikit-learn, a per-sample step, the GEMMs alone."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from hebbcore.engine import gemm, tuning
from hebbcore.engine.decay import blocked_is_cheaper
from hebbcore.engine.memory import Memory

Array = Any
NAIVE_BYTES = 128 * 2**20  # of per-patch updates (rows, K, D) at a time


def patches_of(images: Array, kernel: int) -> Array:
    """Return the patch matrix (N, D) of a batch, by a strided view and one copy."""
    if kernel == 0:
        return images
    n, height, width, channels = images.shape
    oh, ow = height - kernel + 1, width - kernel + 1
    s = images.strides
    view = np.lib.stride_tricks.as_strided(images, (n, oh, ow, kernel, kernel, channels), (*s[:3], *s[1:]))
    return view.reshape(n * oh * ow, -1)


def swta_shares(scores: Array, patches: Array, weights: Array, temperature: float = 0.02) -> Array:
    """Return Z (N, K) of SWTA with exp competition."""
    cosine = scores / np.linalg.norm(patches, axis=1, keepdims=True) / np.linalg.norm(weights, axis=1)
    y = ((cosine + 1) / 2) ** 2
    y -= y.max(axis=1, keepdims=True)
    z = np.exp(y / temperature)
    return z / z.sum(axis=1, keepdims=True)


def numpy_step(images: Array, weights: Array, rule: str, kernel: int, learning_rate: float) -> Array:
    """Return the new weights (K, D), in the plain matrix form of the rule over the whole batch at once."""
    x = patches_of(images, kernel)
    scores = x @ weights.T
    if rule == "hpca":
        y = np.maximum(scores, 0)
        delta = (y.T @ x - np.tril(y.T @ y) @ weights) / len(x)
    elif rule == "swta":
        z = swta_shares(scores, x, weights)
        gate = z**2
        delta = (gate.T @ x - gate.sum(axis=0)[:, None] * weights) / z.sum(axis=0)[:, None]
    else:
        delta = hard_delta(scores, x, weights, rule)
    return weights + learning_rate * delta


def hard_delta(scores: Array, x: Array, weights: Array, rule: str) -> Array:
    """Return ΔW (K, D) of a rule of one winner, "signedwta", "hardwta" or "kwta", by a dense gate.

    That of "hardwta" has the factor of its adaptive rate in it.
    """
    y = scores if rule == "hardwta" else scores / np.linalg.norm(weights, axis=1)
    winners, rows = np.argmax(np.abs(y) if rule == "signedwta" else y, axis=1), np.arange(len(x))
    gate = np.zeros_like(scores)
    gate[rows, winners] = y[rows, winners] if rule == "signedwta" else 1
    if rule == "hardwta":
        delta = gate.T @ x - (gate * scores).sum(axis=0)[:, None] * weights
        return delta * (np.sqrt(np.abs(np.linalg.norm(weights, axis=1, keepdims=True) - 1)) / np.abs(delta).max())
    mass = (gate**2).sum(axis=0)
    return (gate.T @ x - mass[:, None] * weights) / np.where(mass > 0, mass, 1)[:, None]


def sklearn_step(patches: Array, units: int, rule: str) -> Callable[[], Any] | None:
    """Return what learns the patches once more by scikit-learn: IncrementalPCA for HPCA, for rules of one winner
    MiniBatchKMeans, as one batch and without the labels; None: nothing there is like the rule, or it needs more patches
    or numbers than units.
    """
    if rule == "swta" or len(patches) < units or (rule == "hpca" and patches.shape[1] < units):
        return None
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import IncrementalPCA

    if rule == "hpca":
        learner = IncrementalPCA(units)
    else:
        learner = MiniBatchKMeans(
            units, init=patches[:units].copy(), n_init=1, compute_labels=False, reassignment_ratio=0
        )  # fmt: skip

    def step() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units that are alike
            learner.partial_fit(patches)

    return step


def naive_step(patches: Array, weights: Array, rule: str, learning_rate: float) -> Array:
    """Return the new weights, from one (K, D) update per patch that is then averaged: what FastHebb replaced."""
    rows = max(1, NAIVE_BYTES // weights.nbytes)
    total, mass = np.zeros_like(weights), np.zeros(len(weights), weights.dtype)
    for start in range(0, len(patches), rows):
        x = patches[start : start + rows]
        scores = x @ weights.T
        if rule == "hpca":
            y = np.maximum(scores, 0)
            explained = np.cumsum(y[:, :, None] * weights, axis=1)
            total += (y[:, :, None] * (x[:, None, :] - explained)).sum(axis=0)
        else:
            z = swta_shares(scores, x, weights)
            total += ((z**2)[:, :, None] * (x[:, None, :] - weights)).sum(axis=0)
            mass += z.sum(axis=0)
    return weights + learning_rate * (total / len(patches) if rule == "hpca" else total / mass[:, None])


def forward(rows: int, size: int, units: int, precision: str) -> Callable[[], Any]:
    """Return a function that makes the scores of so many patches, by all threads of NumPy's BLAS."""
    x, w = np.ones((rows, size), precision), np.ones((units, size), precision)
    scores = np.empty((rows, units), precision)
    return partial(np.matmul, x, w.T, out=scores)


def gemms(xp: Any, rows: int, size: int, units: int, rule: str, precision: str, block: int) -> Callable[[], None]:
    """Return a function that runs the GEMMs of a step alone, on the whole batch, in the order the engine chooses.

    On the CPU NumPy's, with all BLAS threads; on CUDA the engine's own, whose precision NumPy's interface cannot say.
    The blocked order's residual and decay, R ← R − G_I W_I and tril(G_Iᵀ G_I) W_I, are among them; its small Gram
    matrices are not.
    """
    dtype = gemm.dtype_of(precision)
    product = gemm.Gemm(precision, Memory())
    multiply = np.matmul if xp is np else product.multiply
    outer = xp.empty((units, size), dtype)
    scores, gram = xp.ones((rows, units), dtype), xp.empty((units, units), dtype)
    x, w, y, lower = (
        product.operand(xp.ones(shape, dtype)) for shape in ((rows, size), (units, size), (rows, units), (units, units))
    )

    def blocked_order() -> None:
        multiply(x, w.T, scores)
        for i, part in zip(range(0, units, block), parts, strict=True):
            multiply(part.T, x, outer[i : i + block])
            multiply(lower[: part.shape[1], : part.shape[1]], w[i : i + block], outer[i : i + block])
            if i + block < units:
                multiply(part, w[i : i + block], residual)

    def forward_and_outer() -> None:
        multiply(x, w.T, scores)
        multiply(y.T, x, outer)

    def gram_order() -> None:
        forward_and_outer()
        multiply(y.T, y, gram)
        step = tuning.MEASURED.gram_rows["cpu" if xp is np else "cuda"]
        for i in range(0, units, step):
            j = min(i + step, units)
            multiply(lower[i:j, :j], w[:j], outer[i:j])

    if rule != "hpca":
        return forward_and_outer
    if not blocked_is_cheaper(rows, units, size, block):
        return gram_order
    residual = xp.empty((rows, size), dtype)
    parts = [product.operand(xp.ones((rows, min(block, units - i)), dtype)) for i in range(0, units, block)]
    return blocked_order
