"""Networks as modules of PyTorch, which knows their gradients, and back."""

from typing import Any

import numpy as np

from hebbcore import checkpoint, checks
from hebbcore.engine import devices
from hebbcore.formulas import Formula
from hebbcore.formulas.images import require_channels
from hebbcore.layers import HebbianLayer
from hebbcore.network import Network

__all__ = ["from_module", "to_module"]


def to_module(
    model: Network | HebbianLayer, layer: str | None = None, mirror: bool = False, *, channels: str = "last"
) -> Any:
    """Return a network, or a layer, as a module of PyTorch with the same numbers.

    The module takes what `transform` takes, as tensors: uint8 images (read as 0…1) or floating ones, whose numbers it
    takes as they are: it does not look whether they have the scale of those learned from. It starts in evaluation mode,
    on the CPU. The weights of units are parameters, by names such as "layers.conv1.weights"
    ("layers.train_.weights" of a layer called train, since modules have a method of that name); what else was learned,
    such as statistics and whitening, are buffers. In training mode BatchNorm and Scale
    normalise by the batch and move the running statistics, as they do in fit.

    Parameters
    ----------
    model : Network or HebbianLayer
        Trained. The module is of a copy: what is set in the model later, or learned, does not change it.
    layer : str or None
        The network's layer whose output is wanted; None: the last.
    mirror : bool
        The mean of the outputs for each image and for its mirror image; see Network.transform.
    channels : {"last", "first"}
        Whether images, and maps that are put out, are (n, height, width, channels) or (n, channels, height, width).

    Returns
    -------
    torch.nn.Module
        Of the network's dtype; its numbers are those of `transform` within 1e-5 of the largest, on CUDA unless
        PyTorch rounds to TF32 (torch.backends.cudnn.allow_tf32).

    Raises
    ------
    ValueError, TypeError
        For what is no such model, and for a layer or rule that has no formula, by its name.
    ModuleNotFoundError
        Without PyTorch.
    """
    with checks.needing("to_module", "torch", "torch"):
        from hebbcore.bridges.torch_module import HebbianModule
    formula = Formula.checked("to_module", model, layer, mirror).of_a_copy()
    require_channels(formula, channels)
    return HebbianModule(formula, channels)


def from_module(module: Any, *, device: str = "auto") -> Network | HebbianLayer:
    """Return a module of `to_module` as a network, or layer, with the module's numbers as they are now.

    Parameters
    ----------
    module : torch.nn.Module
        Made by to_module, and perhaps trained since.
    device : {"auto", "cpu", "cuda"}
        Where the network computes.

    Returns
    -------
    Network or HebbianLayer
        A new one. Layers behind the one whose output the module has are as they were.

    Raises
    ------
    TypeError
        For any other module.
    ValueError
        For weights that are not finite.
    ModuleNotFoundError
        Without PyTorch.
    """
    with checks.needing("from_module", "torch", "torch"):
        from hebbcore.bridges.torch_module import HebbianModule
    if not isinstance(module, HebbianModule):
        problem = f"must be made by to_module, got {type(module).__name__}."
        raise checks.wrong(TypeError, "from_module", "module", problem)
    model = module.formula.model
    arrays = {key: devices.to_device(array, "cpu") for key, array in checkpoint.arrays_of(model).items()}
    for key, tensor in module.tensors.items():
        if arrays[key].dtype.kind != "f":  # nothing learns whole numbers, and of large ones floating ones keep a part
            continue
        found: Any = tensor.detach().cpu().double().numpy().astype(arrays[key].dtype)  # NumPy has no bfloat16
        if not np.isfinite(found).all():
            raise ValueError(f"from_module: {key} must be finite, got NaN or infinity.")
        arrays[key] = found
    workspace = model.site.workspace if isinstance(model, Network) else 0
    header = checkpoint.describe("from_module", model)
    return checkpoint.restore("from_module", header, arrays, devices.resolve("from_module", device), workspace)
