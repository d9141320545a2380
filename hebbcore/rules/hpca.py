"""Hebbian principal component analysis."""

from dataclasses import dataclass
from typing import ClassVar

from hebbcore import checks
from hebbcore.engine.backend import Array, namespace
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.rule import Rule
from hebbcore.engine.teaching import Teacher

ACTIVATIONS = ("relu", "tanh", "identity")


@dataclass(frozen=True)
class HPCA(Rule):
    """Hebbian PCA: unit i learns what units 1…i do not yet explain.

    Δw_i = (1/N) Σₙ y_ni (x_n − Σ_{k≤i} y_nk w_k), y = activation(W x); output y.

    Parameters
    ----------
    activation : {"relu", "tanh", "identity"}
        What the response W x goes through.

    Notes
    -----
    The gate is y itself, and its decay C = tril(Yᵀ Y): no kernel, but the matrix products of `hebbcore.engine.update`.
    Oracle: tests/oracles/rules/hpca.py.

    References
    ----------
    FastHebb (Lagani et al. 2022), HPCA, as published: divided by N, not by √D as a later version of its program does.
    """

    unit_norms: ClassVar[bool] = True

    activation: str = "relu"

    def __post_init__(self) -> None:
        checks.choice("HPCA", "activation", self.activation, ACTIVATIONS)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        return Gate(self.activate(scores, None))

    def taught_gate(self, scores: Array, norms: Norms | None, teacher: Teacher) -> Gate:
        values = self.activate(scores, None)
        teacher.mask(values)
        return Gate(values)

    def stable_rate(self, eigenvalue: float) -> float | None:
        """Return 1 / eigenvalue: above it a unit along the first component steps over its fixed point, ‖w‖ = 1.

        There Δw = (1 − ‖w‖²) λ w, so that a step multiplies a norm's distance from 1 by 1 − 2·rate·λ. Patches that relu
        silences only make it larger.

        Parameters
        ----------
        eigenvalue : float
            The largest of XᵀX / N, above 0.

        Returns
        -------
        float
            The largest stable learning rate.
        """
        return 1 / eigenvalue

    def activate(self, scores: Array, unit_norms: Array | None) -> Array:
        xp = namespace(scores)
        if self.activation == "relu":
            xp.maximum(scores, 0, out=scores)
        elif self.activation == "tanh":
            xp.tanh(scores, out=scores)
        return scores
