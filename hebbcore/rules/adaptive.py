"""The adaptive tanh of FastHebb's program, whose statistics are a state of the rules that use it."""

from collections.abc import Mapping

from hebbcore.engine.backend import Array, namespace
from hebbcore.engine.moments import Moments

MOMENTUM, EPSILON = 0.1, 1e-5


def initial_statistics() -> dict[str, float]:
    """Return what the running mean and variance of a unit's scores begin with."""
    return {"mean": 0.0, "variance": 1.0}


def next_statistics(state: Mapping[str, Array], scores: Moments) -> dict[str, Array]:
    """Return the running statistics after a batch, moved to its mean and unbiased variance by a tenth.

    A batch of one patch has no variance, and leaves them (the authors' program then computes NaN).
    """
    if scores.rows == 1:
        return dict(state)
    moved = {"mean": scores.mean, "variance": scores.squares / (scores.rows - 1)}
    return {name: (1 - MOMENTUM) * state[name] + MOMENTUM * new for name, new in moved.items()}


def adaptive_tanh(scores: Array, state: Mapping[str, Array]) -> Array:
    """Return σ tanh((s − μ) / σ + μ), σ = √(variance + 1e-5), column by column. In place; returns the scores.

    Source: FastHebb's program (Lagani et al. 2022), which adds the mean back undivided.
    """
    mean, std, dtype = state["mean"], (state["variance"] + EPSILON) ** 0.5, scores.dtype
    scores *= (1 / std).astype(dtype)
    scores += (mean - mean / std).astype(dtype)
    namespace(scores).tanh(scores, out=scores)
    scores *= std.astype(dtype)
    return scores
