"""A labelled stream as an evaluation reads it: images without a label left out, and what its first pass showed."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore import streams
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import convert
from hebbcore.evaluation.batches import Labels, has_label
from hebbcore.evaluation.results import Counted, Image, Results, Shared
from hebbcore.streams import Stream
from hebbcore.texts import plain

_DIGEST_BYTES = 16
_SHOWN = 10  # pairs of equal images that results list

Digests = npt.NDArray[np.bytes_]


class LabelledStream:
    """Re-iterable (images, labels) of those images of a stream that have a label.

    labels: (n,) of the whole stream. dtype: that the network computes in; images are compared as it sees them.
    The first pass that is read to its end leaves the digest of each image, 16 bytes, and its label.
    """

    def __init__(self, stream: Stream, labels: Labels, dtype: np.dtype[Any]) -> None:
        self.stream, self._dtype = stream, dtype
        self.images = int(has_label(labels).sum())
        self.unlabelled = len(labels) - self.images
        self.digests: Digests | None = None  # of all images, those without a label too
        self.labels: Labels = labels

    def __iter__(self) -> Iterator[tuple[Array, Labels]]:
        seen, parts = bytearray(), []
        for images, labels in self.stream:
            if self.digests is None:
                seen += self._digests_of(images)
                parts.append(np.asarray(labels))
            kept = has_label(np.asarray(labels))
            if kept.all():
                yield images, labels
            elif kept.any():
                yield images[backend.namespace(images).asarray(np.flatnonzero(kept))], labels[kept]
        if self.digests is None and parts:
            self.digests = np.frombuffer(bytes(seen), f"S{_DIGEST_BYTES}")
            self.labels = np.concatenate(parts)  # as read: a stream may leave out damaged images

    def read(self) -> None:
        """Read the stream through, unless that was done."""
        if self.digests is None:
            for _ in self:
                pass

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Where in the whole stream the images are that a pass yields."""
        return np.flatnonzero(has_label(self.labels))

    @cached_property
    def names(self) -> Sequence[str] | None:
        """Names of the images of the whole stream, of one that was read, if it knows them and left none out."""
        names = streams.names_of(self.stream)
        return names if names is not None and len(names) == len(self.labels) else None

    def image(self, number: int) -> Image:
        """Return the image of this number in the whole stream, of one that was read."""
        return Image(number, None if self.names is None else str(self.names[number]))

    def counted(self) -> Counted:
        """Return how many images of a stream that was read have a label, and what they are."""
        return Counted(len(self.numbers), len(self.labels) - len(self.numbers), self.identity())

    def identity(self) -> str:
        """Return a digest of all images and labels, of a stream that was read."""
        assert self.digests is not None
        # the padding of bytes that end in zero must count
        whole = hashlib.blake2b(self.digests.astype(f"V{_DIGEST_BYTES}").tobytes(), digest_size=_DIGEST_BYTES)
        whole.update(np.ascontiguousarray(self.labels).astype(np.int64).tobytes())
        return whole.hexdigest()

    def _digests_of(self, images: Array) -> bytes:
        given = devices.to_device(images, "cpu")
        pixels = np.empty(given.shape, self._dtype)
        convert(given, pixels)
        pixels += 0  # minus zero is zero
        rows = pixels.reshape(len(pixels), -1)
        return b"".join(hashlib.blake2b(row.data, digest_size=_DIGEST_BYTES).digest() for row in rows)


def shared_images(train: LabelledStream, test: LabelledStream) -> Shared:
    """Return which images of test are images of train too, pixel for pixel, of streams that were read."""
    mine, theirs = train.digests, test.digests
    assert mine is not None
    assert theirs is not None
    order = np.argsort(mine, kind="stable")
    ordered = mine[order]
    nearest = np.minimum(np.searchsorted(ordered, theirs), len(mine) - 1)
    found = np.flatnonzero(ordered[nearest] == theirs)
    pairs = [(test.image(row), train.image(int(order[nearest[row]]))) for row in found[:_SHOWN].tolist()]
    return Shared(len(found), pairs, _contradictions(train, order))


def _contradictions(stream: LabelledStream, order: npt.NDArray[np.int64]) -> int:
    """Return how many labelled images equal another one of another label. order: that sorts the digests."""
    assert stream.digests is not None
    order = order[has_label(stream.labels[order])]
    digests, labels = stream.digests[order], stream.labels[order]
    if not len(digests):
        return 0
    starts = np.flatnonzero(np.concatenate([[True], digests[1:] != digests[:-1]]))
    sizes = np.diff([*starts, len(digests)])
    different = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
    return int(sizes[different].sum())


def unlabelled(name: str, labelled: int, missing: int) -> list[str]:
    """Return a sentence about how many images have no label, if any."""
    return [f"{missing} of {labelled + missing} images of {name} have no label and are left out."] if missing else []


def doubts(results: Results) -> list[str]:
    """Return what the images of an evaluation give reason to doubt, a sentence each."""
    shared, images = results.shared, results.images
    lines: list[str] = []
    if shared is None or images is None:
        return lines
    if shared.count:
        tested = images["test"].labelled + images["test"].unlabelled
        listed = ", ".join(f"test {mine.title} = train {theirs.title}" for mine, theirs in shared.pairs)
        lines.append(
            f"{shared.count} of {tested} images of test are images of train too, pixel for pixel, so that the "
            f"figures do not tell of new images: {plain(listed)}{', …' * (shared.count > len(shared.pairs))}."
        )
    if shared.contradictions:
        lines.append(f"{shared.contradictions} images of train equal another one of another label, pixel for pixel.")
    return lines
