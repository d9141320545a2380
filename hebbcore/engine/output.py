"""What a layer of units puts out for its scores, and where it goes."""

from dataclasses import dataclass

from hebbcore.engine import kernels
from hebbcore.engine.answers import scores_of
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
            method = "response" if self.linear else "activate"
            return scores_of(self.rule, method, getattr(self.rule, method)(scores, unit_norms), scores)
        module = kernels.for_array(scores)
        if self.response == "cosine":
            module.cosine(scores, patches, unit_norms)
        else:
            module.cosine_exp(scores, patches, unit_norms, scores.dtype.type(1 / self.width))
        return scores


@dataclass(frozen=True)
class Target:
    """Where the outputs of a batch go, or of some of its rows.

    Attributes
    ----------
    array : Array
        (m, K), of the chosen rows.
    output : Output
        How they come out of scores.
    unit_norms : Array or None
        (K,), as Output.unit_norms has them.
    rows : slice or None
        Those rows of the batch, with a step; None: all.
    """

    array: Array
    output: Output
    unit_norms: Array | None
    rows: slice | None = None

    def put(self, scores: Array, patches: Array, rows: slice) -> None:
        """Put the outputs of these rows of the batch there, for their scores and patches, which stay as they are."""
        if self.rows is not None:
            start, step = self.rows.start, self.rows.step
            first = max(0, -(-(rows.start - start) // step))
            last = -(-(min(rows.stop, self.rows.stop) - start) // step)
            if first >= last:
                return
            chosen = slice(start + first * step - rows.start, rows.stop - rows.start, step)
            scores, patches = scores[chosen][: last - first], patches[chosen][: last - first]
            rows = slice(first, last)
        target = self.array[rows]
        target[...] = scores
        features = self.output(target, patches, self.unit_norms)
        if features is not target:
            target[...] = features
