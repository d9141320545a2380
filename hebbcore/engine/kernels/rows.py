"""What a row program is written in, and how it is declared: once, for both devices.

A row program is a function over the rows of its first argument. Its body stands in programs/, decorated by `program`;
the annotations of its parameters are all that cpu.py, cuda.py and the tests need to know of it:

    @program
    def add_scaled(target: Matrix, factors: PerRow, source: Matrix):
        for n in own_rows(target.shape[0]):
            ...
            for d in entries(row.size):

A row is shared by lanes: one on the CPU, the threads of a block on CUDA. A body visits the rows and the entries that
its lane has to (`own_rows`, `entries`), and combines what the lanes found by `highest`, `total` and `leader`. These
words, and exp, log, larger and lowest of elementary.py, are here what they mean on the CPU; cuda.py replaces them by
its own. So no body takes an index of a row or a lane, or memory through which lanes meet.

The oracle of a program is the function of its name in tests/oracles/kernels.py; the tests find both.

Constants are float32 numbers that float32 holds exactly: they promote float32 to nothing and float64 to float64.
"""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numba.extending import register_jitable

# What an argument is. Floating ones have the dtype of the first, whose shape (N, K) is that of the rows.
Matrix = Annotated[Any, "matrix"]  # (N, …)
PerRow = Annotated[Any, "per row"]  # (N,)
PerColumn = Annotated[Any, "per column"]  # (K,)
Sums = Annotated[Any, "sums"]  # (cells, K), to be added to: `cells` of a device's module says how many it must have
Number = Annotated[Any, "number"]  # a launch on CUDA casts it: comparing float32 with an int goes by float64
Whole = Annotated[Any, "whole"]  # int64
Flag = Annotated[Any, "flag"]
Images = Annotated[Any, "images"]  # (n, H, W, C)
Edges = Annotated[Any, "edges"]  # int64 (count,)
Spans = Annotated[Any, "spans"]  # int64 (count, 2): the first, and the one behind the last
Places = Annotated[Any, "places"]  # int64 (count, N)
Chosen = Annotated[Any, "chosen"]  # int64 (N,)
Shares = Annotated[Any, "shares"]  # (count,)
Masks = Annotated[Any, "masks"]  # uint8 (count, K), 0 or 1

ZERO, HALF, ONE, INFINITY = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(np.inf)
TINY = np.float32(2.0**-120)
# Smaller shares of a competition are 0, SHARE of the row's largest, ROOT where they are squared: no sum would notice
# them, in float64 either, but products with numbers that are too small to be normal take up to 100 times as long.
FAINT_SHARE, FAINT_ROOT = np.float32(2.0**-80), np.float32(2.0**-55)

PROGRAMS: dict[str, Callable[..., None]] = {}  # by name; whole when taken from programs, which declares them


def program(body: Callable[..., None]) -> Callable[..., None]:
    """Declare a row program: both devices' modules have a kernel of its name and parameters."""
    PROGRAMS[body.__name__] = body
    return body


def kinds(name: str) -> dict[str, str]:
    """Return what each argument of a program is, by parameter."""
    return {parameter: kind.__metadata__[0] for parameter, kind in PROGRAMS[name].__annotations__.items()}


@register_jitable(inline="always")
def own_rows(count):
    """Return the rows, of so many, that are this block's."""
    return range(count)


@register_jitable(inline="always")
def own_cell():
    """Return the row of the sums that is this block's (CUDA: one a block, so that sums are deterministic)."""
    return 0


@register_jitable(inline="always")
def own_cells(cells):
    """Return those rows of the sums that are this block's, for programs that add to several on the CPU."""
    return range(cells)


@register_jitable(inline="always")
def rows_of_cell(cell, cells, count):
    """Return the rows, of so many, whose sums go to a cell."""
    return range(cell * count // cells, (cell + 1) * count // cells)


@register_jitable(inline="always")
def entries(size):
    """Return the entries of a row that are this lane's: all of them on the CPU, a plain range for SIMD."""
    return range(size)


@register_jitable(inline="always")
def highest(value):
    """Return the largest value that a lane of the row has."""
    return value


@register_jitable(inline="always")
def total(value):
    """Return the sum of the lanes' values."""
    return value


@register_jitable(inline="always")
def leader(value, index, none):
    """Return the largest value, and its index, the lowest one of equals; index `none`: the lane has none."""
    return value, index
