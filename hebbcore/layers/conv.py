"""A convolution whose units learn."""

from dataclasses import dataclass, field
from typing import Any

from hebbcore import checks
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import PADDING_MODES, Geometry
from hebbcore.layers.base import Shape, require_images
from hebbcore.layers.learner import LATER, Learner
from hebbcore.rules import Rule


@dataclass(eq=False)
class Conv(Learner):
    """A convolution whose units learn by a rule. Output: the rule's (see Rule.activate), (oh, ow, units).

    rule, learning_rate, linear, width and weights can be set in a network, and take effect with the next step
    or output.

    Parameters
    ----------
    units : int
        Number of kernels.
    kernel_size : int or (int, int)
        Height and width, in pixels.
    rule : Rule or str
        A rule or its name.
    stride : int or (int, int)
        Height and width, in pixels.
    padding : int or (int, int)
        Above and below, left and right, in pixels.
    padding_mode : {"zeros", "reflect", "edge"}
        What lies beyond the image: zeros, its mirror image, or its outermost pixels. Without padding it has no effect.
    learning_rate : float or "auto" or None
        None takes that of the training; "auto": see fit.
    linear : bool
        Put out the rule's response, of both signs, without its activation (see Rule.response): what Split and Triangle
        need of rules that put out relu. Rules without an activation put out the same with it: one network may so be
        tried with any rule.
    name : str
        The layer's name in its network; "": the network gives one.
    initial_weights : {"rule", "patches", "k-means++"}
        Drawn by the rule; different patches of the first data, as the layer sees them; or patches far apart. Patches
        are taken before the first step of a training, and scaled as the rule expects.
    conscience : float
        A bias, in units of a cosine, of the competition of SWTA, k-WTA and signed WTA against units that win more than
        their share, and for those that win less; 0.05, say. 0: off.
    revival : float
        A unit that won nothing while units won so many patches each, on average, starts anew from a patch; 10, say.
        0: off. Neither conscience nor revival is part of the published rules (see hebbcore.engine.rivalry).
    response : {"rule", "cosine", "cosine-exp"}
        What is put out: what the rule says; the cosine of the angle between patch x and unit; or
        ‖x‖ exp((cos − 1) / width), the kernel of a convolutional kernel network. Of a patch or unit of zeros the cosine
        is 0. The unit is what the rule's scores are made by (see Rule.projection).
    width : float or None
        Above 0, σ² of "cosine-exp": the larger, the more units answer to a patch. None: 0.36.
    normalize_patches : bool
        The rule competes for and learns from x / ‖x‖ in the place of each patch x (a patch of zeros stays); the output
        is that of x. With KWTA(1) it is spherical k-means.

    Attributes
    ----------
    weights : Array
        (units, kernel height, kernel width, channels), of the network's dtype and on its device, once it is built; None
        before. Others of that shape that are set are checked, copied and brought there.
    state : mapping of str to Array
        What the rule remembers of each unit, (units,), float64, by name; learning changes the arrays. Empty for most
        rules (see Rule).

    Raises
    ------
    ValueError, TypeError
        For impossible parameters, and for those without effect.

    References
    ----------
    "cosine-exp": Mairal, End-to-end kernel learning with supervised convolutional kernel networks (NeurIPS 2016).
    Spherical k-means: Coates & Ng, Learning feature representations with k-means (2012).
    """

    units: int
    kernel_size: Any
    rule: Rule | str = "hpca"
    stride: Any = 1
    padding: Any = 0
    padding_mode: str = "zeros"
    learning_rate: float | str | None = None
    linear: bool = False
    name: str = ""
    initial_weights: str = field(default="rule", metadata=LATER)
    conscience: float = field(default=0.0, metadata=LATER)
    revival: float = field(default=0.0, metadata=LATER)
    response: str = field(default="rule", metadata=LATER)
    width: float | None = field(default=None, metadata=LATER)
    normalize_patches: bool = field(default=False, metadata=LATER)
    weights: Array = field(init=False, repr=False, default=None)

    def _check(self) -> None:
        super()._check()
        self.kernel_size = checks.pair("Conv", "kernel_size", self.kernel_size, 1)
        self.stride = checks.pair("Conv", "stride", self.stride, 1)
        self.padding = checks.pair("Conv", "padding", self.padding, 0)
        checks.choice("Conv", "padding_mode", self.padding_mode, PADDING_MODES)

    def _geometry(self, shape: Shape) -> Geometry:
        require_images(self.name, shape)
        return Geometry.of(self.name, (1, *shape), self.kernel_size, self.stride, self.padding, self.padding_mode)

    def _weights_shape(self, shape: Shape) -> tuple[int, ...]:
        return (self.units, *self.kernel_size, shape[2])

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (*self._geometry(shape).output, self.units)
