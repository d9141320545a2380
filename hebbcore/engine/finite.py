"""Are the numbers of an array finite, and of a magnitude that float32 computes with?"""

from hebbcore import checks
from hebbcore.engine import backend
from hebbcore.engine.backend import Array

LARGEST, SMALLEST = 1e12, 1e-15  # magnitudes: between them no square of a patch, or product with weights, is lost


def require_finite(function: str, name: str, array: Array, *, optional: bool = True) -> None:
    """Check that an array holds finite numbers whose squares float32 has room for.

    Parameters
    ----------
    function, name : str
        Who asks, and how it calls the array, for messages.
    array : Array
        Arrays that are not floating pass.
    optional : bool
        Whether the function has an argument check_finite, with which it does not look.

    Raises
    ------
    ValueError
        For NaN, infinity, magnitudes above 1e12, or none of 1e-15 or more in an array that is not 0.
    """
    if array.dtype.kind != "f":
        return
    largest = 0.0
    for piece in backend.pieces(array):
        here = float(backend.largest_magnitude(piece))
        if not here <= LARGEST:
            break
        largest = max(largest, here)
    else:
        if largest >= SMALLEST or not largest:
            return
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
