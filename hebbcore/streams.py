"""What is asked of a stream of images, and the functions that ask: nothing else looks into a stream.

A stream is an object of its own that gives batches, epoch after epoch, such as a loaders.ShardStream or a
loaders.ArrayStream. `Stream` says what it must have, `Described` what it may say besides. Who asks for what:

    member             fit, train_layer    extract    evaluate
    for batch in …     needed              needed     needed     arrays of images, or pairs (images, labels)
    state()            asked               needed     needed     where the next batch is, and what the images are
    restore(state)     asked               needed                go there
    images             asked               needed     needed     how many there are
    image_shape                            needed                (H, W, C)
    batch_size         asked                                     images a batch
    shuffle            asked               asked      asked      True: in another order each epoch
    len(stream)        asked                                     batches an epoch
    order(epoch)       asked                                     which image comes when
    labels                                            asked      of all images
    class_names        asked               asked      asked      what the labels mean; by fit with a teacher
    share(rank, world) asked               asked      asked      the same batches, a share of each; see Described
    names                                  asked      asked      whose images they are

"Asked" means that a stream without it works too, with less: fit, for one, cannot go on within an epoch of a stream
without `state` and `restore`. extract and evaluate read pairs, in the stored order: labels are numbers of classes, -1
for an image without one. A batch may lie in the memory of the one before.

A stream of one's own, which all of them take:

    class Ramps:
        images, image_shape = 40, (8, 8, 1)

        def __init__(self):
            self.epoch, self.batch = 0, 0

        def __iter__(self):
            first, self.batch = self.batch, 0
            for batch in range(first, 5):
                labels = np.arange(8 * batch, 8 * batch + 8) % 4
                yield np.add.outer(10 * labels, np.arange(64)).reshape(8, 8, 8, 1).astype(np.uint8), labels
            self.epoch += 1

        def state(self):
            return {"ramps": 1, "epoch": self.epoch, "batch": self.batch}

        def restore(self, state):
            self.epoch, self.batch = state["epoch"], state["batch"]
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, Sized
from itertools import islice
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from hebbcore.checks import integer, printable
from hebbcore.pairs import images_of
from hebbcore.texts import as_text

State = dict[str, Any]


@runtime_checkable
class Resumable(Protocol):
    """Batches of images, or of (images, labels), that can say where they are and go there."""

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of an epoch, from the position on; each loop is the next epoch."""

    def state(self) -> State:
        """Return the position and what tells these batches from others, as JSON types.

        Returns
        -------
        dict
            "epoch" and "batch": which comes next, counted from 0. All else stays the same and says which images these
            are, in which order and of which pixels, such as a checksum of a file; two streams that say the same there
            are taken for the same.
        """

    def restore(self, state: State) -> None:
        """Let the next loop begin where `state` says. Should raise ValueError for the state of another stream."""


@runtime_checkable
class Stream(Resumable, Protocol):
    """All that fit, extract and evaluate need of a stream."""

    @property
    def images(self) -> int:
        """Number of images of an epoch."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape (H, W, C) of each image."""


class Described(Stream, Protocol):
    """All that a stream may be asked; each of these is left out by a stream that does not know it."""

    @property
    def batch_size(self) -> int:
        """Images a batch; the last of an epoch may have fewer."""

    @property
    def shuffle(self) -> bool:
        """True if each epoch has another order."""

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Labels (n,) of the first epoch's images in its order; those below 0 are none."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes that the labels 0, 1, … mean."""

    @property
    def names(self) -> Sequence[str]:
        """A name of each image of the first epoch in its order, such as its file."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def order(self, epoch: int) -> npt.NDArray[Any] | None:
        """Return which image (n,) comes when in an epoch, each exactly once; None if two epochs' images differ."""

    def share(self, rank: int, world: int) -> "Described":
        """Return a stream of the same batches and states that gives a share of each, for one of a group's processes.

        Of n images those from ⌈rank·n/world⌉ to ⌈(rank + 1)·n/world⌉, also if there are none. Its attribute `skips`
        says whether images may be left out, of which batch_size then does not tell.
        """


