"""A stand-in for cupyx."""

import contextlib

from cupy._linalg import told


@contextlib.contextmanager
def errstate(linalg):
    assert linalg == "raise"
    told.append(linalg)
    try:
        yield
    finally:
        told.pop()
