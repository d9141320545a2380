"""Are the numbers of an array finite, and of a magnitude that float32 computes with?"""

import numpy as np
import numpy.typing as npt

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array

LARGEST, SMALLEST = 1e12, 1e-15  # magnitudes: between them no square of a patch, or product with weights, is lost

# Decorates functions in which a number that is too small for its dtype is 0, and nothing is worse for it: NumPy raises
# there if a user lets it raise for all it can (np.seterr). As a block: np.errstate(under="ignore").
faint_is_zero = np.errstate(under="ignore")


def require_finite(function: str, name: str, array: Array, *, optional: bool = True) -> float:
    """Check that an array holds finite numbers whose squares float32 has room for.

    Parameters
    ----------
    function, name : str
        Who asks, and how it calls the array, for messages.
    array : Array
        Arrays that are not floating pass.
    optional : bool
        Whether the function has an argument check_finite, with which it does not look.

    Returns
    -------
    float
        The largest magnitude; 0 if nobody looked, since they are not floating.

    Raises
    ------
    ValueError
        For NaN, infinity, magnitudes above 1e12, or none of 1e-15 or more in an array that is not 0.
    """
    if array.dtype.kind != "f":
        return 0.0
    largest = 0.0
    for piece in backend.pieces(array):
        here = float(backend.largest_magnitude(piece))
        if not here <= LARGEST:
            break
        largest = max(largest, here)
    else:
        if largest >= SMALLEST or not largest:
            return largest
        text = (
            f"the largest magnitude in {name} is {largest:.1e}, so small that squares vanish in float32; scale the "
            "data, to standard deviations of about 1."
        )
        raise checks.wrong(ValueError, function, name, text=text)
    row = first_not_finite(array)
    if row is not None:
        advice = ", or pass check_finite=False if you mean it." if optional else "."
        problem = f"must be finite, but {name}[{row}] holds NaN or infinity; clean the data{advice}"
        raise checks.wrong(ValueError, function, name, problem)
    problem = (
        f"must be at most {LARGEST:g} in magnitude, since squares and sums of larger numbers leave the range of "
        f"float32; got {here:.1e}. Scale the data, to standard deviations of about 1."
    )
    raise checks.wrong(ValueError, function, name, problem)


def require_computable(function: str, name: str, array: Array) -> None:
    """Raise ValueError that names the first row with NaN, infinity or a magnitude above 1e12: it says nothing."""
    rows = computable_rows(array)
    if not rows.all():
        problem = (
            f"must be finite and at most {LARGEST:g} in magnitude, but {name}[{int(rows.argmin())}] is not; clean it."
        )
        raise checks.wrong(ValueError, function, name, problem)


def computable_rows(array: Array) -> npt.NDArray[np.bool_]:
    """Return which rows (n,) of an array hold finite numbers of magnitudes up to 1e12, of integers all; NumPy."""
    rows = np.ones(len(array), np.bool_)
    if array.dtype.kind == "f" and array.size:
        first, most = 0, min(LARGEST, float(np.finfo(array.dtype).max))
        for piece in backend.pieces(array):
            flat = piece.reshape(len(piece), -1)
            found = (flat.max(axis=1) <= most) & (flat.min(axis=1) >= -most)
            rows[first : first + len(piece)] = devices.to_device(found, "cpu")
            first += len(piece)
    return rows


def rows_with_a_norm(rows: Array) -> Array:
    """Return which rows (n,) of (n, D) have a norm whose square is a normal number of their dtype.

    Of shorter ones that are not 0 squares vanish, or keep a digit or two: they have no direction.
    """
    return backend.row_norms(rows)[:, 0] >= float(np.finfo(rows.dtype).tiny) ** 0.5


def first_not_finite(array: Array) -> int | None:
    """Return the first row with NaN or infinity, None if there is none; reads the array in pieces of bounded size."""
    if array.dtype.kind != "f":
        return None
    xp, start = backend.namespace(array), 0
    for piece in backend.pieces(array):
        finite = xp.isfinite(piece)
        if not bool(finite.all()):
            return start + int(xp.argmin(finite.reshape(len(finite), -1).all(axis=1)))
        start += len(piece)
    return None
