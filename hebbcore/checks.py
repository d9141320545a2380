"""Checks of arguments at the public edge, with one wording: function, what was expected, what came, what to do."""

import contextlib
import difflib
import math
import numbers
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

E = TypeVar("E", bound=Exception)

_MOST = 2**128  # seeds may be that long
_MOST_PIXELS = 2**31 - 1  # of a side: kernels count in 64 bits, and multiply them
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class About(NamedTuple):
    """What an error is about, kept beside its text so that nobody has to read it out of there.

    Parameters
    ----------
    argument : str or None
        The name of what is wrong; None if it is more than one thing.
    problem : str
        What the text says after the name; empty if it does not begin with the name.
    text : str
        The message without the function.
    """

    argument: str | None
    problem: str
    text: str


def wrong(kind: type[E], function: str, argument: str | None, problem: str = "", *, text: str | None = None) -> E:
    """Return an error "function: argument problem" that knows what it is about, so that a configuration names its key.

    Parameters
    ----------
    kind : type
        The built-in type of the error.
    function : str
        The function that the message names.
    argument : str or None
        The argument that is wrong; None if it is more than one.
    problem : str
        What is wrong, as in "must be at least 1, got 0.".
    text : str, optional
        What follows the function, where that is not the argument and its problem.

    Returns
    -------
    Exception
        The error, to be raised.
    """
    if text is None:
        text = problem if argument is None else f"{argument} {problem}"
    error = kind(f"{function}: {text}")
    vars(error)["about"] = About(argument, problem, text)
    return error


def about(error: Exception) -> About:
    """Return what an error is about; if it was not made by `wrong`, only its text is known."""
    found = vars(error).get("about")
    return found if isinstance(found, About) else About(None, str(error), str(error))


def again(error: Exception, text: str) -> TypeError | ValueError:
    """Return an error of the same built-in kind with another text."""
    return TypeError(text) if isinstance(error, TypeError) else ValueError(text)


def integer(function: str, name: str, value: Any, minimum: int) -> int:
    """Return value as an int of at least minimum."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise wrong(TypeError, function, name, f"must be an integer, got {value!r}.")
    if int(value) > _MOST:
        raise wrong(ValueError, function, name, "must be at most 2**128, got more.")
    if value < minimum:
        raise wrong(ValueError, function, name, f"must be at least {minimum}, got {value}.")
    return int(value)


def positive(function: str, name: str, value: Any, maximum: float = math.inf) -> float:
    """Return value as a finite float above zero and at most maximum."""
    number = real(function, name, value, maximum=maximum)
    if number <= 0:
        raise wrong(ValueError, function, name, f"must be above 0, got {value}.")
    return number


def real(function: str, name: str, value: Any, minimum: float = -math.inf, maximum: float = math.inf) -> float:
    """Return value as a finite float of at least minimum and at most maximum."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise wrong(TypeError, function, name, f"must be a number, got {value!r}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise wrong(ValueError, function, name, f"must be finite, got {number}.")
    if number < minimum:
        raise wrong(ValueError, function, name, f"must be at least {minimum}, got {value}.")
    if number > maximum:
        raise wrong(ValueError, function, name, f"must be at most {maximum:g}, got {value}.")
    return number


def boolean(function: str, name: str, value: Any) -> bool:
    """Return value, Python's or NumPy's, as a bool."""
    if not isinstance(value, bool | np.bool_):
        raise wrong(TypeError, function, name, f"must be true or false, got {value!r}.")
    return bool(value)


def callback(function: str, name: str, value: Any) -> None:
    """Raise TypeError for what cannot be called and is not None, such as progress=True where lines are told."""
    if value is not None and not callable(value):
        raise wrong(TypeError, function, name, f"must be a function that is called, or None, got {value!r}.")


def text(function: str, name: str, value: Any) -> str:
    """Return value if it is a string with something in it."""
    if not isinstance(value, str):
        raise wrong(TypeError, function, name, f"must be text, got {value!r}.")
    if not value:
        raise wrong(ValueError, function, name, "must not be empty.")
    return value


def sequence(value: Any) -> list[Any] | None:
    """Return what a sequence or an array (n,) of any library holds; None for text and all else, such as a set."""
    if isinstance(value, Sequence):
        return None if isinstance(value, str | bytes) else list(value)
    return list(value.tolist()) if getattr(value, "ndim", None) == 1 else None


def pair(function: str, name: str, value: Any, minimum: int) -> tuple[int, int]:
    """Return an int or a (height, width) pair as a pair of ints of at least minimum."""
    values = sequence(value)
    if values is None:
        values = [value, value]
    if len(values) != 2:
        raise wrong(ValueError, function, name, f"must be one integer or a (height, width) pair, got {value!r}.")
    height, width = (integer(function, name, side, minimum) for side in values)
    if max(height, width) > _MOST_PIXELS:
        raise wrong(ValueError, function, name, f"must be at most {_MOST_PIXELS}, got {max(height, width)}.")
    return height, width


def channels_last(function: str, name: str, shape: Sequence[int]) -> None:
    """Raise ValueError for a shape (…, height, width, channels) that looks like (…, channels, height, width).

    loaders.sources has the same rule. Feature maps such as (n, 3, 3, 512) and vectors (n, 1, 1, D) pass.
    """
    if len(shape) < 3:
        return
    channels, height, width = shape[-3:]
    low, high = sorted((height, width))
    alike = low == high if channels == 1 else high <= 4 * low
    if channels in (1, 3) and width not in (1, 3, 4) and low > 4 and alike:
        problem = (
            f"{tuple(shape)} looks like channels first; images are (n, height, width, channels), and "
            f"np.moveaxis(images, 1, -1) turns them. Images that really are {channels} pixels high with {width} "
            "channels can be laid on their side: np.swapaxes(images, 1, 2)."
        )
        raise wrong(ValueError, function, name, problem)


def choice(function: str, name: str, value: Any, known: Iterable[str]) -> str:
    """Return value if it is one of the known words."""
    known = list(known)
    if isinstance(value, str) and value in known:
        return value
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise wrong(ValueError, function, name, f"must be one of {', '.join(map(repr, known))}; got {value!r}.{hint}")


def byte_size(function: str, name: str, value: Any) -> int:
    """Return an amount of memory, as bytes or as text like "256 MiB", in bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        if match is None or match[2].lower() not in _UNITS:
            raise wrong(ValueError, function, name, f'must be bytes or text like "256 MiB" or "2 GB", got {value!r}.')
        value = round(float(match[1]) * _UNITS[match[2].lower()])
    return integer(function, name, value, 1)


@contextlib.contextmanager
def needing(function: str, package: str, install: str) -> Iterator[None]:
    """Import in the block what only some functions need: a package that is missing is then named with what to install.

    Raises ModuleNotFoundError; one of another package, of one that is broken, stays as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        problem = f"{function} needs the package {package}: pip install {install}."
        raise ModuleNotFoundError(problem, name=package) from None


def printable(text: str) -> str:
    """Return text, line by line, with escapes in place of what a terminal would act on, hide, or show elsewhere."""

    def shown(character: str) -> str:
        return character if character.isprintable() or character == "\n" else ascii(character)[1:-1]

    return text if text.isprintable() else "".join(map(shown, text))


def byte_text(size: float) -> str:
    """Write a number of bytes as text that byte_size reads back, rounded up."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{math.ceil(size / factor * 10) / 10:g} {unit}"
    return f"{math.ceil(size)} B"
