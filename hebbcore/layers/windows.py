"""The windows of a pool."""

from functools import partial
from typing import Any

import numpy as np

from hebbcore.engine import devices, kernels, parallel
from hebbcore.engine.backend import Array
from hebbcore.layers.base import Site, rows_of

KINDS = ("max", "average")


class Windows:
    """Rows and columns of the windows of a pool, on the device."""

    def __init__(self, site: Site, edges: list[tuple[Any, Any]], shares: list[Any]) -> None:
        self._spans = [devices.to_device(np.stack(pair, 1).astype(np.int64), site.device) for pair in edges]
        self._shares = [devices.to_device(share.astype(site.dtype), site.device) for share in shares]

    def pool(self, x: Array, out: Array, kind: str) -> None:
        """out (n, oh, ow, C) ← the windows of x (n, H, W, C)."""
        kernel = kernels.for_array(x).pool
        parts = parallel.cuts(len(x), parallel.threads() if parallel.worth_splitting(x) else 1)
        parallel.run(
            [
                partial(kernel, rows_of(out[i:j]), x[i:j], *self._spans, kind == "average", *self._shares)
                for i, j in parts
            ],
            blas=False,
        )
