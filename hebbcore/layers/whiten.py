"""Whitening of patches."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, gemm, kernels, parallel
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan, Share
from hebbcore.engine.group.portion import current
from hebbcore.engine.patches import PADDING_MODES, Geometry
from hebbcore.layers.base import Layer, Shape, Site, as_4d, puts_out_as, require_images
from hebbcore.layers.kept import Kept
from hebbcore.layers.learner import LATER, Learner

_MOST_NUMBERS = 2**14  # in a patch
_FAR = 1000  # times a number's variance: the square of its mean that is large enough to be taken off first


@dataclass(eq=False)
class Whiten(Layer):
    """ZCA or PCA whitening of patches, learned from a pass over the data before anything else learns.

    Each patch minus its own mean, over √(its variance + contrast) (contrast None: left out); then minus the mean patch
    and times U diag((s + epsilon)^−½) Uᵀ, where U diag(s) Uᵀ is the covariance of the patches (epsilon None: left out,
    so that only contrast and mean are taken off).
    Output: (oh, ow, kernel height · kernel width · channels), one whitened patch at each position, so that a Conv of
    kernel_size 1 follows; with kernel_size None the image as a whole is one patch, and keeps its shape.
    With components: (oh, ow, components), or (components,) for whole images: the largest principal components
    diag((s + epsilon)^−½) Uᵀ of a patch minus the mean patch, the largest first. With centre: (oh, ow, channels), the
    centre pixel of each whitened patch.

    Parameters
    ----------
    kernel_size : int or (int, int) or None
        Height and width of a patch, in pixels; None: the image, or vector, as a whole.
    stride : int or (int, int)
        Height and width, in pixels, for patches.
    padding : int or (int, int)
        Above and below, left and right, in pixels, for patches.
    padding_mode : {"zeros", "reflect", "edge"}
        What lies beyond the image: zeros, its mirror image, or its outermost pixels. Without padding it has no effect.
    epsilon : float or None
        Above 0, in units of the variance; if relative, of the mean variance.
    contrast : float or None
        At least 0, in units of the pixels' variance (0…1 for uint8 images); 10 / 255² is usual.
    name : str
        The layer's name in its network; "": the network gives one.
    relative : bool
        Add epsilon times the mean of s, that is the mean variance of a number in a patch, so that the whitening does
        not depend on the scale of the data.
    components : int or None
        How many principal components are kept; None: all directions, turned back into patches (ZCA). Of each one's
        entries the first that has at least 0.9 of the largest magnitude is positive.
    centre : bool
        Keep the outputs of the centre pixel only; the sides of the kernel must be odd.

    Attributes
    ----------
    mean : Array
        The mean patch (numbers in a patch,), of the network's dtype, once the network is built. It can be set; fit
        learns it anew, as it does the matrix, unless `learned` is set too.
    matrix : Array
        What a patch minus the mean patch is multiplied by, (numbers in a patch, numbers put out): with ZCA
        U diag((s + epsilon)^−½) Uᵀ, with centre its columns of the centre pixel, with components U
        diag((s + epsilon)^−½). It can be set, but not without epsilon, where patches are multiplied by nothing.
    learned : bool
        Whether a pass over the data has been made; later trainings leave it as it is.

    Raises
    ------
    ValueError, TypeError
        For impossible parameters.

    References
    ----------
    Coates, Ng & Lee (AISTATS 2011); without contrast, of whole images, epsilon 0.01: FastHebb (Lagani et al. 2022).
    """

    reads_images: ClassVar[bool] = True
    observes: ClassVar[bool] = True
    adds_up: ClassVar[bool] = True

    kernel_size: Any = None
    stride: Any = 1
    padding: Any = 0
    padding_mode: str = "zeros"
    epsilon: float | None = 0.1
    contrast: float | None = 10 / 255**2
    name: str = ""
    relative: bool = field(default=False, metadata=LATER)
    components: int | None = field(default=None, metadata=LATER)
    centre: bool = field(default=False, metadata=LATER)

    mean, matrix = Kept(), Kept()  # (numbers in a patch,) and (numbers in a patch, numbers out), of the network's dtype

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "matrix" and self.epsilon is None:
            raise AttributeError(
                f"{self.name or 'Whiten'}.matrix cannot be set: with epsilon=None patches are multiplied by nothing; "
                "make a Whiten with an epsilon."
            )
        super().__setattr__(name, value)

    def _check(self) -> None:
        if self.kernel_size is not None:
            self.kernel_size = checks.pair("Whiten", "kernel_size", self.kernel_size, 1)
        self.stride = checks.pair("Whiten", "stride", self.stride, 1)
        self.padding = checks.pair("Whiten", "padding", self.padding, 0)
        checks.choice("Whiten", "padding_mode", self.padding_mode, PADDING_MODES)
        if self.kernel_size is None and (self.stride != (1, 1) or self.padding != (0, 0)):
            problem = "and padding are for patches; give kernel_size, or leave them out."
            raise checks.wrong(ValueError, "Whiten", "stride", problem)
        if self.epsilon is not None:
            self.epsilon = checks.positive("Whiten", "epsilon", self.epsilon)
        if self.contrast is not None:
            checks.real("Whiten", "contrast", self.contrast, 0)
        self.relative = checks.boolean("Whiten", "relative", self.relative)
        self.centre = checks.boolean("Whiten", "centre", self.centre)
        if self.components is not None:
            self.components = checks.integer("Whiten", "components", self.components, 1)
        self._check_output()

    def _check_output(self) -> None:
        """Check that what is put out, and relative, go with the other parameters."""
        for name, given in (("relative", self.relative), ("components", self.components), ("centre", self.centre)):
            if given and self.epsilon is None:
                raise checks.wrong(ValueError, "Whiten", name, "is for whitening; give epsilon, or leave it out.")
        if not self.centre:
            return
        if self.components is not None:
            problem = "is of ZCA, whose outputs are pixels; leave out it or components."
            raise checks.wrong(ValueError, "Whiten", "centre", problem)
        if self.kernel_size is None or not all(side % 2 for side in self.kernel_size):
            problem = f"needs a kernel_size of odd sides, got {self.kernel_size}."
            raise checks.wrong(ValueError, "Whiten", "centre", problem)

    def _geometry(self, shape: Shape) -> Geometry:
        if self.kernel_size is None:
            full = as_4d(shape)
            return Geometry.of(self.name, (1, *full), full[:2], 1, 0, "zeros")
        require_images(self.name, shape)
        return Geometry.of(self.name, (1, *shape), self.kernel_size, self.stride, self.padding, self.padding_mode)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        g = self._geometry(shape)
        if g.patch_size > _MOST_NUMBERS:
            raise ValueError(
                f"{self.name}: patches of {g.patch_size} numbers are too large to whiten (at most {_MOST_NUMBERS}: "
                "a covariance of 2 GiB); use a smaller kernel_size."
            )
        if self.components is not None and self.components > g.patch_size:
            raise ValueError(
                f"{self.name}: patches of {g.patch_size} numbers have no {self.components} components; use fewer."
            )
        if self.kernel_size is None:
            return shape if self.components is None else (self.components,)
        return (*g.output, self._outputs(g))

    def multiplications(self, shape: Shape) -> int:
        """See Layer."""
        g = self._geometry(shape)
        return 0 if self.epsilon is None else g.positions * g.patch_size * self._outputs(g)

    def _outputs(self, g: Geometry) -> int:
        """Return how many numbers are put out for a patch."""
        return g.channels if self.centre else self.components or g.patch_size

    def _columns(self, matrix: Any, g: Geometry) -> Any:
        """Return the columns of ZCA's matrix that are kept."""
        first = (g.patch_size - g.channels) // 2 if self.centre else 0
        return matrix[:, first : first + self._outputs(g)]

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Start with no change of what is put out: mean 0, and the unit matrix or some of its columns."""
        xp = backend.module(site.device)
        self._site, self._sizes = site, self._geometry(shape)
        size = self._sizes.patch_size
        self.learned = False
        unit = xp.eye(size, dtype=site.dtype)
        self._keep(xp.zeros(size, site.dtype), xp.ascontiguousarray(self._columns(unit, self._sizes)))
        self._observed: tuple[int, Array, Array] | None = None  # patches, Σ x, Σ x xᵀ

    def _keep(self, mean: Array, matrix: Array) -> None:
        self.__dict__.update(mean=mean, matrix=matrix)

    def goes_into(self, layer: Layer) -> bool:
        """Return whether a layer that alone reads the output had better get patches: by units times the matrix.

        One image, with the making of those units, takes no more multiplications then than by two products.
        """
        size, outputs = self._sizes.patch_size, self._outputs(self._sizes)
        if not puts_out_as(self, Whiten) or not isinstance(layer, Learner) or layer.response != "rule":
            return False
        if not layer.geometry.is_of_pixels(outputs):
            return False
        units = layer.units
        spared = outputs * (size + units) - size * units  # for a patch
        return self._sizes.positions * spared >= units * size * outputs

    def plan(self, units: int, beside: int | None = None) -> Plan:
        """Return how a batch is cut, for so many numbers that are made of each patch; beside: see Learner.plan."""
        site = self._site
        return Plan(self.name, self._sizes, units, site.precision, site.workspace, site.device, beside=beside)

    def as_input(self, x: Array) -> Array:
        """Return an input of the layer as the images (n, H, W, C) of its geometry."""
        return x.reshape(len(x), *self._sizes.size, self._sizes.channels)

    def projected(self, projection: Array) -> Array:
        """Return what makes scores of `centred` patches, (units, numbers in a patch).

        projection: (units, numbers put out), what makes them of the output.
        """
        if self.epsilon is None:
            return projection
        with parallel.one_blas_thread():  # others would spin on beside the threads of what follows
            return projection @ self.matrix.T

    def centred(self, patches: Array) -> None:
        """Normalise the contrast of patches (n, numbers in a patch), and take the mean patch off them."""
        self._normalize(patches)
        patches -= self.mean

    def _normalize(self, patches: Array) -> None:
        if self.contrast is not None:
            number = self._site.dtype.type
            share = number(1 / self._sizes.patch_size)
            kernels.for_array(patches).contrast(patches, share, number(self.contrast))

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        target = out.reshape(-1, self._outputs(self._sizes))
        offset = self.mean if self.epsilon is None else self.mean @ self.matrix

        def whiten(patches: Array, product: gemm.Gemm, rows: slice) -> None:
            some = target[rows]
            if self.epsilon is None:
                some[...] = patches
            else:
                product.multiply(product.operand(patches), product.operand(self.matrix), some)
            some -= offset

        self._each_chunk(x, whiten)

    def forget(self) -> None:
        """See Layer."""
        self._observed = None

    def observe(self, x: Array) -> None:
        """See Layer."""
        count = len(x) * self._sizes.positions
        total, products = self._each_chunk(x, lambda patches, product, rows: _sums_of(patches, product))
        if self._observed is not None:
            count, total, products = (
                old + new for old, new in zip(self._observed, (count, total, products), strict=True)
            )
        self._observed = (count, total, products)

    def settle(self) -> None:
        """See Layer."""
        count, total, products = self._of_all()
        mean = total / count
        self._keep(mean.astype(self._site.dtype), self.matrix)
        self._observed, self.learned = None, True
        if self.epsilon is None:
            return
        covariance = devices.to_device(products / count - mean[:, None] * mean, "cpu")
        matrix = np.ascontiguousarray(self._whitening(covariance), self._site.dtype)
        self._keep(self.mean, devices.to_device(matrix, self._site.device))

    def _of_all(self) -> tuple[int, Array, Array]:
        """Return what was observed, in all processes that share the batches."""
        here = current()
        if here is None:
            assert self._observed is not None
            return self._observed
        xp, size = backend.namespace(self.matrix), self._sizes.patch_size
        count, total, products = self._observed or (0, xp.zeros(size), xp.zeros((size, size)))
        number = xp.array([float(count)])
        here.add_up(number, total, products)
        return int(number[0]), total, products

    def _whitening(self, covariance: Any) -> Any:
        """Return the matrix (numbers in a patch, numbers put out) for a covariance, on the host, in float64."""
        assert self.epsilon is not None
        with parallel.one_blas_thread():  # more take longer, up to 40 times on busy cores
            spectrum, vectors = np.linalg.eigh(covariance)
        spectrum = np.maximum(spectrum, 0)
        added = self.epsilon * (spectrum.mean() if self.relative else 1)
        if added == 0:  # relative, of data that do not vary: nothing is put out but zeros, by any factor
            added = 1.0
        factors = 1 / np.sqrt(spectrum + added)
        if self.components is None:
            return self._columns((vectors * factors) @ vectors.T, self._sizes)
        largest = slice(None, -1 - self.components, -1)
        return signed(vectors[:, largest]) * factors[largest]

    def arrays(self) -> dict[str, Array]:
        """See Layer."""
        arrays = {"mean": self.mean, "matrix": self.matrix, "learned": np.array([self.learned], np.uint8)}
        if self._observed is not None:
            count, total, products = self._observed
            arrays |= {"observed_count": np.array([count]), "observed_sum": total, "observed_products": products}
        return arrays

    def arrays_for(self, site: Site, shape: Shape, observed: bool) -> dict[str, tuple[Shape, Any]]:
        """See Layer."""
        size, double = self._geometry(shape).patch_size, np.dtype(np.float64)
        outputs = self._outputs(self._geometry(shape))
        arrays = {"mean": ((size,), site.dtype), "matrix": ((size, outputs), site.dtype)}
        arrays["learned"] = ((1,), np.dtype(np.uint8))
        seen = {"observed_sum": ((size,), double), "observed_products": ((size, size), double)}
        return {**arrays, **({"observed_count": ((1,), np.dtype(np.int64)), **seen} if observed else {})}

    def restore(self, arrays: dict[str, Array]) -> None:
        """See Layer."""
        self._keep(arrays["mean"], arrays["matrix"])
        self.learned = bool(arrays["learned"][0])
        self._observed = None
        if "observed_count" in arrays:
            self._observed = (int(arrays["observed_count"][0]), arrays["observed_sum"], arrays["observed_products"])

    def _each_chunk(self, x: Array, use: Any) -> Any:
        """Call use(patches, product, rows) for every chunk of x, contrast normalised; return the sums of its pairs."""
        size, x = self._sizes.patch_size, self.as_input(x)
        sums = (8 + self._site.dtype.itemsize) * size**2  # what adding pairs takes

        def of_a_thread(share: Share) -> Any:
            product, *_ = share.gemm.split()
            share.lay_out(x, {}, copy=True)
            total: Any = None
            for _, patches, rows in share.pieces(x, own=True):
                self._normalize(patches)
                pair = use(patches, product, rows)
                if pair is not None and total is None:
                    total = tuple(array.astype(np.float64) for array in pair)
                elif pair is not None:
                    for mine, more in zip(total, pair, strict=True):
                        mine += more
            return total

        totals = parallel.run([partial(of_a_thread, share) for share in self.plan(size).shares(len(x), [], sums)])
        return None if totals[0] is None else tuple(sum(arrays) for arrays in zip(*totals, strict=True))


def _sums_of(patches: Array, product: gemm.Gemm) -> tuple[Array, Array]:
    """Return Σ x and Σ x xᵀ of patches (n, D), which may be overwritten.

    Where a number of theirs lies far from 0, float32 would round away how it varies: products are then about their
    mean, and become those about 0 in float64.
    """
    count, total = len(patches), patches.sum(axis=0, dtype=np.float64)
    gram, mean = _products(patches, product), total / count
    squares = mean * mean
    if bool((squares <= _FAR * (gram.diagonal() / count - squares)).all()):
        return total, gram
    shift = mean.astype(patches.dtype)
    patches -= shift
    shift = shift.astype(np.float64)
    both = (total - count * shift / 2)[:, None] * shift  # Σ (x − shift) shiftᵀ + n/2 shift shiftᵀ
    gram = _products(patches, product).astype(np.float64)
    gram += both
    gram += both.T
    return total, gram


def _products(patches: Array, product: gemm.Gemm) -> Array:
    """Return Σ x xᵀ of patches (n, D), of their dtype."""
    size, operand = patches.shape[1], product.operand(patches)
    gram = backend.namespace(patches).empty((size, size), patches.dtype)
    product.multiply(operand.T, operand, gram)
    return gram


def signed(vectors: Any) -> Any:
    """Return column vectors (D, k) of either sign with that sign which makes runs alike.

    Of each one's entries the first that has at least 0.9 of the largest magnitude is positive. The largest itself would
    not do: where patches are alike from left and right, entries of opposite signs are the largest but for rounding.
    """
    sizes = np.abs(vectors)
    first = np.argmax(sizes >= 0.9 * sizes.max(axis=0), axis=0)
    return vectors * np.copysign(1, vectors[first, np.arange(vectors.shape[1])])
