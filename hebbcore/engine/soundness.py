"""Numbers that stay computable: how large data may be, weights that diverge, the largest stable learning rate."""

import contextlib
import math
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, tuning
from hebbcore.engine.answers import divisor_of, own_methods, projection_of, stable_rate_of
from hebbcore.engine.backend import Array
from hebbcore.engine.group.portion import current
from hebbcore.engine.patches import Geometry, patches_at
from hebbcore.engine.rule import Rule
from hebbcore.engine.spread import spread_rows

AUTO = "auto"  # a learning rate that is measured on the first batch
AUTO_SHARE = 0.5  # of the largest stable rate: other batches have larger eigenvalues, and early steps overshoot
THROWN_OFF = 10.0  # times the norms that a rule holds: steps were too large
UNIT_GROWTH, GROWTH = 1e4, 1e3  # times those of rules that hold 1, and of others: they diverge
_LARGE = 1e-4  # of the largest number: sums of so many products may be beyond it
STEPS = 16  # between looks at the weights, each of which reads them once
_LEARNING = "gate", "biased_gate", "taught_gate", "adjust", "projection", "next_state"  # what may make NaN of weights
_ROWS = 1024  # patches that an eigenvalue is measured on, evenly spread over a batch
_ITERATIONS = 50


class Divergence:
    """Looks at the weights of layers now and then, and raises FloatingPointError when they diverge.

    A rule drives its weights to where the patches, or a norm of 1, hold them; a rate that is too large makes them grow
    in each step instead, or, with relu, throws them off until nothing answers.

    Parameters
    ----------
    function : str
        What trains, for messages.
    """

    def __init__(self, function: str) -> None:
        self._function = function
        self._held: dict[str, float] = {}  # by a layer's name, the largest norm to be expected
        self._limits: dict[str, float] = {}
        self._powers: dict[str, float] = {}  # the largest of what scores were made by, where that is not the weights
        self._own: dict[str, str] = {}  # what methods of one's own may have to do with NaN, as the end of an advice

    def begin(self, name: str, rule: Rule, weights: Array, x: Array, geometry: Geometry) -> None:
        """Note what a layer begins with, once.

        Parameters
        ----------
        name : str
            The layer's.
        rule : Rule
            The layer's.
        weights : Array
            (units, …), from before the first step.
        x : Array
            (n, H, W, C), the first input, uint8 or floating.
        geometry : Geometry
            The layer's sizes.
        """
        if name in self._own:
            return
        self._own[name] = _mend([rule], *_LEARNING)
        if rule.free_norms:
            return
        if type(rule).projection is not Rule.projection:
            matrix = weights.reshape(len(weights), -1).astype(np.float64)
            self._powers[name] = float(backend.largest_magnitude(projection_of(rule, matrix)))
        held = max(1.0, _largest_norm(weights))
        if not rule.unit_norms:  # no patch can be longer
            scale = 1.0 if x.dtype.kind != "f" else float(backend.largest_magnitude(x))
            here = current()
            scale = scale if here is None else here.most(scale)
            held = max(held, 1.0 if geometry.normalized else scale * geometry.patch_size**0.5)
        self._held[name] = held
        self._limits[name] = held * (UNIT_GROWTH if rule.unit_norms else GROWTH)

    def require(
        self,
        name: str,
        weights: Array,
        step: int,
        rate: float,
        stable: Callable[[], float | None] | None = None,
        auto: bool = False,
    ) -> None:
        """Check that weights are finite, and not far beyond where they began.

        Parameters
        ----------
        name : str
            The layer's.
        weights : Array
            (units, …), after the step.
        step : int
            How many steps were made.
        rate : float
            The learning rate by which the weights got there.
        stable : callable or None
            Returns the largest stable learning rate, None if nobody knows.
        auto : bool
            Whether the rate is that of learning_rate="auto".

        Raises
        ------
        FloatingPointError
            If they are not.
        """
        limit, norm = self._limits.get(name, sys.float_info.max), _largest_norm(weights)
        if norm <= limit:
            return
        what, powers = "became NaN or infinite", self._powers.get(name, 0.0)
        own = self._own.get(name, "")
        if math.isfinite(float(backend.largest_magnitude(weights))):
            own = ""
            far = f"is {norm:.1e}, beyond {limit:.1e}," if name in self._limits else "is beyond all numbers"
            what, powers = f"diverge: a unit's norm {far}", 0.0
        advice = f"lower its learning rate, {rate:g}"
        if auto:
            advice = f'its learning rate, {rate:g}, is from "auto": give a lower one in its place'
        if powers * self._held.get(name, 1.0) > _LARGE * float(np.finfo(weights.dtype).max):  # no rate helps
            stable, other = None, 'precision="float64", or ' if weights.dtype == np.float32 else ""
            advice = (
                f"its scores are made by powers of the weights, up to {powers:.1e}, which are too large for "
                f"{weights.dtype}: take {other}a smaller p"
            )
        advice += own
        largest = None if stable is None else stable()
        if largest is not None and AUTO_SHARE * largest >= rate:
            advice += "; on this batch it is stable, so that others are larger: bring them to one scale"
        elif largest is not None:
            advice += (
                f"; the largest stable one on this batch is about {largest:.2g}: start from "
                f"{AUTO_SHARE * largest:.2g}" + ', or with learning_rate="auto"' * (not auto)
            )
        raise FloatingPointError(f"{self._function}: the weights of {name} {what} after step {step}; {advice}.")

    def tell(self, name: str, rule: Rule, weights: Array, stacklevel: int, auto: bool = False) -> None:
        """Warn if learning ended with norms far above those to be expected, if not so far as to be an error.

        auto: whether the rate is that of learning_rate="auto".
        """
        norms = backend.row_norms(weights.reshape(len(weights), -1))
        thrown = int((norms > THROWN_OFF * self._held.get(name, math.inf)).sum())
        if not thrown:
            return
        advice = 'Give a lower rate in place of "auto"' if auto else "Lower the learning rate"
        if not auto and type(rule).stable_rate is not Rule.stable_rate:
            advice += ', or start with learning_rate="auto"'
        warnings.warn(
            f"{self._function}: {thrown} of {len(weights)} units of {name} have norms up to {float(norms.max()):.2g}, "
            f"more than {THROWN_OFF:g} times those that {type(rule).__name__} holds: steps were too large for them, "
            f"and they may answer to nothing any more, or go on growing. {advice}.",
            stacklevel=stacklevel + 1,
        )


