"""The scores of a batch, chunk by chunk, and what they say as a whole: rules with a state ask for that first."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Piece, Share
from hebbcore.engine.moments import Moments, column_moments, of_both


class ScoredPiece(NamedTuple):
    """A chunk's patches, the same as an operand of products, and their scores (rows, K)."""

    piece: Piece
    operand: Array
    scores: Array


class Scored:
    """One thread's scores of a batch, in the part "scores" of its memory.

    Parameters
    ----------
    share : Share
        The thread's chunks, laid out.
    images : Array
        (n, H, W, C).
    projection : Array
        (K, D), what the scores are made by.
    """

    def __init__(self, share: Share, images: Array, projection: Array) -> None:
        self._share, self._images, self._projection = share, images, projection
        self._kept: ScoredPiece | None = None

    def __iter__(self) -> Iterator[ScoredPiece]:
        """Yield the chunks; the next one overwrites what was yielded."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            yield kept
            return
        share, units = self._share, len(self._projection)
        columns = share.gemm.operand(self._projection).T
        for piece in share.pieces(self._images, own=share.plan.geometry.normalized):
            operand = share.gemm.operand(piece.patches)
            scores = share.memory.part("scores", (len(piece.patches), units), share.plan.dtype)
            share.gemm.multiply(operand, columns, scores)
            yield ScoredPiece(piece, operand, scores)

    def moments(self) -> Moments:
        """Return the moments of the scores. A single chunk is kept for the next iteration."""
        found = []
        for scored in self:
            found.append(Moments(len(scored.scores), *column_moments(scored.scores)))
            if len(self._share.chunks) == 1:
                self._kept = scored
        return functools.reduce(of_both, found)
