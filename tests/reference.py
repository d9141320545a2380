"""The slow float64 oracle of every learning rule: plain loops over samples and units, NumPy only.

It shares no code with hebbcore on purpose. Each rule is written as its per-unit, per-sample formula, so that a
merged matrix identity, a chunked sum or a kernel can be checked against something a reader can check by eye.

Arrays: X (N, D) patches, one a row; W (K, D) units, one a row; everything is converted to float64.

Sources: FastHebb, Lagani et al. 2022 (hpca, swta, kwta); SoftHebb, Journé et al. 2023 (softhebb, hardwta);
Krotov & Hopfield 2019 (krotov); Oja 1982 for the winner alone (signedwta).
"""

import numpy as np

# Every function takes all the parameters of a rule, also those it has no use for, so that a test can pass the same
# ones everywhere.
DEFAULTS = {
    "hpca": {"activation": "relu"},
    "swta": {"temperature": 0.02, "competition": "exp"},
    "kwta": {"k": 1},
    "signedwta": {},
    "softhebb": {"temperature": 1.0, "p": 2, "anti_hebbian": True, "adaptive_power": 0.5},
    "hardwta": {"p": 2},
    "krotov": {"p": 2, "rank": 2, "strength": 0.4},
}


# Patches


def patches(images, kernel_size, stride=1, padding=0, padding_mode="zeros"):
    """Cut images into the patches a convolution sees, one a row.

    images: (n, H, W, C); uint8 is divided by 255.
    kernel_size, stride, padding: int or (h, w); padding goes on both sides.
    padding_mode: "zeros" or "reflect" (the edge pixel is not repeated, as numpy.pad does it).

    Returns (n·oh·ow, kh·kw·C), rows ordered (image, row, column), columns (kh, kw, C).
    Source: the definition of a convolution, without flipping the kernel.
    """
    images = _pixels(images)
    kernel_height, kernel_width = _pair(kernel_size)
    stride_down, stride_right = _pair(stride)
    pad_down, pad_right = _pair(padding)
    if padding_mode not in ("zeros", "reflect"):
        raise ValueError(f"patches: padding_mode must be 'zeros' or 'reflect', got {padding_mode!r}.")
    widths = ((0, 0), (pad_down, pad_down), (pad_right, pad_right), (0, 0))
    padded = np.pad(images, widths, mode="reflect" if padding_mode == "reflect" else "constant")

    rows = []
    for image in padded:
        height, width, _ = image.shape
        for top in range(0, height - kernel_height + 1, stride_down):
            for left in range(0, width - kernel_width + 1, stride_right):
                rows.append(image[top : top + kernel_height, left : left + kernel_width].flatten())
    return np.array(rows)


def _pair(size):
    return (size, size) if np.ndim(size) == 0 else tuple(size)


def _pixels(images):
    images = np.asarray(images)
    return images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)


# Competitions


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
        winners[n, _descending(row)[0]] = 1
    return winners