def _mend(rules: Iterable[Rule], *methods: str) -> str:
    """Return the end of an advice: which of some methods of one's own may make NaN; "" if there are none."""
    names = list(dict.fromkeys(name for rule in rules for name in own_methods(rule, *methods)))
    return f", or mend {' or '.join(names)} if NaN or infinity comes from there" if names else ""


def without_warnings() -> contextlib.AbstractContextManager[Any]:
    """Return a block in which NumPy does not warn of overflow and NaN: the library looks at what is computed there."""
    return np.errstate(over="ignore", invalid="ignore")


def watched(divergence: Divergence | None) -> contextlib.AbstractContextManager[Any]:
    """Return a block for a step, without NumPy's warnings if a Divergence looks at the weights."""
    return contextlib.nullcontext() if divergence is None else without_warnings()


def is_due(step: int) -> bool:
    """Return whether to look at the weights after so many steps: after 1, 2, 4, 8, 16, 32, 48, …."""
    return step % STEPS == 0 or (step < STEPS and step & (step - 1) == 0)


def _largest_norm(weights: Array) -> float:
    """Return the largest Euclidean norm of a unit's weights (units, …)."""
    with without_warnings():
        return float(backend.row_norms(weights.reshape(len(weights), -1)).max())


def as_rate(function: str, name: str, value: Any) -> Any:
    """Return a learning rate: a finite float above 0, or "auto"."""
    if isinstance(value, str) and value == AUTO:
        return value
    return checks.positive(function, name, value)


