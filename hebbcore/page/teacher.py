"""The work folder as the learner needs it: a classifier of all its photos, and a place for the results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore import hdf5
from hebbcore.features.choice import Features
from hebbcore.labelling.done import DONE
from hebbcore.labelling.features import chosen, extracted, neighbour_features, placed
from hebbcore.labelling.work import FEATURES, Labels, Listener, tell_of_prior, write_results
from hebbcore.network import Network
from hebbcore.page.kept import KEPT, read_kept, write_kept
from hebbcore.version import __version__


def _digest(features: str, near: npt.NDArray[np.int64] | None) -> str:
    """Return a digest of what is learned from photos without labels, by this version, as the results say that they are.

    near: see FewLabelClassifier.
    """
    digest = hdf5.new_digest()
    digest.update(f"{__version__} {features}".encode())
    if near is not None:
        digest.update(near.tobytes())
    return str(digest.hexdigest())


@dataclass(frozen=True)
class WorkTeacher:
    """A teacher, see hebbcore.page.learner.

    work: the folder. network: makes the features. open_stream: opens the images, in order. images: how many they are.
    mirror, prior, suggestions, listener: see hebbcore.labelling.work.classified. check: raises ValueError if results of
    labels would replace something that only a user has. skipped: see hebbcore.labelling.work.classified.
    """

    work: Path
    network: Network
    open_stream: Callable[[], Any]
    images: int
    mirror: bool
    prior: str
    suggestions: int
    listener: Listener
    check: Callable[[Labels], None]
    skipped: Sequence[tuple[str, str]] = ()

    @property
    def features(self) -> Features:
        """What is taken of the network."""
        return chosen(self.network, self.images, self.mirror)

    def rows(self) -> Any:
        """Return the features of all photos, extracted unless they are there."""
        with self.open_stream() as stream:
            path, tell = self.work / FEATURES, self.listener.tell
            return extracted(self.features, stream, path, lambda done: tell("features", done, self.images))

    def fitted(self) -> Any:
        """Return a classifier, fitted without labels."""
        from hebbcore.classify import FewLabelClassifier

        near, say = neighbour_features(self.features), self.listener.say
        classifier = FewLabelClassifier(self.prior, 0, lambda line: say("labels", line), neighbour_features=near)
        seal, path, none = hdf5.seal_of(self.work / FEATURES, "features"), self.work / KEPT, np.full(self.images, -1)
        made_from = "" if seal is None else _digest(seal[1], near)  # features of before there were digests
        if made_from and (kept := read_kept(path, made_from)) is not None:
            return classifier.fit_state(kept, none)
        classifier.fit(placed(self.features, self.rows()), none)
        try:
            write_kept(path, made_from, classifier.images_state())
        except OSError as error:
            self.listener.say("labels", f"the next start takes as long as this one: {error}")
        return classifier

    def write(self, classifier: Any, labels: Labels) -> None:
        """Write the results."""
        self.check(labels)
        tell_of_prior(classifier, self.listener)
        with self.open_stream() as stream:
            write_results(
                self.work, self.features, stream, labels, classifier, self.suggestions, self.listener, self.skipped
            )

    def written(self) -> float | None:
        """Return when the results were written."""
        try:
            return (self.work / DONE).stat().st_mtime
        except FileNotFoundError:
            return None