def _descending(row):
    """The indices of a row from its largest entry to its smallest, equal entries by index."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


# What a layer computes


def scores(X, W, rule, **params):
    """The (N, K) responses that a rule competes with.

    hpca: y = activation(x·w). swta, kwta: y = ((cos(x, w) + 1) / 2)², zero norms replaced by 1.
    signedwta: y = x·w / ‖w‖. softhebb, hardwta, krotov: u = x · sign(w)|w|^(p−1).
    Source: FastHebb (Lagani et al. 2022); SoftHebb (Journé et al. 2023); Krotov & Hopfield 2019.
    """
    X, W, settings = _arguments(X, W, rule, params)
    responses = np.empty((len(X), len(W)))
    for n, x in enumerate(X):
        if rule == "hpca":
            responses[n] = _activate(_dots(x, W), settings["activation"])
        elif rule in ("swta", "kwta"):
            cosines = _dots(x, W) / (_norms_or_1(x[None]) * _norms_or_1(W))
            responses[n] = ((cosines + 1) / 2) ** 2
        elif rule == "signedwta":
            responses[n] = _dots(x, W) / _norms_or_1(W)
        else:
            responses[n] = _dots(x, np.sign(W) * np.abs(W) ** (settings["p"] - 1))
    return responses


def output(X, W, rule, **params):
    """The (N, K) output of a layer, as the next layer receives it.

    hpca, signedwta: y. swta, kwta: relu(x·w / ‖w‖), a zero norm replaced by 1. softhebb, hardwta, krotov: u.
    Source: FastHebb (Lagani et al. 2022); SoftHebb (Journé et al. 2023), before its Triangle; Krotov & Hopfield 2019.
    """
    if rule not in ("swta", "kwta"):
        return scores(X, W, rule, **params)
    X, W, _ = _arguments(X, W, rule, params)
    responses = np.empty((len(X), len(W)))
    for n, x in enumerate(X):
        responses[n] = np.maximum(_dots(x, W) / _norms_or_1(W), 0)
    return responses


def _arguments(X, W, rule, params):
    if rule not in DEFAULTS:
        raise ValueError(f"reference: rule must be one of {sorted(DEFAULTS)}, got {rule!r}.")
    unknown = set(params) - set(DEFAULTS[rule])
    if unknown:
        raise TypeError(f"reference: {rule} has no parameter {sorted(unknown)}.")
    return np.asarray(X, dtype=np.float64), np.asarray(W, dtype=np.float64), DEFAULTS[rule] | params


def _dots(x, W):
    """x·w of every unit. Not BLAS: equal units must score equally to the last bit, so that ties are ties."""
    return (W * x).sum(axis=1)


def _activate(values, activation):
    if activation == "relu":
        return np.maximum(values, 0)
    if activation == "tanh":
        return np.tanh(values)
    if activation == "identity":
        return values
    raise ValueError(f"reference: activation must be 'relu', 'tanh' or 'identity', got {activation!r}.")


def _norms_or_1(rows):
    norms = np.sqrt((rows**2).sum(axis=1))
    norms[norms == 0] = 1
    return norms


# What a layer learns


def delta(X, W, rule, **params):
    """ΔW (K, D) of one batch of patches, before the learning rate.

    X: (N, D). W: (K, D). rule: a key of DEFAULTS, which also names its parameters.
    softhebb's temperature is 1/t of the paper's softmax(t·u).

    Source: FastHebb (Lagani et al. 2022) for hpca, swta, kwta; SoftHebb (Journé et al. 2023) for softhebb, hardwta;
    Krotov & Hopfield 2019 for krotov.
    """
    X, W, settings = _arguments(X, W, rule, params)
    responses = scores(X, W, rule, **params)
    if rule == "hpca":
        return _delta_hpca(X, W, responses)
    if rule == "swta":
        return _delta_swta(X, W, responses, settings["temperature"], settings["competition"])
    if rule == "kwta":
        return _delta_kwta(X, W, responses, settings["k"])
    if rule == "signedwta":
        return _delta_signed_wta(X, W, responses)

    if rule == "softhebb":
        gate = _gate_softhebb(responses, settings["temperature"], settings["anti_hebbian"])
    elif rule == "hardwta":
        gate = argmax_wta(responses)
    else:
        gate = _gate_krotov(responses, settings["rank"], settings["strength"])
    change = _delta_gated(X, W, responses, gate)
    largest = np.abs(change).max()
    return change / max(largest, 1e-30) if rule == "krotov" else change / (largest + 1e-30)


def _delta_hpca(X, W, Y):
    """Δw_i = (1/N) Σ_n y_ni (x_n − Σ_{k≤i} y_nk w_k)."""
    N, K = Y.shape
    change = np.zeros_like(W)
    for n in range(N):
        reconstruction = np.zeros_like(X[n])
        for i in range(K):
            reconstruction += Y[n, i] * W[i]
            change[i] += Y[n, i] * (X[n] - reconstruction)
    return change / N


def _delta_swta(X, W, Y, temperature, competition):
    """Δw_i = Σ_n (z_ni / Σ_m z_mi) z_ni (x_n − w_i): a mean weighted by z of steps gated by z."""
    if competition not in ("exp", "power"):
        raise ValueError(f"reference: competition must be 'exp' or 'power', got {competition!r}.")
    Z = softmax_wta(Y, temperature) if competition == "exp" else power_wta(Y, temperature)
    N, K = Z.shape
    change = np.zeros_like(W)
    for i in range(K):
        total = Z[:, i].sum()
        if total == 0:
            continue
        for n in range(N):
            change[i] += Z[n, i] / total * Z[n, i] * (X[n] - W[i])
    return change


def _delta_kwta(X, W, Y, k):
    """Δw_i = (mean of the patches that unit i won) − w_i; 0 for a unit that won none."""
    winners = k_wta(Y, k)
    change = np.zeros_like(W)
    for i in range(len(W)):
        won = [x for x, wins in zip(X, winners[:, i], strict=True) if wins == 1]
        if won:
            change[i] = sum(won) / len(won) - W[i]
    return change


def _delta_signed_wta(X, W, Y):
    """Δw_i = Σ y (x − y w_i) / Σ y² over the patches whose largest |y| is unit i's; 0 for a unit that won none."""
    winners = argmax_wta(np.abs(Y))
    change = np.zeros_like(W)
    for i in range(len(W)):
        won = [n for n in range(len(X)) if winners[n, i] == 1]
        total = sum(Y[n, i] ** 2 for n in won)
        if total > 0:
            change[i] = sum(Y[n, i] * (X[n] - Y[n, i] * W[i]) for n in won) / total
    return change


