"""The module that a network becomes: formulas by the operations of PyTorch. It is imported where PyTorch is."""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from hebbcore import checks
from hebbcore.formulas import Formula
from hebbcore.formulas.images import as_images, as_maps, require_images
from hebbcore.formulas.operations import TINY, Pair
from hebbcore.layers import BatchNorm, Layer, Scale

_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "edge": "replicate"}
_EMPTY = torch.nn.Module()
Tensor = Any  # torch.Tensor


class HebbianModule(torch.nn.Module):  # type: ignore[misc]  # PyTorch's types are not read
    """A network or a layer as a module; see hebbcore.bridges.torch.to_module.

    Parameters
    ----------
    formula : Formula
        What it computes.
    channels : {"last", "first"}
        Of images and maps.

    Attributes
    ----------
    formula : Formula
        The same; its model keeps its own arrays.
    layers : torch.nn.Module
        A module for each layer with arrays.
    """

    def __init__(self, formula: Formula, channels: str) -> None:
        super().__init__()
        self.formula, self.channels = formula, channels
        self.layers = torch.nn.Module()
        arrays = formula.arrays
        self._keys, self._constants = list(arrays), dict[Any, Tensor]()
        self._dtype = torch.float64 if formula.precision == "float64" else torch.float32
        for key, array in arrays.items():
            holder, name = self._place(key)
            tensor = torch.tensor(array, dtype=self._dtype)
            if name == "weights":
                holder.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                holder.register_buffer(name, tensor)
        self.eval()

    def _place(self, key: str) -> tuple[torch.nn.Module, str]:
        """Return the module that has an array of the formula, and the array's name there."""
        layer, _, name = key.rpartition("/")
        if hasattr(_EMPTY, layer):  # such as "train" or "type": modules have an attribute of that name
            layer += "_"
        if layer and not hasattr(self.layers, layer):
            self.layers.add_module(layer, torch.nn.Module())
        return (getattr(self.layers, layer) if layer else self.layers), name

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by the names that checkpoints have for them."""
        return {key: getattr(*self._place(key)) for key in self._keys}

    def forward(self, images: Tensor) -> Tensor:
        """Return the output for images, as Network.transform.

        Raises ValueError for images of another shape than the model's, and for uint8 if the model learned from floating
        numbers above 50; TypeError for integers but uint8, and for what is no tensor.
        """
        if not isinstance(images, torch.Tensor):
            problem = f"must be a tensor, got {type(images).__name__}; torch.from_numpy makes one of an array."
            raise checks.wrong(TypeError, self.formula.function, "images", problem)
        tensors = self.tensors
        dtype = next((tensor.dtype for tensor in tensors.values()), self._dtype)
        ops = TorchOperations(dtype, images.device, self.training, self._constants)
        whole_numbers = images.dtype == torch.uint8
        require_images(
            self.formula, images.shape, images.dtype, whole_numbers, images.is_floating_point(), self.channels
        )
        maps = as_maps(ops, images if whole_numbers else images.to(dtype), self.formula, self.channels, whole_numbers)
        return as_images(ops, self.formula(ops, tensors, maps), self.formula, self.channels)


class TorchOperations:
    """Operations (see hebbcore.formulas.operations) on tensors."""

    def __init__(self, dtype: Any, device: Any, training: bool, constants: dict[Any, Tensor]) -> None:
        self._dtype, self._device, self._training, self._constants = dtype, device, training, constants

    def scope(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """See Operations."""
        return contextlib.nullcontext()

    def floating(self, x: Tensor) -> Tensor:
        """See Operations."""
        return x.to(self._dtype)

    def constant(self, array: Any) -> Tensor:
        """See Operations; it is kept for the next call."""
        key = (array.shape, array.tobytes(), self._dtype, self._device)
        if key not in self._constants:
            with torch.inference_mode(False):  # a tensor of such a call would be of no use for a gradient later
                self._constants[key] = torch.tensor(array, dtype=self._dtype, device=self._device)
        return self._constants[key]

    def statistics(self, layer: Layer, x: Tensor, arrays: dict[str, Tensor], axes: Sequence[int]) -> dict[str, Tensor]:
        """See Operations; in training the running ones move."""
        assert isinstance(layer, BatchNorm | Scale)
        by_channel = isinstance(layer, BatchNorm)
        count = x.numel() // (x.shape[1] if by_channel else 1)
        if not self._training or count == 1:
            return arrays
        mean, variance = x.mean(axes), x.var(axes, correction=0).reshape(arrays["variance"].shape)
        with torch.no_grad():
            if by_channel:
                arrays["mean"].lerp_(mean, layer.momentum)
            arrays["variance"].lerp_(variance * (count / (count - 1)) if by_channel else variance, layer.momentum)
        return {"mean": mean, "variance": variance}

    def conv(self, x: Tensor, kernels: Tensor, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Tensor:
        """See Operations."""
        return F.conv2d(x, kernels, stride=stride, padding=padding)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """See Operations."""
        return a @ b

    def relu(self, x: Tensor) -> Tensor:
        """See Operations."""
        return F.relu(x)

    def exp(self, x: Tensor) -> Tensor:
        """See Operations."""
        return x.exp()

    def tanh(self, x: Tensor) -> Tensor:
        """See Operations."""
        return x.tanh()

    def sign(self, x: Tensor) -> Tensor:
        """See Operations."""
        return x.sign()

    def abs(self, x: Tensor) -> Tensor:
        """See Operations."""
        return x.abs()

    def power(self, x: Tensor, exponent: float) -> Tensor:
        """See Operations."""
        if exponent >= 1 or not x.requires_grad:
            return x**exponent
        return torch.where(x == 0, 0.0, x.clamp_min(_tiny(x)) ** exponent)  # NaN stays

    def at_least(self, x: Tensor, least: float) -> Tensor:
        """See Operations."""
        return x.clamp_min(max(least, _tiny(x)))

    def sum(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """See Operations."""
        return x.sum(tuple(axes), keepdim=True)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """See Operations."""
        return x.reshape(tuple(shape))

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """See Operations."""
        return x.permute(tuple(axes))

    def cut(self, x: Tensor, rows: slice, columns: slice) -> Tensor:
        """See Operations."""
        return x[:, :, rows, columns]

    def concat(self, values: Sequence[Tensor], axis: int) -> Tensor:
        """See Operations."""
        return torch.cat(list(values), axis)

    def flip(self, x: Tensor) -> Tensor:
        """See Operations."""
        return x.flip(3)

    def pad(self, x: Tensor, padding: Pair, mode: str) -> Tensor:
        """See Operations."""
        down, across = padding
        return F.pad(x, (across, across, down, down), _PAD_MODES[mode])

    def max_pool(self, x: Tensor, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Tensor:
        """See Operations."""
        return F.max_pool2d(x, window, stride, padding)

    def average_pool(self, x: Tensor, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Tensor:
        """See Operations."""
        return F.avg_pool2d(x, window, stride, padding)


def _tiny(x: Tensor) -> float:
    """Return TINY, or what of it the dtype has: in float16 it would be 0."""
    return max(TINY, float(torch.finfo(x.dtype).tiny))
