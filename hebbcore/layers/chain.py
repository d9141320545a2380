"""Chains: a layer and those after it, worked through by a few images at a time.

What lies between the layers of a chain is in a thread's work memory, and on the CPU mostly in its cache: of a
convolution that is pooled no map of a whole batch is made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from hebbcore.engine import backend, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan, Share
from hebbcore.engine.memory import Memory
from hebbcore.layers.base import Layer, Shape, Site, as_4d, puts_out_as, run_forward
from hebbcore.layers.gaussian_pool import GaussianPool
from hebbcore.layers.learner import Learner, Scoring
from hebbcore.layers.scale import Scale
from hebbcore.layers.split import Split
from hebbcore.layers.whiten import Whiten

Kind = TypeVar("Kind", bound=Layer)


@dataclass(frozen=True)
class _Stage:
    """A layer of a chain, a GaussianPool with the Split and the Scale before it; shape: of an output."""

    layer: Layer
    shape: tuple[int, int, int]
    split: Split | None = None
    scale: Scale | None = None

    def __call__(self, x: Array, out: Array, memory: Memory) -> None:
        if not isinstance(self.layer, GaussianPool):
            run_forward(self.layer, x, out, training=False)
            return
        threshold, factor, number = None, None, x.dtype.type
        if self.scale is not None:
            factor = self.scale.factor()
        if self.split is not None:  # relu(f u − t) = f relu(u − t / f)
            threshold = number(self.split.threshold / (1 if factor is None else factor))
        size = self.layer.lines_bytes(out.shape, memory.size("lines"))
        space = memory.part("lines", (size // x.itemsize,), x.dtype)
        self.layer.pool(x, out, space, threshold, None if factor is None else number(factor))


class Chain:
    """Layers that are done one after the other.

    Parameters
    ----------
    layers : sequence of Layer
        Perhaps a Learner, or a Whiten that goes into one and that; then layers `by_image`. Two or more in all.
    shapes : sequence of tuple of int
        The shape of one input of the first, and of one output of each.
    site : Site
        Where and how the network computes.
    """

    def __init__(self, layers: Sequence[Layer], shapes: Sequence[Shape], site: Site) -> None:
        self._site = site
        self._whiten = layers[0] if isinstance(layers[0], Whiten) else None
        first = 0 if self._whiten is None else 1
        head = layers[first]
        self._head = head if isinstance(head, Learner) else None
        first += self._head is not None
        self._given = as_4d(shapes[first])  # to the first stage
        self._stages: list[_Stage] = []
        for i in range(first, len(layers)):
            stage = _Stage(layers[i], as_4d(shapes[i + 1]))
            if isinstance(stage.layer, GaussianPool):
                stage = replace(stage, split=self._take(Split), scale=self._take(Scale))
            self._stages.append(stage)
        moving = [i for i, stage in enumerate(self._stages) if not stage.layer.in_place]
        self._last = moving[-1] if moving else -1  # the stage that writes to the output; -1: all are in place

    def _take(self, kind: type[Kind]) -> Kind | None:
        """Return the last stage's layer in place of the stage, if it is of a kind."""
        if not self._stages or not puts_out_as(self._stages[-1].layer, kind):
            return None
        return self._stages.pop().layer  # type: ignore[return-value]

    def fits(self) -> bool:
        """Return whether the work memory is enough for one image."""
        if self._head is None:
            return self._bytes(1) <= self._site.workspace
        return self._plan().fits_images

    def forward(self, x: Array, out: Array) -> None:
        """out (n, H', W', C') ← the output of the last layer for x (n, H, W, C), which is overwritten if the first is
        in place.
        """
        if self._head is None:
            self._all_by_stages(x, out)
            return
        x = (self._head if self._whiten is None else self._whiten).as_input(x)
        output, projection, unit_norms = self._head.scoring()
        if self._whiten is not None:
            projection = self._whiten.projected(projection)
        work = partial(self._by_pieces, x, out, (output, projection, unit_norms))
        parallel.run([partial(work, share) for share in self._plan().shares(len(x), self._site.memories)])

    def _plan(self) -> Plan:
        assert self._head is not None
        beside = -(-self._bytes(1) // self._head.geometry.positions)
        return self._head.plan(beside) if self._whiten is None else self._whiten.plan(self._head.units, beside)

    def _parts(self, images: int) -> dict[str, int]:
        """Return the bytes of the parts of memory that the stages need for so many images."""
        item, parts = self._site.dtype.itemsize, {"lines": 0, "map 0": 0, "map 1": 0}
        number = 0
        for i, stage in enumerate(self._stages):
            if isinstance(stage.layer, GaussianPool):
                shape = (images, *stage.shape)
                lines = stage.layer.lines_bytes(shape, self._site.workspace)
                parts["lines"] = max(parts["lines"], lines)
            if not stage.layer.in_place and i < self._last:
                name = f"map {number % 2}"
                parts[name] = max(parts[name], images * math.prod(stage.shape) * item)
                number += 1
        return parts

    def _bytes(self, images: int) -> int:
        return sum(self._parts(images).values())

    def _by_pieces(self, x: Array, out: Array, scoring: Scoring, share: Share) -> None:
        """Work through a thread's share of a batch, which a learner or a Whiten before it is the first to read."""
        output, projection, unit_norms = scoring
        plan, memory, columns = share.plan, share.memory, share.gemm.operand(projection).T
        scores_bytes = 0 if self._last < 0 else share.most_rows * projection[:, 0].nbytes
        most = share.most_rows // plan.geometry.positions
        whiten = self._whiten
        share.lay_out(x, {"scores": scores_bytes, **self._parts(most)}, copy=whiten is not None)
        for piece in share.pieces(x, own=whiten is not None):
            if whiten is not None:
                whiten.centred(piece.patches)
            target = out[piece.chunk.first : piece.chunk.last]
            shape = (len(piece.patches), len(projection))
            scores = target.reshape(shape) if self._last < 0 else memory.part("scores", shape, plan.dtype)
            share.gemm.multiply(share.gemm.operand(piece.patches), columns, scores)
            features = output(scores, piece.patches, unit_norms)
            if features is not scores:  # a rule's own array may be of any order, or may not be written to
                scores[...] = features
            self._by_stages(scores.reshape(len(target), *self._given), target, memory)

    def _all_by_stages(self, x: Array, out: Array) -> None:
        """Work through a batch that the first stage reads."""
        site, one = self._site, self._bytes(1)
        threads = parallel.threads() if parallel.worth_splitting(x) else 1
        parts = parallel.cuts(len(x), min(threads, site.workspace // max(1, one)))
        site.memories.extend(Memory() for _ in range(len(parts) - len(site.memories)))
        size = site.workspace // len(parts)
        if not backend.on_cuda(x):
            size = min(size, tuning.MEASURED.cache_bytes)
        step = max(1, size // (one + x[:1].nbytes))

        def of_a_thread(first: int, last: int, memory: Memory) -> None:
            memory.lay_out(site.device, self._parts(min(step, last - first)))
            for i in range(first, last, step):
                j = min(last, i + step)
                self._by_stages(x[i:j], out[i:j], memory)

        parallel.run([partial(of_a_thread, *part, memory) for part, memory in zip(parts, site.memories, strict=False)])

    def _by_stages(self, x: Array, out: Array, memory: Memory) -> None:
        """out ← what the stages make of x, which those in place overwrite."""
        number = 0
        for i, stage in enumerate(self._stages):
            target = x
            if i == self._last:
                target = out.reshape(len(x), *stage.shape)  # stages in place after it may change the shape
            elif not stage.layer.in_place:
                target = memory.part(f"map {number % 2}", (len(x), *stage.shape), self._site.dtype)
                number += 1
            stage(x, target, memory)
            x = target.reshape(len(x), *stage.shape)