def _gate_softhebb(U, temperature, anti_hebbian):
    """The softmax's shares; anti-Hebbian: every unit of a row but the winner counts negatively."""
    gate = softmax_wta(U, temperature)
    if anti_hebbian:
        for n, row in enumerate(U):
            for loser in _descending(row)[1:]:
                gate[n, loser] = -gate[n, loser]
    return gate


def _gate_krotov(U, rank, strength):
    """1 for the largest u of a row, −strength for the rank-th largest; with fewer units than rank nobody is."""
    if rank < 2:
        raise ValueError(f"reference: rank must be at least 2, the second largest, got {rank}.")
    gate = np.zeros_like(U)
    for n, row in enumerate(U):
        order = _descending(row)
        gate[n, order[0]] = 1
        if rank <= len(order):
            gate[n, order[rank - 1]] = -strength
    return gate


def _delta_gated(X, W, U, gate):
    """Δw_i = Σ_n g_ni (x_n − u_ni w_i), before it is divided by the layer's largest entry."""
    N, K = U.shape
    change = np.zeros_like(W)
    for n in range(N):
        for i in range(K):
            change[i] += gate[n, i] * (X[n] - U[n, i] * W[i])
    return change


def weight_update(images, weights, rule, *, stride=1, padding=0, padding_mode="zeros", **params):
    """ΔW of one batch of images in the shape of weights, before the learning rate.

    images: (n, H, W, C) with weights (K, kh, kw, C), or (n, D) with weights (K, D), where stride and padding mean
    nothing; uint8 is divided by 255.
    Source: as delta; a convolution learns from all its patches as if they were samples.
    """
    weights = np.asarray(weights, dtype=np.float64)
    is_dense = weights.ndim == 2
    X = _pixels(images) if is_dense else patches(images, weights.shape[1:3], stride, padding, padding_mode)
    W = weights.reshape(len(weights), -1)
    return delta(X, W, rule, **params).reshape(weights.shape)


def rates(W, rule, learning_rate, **params):
    """The learning rate of a step: per unit (K,) for softhebb with an adaptive_power, else learning_rate itself.

    W: (K, D) or (K, kh, kw, C), from before the step. The rate of unit i is
    learning_rate · (|‖w_i‖_p − 1| + 1e-10)^adaptive_power.
    Source: the weight-norm-dependent rate of SoftHebb (Journé et al. 2023).
    """
    _, W, settings = _arguments((), W, rule, params)
    if settings.get("adaptive_power") is None:
        return learning_rate
    p = settings["p"]
    per_unit = []
    for w in W:
        norm = (np.abs(w) ** p).sum() ** (1 / p)
        per_unit.append(learning_rate * (abs(norm - 1) + 1e-10) ** settings["adaptive_power"])
    return np.array(per_unit)


