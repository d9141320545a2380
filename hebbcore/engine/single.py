"""The sums of a batch that is one chunk of one thread: a small one's step takes little more than its products."""

import numpy as np

from hebbcore.engine import tuning
from hebbcore.engine.answers import gate_of, must_be_finite
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Share
from hebbcore.engine.competition import Norms
from hebbcore.engine.decay import outer_less_decay
from hebbcore.engine.output import Target
from hebbcore.engine.rule import Rule
from hebbcore.engine.sums import add_by_winner


class SingleChunk:
    """Adds up batches of one shape and dtype on the CPU; nothing that they share is made anew for each.

    share: its only chunk is the batch. scatter: add patches up by their winners.
    """

    def __init__(self, rule: Rule, share: Share, scatter: bool) -> None:
        self._rule, self._share, self._scatter = rule, share, scatter
        self._shape = share.most_rows, share.plan.geometry.patch_size
        self._patches: Array | None = None  # None: the images reshaped are the patches
        self._scores: Array = None
        units, size = share.plan.units, share.plan.geometry.patch_size
        splits = share.gemm.splits(share.most_rows * units * max(units, size))
        self._multiply = share.gemm.multiply if splits else np.matmul
        self._in_parts = splits and units >= share.plan.threads * tuning.MEASURED.thread_units
        self._layout: object = None
        self._first = True

    def add(
        self, images: Array, weights: Array, projection: Array, unit_norms: Array | None,
        targets: tuple[Target, ...], outer: Array,
    ) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
        """outer (K, D) ← Gᵀ X; return decay, gram and mass as Sums has them; both None: it is taken off."""
        rule, share = self._rule, self._share
        multiply, memory = self._multiply, share.memory
        if self._layout is not memory.layout:  # a layer that shares the memory has laid it out anew
            self._lay_out(images)
        patches = images.reshape(self._shape) if self._patches is None else share.read(images, self._patches)
        scores = self._scores
        multiply(patches, projection.T, scores)
        for target in targets:
            target.put(scores, patches, slice(0, len(scores)))
        norms = None if unit_norms is None else Norms(patches, unit_norms)
        finite = self._first and must_be_finite(rule, scores)
        gate = gate_of(rule, rule.gate(scores, norms), scores, self._first, finite)
        self._first = False
        assert gate.values is not None  # of a rule without pairs
        if gate.decay is None and self._in_parts:
            gram = memory.grown("gram", (len(weights), len(weights)), outer.dtype, "cpu")
            outer_less_decay(share.gemm, gram, gate.values, patches, weights, outer)
            return None, None, gate.mass
        if self._scatter:
            if gate.decay is None:
                outer[...] = 0
            else:
                np.multiply(weights, -gate.decay[:, None], out=outer)
            add_by_winner(rule, gate, patches, outer)
            if gate.decay is not None:
                return None, None, gate.mass
        else:
            multiply(gate.values.T, patches, outer)
        if gate.decay is not None:
            return gate.decay, None, gate.mass
        gram = memory.grown("gram", (len(weights), len(weights)), outer.dtype, "cpu")
        multiply(gate.values.T, gate.values, gram)
        return None, gram, gate.mass

    def _lay_out(self, images: Array) -> None:
        share, units, dtype = self._share, self._share.plan.units, self._share.plan.dtype
        share.lay_out(images, {"scores": share.most_rows * units * dtype.itemsize})
        self._patches = share.only_room(images)
        self._scores = share.memory.part("scores", (share.most_rows, units), dtype)
        self._layout = share.memory.layout
