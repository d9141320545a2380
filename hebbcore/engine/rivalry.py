"""What keeps units alive that compete: a bias against those that win often, and a new start for those that win nothing.

Both know who wins by the responses, without the bias, on up to 1,024 patches of each batch, or on more of a
sample that is learned from as a whole.
"""

import math
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.answers import weights_of
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import LARGEST, rows_with_a_norm
from hebbcore.engine.group.portion import current
from hebbcore.engine.patches import Geometry
from hebbcore.engine.rule import Rule
from hebbcore.engine.winners import some_patches

_MEMORY = 10  # wins a unit, on average, over which its share of the wins is averaged


def check_rivalry(function: str, rule: Rule, conscience: Any, revival: Any) -> tuple[float, float]:
    """Return conscience and revival as numbers of at least 0.

    Parameters
    ----------
    function : str
        Who asks, for messages.
    rule : Rule
        The rule of the layer.
    conscience, revival : Any
        See Rivalry.

    Returns
    -------
    float, float
        Both.

    Raises
    ------
    ValueError
        For numbers below 0, a conscience above 1e12, and for rules without a competition, or without one that takes a
        bias.
    """
    values = []
    for name, value in (("conscience", conscience), ("revival", revival)):
        value = checks.real(function, name, value, 0, LARGEST if name == "conscience" else math.inf)
        if value and not rule.competes:
            problem = f"is for rules whose units compete, and those of {type(rule).__name__} do not; leave {name} out."
            raise checks.wrong(ValueError, function, name, problem)
        if value and name == "conscience" and not rule.takes_bias:
            problem = (
                "is for rules whose units compete by a cosine (SWTA, k-WTA, signed WTA), and for those that define "
                f"biased_gate; {type(rule).__name__} does not: leave it out, and use revival."
            )
            raise checks.wrong(ValueError, function, name, problem)
        values.append(value)
    return values[0], values[1]


def rivalry_arrays(units: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and dtype of what Rivalry.arrays holds, by name."""
    numbers = np.dtype(np.float64)
    return {
        "rivalry_shares": ((units,), numbers), "rivalry_idle": ((units,), numbers),
        "rivalry_steps": ((1,), np.dtype(np.int64)),
    }  # fmt: skip


class Rivalry:
    """The wins of a layer's units, and what follows from them.

    Unit i, which has the share p_i of the latest wins (a moving average over 10 a unit), competes with its
    similarity + conscience · max(1 − K p_i, −1) · ‖x‖. A unit that won nothing while the layer's units won `revival`
    patches each, on average, starts anew from a patch of the batch.

    Parameters
    ----------
    rule : Rule
        The layer's.
    g : Geometry
        The layer's sizes.
    weights : Array
        (K, D).
    conscience, revival : float
        As above; 0: off.
    seed : int
        Draws the patches.

    References
    ----------
    DeSieno (ICNN 1988), whose bias is C (1/K − p_i): here C = K · conscience, and no bias is below −conscience.
    """

    def __init__(self, rule: Rule, g: Geometry, weights: Array, conscience: float, revival: float, seed: int) -> None:
        self.rule, self.geometry = rule, g
        self._conscience, self._revival, self._seed = conscience, revival, seed
        xp, units = backend.namespace(weights), len(weights)
        self._shares, self._idle, self._steps = xp.full(units, 1 / units), xp.zeros(units), 0
        self._patches: Array = None  # some of the batch, between `take` and `revive`

    def bias(self, dtype: np.dtype[Any]) -> Array | None:
        """Return the bias of each unit (K,); None without a conscience."""
        if not self._conscience:
            return None
        xp = backend.namespace(self._shares)
        return (self._conscience * xp.maximum(1 - len(self._shares) * self._shares, -1)).astype(dtype)

    def take(self, images: Array, dtype: np.dtype[Any]) -> None:
        """Keep patches of a batch, from which units may start anew after its step."""
        if self._revival:
            self._patches = some_patches(images, self.geometry, dtype)

    def count(self, won: Array) -> None:
        """Count who won a batch (K,), float64: its wins in all processes that share it."""
        xp, units = backend.namespace(won), len(won)
        total = won.sum()
        pace = 1 - (1 - 1 / (_MEMORY * units)) ** total
        self._shares += pace * (won / xp.maximum(total, 1) - self._shares)
        self._idle = xp.where(won > 0, 0, self._idle + total / units)
        self._steps += 1

    def revive(self, weights: Array) -> None:
        """Give units that won nothing for long a patch of the batch that was counted."""
        patches, self._patches = self._patches, None
        if not self._revival:
            return
        units, here = np.flatnonzero(devices.to_device(self._idle >= self._revival, "cpu")), current()
        if len(units):
            patches = patches if here is None else here.gathered(patches)
            patches = patches[rows_with_a_norm(patches)]
            units = units[: len(patches)]
            chosen = np.random.default_rng((self._seed, self._steps)).choice(len(patches), len(units), replace=False)
            chosen, units = (devices.to_device(array, backend.device_of(weights)) for array in (chosen, units))
            lengths = weights_of(self.rule, "lengths", self.rule.lengths(weights), (len(weights), 1))
            begun = self.rule.from_patches(patches[chosen], lengths.mean())
            weights[units] = weights_of(self.rule, "from_patches", begun, patches[chosen].shape)
            self._idle[units], self._shares[units] = 0, 1 / len(weights)

    def arrays(self) -> dict[str, Array]:
        """Return what a checkpoint must hold, by name."""
        return {"rivalry_shares": self._shares, "rivalry_idle": self._idle, "rivalry_steps": np.array([self._steps])}

    def restore(self, arrays: dict[str, Array]) -> None:
        """Take the arrays of a checkpoint; without them the count begins anew."""
        if "rivalry_steps" in arrays:
            self._shares, self._idle = arrays["rivalry_shares"], arrays["rivalry_idle"]
            self._steps = int(arrays["rivalry_steps"][0])