def step(images, weights, rule, learning_rate, *, stride=1, padding=0, padding_mode="zeros", **params):
    """The weights after one batch: w_i + rate_i · Δw_i, the rate taken at the weights from before the step.

    Source: as delta and rates.
    """
    weights = np.asarray(weights, dtype=np.float64)
    change = weight_update(images, weights, rule, stride=stride, padding=padding, padding_mode=padding_mode, **params)
    rate = np.broadcast_to(rates(weights, rule, learning_rate, **params), len(weights))
    return np.array([w + r * dw for w, r, dw in zip(weights, rate, change, strict=True)])


# Layers around the rules


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
    images = _pixels(images)
    (height, width), (pad_down, pad_right) = _pair(window), _pair(padding)
    stride_down, stride_right = _pair(window if stride is None else stride)
    widths = ((0, 0), (pad_down, pad_down), (pad_right, pad_right), (0, 0))
    padded = np.pad(images, widths, constant_values=border)
    tops = range(0, padded.shape[1] - height + 1, stride_down)
    lefts = range(0, padded.shape[2] - width + 1, stride_right)
    out = np.empty((len(images), len(tops), len(lefts), images.shape[3]))
    for n, i, j, c in np.ndindex(out.shape):
        pixels = padded[n, tops[i] : tops[i] + height, lefts[j] : lefts[j] + width, c]
        out[n, i, j, c] = combine([float(pixel) for pixel in pixels.flat])
    return out


def batch_norm(x, mean, variance, *, training, modified=False, momentum=0.1, epsilon=1e-5):
    """Batch normalisation without scale and shift of x (…, C), given the running mean and variance (C,).

    training: by the batch's mean and biased variance; the running mean and the running variance (which takes the
    unbiased one) move by momentum. Else by the running ones. A batch of a single number a channel counts as not
    training. modified: times √((v_c + epsilon) / (mean_c v + epsilon)), v the running variance after the update.

    Returns (out, mean, variance), the latter two as they are afterwards.
    Source: Ioffe & Szegedy (2015) as PyTorch's BatchNorm2d computes it; modified: FastHebb (Lagani et al. 2022).
    """
    x = _pixels(x)
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


def triangle(u, power=1.0):
    """relu(u − mean of u over the channels)^power of u (…, C).

    Source: Coates, Ng & Lee (AISTATS 2011); with a power: SoftHebb (Journé et al. 2023).
    """
    u = np.asarray(u, dtype=np.float64)
    out = np.zeros(u.shape)
    for place in np.ndindex(u.shape[:-1]):
        mean = sum(u[place]) / u.shape[-1]
        for c, value in enumerate(u[place]):
            if value > mean:
                out[(*place, c)] = (value - mean) ** power
    return out


def contrast_normalised(X, floor):
    """Each patch minus its mean, over √(its biased variance + floor); 0 where that is 0.

    Source: Coates, Ng & Lee (AISTATS 2011).
    """
    out = np.zeros(np.shape(X))
    for n, x in enumerate(np.asarray(X, dtype=np.float64)):
        centred = x - sum(x) / len(x)
        deviation = np.sqrt(sum(centred**2) / len(x) + floor)
        if deviation > 0:
            out[n] = centred / deviation
    return out


def zca(X, epsilon):
    """The mean (D,) of X (N, D) and U diag((s + epsilon)^−½) Uᵀ (D, D), where U diag(s) Uᵀ is X's covariance (over N).

    By the singular values of the centred patches, so no covariance is formed.
    Source: Coates, Ng & Lee (AISTATS 2011).
    """
    X = np.asarray(X, dtype=np.float64)
    mean = X.mean(axis=0)
    _, singular, directions = np.linalg.svd(X - mean, full_matrices=True)
    matrix = np.zeros((X.shape[1], X.shape[1]))
    for i, direction in enumerate(directions):
        s = singular[i] ** 2 / len(X) if i < len(singular) else 0.0
        matrix += np.outer(direction, direction) / np.sqrt(s + epsilon)
    return mean, matrix
