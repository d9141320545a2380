"""Arrays of layers that can be set."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import first_not_finite, require_finite
from hebbcore.layers.base import Layer
from hebbcore.ours import is_ours


class Kept:
    """An array that a layer has once it is built. What is set in its place is checked and copied (see own_array).

    The layer itself puts new arrays into its __dict__, unchecked.

    least: what none of its numbers, which are variances, may be below; None: they may be any.
    """

    def __init__(self, least: float | None = None) -> None:
        self._least = least

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        try:
            return layer.__dict__[self._name]
        except KeyError:
            raise AttributeError(f"{_called(layer)} has no {self._name} before the network is built.") from None

    def __set__(self, layer: Any, value: Any) -> None:
        array = own_array(layer, self._name, value, squares=self._least is not None)
        if self._least is not None and float(array.min()) < self._least:
            problem = f"must be {self._least:g} or more, got {float(array.min()):g}."
            raise checks.wrong(ValueError, layer.name, self._name, problem)
        layer.__dict__[self._name] = array


def own_array(layer: Layer, name: str, value: Any, squares: bool = False) -> Array:
    """Return an array to be set in place of `layer.name`, as the layer keeps it: its dtype and device, and its own.

    Parameters
    ----------
    layer : Layer
        The layer that the array belongs to.
    name : str
        The array's name.
    value : Any
        Floating numbers on any device, of the array's shape.
    squares : bool
        Whether the numbers are squares themselves, which may be beyond those whose squares float32 has room for.

    Returns
    -------
    Array
        A copy.

    Raises
    ------
    AttributeError
        Before there is an array.
    TypeError
        If the numbers are not floating.
    ValueError
        For another shape, and for NaN or infinity.
    """
    kept = layer.__dict__.get(name)
    if kept is None:
        raise AttributeError(
            f"{_called(layer)}.{name} cannot be set before the network is built; build it: "
            "network.build(image_shape), or Network(…, image_shape=…)."
        )
    given = backend.as_array(layer.name, name, value)
    if given.dtype.kind != "f":
        raise TypeError(
            f"{layer.name}: {name} must be floating, such as {kept.dtype}, got {given.dtype}; convert them."
        )
    if given.shape != kept.shape:
        raise ValueError(f"{layer.name}: {name} must have the shape {kept.shape}, got {given.shape}.")
    if not squares:
        require_finite(layer.name, name, given, optional=False)
    elif (row := first_not_finite(given)) is not None:
        raise checks.wrong(ValueError, layer.name, name, f"must be finite, but {name}[{row}] holds NaN or infinity.")
    return devices.to_device(given, backend.device_of(kept)).astype(kept.dtype, order="C", copy=True)


def arrays_in(layer: Layer) -> dict[str, Array]:
    """Return the arrays of a layer. Raises TypeError for what is none."""
    arrays: Any = layer.arrays()
    if not isinstance(arrays, dict) or not all(map(_is_array, arrays.values())):
        what = {name: type(array).__name__ for name, array in arrays.items()} if isinstance(arrays, dict) else arrays
        kind = type(layer).__name__
        raise TypeError(f"{layer.name}: {kind}.arrays must return a dict of arrays of numbers by name, got {what!r}.")
    return arrays


def arrays_for_files(layer: Layer) -> dict[str, Array]:
    """Return the arrays of a layer by names that files can hold.

    Raises TypeError where load would lose them: for arrays without restore, and a layer that observes without arrays.
    """
    arrays, kind = arrays_in(layer), type(layer)
    if arrays and kind.restore is Layer.restore:
        problem = "has arrays but no restore(arrays), which takes those of a file; define it."
        raise TypeError(f"{layer.name}: {kind.__name__} {problem}")
    if layer.observes and kind.arrays is Layer.arrays:
        problem = "observes, and no file holds what it learns; define arrays() and restore(arrays)."
        raise TypeError(f"{layer.name}: {kind.__name__} {problem}")
    return nameable(layer.name, arrays)


@contextmanager
def require_moving(function: str, layers: Iterable[Layer]) -> Iterator[None]:
    """Raise ValueError if a layer of one's own that observes in place has not learned from a step in here, its first.

    Where all layers learn together there is no pass to observe: its forward must take the batch into account.
    """
    own = [layer for layer in layers if layer.observes and layer.in_place and _keeps_arrays_of_its_own(layer)]
    before = [_bytes_of(layer) for layer in own]
    yield
    for layer, held in zip(own, before, strict=True):
        if _bytes_of(layer) == held:
            raise ValueError(
                f'{function}: {layer.name} learns nothing with mode="together", which has no pass to observe, and its '
                "forward(…, training=True) has left its arrays as they were; let that take each batch into account, as "
                'BatchNorm does, or use mode="layerwise".'
            )


def _keeps_arrays_of_its_own(layer: Layer) -> bool:
    return not is_ours(type(layer)) and type(layer).arrays is not Layer.arrays


def _bytes_of(layer: Layer) -> dict[str, bytes]:
    return {name: devices.to_device(array, "cpu").tobytes() for name, array in arrays_in(layer).items()}


def _is_array(value: Any) -> bool:
    return (isinstance(value, np.ndarray) or backend.on_cuda(value)) and value.dtype.kind in "biuf"


def nameable(owner: str, arrays: dict[str, Array]) -> dict[str, Array]:
    """Return arrays of a layer, or of the state of its rule. In HDF5 a / would make folders, and a NUL ends a name."""
    for name in arrays:
        if not isinstance(name, str) or "/" in name or "\0" in name:
            problem = "cannot be saved; rename what the layer's arrays, or its rule's initial_state, call so."
            raise ValueError(f"{owner}: an array called {name!r} {problem}")
    return arrays


def make_writable(layer: Layer) -> None:
    """Let a layer have its own arrays in place of those that may only be read.

    joblib, Ray and Dask hand out such arrays: those of one object, which processes share.
    """
    arrays = arrays_in(layer)
    if not all(map(backend.is_writable, arrays.values())):
        layer.restore({name: backend.writable(array) for name, array in arrays.items()})


def _called(layer: Layer) -> str:
    return layer.name or type(layer).__name__
