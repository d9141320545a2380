"""cupy.linalg."""

from types import SimpleNamespace

import numpy as np
import scipy.linalg

from ._array import on_device

told = []  # by cupyx.errstate: whoever wants to know of a matrix without a factor


def _cholesky(a):
    """Return garbage, as CuPy does, for what has no factor, unless a caller of errstate wants to know."""
    factor, info = scipy.linalg.get_lapack_funcs("potrf", (a,))(a, lower=1)
    if info and told:
        raise np.linalg.LinAlgError("Error reported by potrf in cuSOLVER")
    return factor


linalg = SimpleNamespace(
    LinAlgError=np.linalg.LinAlgError,
    cholesky=lambda a: on_device(_cholesky, (a,), {}),
    eigh=lambda a, UPLO="L": on_device(np.linalg.eigh, (a,), {"UPLO": UPLO}),
    norm=lambda x, ord=None, axis=None, keepdims=False: on_device(np.linalg.norm, (x, ord, axis, keepdims), {}),
    qr=lambda a, mode="reduced": on_device(np.linalg.qr, (a, mode), {}),
)
