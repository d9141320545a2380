"""Competition between units: the public functions, and the gates of the rules, which work in place.

The gates return what a batched update needs (`Gate`): G itself, the sums over rows for the decay C, and for rules that
divide by the units' shares, those sums. Each runs one kernel of hebbcore.engine.kernels.programs.competition; the
kernel's oracle is the function of its name in tests/oracles/kernels.py.
"""

import functools
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, kernels, parallel, tuning
from hebbcore.engine.backend import Array


class Norms:
    """Euclidean norms of patches and units, 0 replaced by 1.

    Parameters
    ----------
    vectors : Array
        (N, D), the patches.
    units : Array
        (K,), the norm of each unit's weights.

    Attributes
    ----------
    patches : Array
        (N,), the norm of each patch, made when it is first asked for.
    units : Array
        (K,).
    """

    def __init__(self, vectors: Array, units: Array) -> None:
        self._vectors, self.units = vectors, units

    @functools.cached_property
    def patches(self) -> Array:
        """The norm of each patch (N,)."""
        return vector_norms(self._vectors)


class Pair(NamedTuple):
    """Two arrays whose product is a decay: C = leftᵀ right, or its lower triangle.

    Attributes
    ----------
    left, right : Array
        (N, K).
    lower : bool
        Whether only the lower triangle counts, with the diagonal: unit i sees units 1…i.
    """

    left: Array
    right: Array
    lower: bool


class Gate(NamedTuple):
    """A rule's answer to the scores of N patches by K units, for ΔW = scale ∘ (Gᵀ X − C·W).

    Attributes
    ----------
    values : Array or None
        G (N, K); None: 0, for a rule with a pair.
    decay : Array or None
        (K,): C as one factor a unit, summed over the rows; None: C is tril(Gᵀ G), or with a pair the pair's alone.
    mass : Array or None
        (K,), summed over the rows, handed to the rule's scale; None if it does not need one.
    winners : Array or None
        (N,), int64: of each patch the one unit whose entry of G is not 0, −1 where there may be more; None: any may.
        It saves time, and may be left out.
    pair : Pair or None
        The product that C has besides its decay, of a rule that has `pairs`.
    """

    values: Array | None
    decay: Array | None = None
    mass: Array | None = None
    winners: Array | None = None
    pair: Pair | None = None


def vector_norms(vectors: Array) -> Array:
    """Return the Euclidean norm of each row (n,), 0 replaced by 1."""
    out, norms = backend.namespace(vectors).empty(len(vectors), vectors.dtype), kernels.for_array(vectors).norms
    if not parallel.worth_splitting(vectors):
        norms(vectors, out)
        return out
    cuts = parallel.cuts(len(vectors), parallel.threads())
    parallel.run([partial(norms, vectors[i:j], out[i:j]) for i, j in cuts], blas=False)
    return out


def relu(scores: Array) -> Array:
    """Return scores (n, K), those below 0 replaced by 0. In place."""
    xp = backend.namespace(scores)
    if xp is np:
        kernels.for_array(scores).relu(scores)
    else:
        xp.maximum(scores, 0, out=scores)
    return scores


def cells(scores: Array, *arrays: int) -> Array:
    """Return zeros for a kernel's sums (cells, K), or for so many arrays of sums (arrays, cells, K)."""
    count = kernels.for_array(scores).cells(*scores.shape)
    return backend.namespace(scores).zeros((*arrays, count, scores.shape[1]), scores.dtype)


def column_sums(cells: Array) -> Array:
    """Return the sums (K,) that a kernel added to cells."""
    return cells[0] if len(cells) == 1 else cells.sum(axis=0)


def sharpness_of(temperature: float, scores: Array) -> Any:
    """Return 1 / temperature in the scores' dtype, at most its largest number."""
    return scores.dtype.type(min(1 / temperature, float(np.finfo(scores.dtype).max)))


