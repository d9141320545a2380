"""What a layer of a network is."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from hebbcore.engine import gemm, parallel
from hebbcore.engine.backend import Array
from hebbcore.engine.memory import Memory
from hebbcore.ours import is_ours

_BUILT = "_built"  # in a layer of a network that is built
_WRITES = "_writes"  # in a layer whose forward was seen to write all of its output
Shape = tuple[int, ...]  # of one image: (height, width, channels); of one vector: (features,)


@dataclass(frozen=True)
class Site:
    """Where and how a network computes.

    Attributes
    ----------
    device : str
        "cpu" or "cuda".
    precision : str
        "float32" or "float64"; on CUDA also "tf32" and "bf16".
    workspace : int
        Bytes of work memory of one layer at a time.
    memories : list of Memory
        The work memory itself, one for each thread, which the layers share.
    """

    device: str
    precision: str
    workspace: int
    memories: list[Memory] = field(default_factory=list, repr=False, compare=False)  # one for each thread

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what layers put out."""
        return gemm.dtype_of(self.precision)


class Layer:
    """Base of the layers: a dataclass of parameters, and after `build` the arrays that learning changes.

    Inside a network images are (n, H, W, C) and vectors (n, 1, 1, features), of the network's dtype and on its device;
    only layers that read images (`reads_images`) get those of the user, of any dtype, and never change them.

    Attributes
    ----------
    reads_images : bool
        Class attribute. True: the layer takes the user's images as they are, which it cannot write to. Not with
        in_place.
    in_place : bool
        Class attribute. True: `forward` overwrites its input.
    observes : bool
        Class attribute. True: the layer can learn from a pass over the data: `forget`, `observe`, then `settle`.
    adds_up : bool
        Class attribute. True: where processes share a batch, what the layer observes is of the whole batch. Of others
        that observe, a training by a group of processes is refused.
    by_image : bool
        Class attribute. True: without training, each image's output depends on that image alone, and `forward` may be
        called for some images of a batch, from several threads at once.
    prefix : str
        Class attribute: what the names that a network gives begin with; "": the class in lower case.
    settable : frozenset of str
        Class attribute: parameters that take effect when they are set in a network.
    name : str
        The layer's name in its network.
    """

    reads_images: ClassVar[bool] = False
    in_place: ClassVar[bool] = False  # forward overwrites its input
    observes: ClassVar[bool] = False  # it can learn from a pass over the data: forget, observe, then settle
    adds_up: ClassVar[bool] = False  # what it observes is of all processes that share a batch
    by_image: ClassVar[bool] = False  # without training, forward may be called for some images, from several threads

    prefix: ClassVar[str] = ""  # of the name that a network gives it; "": the class in lower case
    settable: ClassVar[frozenset[str]] = frozenset()  # parameters that take effect when they are set in a network

    name: str

    def join_network(self) -> None:
        """Check parameters now, and whenever one is set; what would have no effect is then refused."""
        if not self.__dict__.get("_joined"):
            self._check()
        self.__dict__["_joined"] = True

    def belong(self) -> None:
        """Note that the layer was built for a network, from which no other may take it."""
        self.__dict__[_BUILT] = True

    @property
    def belongs(self) -> bool:
        """Whether the layer was built for a network."""
        return _BUILT in self.__dict__

    def __setattr__(self, name: str, value: Any) -> None:
        if not self.__dict__.get("_joined") or name not in _parameters(type(self)):  # type: ignore[arg-type]
            object.__setattr__(self, name, value)
            return
        if name not in self.settable:
            settable = f" Settable: {', '.join(sorted(self.settable))}." if self.settable else ""
            raise AttributeError(
                f"{self.name}.{name} cannot be set: the layer belongs to a network, whose shapes or statistics depend "
                f"on it; make a new layer and a new Network.{settable}"
            )
        before = dict(self.__dict__)
        self.__dict__["_joined"] = False
        try:
            setattr(self, name, value)
            self._check()
            self.__dict__["_joined"] = True
            self._changed()
        except BaseException:
            self.__dict__.update(before)
            raise

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        """Check and normalise the parameters. Raises ValueError or TypeError for impossible ones."""

    def _changed(self) -> None:
        """Bring what was made of the parameters up to date with them."""

    def follow(self, before: Sequence["Layer"]) -> None:
        """Take note of the layers that its input has gone through, whose names and parameters are known by then.

        Parameters
        ----------
        before : sequence of Layer
            In order.

        Raises
        ------
        ValueError
            If the layer cannot follow them.
        """

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output.

        Parameters
        ----------
        shape : tuple of int
            The shape of one input: (height, width, channels), or (features,).

        Returns
        -------
        tuple of int
            The shape of one output, in the same form.

        Raises
        ------
        ValueError
            If such inputs do not fit the layer.
        """
        return shape

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Make the layer's arrays.

        Parameters
        ----------
        site : Site
            Where and how the network computes.
        shape : tuple of int
            The shape of one input.
        generator : numpy.random.Generator
            The layer's own, to draw from.
        """

    def multiplications(self, shape: Shape) -> int:
        """Return how many multiplications the matrix products of one output take.

        Parameters
        ----------
        shape : tuple of int
            The shape of one input, which fits the layer.
        """
        return 0

    def arrays_for(self, site: Site, shape: Shape, observed: bool) -> dict[str, tuple[Shape, Any]]:
        """Return what `arrays` must hold, before any array is made.

        Parameters
        ----------
        site : Site
            Where and how the network computes.
        shape : tuple of int
            The shape of one input.
        observed : bool
            Whether in the middle of a pass of observations.

        Returns
        -------
        dict of str to (tuple of int, numpy.dtype)
            Shape and dtype by name. Arrays that are not named are not checked.
        """
        return {}

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """Compute the layer's output.

        Parameters
        ----------
        x : Array
            (n, H, W, C), the input.
        out : Array
            (n, H', W', C'), which the output is written to; for layers in place it is x.
        training : bool
            Whether the network learns: layers that normalise then do so by this batch.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, out, training).")

    def arrays(self) -> dict[str, Array]:
        """Return what a checkpoint must hold, by name."""
        return {}

    def restore(self, arrays: dict[str, Array]) -> None:
        """Take the arrays of a checkpoint, on the layer's device."""

    def forget(self) -> None:
        """Forget the observations of a pass that was not finished."""
        raise NotImplementedError(f"{type(self).__name__} must define forget().")

    def observe(self, x: Array) -> None:
        """Take the statistics of a batch into account, which must stay as it is (layers that observe)."""
        raise NotImplementedError(f"{type(self).__name__} must define observe(x).")

    def settle(self) -> None:
        """Finish a pass of observations."""
        raise NotImplementedError(f"{type(self).__name__} must define settle().")


