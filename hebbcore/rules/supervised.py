"""Class means: a last layer that learns from labels."""

from dataclasses import dataclass
from typing import Any, ClassVar

from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.rule import Rule
from hebbcore.engine.teaching import Teacher
from hebbcore.rules.cosine import one_over


@dataclass(frozen=True)
class Supervised(Rule):
    """One unit for each class, which moves towards the patches of its class: the Hebbian classifier.

    Δw_c = mean of the patches of class c − w_c, 0 for a class that a batch has not. Images without a label teach
    nothing; scores play no part. Norms of 0 count as 1; output x·w / ‖w‖, the largest of which is the class.

    Notes
    -----
    It needs labels: those of train_layer and fit, or a teacher (images, units) for weight_update, one-hot by class,
    0 in all of a row for an image without a label; several ones are several classes of an image.

    The gate is the teacher itself; the kernel is `taught` of `hebbcore.engine.kernels`. Oracle:
    tests/oracles/rules/supervised.py.

    References
    ----------
    FastHebb (Lagani et al. 2022), the supervised last layer of its program.
    """

    needs_norms: ClassVar[bool] = True
    supervised: ClassVar[bool] = True

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        raise ValueError("Supervised learns from labels alone: give labels, or weight_update a teacher.")

    def taught_gate(self, scores: Array, norms: Norms | None, teacher: Teacher) -> Gate:
        scores[...] = 1
        sums = teacher.mask(scores)
        return Gate(scores, sums, sums)

    def scale(self, delta: Array, rows: int, mass: Array | None) -> Any:
        """Return 1 / patches of the class, and 0 for a class without any."""
        return one_over(self, mass)

    def response(self, scores: Array, unit_norms: Array | None) -> Array:
        scores /= unit_norms
        return scores

    def expected_winners(self) -> int:
        return 1
