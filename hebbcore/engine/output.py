"""What a layer of units puts out for its scores."""

from dataclasses import dataclass

from hebbcore.engine import kernels
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import vector_norms
from hebbcore.engine.rule import Rule

RESPONSES = ("rule", "cosine", "cosine-exp")


@dataclass(frozen=True)
class Output:
    """How scores become outputs.

    Attributes
    ----------
    rule : Rule
        What the units learn by.
    linear : bool
        The rule's response, without its activation; for response "rule".
    response : str
        One of RESPONSES: the rule's; the cosine of patch and unit; or ‖x‖ exp((cos − 1) / width).
    width : float
        Of "cosine-exp".
    """

    rule: Rule
    linear: bool = False
    response: str = "rule"
    width: float = 1.0

    def unit_norms(self, weights: Array, projection: Array) -> Array | None:
        """Return the norms (K,) that a call needs, if any; projection: what the scores are made by."""
        if self.response != "rule":
            return vector_norms(projection)
        return vector_norms(weights) if self.rule.needs_norms else None

    def __call__(self, scores: Array, patches: Array, unit_norms: Array | None) -> Array:
        """Return the outputs (n, K) for scores (n, K), which may be overwritten, of patches (n, D)."""
        if self.response == "rule":
            return (self.rule.response if self.linear else self.rule.activate)(scores, unit_norms)
        module = kernels.for_array(scores)
        if self.response == "cosine":
            module.cosine(scores, patches, unit_norms)
        else:
            module.cosine_exp(scores, patches, unit_norms, scores.dtype.type(1 / self.width))
        return scores
