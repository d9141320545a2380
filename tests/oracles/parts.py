"""What several oracles are made of: patches, competitions, norms. Everything is converted to float64.

Arrays: X (N, D) patches, one a row; W (K, D) units, one a row.
"""

import numpy as np


def patches(images, kernel_size, stride=1, padding=0, padding_mode="zeros"):
    """Cut images into the patches a convolution sees, one a row.

    images: (n, H, W, C); uint8 is divided by 255.
    kernel_size, stride, padding: int or (h, w); padding goes on both sides.
    padding_mode: "zeros", "reflect" (the edge pixel is not repeated, as numpy.pad does it) or "edge" (it is repeated).

    Returns (n·oh·ow, kh·kw·C), rows ordered (image, row, column), columns (kh, kw, C).
    Source: the definition of a convolution, without flipping the kernel.
    """
    images = pixels(images)
    kernel_height, kernel_width = pair(kernel_size)
    stride_down, stride_right = pair(stride)
    pad_down, pad_right = pair(padding)
    if padding_mode not in ("zeros", "reflect", "edge"):
        raise ValueError(f"patches: padding_mode must be 'zeros', 'reflect' or 'edge', got {padding_mode!r}.")
    widths = ((0, 0), (pad_down, pad_down), (pad_right, pad_right), (0, 0))
    padded = np.pad(images, widths, mode="constant" if padding_mode == "zeros" else padding_mode)

    rows = []
    for image in padded:
        height, width, _ = image.shape
        for top in range(0, height - kernel_height + 1, stride_down):
            for left in range(0, width - kernel_width + 1, stride_right):
                rows.append(image[top : top + kernel_height, left : left + kernel_width].flatten())
    return np.array(rows)


def sides(images, kernel_size, stride=1, padding=0):
    """How many places a kernel takes down and right: (oh, ow). Source: the definition of a convolution."""
    each = zip(np.shape(images)[1:3], pair(kernel_size), pair(stride), pair(padding), strict=True)
    return tuple((side + 2 * pad - kernel) // step + 1 for side, kernel, step, pad in each)


def pair(size):
    return (size, size) if np.ndim(size) == 0 else tuple(size)


def pixels(images):
    images = np.asarray(images)
    return images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)


def softmax_wta(scores, temperature):
    """Share each row's activity by exp(score / temperature); every row sums to 1.

    Source: soft-WTA of FastHebb (Lagani et al. 2022) and SoftHebb (Journé et al. 2023). The row maximum is
    subtracted first, which changes nothing but the overflow.
    """
    scores = np.asarray(scores, dtype=np.float64)
    shares = np.empty_like(scores)
    for n, row in enumerate(scores):
        powers = np.exp((row - row.max()) / temperature)
        shares[n] = powers / powers.sum()
    return shares


def power_wta(scores, temperature):
    """Share each row's activity by score^(1 / temperature), scores ≥ 0; a row of zeros shares nothing.

    Source: the power variant of FastHebb's soft-WTA (Lagani et al. 2022). The row is divided by its maximum first,
    which changes nothing but the underflow.
    """
    scores = np.asarray(scores, dtype=np.float64)
    shares = np.zeros_like(scores)
    for n, row in enumerate(scores):
        if row.max() > 0:
            powers = (row / row.max()) ** (1 / temperature)
            shares[n] = powers / powers.sum()
    return shares


def k_wta(scores, k):
    """1 where a score reaches its row's k-th largest, else 0; all that tie with the k-th largest win.

    Source: k-WTA of FastHebb (Lagani et al. 2022).
    """
    scores = np.asarray(scores, dtype=np.float64)
    winners = np.zeros_like(scores)
    for n, row in enumerate(scores):
        kth_largest = sorted(row, reverse=True)[k - 1]
        winners[n] = row >= kth_largest
    return winners


def argmax_wta(scores):
    """1 at each row's largest score, else 0; of equal scores the lowest index wins.

    Source: hard WTA, as in SoftHebb (Journé et al. 2023).
    """
    scores = np.asarray(scores, dtype=np.float64)
    winners = np.zeros_like(scores)
    for n, row in enumerate(scores):
        winners[n, descending(row)[0]] = 1
    return winners


def descending(row):
    """The indices of a row from its largest entry to its smallest, equal entries by index."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def dots(x, W):
    """x·w of every unit. Not BLAS: equal units must score equally to the last bit, so that ties are ties."""
    return (W * x).sum(axis=1)


def norms_or_1(rows):
    norms = np.sqrt((rows**2).sum(axis=1))
    norms[norms == 0] = 1
    return norms


def delta_gated(X, W, U, gate):
    """Δw_i = Σ_n g_ni (x_n − u_ni w_i), before it is divided by the layer's largest entry."""
    N, K = U.shape
    change = np.zeros_like(W)
    for n in range(N):
        for i in range(K):
            change[i] += gate[n, i] * (X[n] - U[n, i] * W[i])
    return change


def p_scores(X, W, p):
    """u = x · sign(w)|w|^(p−1), (N, K). Source: Krotov & Hopfield 2019."""
    X, W = np.asarray(X, np.float64), np.asarray(W, np.float64)
    return np.array([dots(x, np.sign(W) * np.abs(W) ** (p - 1)) for x in X])


def cosines(X, W):
    """cos(x, w), (N, K); zero norms replaced by 1."""
    X, W = np.asarray(X, np.float64), np.asarray(W, np.float64)
    return np.array([dots(x, W) / (norms_or_1(x[None]) * norms_or_1(W)) for x in X])


def projections(X, W):
    """x·w / ‖w‖, (N, K); zero norms replaced by 1."""
    X, W = np.asarray(X, np.float64), np.asarray(W, np.float64)
    return np.array([dots(x, W) / norms_or_1(W) for x in X])


def norm_rates(W, learning_rate, p, adaptive_power):
    """The rate of each unit (K,): learning_rate · (|‖w‖_p − 1| + 1e-10)^adaptive_power; None: constant.

    Source: the weight-norm-dependent rate of SoftHebb (Journé et al. 2023).
    """
    if adaptive_power is None:
        return learning_rate
    rates = []
    for w in np.asarray(W, np.float64):
        norm = (np.abs(w) ** p).sum() ** (1 / p)
        rates.append(learning_rate * (abs(norm - 1) + 1e-10) ** adaptive_power)
    return np.array(rates)


def adaptive_statistics(S, state=None):
    """The running mean and variance of scores S (N, K) after a batch: a tenth of its own, the variance unbiased.

    state: from before it; None: 0 and 1. A batch of one row leaves it.
    Source: FastHebb's program (Lagani et al. 2022).
    """
    K = S.shape[1]
    state = {"mean": np.zeros(K), "variance": np.ones(K)} if state is None else state
    if len(S) == 1:
        return state
    return {
        "mean": 0.9 * state["mean"] + 0.1 * S.mean(axis=0),
        "variance": 0.9 * state["variance"] + 0.1 * S.var(axis=0, ddof=1),
    }


def adaptive_tanh(S, state=None):
    """σ tanh((s − μ) / σ + μ), σ² = variance + 1e-5; state None: mean 0 and variance 1. Source: as before."""
    mean, variance = (0.0, 1.0) if state is None else (state["mean"], state["variance"])
    std = np.sqrt(variance + 1e-5)
    return std * np.tanh((S - mean) / std + mean)