def swta_gate(scores: Array, norms: Norms, temperature: float, power: bool) -> Gate:
    """Return Z² for Y = ((cos + 1) / 2)² and Z = softmax(Y / T), or Y^(1/T) / Σ if power; mass: ΣZ. In place.

    Equation: FastHebb (Lagani et al. 2022), soft-WTA. Kernel and oracle: swta.
    """
    mass, decay = cells(scores, 2)
    sharpness = sharpness_of(temperature, scores)
    kernels.for_array(scores).swta(scores, norms.patches, norms.units, sharpness, power, mass, decay)
    return Gate(scores, column_sums(decay), column_sums(mass))


def kwta_gate(scores: Array, unit_norms: Array, k: int) -> Gate:
    """Return 1 where scores / unit_norms is at least the row's k-th largest, else 0. In place.

    Equation: FastHebb (Lagani et al. 2022), k-WTA. Kernels and oracles: kwta, for one winner cosine_wta.
    """
    decay = cells(scores)
    if k == 1:
        winners = _winners(scores)
        kernels.for_array(scores).cosine_wta(scores, unit_norms, winners, decay)
    else:
        winners = None
        kernels.for_array(scores).kwta(scores, unit_norms, k, decay)
    sums = column_sums(decay)
    return Gate(scores, sums, sums, winners)


def soft_hebb_gate(scores: Array, temperature: float, anti_hebbian: bool) -> Gate:
    """Return softmax(u / temperature), all but each row's largest u's negated if anti_hebbian. In place.

    Equation: SoftHebb (Journé et al., ICLR 2023). Kernel and oracle: soft_hebb.
    """
    decay = cells(scores)
    kernels.for_array(scores).soft_hebb(scores, sharpness_of(temperature, scores), anti_hebbian, decay)
    return Gate(scores, column_sums(decay))


def ranked_gate(scores: Array, rank: int, strength: float) -> Gate:
    """Return 1 at each row's largest u, -strength at its rank-th largest. In place.

    Equation: Krotov & Hopfield (PNAS 2019). Kernel and oracle: ranked.
    """
    decay = cells(scores)
    kernels.for_array(scores).ranked(scores, rank, scores.dtype.type(strength), decay)
    return Gate(scores, column_sums(decay))


def hard_gate(scores: Array) -> Gate:
    """Return 1 at each row's largest u, else 0. In place.

    Equation: hard WTA of SoftHebb's program (Journé et al., ICLR 2023). Kernel and oracle: hard_wta.
    """
    decay, winners = cells(scores), _winners(scores)
    kernels.for_array(scores).hard_wta(scores, winners, decay)
    return Gate(scores, column_sums(decay), winners=winners)


def _winners(scores: Array) -> Array:
    """Return where a kernel puts the winner of each row of scores (n, K)."""
    return backend.namespace(scores).empty(len(scores), np.int64)


def signed_gate(scores: Array, unit_norms: Array) -> Gate:
    """Return y = scores / unit_norms at each row's largest |y|, else 0; decay and mass: Σ y². In place.

    Equation: Oja (1982) for the winner alone. Kernel and oracle: signed_wta.
    """
    decay, winners = cells(scores), _winners(scores)
    kernels.for_array(scores).signed_wta(scores, unit_norms, winners, decay)
    sums = column_sums(decay)
    return Gate(scores, sums, sums, winners)


