"""A learned layer: weights, the rule they learn by, and the forward pass."""

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hebbcore import checks
from hebbcore.engine import backend, devices, gemm, parallel
from hebbcore.engine.answers import projection_of, require_counts, require_untouched
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan, Share
from hebbcore.engine.finite import faint_is_zero
from hebbcore.engine.output import Output
from hebbcore.engine.patches import PADDING_MODES, Geometry
from hebbcore.engine.pixel_scale import PixelScale, require_scale
from hebbcore.engine.state import as_state, same_names
from hebbcore.layers.arguments import check_images, check_no_steps, flat
from hebbcore.rules import Rule, as_rule

WORKSPACE = "256 MiB"


@dataclass(eq=False)
class HebbianLayer:
    """A convolutional or dense layer with the weights that a rule learned.

    All of its parameters can be set, and take effect with the next output. `transform` may be called from several
    threads at once.

    Parameters
    ----------
    weights : Array
        (units, kernel height, kernel width, channels) or, dense, (units, features), floating; NumPy or CuPy.
    rule : Rule or str
        A rule or its name.
    stride : (int, int)
        Height and width, in pixels; (1, 1) for a dense layer.
    padding : (int, int)
        Above and below, left and right, in pixels; (0, 0) for a dense layer.
    padding_mode : {"zeros", "reflect", "edge"}
        What lies beyond the image; without padding it has no effect.
    precision : str
        "float32" or "float64"; on CUDA also "tf32" and "bf16": see train_layer.
    linear : bool
        Put out the rule's response, of both signs, without its activation (see Rule.response).
    state : mapping of str to Array or None
        What the rule remembers of each unit, (units,), float64, by name (see Rule); None: what it begins with, also
        when a rule of another state is set.
    pixel_scale : PixelScale or None
        Of the images that train_layer learned from; transform refuses others of another scale. None: all are taken.

    Raises
    ------
    ValueError, TypeError
        For impossible ones.
    """

    weights: Array
    rule: Rule
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    padding_mode: str = "zeros"
    precision: str = "float32"
    linear: bool = False
    state: Any = field(default=None, repr=False)
    pixel_scale: PixelScale | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        function = "HebbianLayer"
        if name == "weights":
            value = backend.as_array(function, name, value)
            if value.ndim not in (2, 4) or not value.size or value.dtype.kind != "f":
                raise ValueError(
                    f"{function}: weights must be floating, (units, kernel height, kernel width, channels) or (units, "
                    f"features), not empty, got {value.dtype} of shape {value.shape}."
                )
        elif name == "rule":
            value = as_rule(function, value)
        elif name in ("stride", "padding"):
            value = checks.pair(function, name, value, 1 if name == "stride" else 0)
        elif name == "padding_mode":
            checks.choice(function, name, value, PADDING_MODES)
        elif name == "precision":
            checks.choice(function, name, value, gemm.PRECISIONS)
        elif name == "linear":
            value = checks.boolean(function, name, value)
        elif name == "pixel_scale" and not isinstance(value, PixelScale | None):
            problem = f"must be that of another layer, or None, got {value!r}."
            raise checks.wrong(TypeError, function, name, problem)
        elif name == "state":
            value = as_state(function, self.rule, self.units, backend.device_of(self.weights), value)
        if self._is_dense_with(name, value):
            check_no_steps(function, *(value if name == of else getattr(self, of) for of in ("stride", "padding")))
        before = dict(vars(self))
        object.__setattr__(self, name, value)
        try:
            self._settle(function, name)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _settle(self, function: str, name: str) -> None:
        """Check weights and rule, one of which was set, together, and let the state follow them."""
        if name not in ("weights", "rule") or "rule" not in vars(self):
            return
        require_counts(function, self.rule, self.units)
        require_untouched(self.rule, self.weights.reshape(self.units, -1))
        if "state" in vars(self):
            fits = same_names(self.rule, self.state) and all(len(of) == self.units for of in self.state.values())
            self.state = self.state if fits else None

    def _is_dense_with(self, name: str, value: Any) -> bool:
        """Return whether the layer is dense with this value, which may give it a stride or padding, or has one."""
        if name == "weights":
            return bool(value.ndim == 2)
        return name in ("stride", "padding") and bool(self.weights.ndim == 2)

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.weights)

    @property
    def kernel_size(self) -> tuple[int, int] | None:
        """Height and width of the kernel; None for a dense layer."""
        return None if self.weights.ndim == 2 else self.weights.shape[1:3]

    @property
    def bound_rule(self) -> Rule:
        """The rule with its state (see Rule.bound)."""
        return self.rule.bound(self.state or {})

    def to_device(self, device: str) -> "HebbianLayer":
        """Return the layer with its weights, and its rule's state, on another device.

        Parameters
        ----------
        device : {"cpu", "cuda"}
            Where they shall be.

        Returns
        -------
        HebbianLayer
            A new one; it shares what is there already.
        """
        return dataclasses.replace(self, weights=devices.to_device(self.weights, device))

    @faint_is_zero
    def transform(self, images: Any, *, workspace: int | str = WORKSPACE) -> Array:
        """Return the layer's output for images.

        Parameters
        ----------
        images : Array
            (n, H, W, C), or (n, features) for a dense layer; uint8 (read as 0…1) or floating; NumPy, CuPy or
            convertible. Images on another device than the layer's are streamed to it.
        workspace : int or str
            Bytes, or text like "256 MiB", of work memory beside the output.

        Returns
        -------
        Array
            (n, out height, out width, units), or dense (n, units), float64 if `precision` says so, else float32, in the
            library of the images.

        Raises
        ------
        ValueError, TypeError
            For images that do not fit the weights.
        """
        function = "transform"
        array = check_images(function, images, self.weights.shape)
        require_scale(self.pixel_scale, function, "images", array)
        g = Geometry.of(function, array.shape, self.kernel_size or 1, self.stride, self.padding, self.padding_mode)
        size = checks.byte_size(function, "workspace", workspace)
        dtype = gemm.check_precision(function, self.precision, backend.device_of(self.weights))
        out = backend.namespace(array).empty((len(array) * g.positions, self.units), dtype)
        plan = Plan(function, g, self.units, self.precision, size, backend.device_of(self.weights))
        project(plan, array, flat(self.weights, dtype), Output(self.bound_rule, self.linear), out)
        dense = self.weights.ndim == 2
        return out.reshape((len(array), self.units) if dense else (len(array), *g.output, self.units))


def project(plan: Plan, images: Array, weights: Array, output: Output, out: Array) -> None:
    """out (n·oh·ow, K) ← the output of a layer of weights (K, D) for images (n, H, W, C), which may be elsewhere."""
    projection = projection_of(output.rule, weights)
    unit_norms = output.unit_norms(weights, projection)
    is_here = backend.device_of(out) == plan.device

    def of_a_thread(share: Share) -> None:
        columns = share.gemm.operand(projection).T
        share.lay_out(images, {"scores": 0 if is_here else share.most_rows * projection[:, 0].nbytes})
        for piece in share.pieces(images):
            target = out[piece.rows]
            scores = target if is_here else share.memory.part("scores", target.shape, plan.dtype)
            share.gemm.multiply(share.gemm.operand(piece.patches), columns, scores)
            features = output(scores, piece.patches, unit_norms)
            if features is not target:
                target[...] = devices.to_device(features, backend.device_of(out))

    shares = plan.shares(len(images), [])
    parallel.run([partial(of_a_thread, share) for share in shares], blas=plan.device == "cpu")
