"""Hebbian principal component analysis."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hebbcore import checks
from hebbcore.engine.backend import Array, namespace
from hebbcore.engine.competition import Gate, Norms, relu
from hebbcore.engine.moments import Moments
from hebbcore.engine.rule import Rule
from hebbcore.engine.teaching import Teacher
from hebbcore.rules.adaptive import adaptive_tanh, initial_statistics, next_statistics

ACTIVATIONS = ("relu", "tanh", "identity", "adaptive_tanh")


@dataclass(frozen=True)
class HPCA(Rule):
    """Hebbian PCA: unit i learns what units 1…i do not yet explain.

    Δw_i = (1/N) Σₙ y_ni (x_n − Σ_{k≤i} y_nk w_k), y = activation(W x); output y.

    Parameters
    ----------
    activation : {"relu", "tanh", "identity", "adaptive_tanh"}
        What the response s = W x goes through. "adaptive_tanh": σ tanh((s − μ) / σ + μ), with μ and σ² the running mean
        and variance of the unit's scores, which are the rule's state: 0 and 1 at first, moved to those of each batch by
        a tenth before it learns. A batch of one patch leaves them.
    scale_by_fan_in : bool
        Divide Δw_i by √D too, D numbers of a patch. With learning_rate="auto", which is √D times larger then, it has
        no effect.

    Notes
    -----
    The gate is y itself, and its decay C = tril(Yᵀ Y): no kernel, but the matrix products of `hebbcore.engine.update`.
    Oracle: tests/oracles/rules/hpca.py.

    References
    ----------
    FastHebb (Lagani et al. 2022), HPCA, as published: divided by N. A later version of its program divides by √D too
    (`scale_by_fan_in`).
    """

    activation: str = "relu"
    scale_by_fan_in: bool = field(default=False, metadata={"later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("HPCA", "activation", self.activation, ACTIVATIONS)
        checks.boolean("HPCA", "scale_by_fan_in", self.scale_by_fan_in)

    @property
    def unit_norms(self) -> bool:  # type: ignore[override]  # of the class in other rules
        """Whether learning holds norms at 1 or below. With tanh |y| ends at 1, and norms grow with the patches."""
        return self.activation != "tanh"

    def initial_state(self) -> dict[str, float]:
        return initial_statistics() if self.activation == "adaptive_tanh" else {}

    def next_state(self, state: Mapping[str, Array], scores: Moments) -> dict[str, Array]:
        return next_statistics(state, scores)

    def divisor(self, size: int) -> float:
        """Return √size if the rule scales by the fan-in, else 1."""
        return float(size**0.5) if self.scale_by_fan_in else 1.0

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        return Gate(self.activate(scores, None))

    def taught_gate(self, scores: Array, norms: Norms | None, teacher: Teacher) -> Gate:
        values = self.activate(scores, None)
        teacher.mask(values)
        return Gate(values)

    def stable_rate(self, eigenvalue: float) -> float | None:
        """Return 1 / eigenvalue: above it a unit along the first component steps over its fixed point, ‖w‖ = 1.

        There Δw = (1 − ‖w‖²) λ w, so that a step multiplies a norm's distance from 1 by 1 − 2·rate·λ. Patches that relu
        silences only make it larger; so does an adaptive tanh, which for Gaussian scores of any mean and variance has
        less than 1.6 in the place of the 2.

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
        if self.activation == "relu":
            relu(scores)
        elif self.activation == "tanh":
            namespace(scores).tanh(scores, out=scores)
        elif self.activation == "adaptive_tanh":
            adaptive_tanh(scores, self.state)
        return scores