@functools.cache
def _parameters(kind: Any) -> frozenset[str]:
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return frozenset(field.name for field in fields if field.init)


def puts_out_as(layer: Layer, kind: type[Layer]) -> bool:
    """Return whether a layer is of a kind and has its forward: a class derived from it may have its own."""
    return isinstance(layer, kind) and type(layer).forward is kind.forward


def run_forward(layer: Layer, x: Array, out: Array, training: bool) -> None:
    """Let a layer write its output to out.

    Raises TypeError if it returns one, and what it wrote to out is nothing, or at first writes no or not all of out.
    """
    looks = not layer.in_place and _WRITES not in vars(layer) and not is_ours(type(layer))
    if looks:
        out[...] = np.nan
    forward: Callable[..., Any] = layer.forward
    x = as_read(type(layer).forward, x) if layer.reads_images else x
    made = forward(x, out, training)
    kind = type(layer).__name__
    if made is not None and made is not out:
        raise TypeError(f"{layer.name}: {kind}.forward must write its output to out (out[...] = …) and return nothing.")
    if not looks:
        return
    unwritten = np.isnan(out)
    if unwritten.any():  # or computed
        out[...] = 0
        forward(x, out, training)
        if (np.isnan(out) != unwritten).any():
            raise TypeError(f"{layer.name}: {kind}.forward must write all of its output to out (out[...] = …).")
    vars(layer)[_WRITES] = True


def as_read(method: Callable[..., Any], x: Array) -> Array:
    """Return an input for a method of a layer's class, which cannot write to it if it is one's own."""
    if isinstance(x, np.ndarray) and not is_ours(method):
        x = x.view()
        x.flags.writeable = False
    return x


def shape_after(layer: Layer, shape: Shape) -> Shape:
    """Return the shape of a layer's output as integers. Raises ValueError for what is no shape."""
    found = layer.output_shape(shape)
    whole = isinstance(found, tuple | list) and all(isinstance(each, int | np.integer) and each > 0 for each in found)
    if not whole or len(found) not in (1, 3):
        raise ValueError(
            f"{layer.name}: {type(layer).__name__}.output_shape must return (height, width, channels) or (features,), "
            f"integers above 0, got {found!r}."
        )
    if layer.in_place and math.prod(found) != math.prod(shape):
        raise ValueError(
            f"{layer.name}: {type(layer).__name__} is in_place, so that its output_shape must have as many numbers as "
            f"{shape}, got {found!r}; leave in_place out, and write to out."
        )
    return tuple(map(int, found))


def as_4d(shape: Shape) -> tuple[int, int, int]:
    """Return the shape of one input as (height, width, channels)."""
    return (1, 1, shape[0]) if len(shape) == 1 else (shape[0], shape[1], shape[2])


def require_images(name: str, shape: Shape) -> None:
    """Raise ValueError if a layer of this name, which needs images, gets vectors."""
    if len(shape) != 3:
        raise ValueError(f"{name} needs images (height, width, channels), but gets vectors of {shape[0]} features.")


def rows_of(x: Array) -> Array:
    """Return (n, H, W, C) as (n·H·W, C)."""
    return x.reshape(-1, x.shape[-1])


def by_rows(kernel: Callable[..., None], array: Array, *arguments: Any) -> None:
    """Run a kernel over the rows of an array; on the CPU large ones are shared among threads."""
    parts = parallel.cuts(len(array), parallel.threads() if parallel.worth_splitting(array) else 1)
    parallel.run([partial(kernel, array[i:j], *arguments) for i, j in parts], blas=False)
