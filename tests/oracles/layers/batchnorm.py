"""Batch normalisation. Source: Ioffe & Szegedy (2015); modified: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import pixels

EXAMPLES = [((2, 3, 2), {"momentum": 0.3, "epsilon": 0.01}), ((5,), {"modified": True})]


def output(x, arrays, **parameters):
    """x (…, C) by the running mean and variance."""
    return batch_norm(x, arrays["mean"], arrays["variance"], training=False, **parameters)[0]


def batch_norm(x, mean, variance, *, training, modified=False, momentum=0.1, epsilon=1e-5):
    """Batch normalisation without scale and shift of x (…, C), given the running mean and variance (C,).

    training: by the batch's mean and biased variance; the running mean and the running variance (which takes the
    unbiased one) move by momentum. Else by the running ones. A batch of a single number a channel counts as not
    training. modified: times √((v_c + epsilon) / (mean_c v + epsilon)), v the running variance after the update.

    Returns (out, mean, variance), the latter two as they are afterwards.
    Source: Ioffe & Szegedy (2015) as PyTorch's BatchNorm2d computes it; modified: FastHebb (Lagani et al. 2022).
    """
    x = pixels(x)
    channels, count = x.shape[-1], x[..., 0].size
    out = np.empty(x.shape)
    means, variances = np.array(mean, np.float64), np.array(variance, np.float64)
    for c in range(channels):
        numbers = x[..., c]
        centre, spread = means[c], variances[c]
        if training and count > 1:
            centre = numbers.sum() / count
            squares = ((numbers - centre) ** 2).sum()
            spread = squares / count
            means[c] = (1 - momentum) * means[c] + momentum * centre
            variances[c] = (1 - momentum) * variances[c] + momentum * squares / (count - 1)
        out[..., c] = (numbers - centre) / np.sqrt(spread + epsilon)
    if modified:
        typical = sum(variances) / channels
        for c in range(channels):
            out[..., c] *= np.sqrt((variances[c] + epsilon) / (typical + epsilon))
    return out, means, variances
