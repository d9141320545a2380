"""What the rules share whose scores and lengths are measured by a p-norm."""

from hebbcore import checks
from hebbcore.engine.backend import Array, namespace

MOST_POWER = 200.0  # 25, the norm that weights may start with, to this power is a number of 64 bits; to 225 it is not


def signed_power(weights: Array, p: float) -> Array:
    """Return sign(W) |W|^(p−1): the weights of the scores under a general p."""
    if p == 2:
        return weights
    xp = namespace(weights)
    return xp.sign(weights) * xp.abs(weights) ** (p - 1)


def near_one(patches: Array, p: float) -> Array:
    """Return patches (n, D), none of them 0, so long that no power p of their numbers is too large, or all too small.

    For p = 2 they stay as they are.
    """
    if p == 2:
        return patches
    return patches / namespace(patches).abs(patches).max(axis=1, keepdims=True)


def check_exponent(function: str, p: float) -> None:
    """Raise unless p is a number from 2 to 200."""
    checks.real(function, "p", p, 2, MOST_POWER)
