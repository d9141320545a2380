"""Arrays of layers that can be set."""

from typing import Any

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import require_finite
from hebbcore.layers.base import Layer


class Kept:
    """An array that a layer has once it is built. What is set in its place is checked and copied (see own_array).

    The layer itself puts new arrays into its __dict__, unchecked.

    least: what none of its numbers may be below; None: they may be any.
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
        array = own_array(layer, self._name, value)
        if self._least is not None and float(array.min()) < self._least:
            problem = f"must be {self._least:g} or more, got {float(array.min()):g}."
            raise checks.wrong(ValueError, layer.name, self._name, problem)
        layer.__dict__[self._name] = array


def own_array(layer: Layer, name: str, value: Any) -> Array:
    """Return an array to be set in place of `layer.name`, as the layer keeps it: its dtype and device, and its own.

    Parameters
    ----------
    layer : Layer
        The layer that the array belongs to.
    name : str
        The array's name.
    value : Any
        Floating numbers on any device, of the array's shape.

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
    require_finite(layer.name, name, given, optional=False)
    return devices.to_device(given, backend.device_of(kept)).astype(kept.dtype, order="C", copy=True)


def make_writable(layer: Layer) -> None:
    """Let a layer have its own arrays in place of those that may only be read.

    joblib, Ray and Dask hand out such arrays: those of one object, which processes share.
    """
    arrays = layer.arrays()
    if not all(map(backend.is_writable, arrays.values())):
        layer.restore({name: backend.writable(array) for name, array in arrays.items()})


def _called(layer: Layer) -> str:
    return layer.name or type(layer).__name__