def require_finite_output(
    function: str,
    name: str,
    transform: Callable[[Array], Array],
    images: Array,
    image_bytes: int,
    rules: Iterable[Rule],
) -> None:
    """Check that a layer's output for the first batch is finite after the training.

    Parameters
    ----------
    function, name : str
        What trains, and the layer's name, for messages.
    transform : callable
        Returns the output for some of the images (n, …).
    images : Array
        The first batch.
    image_bytes : int
        Bytes of the output for one image.
    rules : iterable of Rule
        Those of the layers on the way to the output.

    Raises
    ------
    FloatingPointError
        If the output holds NaN or infinity.
    """
    step = max(1, tuning.MEASURED.output_bytes // image_bytes)
    for start in range(0, len(images), step):
        with without_warnings():
            largest = float(backend.largest_magnitude(transform(images[start : start + step])))
        if not math.isfinite(largest):
            raise FloatingPointError(
                f"{function}: after the training the output of {name} holds NaN or infinity for the first batch; scale "
                "the data, to standard deviations of about 1, or put a BatchNorm before the layer"
                f"{_mend(rules, 'projection', 'response', 'activate')}."
            )


def measured_rate(function: str, name: str, rule: Rule, x: Array, geometry: Geometry) -> float:
    """Return the rate of learning_rate="auto": half of the largest stable one on a layer's first input.

    Parameters
    ----------
    function, name : str
        What trains, and the layer's name, for messages.
    rule : Rule
        The layer's.
    x : Array
        (n, H, W, C), the first input.
    geometry : Geometry
        The layer's sizes.

    Returns
    -------
    float
        The rate.

    Raises
    ------
    ValueError
        For a rule whose stable rate the data do not tell.
    """
    stable = largest_stable_rate(rule, x, geometry)
    if stable is None:
        raise ValueError(
            f'{function}: learning_rate="auto" is for rules that say what is stable, such as hpca, and for data that '
            f"are not all 0; give {name} ({type(rule).__name__}) a number."
        )
    return AUTO_SHARE * stable


def largest_stable_rate(rule: Rule, x: Array, geometry: Geometry) -> float | None:
    """Return the largest rate at which a rule is stable for inputs x (n, H, W, C), None if they do not tell."""
    if type(rule).stable_rate is Rule.stable_rate:
        return None
    size, here = geometry.patch_size, current()
    total = (len(x) if here is None else here.total) * geometry.positions
    most = max(1, min(_ROWS, tuning.MEASURED.eigenvalue_bytes // (8 * size)))
    rows = spread_rows(total, min(total, most))
    if here is None:
        patches = patches_at(x, geometry, rows, np.dtype(np.float64))
    else:
        first, own, _ = here.rows(len(x) * geometry.positions)
        rows = rows[(rows >= first) & (rows < first + own)] - first
        patches = here.gathered(patches_at(x, geometry, rows, np.dtype(np.float64)))
    eigenvalue = _largest_eigenvalue(patches)
    stable = stable_rate_of(rule, eigenvalue) if 0 < eigenvalue < math.inf else None
    return None if stable is None else stable * divisor_of(rule, size)


def _largest_eigenvalue(patches: Array) -> float:
    """Return the largest eigenvalue of XᵀX / N by power iteration; NaN or infinity for patches that hold such."""
    xp = backend.namespace(patches)
    peak = float(backend.largest_magnitude(patches))
    if not 0 < peak < math.inf:
        return peak
    patches = patches / peak  # so that no square leaves the range of numbers
    # from a mixture of all: a single patch may be orthogonal to what most others share
    mixture = devices.to_device(np.random.default_rng(0).normal(size=len(patches)), backend.device_of(patches))
    vector = mixture @ patches
    value = 0.0
    for _ in range(_ITERATIONS):
        vector = vector / xp.linalg.norm(vector)
        vector = (patches @ vector) @ patches / len(patches)
        value = float(xp.linalg.norm(vector))
    return value * peak * peak
