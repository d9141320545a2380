"""Pools. Source: the definition; windows that reach beyond the padded image are left out."""

import numpy as np

from oracles.parts import pair, pixels

EXAMPLES = [
    ((5, 6, 2), {"window": (3, 2), "stride": (1, 3), "padding": (1, 1)}),
    ((4, 3, 2), {"window": 2, "kind": "average"}),
]


def output(x, arrays, window, stride=None, padding=0, kind="max"):
    """The largest, or the mean, of each window of x (n, H, W, C)."""
    return {"max": max_pool, "average": average_pool}[kind](x, window, stride, padding)


def max_pool(images, window, stride=None, padding=0):
    """The largest pixel of each window, channel by channel; padded pixels are never the largest.

    images: (n, H, W, C). window, stride (None: the window), padding: int or (h, w). Returns (n, oh, ow, C).
    Source: the definition; windows that reach beyond the padded image are left out.
    """
    return _pool(images, window, stride, padding, -np.inf, max)


def average_pool(images, window, stride=None, padding=0):
    """The mean of each window, channel by channel; padded pixels count as 0. See max_pool."""
    return _pool(images, window, stride, padding, 0.0, lambda pixels: sum(pixels) / len(pixels))


def _pool(images, window, stride, padding, border, combine):
    images = pixels(images)
    (height, width), (pad_down, pad_right) = pair(window), pair(padding)
    stride_down, stride_right = pair(window if stride is None else stride)
    widths = ((0, 0), (pad_down, pad_down), (pad_right, pad_right), (0, 0))
    padded = np.pad(images, widths, constant_values=border)
    tops = range(0, padded.shape[1] - height + 1, stride_down)
    lefts = range(0, padded.shape[2] - width + 1, stride_right)
    out = np.empty((len(images), len(tops), len(lefts), images.shape[3]))
    for n, i, j, c in np.ndindex(out.shape):
        part = padded[n, tops[i] : tops[i] + height, lefts[j] : lefts[j] + width, c]
        out[n, i, j, c] = combine([float(pixel) for pixel in part.flat])
    return out