def biased(scores: Array, patch_norms: Array, bias: Array) -> Array:
    """Add bias_i · ‖x‖ to the score of each unit i for each patch x. In place; returns the scores."""
    step = max(1, tuning.MEASURED.bias_numbers[backend.device_of(scores)] // scores.shape[1])
    for i in range(0, len(scores), step):
        scores[i : i + step] += patch_norms[i : i + step, None] * bias
    return scores


def biased_signed_gate(scores: Array, norms: Norms, bias: Array) -> Gate:
    """Return signed_gate with |y| + bias_i · ‖x‖ in the place of |y|, where it competes. In place.

    Only differences of biases matter: the smallest counts as 0. Kernel and oracle: biased_signed_wta.
    """
    decay, winners = cells(scores), _winners(scores)
    kernels.for_array(scores).biased_signed_wta(scores, norms.patches, norms.units, bias - bias.min(), winners, decay)
    sums = column_sums(decay)
    return Gate(scores, sums, sums, winners)


def _own_scores(function: str, scores: Any) -> Array:
    """Return a C-contiguous copy of (N, K) float32 or float64 scores."""
    array = backend.as_array(function, "scores", scores)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{function}: scores must be (patches, units) and not empty, got shape {array.shape}.")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{function}: scores must be float32 or float64, got {array.dtype}.")
    if not bool(backend.namespace(array).isfinite(array).all()):
        raise ValueError(f"{function}: scores must be finite, got NaN or infinity.")
    return array.copy(order="C")


def softmax_wta(scores: Any, temperature: float = 1.0) -> Array:
    """Share each row's activity among the units by a softmax: softmax(scores / temperature).

    Kernel and oracle: softmax.

    Parameters
    ----------
    scores : array-like
        (N, K), N patches by K units, float32 or float64; NumPy, CuPy or convertible. It is not changed.
    temperature : float
        Above 0, in units of the scores; smaller is sharper.

    Returns
    -------
    Array
        (N, K), of the same dtype and device; every row sums to 1. Shares below 2⁻⁸⁰ of the row's largest are 0.

    Raises
    ------
    ValueError
        If scores is not 2-D, is empty or not finite, or temperature is not above 0.
    TypeError
        For other dtypes.

    References
    ----------
    FastHebb (Lagani et al. 2022), soft-WTA. The row's maximum is subtracted, which the paper's program omits.
    """
    temperature = checks.positive("softmax_wta", "temperature", temperature)
    out = _own_scores("softmax_wta", scores)
    kernels.for_array(out).softmax(out, sharpness_of(temperature, out))
    return out


def k_wta(scores: Any, k: int) -> Array:
    """Let each row's k most active units win: 1 where a score is at least the row's k-th largest, else 0.

    All that tie with the k-th win, so that a row can have more than k winners. Kernel and oracle: kwta.

    Parameters
    ----------
    scores : array-like
        (N, K), N patches by K units, float32 or float64; NumPy, CuPy or convertible. It is not changed.
    k : int
        1 … K.

    Returns
    -------
    Array
        (N, K), of the same dtype and device; 0 and 1.

    Raises
    ------
    ValueError
        If scores is not 2-D, is empty or not finite, or k is out of range.
    TypeError
        For other dtypes.

    References
    ----------
    FastHebb (Lagani et al. 2022), k-WTA.
    """
    k = checks.integer("k_wta", "k", k, 1)
    out = _own_scores("k_wta", scores)
    check_k("k_wta", k, out.shape[1])
    kwta_gate(out, backend.namespace(out).ones(out.shape[1], out.dtype), k)
    return out


def argmax_wta(scores: Any) -> Array:
    """Let each row's most active unit win: one-hot rows; of equal scores the lowest index wins.

    Kernel and oracle: hard_wta.

    Parameters
    ----------
    scores : array-like
        (N, K), N patches by K units, float32 or float64; NumPy, CuPy or convertible. It is not changed.

    Returns
    -------
    Array
        (N, K), of the same dtype and device; 0 and 1.

    Raises
    ------
    ValueError
        If scores is not 2-D, is empty or not finite.
    TypeError
        For other dtypes.
    """
    out = _own_scores("argmax_wta", scores)
    hard_gate(out)
    return out


def check_k(function: str, k: int, units: int) -> None:
    """Raise ValueError if more winners are asked for than there are units."""
    if k > units:
        raise checks.wrong(ValueError, function, "k", f"must be between 1 and the number of units ({units}), got {k}.")