class Epochs:
    """A stream that has no end as epochs of so many images, one after the other; `fit` takes it as any stream.

    The images of an epoch are whole batches: as many as hold them. An epoch goes on where the one before ended, in the
    same loop over the stream, and one that is resumed asks the stream to go there. A stream that cannot go back (a
    camera, say) may ignore `restore`: then a training that goes on does so with what it sees next.

    Parameters
    ----------
    stream : Resumable
        It has a `batch_size`. Its position when the object is made is where epoch 0 begins.
    images : int
        Of an epoch.

    Attributes
    ----------
    images : int
        Of an epoch, in whole batches.
    batch_size : int
        The stream's.

    Raises
    ------
    TypeError
        If the stream lacks state, restore or batch_size, or images is no integer.
    ValueError
        For less than an image.
    """

    def __init__(self, stream: Any, images: int) -> None:
        missing = [member for member in ("state", "restore", "batch_size") if not hasattr(stream, member)]
        if missing:
            raise TypeError(f"Epochs: stream must have {', '.join(missing)}, got {type(stream).__name__}.")
        images = integer("Epochs", "images", images, 1)
        self.batch_size: int = stream.batch_size
        self._stream, self._begin = stream, stream.state()
        self._batches: int = -(-images // self.batch_size)
        self.images = self._batches * self.batch_size
        self._epoch = self._batch = 0
        self._loop: Iterator[Any] | None = None  # over the stream, which has given so many batches:
        self._given = 0

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of an epoch, from the position on. Raises ValueError if the stream ends in it."""
        first, self._batch = self._batch, 0
        start = self._epoch * self._batches + first
        if self._loop is None or self._given != start:
            if self._loop is not None and hasattr(self._loop, "close"):
                self._loop.close()
            self._stream.restore(at(self._begin, self._begin["epoch"], self._begin["batch"] + start))
            self._loop, self._given = iter(self._stream), start
        for batch in islice(self._loop, self._batches - first):
            self._given += 1
            yield batch
        missing = start + self._batches - first - self._given
        if missing:
            raise ValueError(
                f"Epochs: the {type(self._stream).__name__} ended {missing} batches before an epoch of {self.images} "
                "images did; Epochs is for streams that have no end, others go to fit as they are."
            )
        self._epoch += 1

    def state(self) -> State:
        """Return the position, in epochs of this length, and what the stream says of itself."""
        return at(
            {**self._begin, "begin": self._begin["batch"], "epoch_batches": self._batches}, self._epoch, self._batch
        )

    def restore(self, state: State) -> None:
        """Let the next loop begin where `state` says.

        Parameters
        ----------
        state : dict
            What `state` returned, perhaps of another position.

        Raises
        ------
        ValueError
            If it is of epochs of another length.
        """
        if state["epoch_batches"] != self._batches:
            raise ValueError(
                f"Epochs: the state is of epochs of {state['epoch_batches']} batches, but these have {self._batches}."
            )
        self._epoch, self._batch = state["epoch"], state["batch"]


def require_stream(function: str, name: str, stream: Any, needed: Sequence[str]) -> None:
    """Raise unless a stream has what is needed of it, and is in its stored order.

    Parameters
    ----------
    function, name : str
        Who asks, and for which of its arguments, for the messages.
    stream : Stream
        What is looked at.
    needed : sequence of str
        Members that it must have.

    Raises
    ------
    TypeError
        If a member is missing.
    ValueError
        If the stream says that it shuffles.
    """
    missing = [member for member in needed if not hasattr(stream, member)]
    if missing:
        raise TypeError(
            f"{function}: {name} must be a stream of (images, labels) such as a loaders.ShardStream, but "
            f"{type(stream).__name__} has no {', '.join(missing)}; wrap arrays as loaders.ArrayStream(images, labels), "
            "or add what is missing (see hebbcore.streams)."
        )
    if "images" in needed and (not isinstance(stream.images, int | np.integer) or stream.images < 1):
        problem = f"must say how many images there are (its attribute images), got {stream.images!r}."
        raise TypeError(f"{function}: {name} {problem}")
    if "state" in needed:
        written_state(stream, stream.state())
    shuffle = batching_of(stream).get("shuffle")
    if isinstance(shuffle, bool | np.bool_) and shuffle:
        raise ValueError(
            f"{function}: {name} must be in its stored order, got a stream with shuffle=True; make it "
            "with shuffle=False."
        )


def state_of(stream: Resumable) -> State:
    """Return where a stream is, and what its images are. Raises TypeError unless it says its epoch and batch."""
    state: Any = stream.state()
    place = [state.get(key) for key in ("epoch", "batch")] if isinstance(state, dict) else [None]
    if not all(isinstance(number, int | np.integer) for number in place):
        name = f"{type(stream).__name__}.state"
        raise TypeError(f"{name} must return a dict with the integers epoch and batch, got {state!r}.")
    return state  # type: ignore[no-any-return]


def written_state(stream: Resumable, state: State) -> State:
    """Return a state of a stream as it comes back from a file: plain numbers for NumPy's, lists for tuples.

    Raises TypeError for what JSON has no type for.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        name = f"{type(stream).__name__}.state"
        raise TypeError(f"{name} must return JSON types, which files can hold, got {type(value).__name__} in it.")

    found: Any = json.loads(json.dumps(state, default=plain))
    if not isinstance(found, dict):
        raise TypeError(f"{type(stream).__name__}.state must return a dict, got {state!r}.")
    return found


def is_resumable(stream: Any) -> TypeGuard[Resumable]:
    """Return True if a stream can say where it is and go there."""
    return hasattr(stream, "state") and hasattr(stream, "restore")


def batching_of(stream: Any) -> dict[str, Any]:
    """Return what a stream says of its batches: {"batch_size", "shuffle"}, those that it says."""
    return {name: getattr(stream, name) for name in ("batch_size", "shuffle") if hasattr(stream, name)}


def batches_of(stream: Any) -> int | None:
    """Return the number of batches of an epoch; None if it is not known."""
    return len(stream) if isinstance(stream, Sized) else None


def epoch_images_of(stream: Any, first: int | None = None) -> int | None:
    """Return how many images an epoch has; None if it is not known.

    A stream says it (`images`), and batches in a list or tuple can be counted. first: the images of the first batch, by
    which and by the number of batches it is estimated where it is not known.
    """
    told = getattr(stream, "images", None)
    if isinstance(told, int | np.integer) and told >= 0:
        return int(told)
    if isinstance(stream, list | tuple) and all(isinstance(images_of(batch), Sized) for batch in stream):
        return sum(len(images_of(batch)) for batch in stream)
    batches = batches_of(stream)
    return None if batches is None or first is None else batches * first


def order_of(stream: Any, epoch: int) -> npt.NDArray[Any] | None:
    """Return which image (n,) comes when in an epoch; None if it is not known."""
    order: npt.NDArray[Any] | None = stream.order(epoch) if hasattr(stream, "order") else None
    return order


def at(state: State, epoch: int, batch: int) -> State:
    """Return the state of the same stream at another position."""
    return {**state, "epoch": epoch, "batch": batch}


def identity_of(stream: Stream) -> State:
    """Return what tells a stream's images from others, whatever its batches and its position."""
    state = written_state(stream, stream.state())
    return {key: value for key, value in state.items() if key not in ("epoch", "batch", "batch_size")} | {
        "images": int(stream.images)
    }


def told_apart_by(state: State, other: State) -> State:
    """Return what of a state tells its images from those of another state.

    That is all but what a ShardStream in its stored order does not use, which earlier versions noted, and the pixels
    where the other one does not say of them, as earlier versions did not.
    """
    if "pixels" not in other:
        state = {key: value for key, value in state.items() if key != "pixels"}
    if state.get("shuffle") is not False or "shuffle_buffer" not in state:
        return state
    draws = any(word in str(state.get("transform")) for word in ("Random", "flip=True"))
    idle = {"shuffle_buffer"} if draws else {"shuffle_buffer", "seed"}
    return {key: value for key, value in state.items() if key not in idle}


def labels_of(stream: Stream) -> npt.NDArray[Any] | None:
    """Return the labels (n,) that a stream knows without a pass over it; None if it does not, or not for each image."""
    labels: Any = getattr(stream, "labels", None)
    return labels if np.shape(labels) == (stream.images,) else None


def names_of(stream: Stream) -> Sequence[str] | None:
    """Return the names of the images; None if it does not know them. A stream may read them anew at each call."""
    names: Sequence[str] | None = getattr(stream, "names", None)
    return names


def image_at(stream: Stream, number: int) -> str:
    """Return what messages call the image of a number: by its name, if the stream knows it."""
    names = names_of(stream)
    return f"image {number} (counted from 0)" if names is None else f"image {printable(as_text(names[number]))}"


def range_of(stream: Any) -> int | None:
    """Return which value of images of 16 or more bits is white in a stream of shards; None: it has none."""
    found: int | None = getattr(getattr(stream, "index", None), "value_range", None)
    return found


def pixels_of(stream: Any) -> dict[str, list[float]] | None:
    """Return mean and deviation of the pixels of a stream of shards; None: it has none.

    They tell images from others that their identity, for which many files are sampled, takes for the same.
    """
    index = getattr(stream, "index", None)
    found = {name: getattr(index, name, None) for name in ("mean", "std")}
    pixels = {name: list(values) for name, values in found.items() if isinstance(values, tuple)}
    return pixels if len(pixels) == len(found) else None


def class_names_of(stream: Stream) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, …, none if it does not know them; bytes, as h5py has them, as text."""
    names: Sequence[Any] | None = getattr(stream, "class_names", None)
    if isinstance(names, str | Mapping | Set | Iterator) or not (names is None or isinstance(names, Iterable)):
        raise TypeError(f"{type(stream).__name__}.class_names must be a list of names, got {names!r}.")
    return () if names is None else tuple(map(as_text, names))
