"""Networks as pure functions for JAX."""

from collections.abc import Callable
from typing import Any

from hebbcore import checks
from hebbcore.formulas import Formula
from hebbcore.formulas.images import as_images, as_maps, require_channels, require_images
from hebbcore.layers import HebbianLayer
from hebbcore.network import Network

__all__ = ["to_function"]

Function = Callable[[dict[str, Any], Any], Any]


def to_function(
    model: Network | HebbianLayer, layer: str | None = None, mirror: bool = False, *, channels: str = "last"
) -> tuple[Function, dict[str, Any]]:
    """Return a network, or a layer, as a pure function of arrays and images, and the arrays as a pytree.

    function(arrays, images) is what `transform` puts out for images; it can go through jax.jit, jax.grad and jax.vmap.
    Running statistics are used, and not changed. Floating images are taken as they are: the function does not look
    whether they have the scale of those learned from.

    Parameters
    ----------
    model : Network or HebbianLayer
        Trained. What is set in it later, or learned, does not change the function.
    layer : str or None
        The network's layer whose output is wanted; None: the last.
    mirror : bool
        The mean of the outputs for each image and for its mirror image; see Network.transform.
    channels : {"last", "first"}
        Whether images, and maps that are put out, are (n, height, width, channels) or (n, channels, height, width).

    Returns
    -------
    callable, dict
        The function; and its arrays by layer and name, such as arrays["conv1"]["weights"], float32, or of the
        network's dtype where JAX is told to have float64 (jax_enable_x64). Of a HebbianLayer arrays["weights"].

    Raises
    ------
    ValueError, TypeError
        For what is no such model, and for a layer or rule that has no formula, by its name. The function: for images
        of another shape than the model's, for integers but uint8, and for uint8 if the model learned from floating
        numbers above 50.
    ModuleNotFoundError
        Without JAX.
    """
    with checks.needing("to_function", "jax", "jax"):
        import jax

        from hebbcore.bridges.jax_operations import JaxOperations

    jnp, formula = jax.numpy, Formula.checked("to_function", model, layer, mirror).of_a_copy()
    require_channels(formula, channels)
    dtype = jnp.zeros(0, float).dtype if formula.precision == "float64" else jnp.float32
    ops, tree = JaxOperations(dtype), dict[str, Any]()
    for key, array in formula.arrays.items():
        *path, name = key.split("/")
        place = tree.setdefault(path[0], {}) if path else tree
        place[name] = jnp.asarray(array, dtype)

    def function(arrays: dict[str, Any], images: Any) -> Any:
        flat: dict[str, Any] = {}
        for layer, value in arrays.items():
            flat |= (
                {f"{layer}/{name}": each for name, each in value.items()} if isinstance(value, dict) else {layer: value}
            )
        images = jnp.asarray(images)
        whole_numbers = images.dtype == jnp.uint8
        floating = bool(jnp.issubdtype(images.dtype, jnp.floating))
        require_images(formula, images.shape, images.dtype, whole_numbers, floating, channels)
        maps = as_maps(ops, images if whole_numbers else images.astype(dtype), formula, channels, whole_numbers)
        return as_images(ops, formula(ops, flat, maps), formula, channels)

    return function, tree
