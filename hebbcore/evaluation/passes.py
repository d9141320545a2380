"""A labelled stream as an evaluation reads it: images without a label left out, and what its first pass showed."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore import streams
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import convert
from hebbcore.engine.pixel_scale import UNLIKE, largest_as_read
from hebbcore.evaluation.batches import Labels, has_label
from hebbcore.evaluation.results import Counted, Image, Results, Shared
from hebbcore.features.choice import Features, features_of
from hebbcore.features.helpers import of_batches, whole
from hebbcore.pairs import pairs_of
from hebbcore.streams import Stream
from hebbcore.texts import as_text, plain

_DIGEST_BYTES = 16
_SHOWN = 10  # pairs of equal images that results list

Digests = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class _Look:
    """What becomes of some images: the features of those that are chosen, their labels, all labels, digests, and the
    largest magnitude.

    dtype: that images are compared in; None: without digests and magnitude. chosen: (n,) of the whole stream; None: all
    images.
    """

    choices: Sequence[Features]
    dtype: np.dtype[Any] | None
    chosen: npt.NDArray[np.bool_] | None

    def __call__(self, first: int, images: Array, labels: Any) -> tuple[list[Array], Labels, Labels, bytes, float]:
        known = np.asarray(labels)
        kept = has_label(known)
        if self.chosen is not None:
            kept = kept & self.chosen[first : first + len(known)]
        features = []
        if self.choices and kept.any():
            rows = images if kept.all() else images[backend.namespace(images).asarray(np.flatnonzero(kept))]
            features = [some.reshape(len(some), -1) for some in features_of(self.choices, rows)]
        if self.dtype is None:
            return features, known[kept], known, b"", 0.0
        return features, known[kept], known, _digests_of(images, self.dtype), largest_as_read(images)


class LabelledStream:
    """Those images of a stream that have a label.

    labels: (n,) of the whole stream. dtype: that the network computes in; images are compared as it sees them.
    The first pass for features that is read to its end leaves the digest of each image, 16 bytes, and its label, and
    the largest magnitude of all, as it is read: uint8 is 0…1.
    """

    def __init__(self, stream: Stream, labels: Labels, dtype: np.dtype[Any]) -> None:
        self.stream, self.dtype = stream, dtype
        self.images = int(has_label(labels).sum())
        self.unlabelled = len(labels) - self.images
        self.digests: Digests | None = None  # of all images, those without a label too
        self.largest = 0.0
        self.labels: Labels = labels

    def __iter__(self) -> Iterator[tuple[Array, Labels]]:
        for images, labels in pairs_of(self.stream):
            kept = has_label(np.asarray(labels))
            if kept.all():
                yield images, labels
            elif kept.any():
                yield images[backend.namespace(images).asarray(np.flatnonzero(kept))], labels[kept]

    def features(
        self, choices: Sequence[Features], keep: npt.NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[list[Array], Labels]]:
        """Yield the features (n, size) for each of choices, and the labels, of batches; no choices: nothing.

        keep: (n,) of which of the images with a label, of a stream that was read.
        """
        dtype = self.dtype if self.digests is None else None
        chosen = None if keep is None else self.where(keep)
        seen, known, largest = bytearray(), [], 0.0
        for parts in of_batches(_Look(choices, dtype, chosen), self.stream):
            for _, _, labels, digests, here in parts:
                seen += digests
                known.append(labels)
                largest = max(largest, here)
            some = [(features, labels) for features, labels, *_ in parts if features]
            if some:
                features, kept = zip(*some, strict=True)
                yield [whole(each) for each in zip(*features, strict=True)], whole(kept)
        name = type(self.stream).__name__
        if not known:
            raise ValueError(f"evaluate: {name} gave no image in a later pass; it must be iterable again and again.")
        if dtype is None:
            return
        self.digests = np.frombuffer(bytes(seen), f"S{_DIGEST_BYTES}")
        read = np.concatenate(known)  # a stream may leave out damaged images
        if len(read) == len(self.labels) and not np.array_equal(read, self.labels):
            i = int((read != self.labels).argmax())
            raise ValueError(
                f"evaluate: {name} must give the same labels in each pass, which its attribute labels, if it has one, "
                f"says too: image {i} (counted from 0) has {read[i]}, and had {self.labels[i]}."
            )
        self.labels, self.largest = read.astype(np.int64), largest

    def where(self, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return which of the images of the whole stream (n,) those of the images with a label are."""
        chosen = np.zeros(len(self.labels), np.bool_)
        chosen[self.numbers[keep]] = True
        return chosen

    def read(self) -> None:
        """Read the stream through, unless that was done."""
        if self.digests is None:
            for _ in self.features([]):
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
        return Image(number, None if self.names is None else as_text(self.names[number]))

    def counted(self) -> Counted:
        """Return how many images of a stream that was read have a label, and what they are."""
        labelled = len(self.numbers)
        largest = float(f"{self.largest:.6g}") if math.isfinite(self.largest) else None  # no digit too many for results
        return Counted(labelled, len(self.labels) - labelled, self.identity(), largest)

    def identity(self) -> str:
        """Return a digest of all images and labels, of a stream that was read."""
        assert self.digests is not None
        # the padding of bytes that end in zero must count
        whole = hashlib.blake2b(self.digests.astype(f"V{_DIGEST_BYTES}").tobytes(), digest_size=_DIGEST_BYTES)
        whole.update(np.ascontiguousarray(self.labels).astype(np.int64).tobytes())
        return whole.hexdigest()


def _digests_of(images: Array, dtype: np.dtype[Any]) -> bytes:
    given = devices.to_device(images, "cpu")
    pixels = np.empty(given.shape, dtype)
    convert(given, pixels)
    pixels += 0  # minus zero is zero
    rows = pixels.reshape(len(pixels), -1)
    return b"".join(hashlib.blake2b(row.data, digest_size=_DIGEST_BYTES).digest() for row in rows)


def _unlike_scales(train: Counted, test: Counted) -> list[str]:
    """Return a sentence if the numbers of two sets of images are of unlike scales, as 0…1 and 0…255."""
    low, high = sorted((train.largest or 0.0, test.largest or 0.0))
    if not low or high <= UNLIKE * low:
        return []
    return [
        f"the largest number in the images of train is {train.largest:.3g}, and of test {test.largest:.3g} (uint8 is "
        "read as 0…1), so that the figures mean nothing: give both in one scale."
    ]


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
    if shared is None or images is None:
        return []
    lines = _unlike_scales(images["train"], images["test"])
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
