"""The slow float64 oracle of every row kernel: a function of its name and parameters, of NumPy alone.

It returns what arrays hold afterwards, by parameter; those that it leaves out stay as they are, and of sums it returns
the total over the cells. `examples` says which arguments the tests try besides arrays of the shapes that the
declaration names.
"""

import numpy as np
import reference


def examples(**values):
    """Return a decorator; values: of a parameter, a list to try, or a function of (rows, columns) that makes one."""

    def mark(oracle):
        oracle.examples = values
        return oracle

    return mark


def _share(rows, columns):
    return 1 / columns


def _no_winners(rows, columns):
    return np.zeros(rows, np.int64)


@examples(sharpness=[1.0, 50.0])
def softmax(scores, sharpness):
    """softmax(sharpness · scores)."""
    return {"scores": reference.softmax_wta(scores, 1 / sharpness)}


@examples(sharpness=[20.0], power=[False, True])
def swta(scores, patch_norms, unit_norms, sharpness, power, mass, decay):
    """Z², Z = softmax(sharpness · Y) or Y^sharpness / Σ, Y = ((cos + 1) / 2)², 0 for a cosine below −1."""
    cosines = np.maximum(scores / patch_norms[:, None] / unit_norms, -1)
    share = reference.power_wta if power else reference.softmax_wta
    z = share(((cosines + 1) / 2) ** 2, 1 / sharpness)
    return {"scores": z**2, "mass": z.sum(axis=0), "decay": (z**2).sum(axis=0)}


@examples(winners=[1])
def kwta(scores, unit_norms, winners, decay):
    """1 where scores / unit_norms reaches the row's winners-th largest, else 0."""
    gate = reference.k_wta(scores / unit_norms, int(winners))
    return {"scores": gate, "decay": gate.sum(axis=0)}


def _masks(rows, columns):
    """Of two positions an image, and of one before the first row: some units, none, and all."""
    masks = np.random.default_rng(3).integers(0, 2, (rows // 2 + 1, columns), np.uint8)
    masks[-1] = 1
    masks[: (rows > 2)] = 0
    return masks


def _of_rows(masks, first, positions, rows):
    return np.array([masks[(first + n) // positions] for n in range(rows)], np.float64)


_TAUGHT = {"masks": _masks, "first": [np.int64(1)], "positions": [np.int64(2)]}


@examples(**_TAUGHT)
def taught(values, masks, first, positions, sums):
    """values where the mask is 1, else 0."""
    kept = values * _of_rows(masks, first, positions, len(values))
    return {"values": kept, "sums": kept.sum(axis=0)}


@examples(**_TAUGHT)
def taught_cosines(scores, unit_norms, masks, first, positions):
    """scores / unit_norms where the mask is 1, else the least of those."""
    cosines, found = scores / unit_norms, _of_rows(masks, first, positions, len(scores))
    for row, mask in zip(cosines, found, strict=True):
        row[mask == 0] = row[mask == 1].min() if mask.any() else 0
    return {"scores": cosines}


@examples(**_TAUGHT)
def taught_similarities(scores, patch_norms, unit_norms, masks, first, positions):
    """((cos + 1) / 2)² where the mask is 1, else −1."""
    y = ((scores / patch_norms[:, None] / unit_norms + 1) / 2) ** 2
    return {"scores": np.where(_of_rows(masks, first, positions, len(scores)) == 1, y, -1)}


@examples(sharpness=[20.0], power=[False, True])
def taught_swta(scores, sharpness, power, mass, decay):
    """Z², Z the shares as in swta of the units whose score is not below 0."""
    z, share = np.zeros_like(scores), reference.power_wta if power else reference.softmax_wta
    for n, row in enumerate(scores):
        if (row >= 0).any():
            z[n, row >= 0] = share(row[None, row >= 0], 1 / sharpness)[0]
    return {"scores": z**2, "mass": z.sum(axis=0), "decay": (z**2).sum(axis=0)}


@examples(sharpness=[2.0], anti=[False, True])
def soft_hebb(scores, sharpness, anti, decay):
    """softmax(sharpness · u), all but the largest u's negated if anti."""
    gate = reference.softmax_wta(scores, 1 / sharpness)
    if anti:
        gate = np.where(reference.argmax_wta(scores) == 1, gate, -gate)
    return {"scores": gate, "decay": (gate * scores).sum(axis=0)}


@examples(rank=[1, 2], strength=[0.4])
def ranked(scores, rank, strength, decay):
    """1 at the largest u of a row, -strength at the rank-th largest (rank 1, or fewer units: nowhere)."""
    gate = reference.argmax_wta(scores)
    for row, order in zip(gate, np.argsort(-scores, axis=1, kind="stable"), strict=True):
        if 1 < rank <= len(row):
            row[order[rank - 1]] = -strength
    return {"scores": gate, "decay": (gate * scores).sum(axis=0)}


def _alone(gate):
    """Return the unit of each row that is not 0; −1 where there are more."""
    return np.where((gate != 0).sum(axis=1) == 1, (gate != 0).argmax(axis=1), -1)


@examples(winners=_no_winners)
def hard_wta(scores, winners, decay):
    """1 at the largest u of a row, else 0."""
    gate = reference.argmax_wta(scores)
    return {"scores": gate, "winners": _alone(gate), "decay": (gate * scores).sum(axis=0)}


@examples(winners=_no_winners)
def cosine_wta(scores, unit_norms, winners, decay):
    """1 where scores / unit_norms is the row's largest, else 0."""
    gate = reference.k_wta(scores / unit_norms, 1)
    return {"scores": gate, "winners": _alone(gate), "decay": gate.sum(axis=0)}


@examples(winners=_no_winners)
def signed_wta(scores, unit_norms, winners, decay):
    """y = scores / unit_norms at the row's largest |y|, else 0."""
    y = scores / unit_norms
    gate = np.where(reference.argmax_wta(np.abs(y)) == 1, y, 0)
    return {"scores": gate, "winners": _alone(gate), "decay": (gate**2).sum(axis=0)}


@examples(winners=_no_winners)
def biased_signed_wta(scores, patch_norms, unit_norms, bias, winners, decay):
    """y = scores / unit_norms at the row's largest |y| + bias · patch_norms, else 0."""
    y = scores / unit_norms
    gate = np.where(reference.argmax_wta(np.abs(y) + patch_norms[:, None] * bias) == 1, y, 0)
    return {"scores": gate, "winners": _alone(gate), "decay": (gate**2).sum(axis=0)}


def _cosines_of_units(rows, columns):
    units = np.random.default_rng(2).normal(size=(columns, 7))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return units @ units.T


@examples(
    overlaps=_cosines_of_units,
    bias=lambda rows, columns: np.linspace(1, 0, columns),
    winners=lambda rows, columns: np.zeros((3, rows), np.int64),
    values=lambda rows, columns: np.zeros((3, rows)),
)
def pursuit(y, norms, overlaps, bias, winners, values, decay):
    """Of each turn the unit of the largest |y| + bias · ‖what is left‖, and its y; what is left of y."""
    left, winners, values = y.copy(), np.zeros_like(winners), np.zeros_like(values)
    sums = np.zeros(y.shape[1])
    for n, row in enumerate(left):
        square = norms[n] ** 2
        for j in range(len(winners)):
            i = int(np.argmax(np.abs(row) + np.sqrt(square) * bias))
            faint = j > 0 and abs(row[i]) < abs(values[0, n]) / 1024
            winners[j, n], values[j, n] = i, 0 if faint else row[i]
            square = max(square - values[j, n] ** 2, 0)
            sums[i] += values[j, n] ** 2
            if j + 1 < len(winners):  # the last winner is taken off no more
                row -= values[j, n] * overlaps[i]
    return {"y": left, "winners": winners, "values": values, "decay": sums}


@examples(
    winners=lambda rows, columns: np.arange(rows) % 3, units=lambda rows, columns: np.ones((3, columns)).cumsum(0)
)
def deflate(patches, winners, factors, units):
    """patches − factors[:, None] · units[winners]."""
    return {"patches": patches - factors[:, None] * units[winners]}


def norms(vectors, out):
    """Euclidean norms, 0 replaced by 1."""
    lengths = np.sqrt((vectors**2).sum(axis=1))
    return {"out": np.where(lengths == 0, 1, lengths)}


@examples(factor=[0.1], floor=[1e-10], power=[0.5, 2.0])
def norm_rates(vectors, factor, floor, power, out):
    """factor · (|‖vectors‖ − 1| + floor)^power."""
    return {"out": factor * (np.abs(np.linalg.norm(vectors, axis=1) - 1) + floor) ** power}


@examples(
    vectors=lambda rows, columns: _unlike(rows, columns) * (np.arange(rows) % 3 > 0)[:, None],
)
def directions(vectors, scores):
    """vectors / ‖vectors‖ and scores / ‖vectors‖; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1)
    factors = 1 / np.where(norms > 0, norms, 1)[:, None]
    return {"vectors": vectors * factors, "scores": scores * factors}


def tangent(delta, weights):
    """Each row of delta without what lies along the same row of weights, as if that had norm 1."""
    return {"delta": delta - (delta * weights).sum(axis=1, keepdims=True) * weights}


@examples(
    numbers=lambda rows, columns: np.arange(rows * columns).reshape(rows, columns) % 4 / 3.0,
    least=[0.5, 1e-30],
)
def reciprocals(numbers, least):
    """1 / numbers, 0 for those below the least."""
    return {"numbers": np.array([[1 / x if x >= least else 0 for x in row] for row in numbers.tolist()])}


def add_scaled(target, factors, source):
    """target + factors[:, None] · source."""
    return {"target": target + factors[:, None] * source}


def moments(vectors, shift, sums, squares):
    """Sums and sums of squares of vectors − shift."""
    return {"sums": (vectors - shift).sum(axis=0), "squares": ((vectors - shift) ** 2).sum(axis=0)}


def standardize(vectors, shift, factors):
    """(vectors − shift) · factors."""
    return {"vectors": (vectors - shift) * factors}


@examples(share=_share, floor=[0.3])
def contrast(vectors, share, floor):
    """(vector − its mean) / √(its variance + floor)."""
    return {"vectors": reference.contrast_normalised(vectors, floor)}


@examples(share=_share, power=[1.0, 1.4])
def triangle(scores, share, power):
    """relu(scores − the row's mean)^power."""
    return {"scores": reference.triangle(scores, power)}


@examples(out=lambda rows, columns: np.zeros((rows, 2 * columns)), threshold=[0.25])
def split(out, scores, threshold):
    """relu(scores − threshold), relu(−scores − threshold)."""
    return {"out": np.concatenate([np.maximum(scores - threshold, 0), np.maximum(-scores - threshold, 0)], axis=1)}


def _unlike(rows, columns):
    """Patches of another length than there are units, the last one of zeros."""
    patches = np.random.default_rng(1).normal(size=(rows, columns + 2))
    patches[-1] *= rows == 1
    return patches


@examples()
def relu_over(scores, unit_norms):
    """scores / unit_norms, 0 where it is below 0."""
    return {"scores": np.maximum(scores / unit_norms, 0)}


@examples(patches=_unlike)
def cosine(scores, patches, unit_norms):
    """scores / (‖patch‖ · unit_norms), 0 for a patch of zeros."""
    norms = np.linalg.norm(patches, axis=1)
    return {"scores": scores / np.where(norms > 0, norms, np.inf)[:, None] / unit_norms}


@examples(patches=_unlike, sharpness=[3.0])
def cosine_exp(scores, patches, unit_norms, sharpness):
    """‖patch‖ · exp(sharpness · (cos − 1))."""
    cosines = cosine(scores, patches, unit_norms)["scores"]
    return {"scores": np.linalg.norm(patches, axis=1)[:, None] * np.exp(sharpness * (cosines - 1))}


@examples(
    out=lambda rows, columns: np.zeros((2 * 3 * 2, columns)),
    rows=[np.array([(0, 1), (0, 4), (2, 4)])],
    columns=[np.array([(0, 5), (4, 5)])],
    average=[False, True],
    row_shares=[np.array([1, 0.25, 0.5])],
    column_shares=[np.array([0.125, 0.5])],
)
def pool(out, images, rows, columns, average, row_shares, column_shares):
    """The maximum, or the sum times both shares, of each window."""
    expected = np.empty(out.shape)
    for n, (number, i, j) in enumerate(np.ndindex(len(images), len(rows), len(columns))):
        window = images[number, slice(*rows[i]), slice(*columns[j])]
        pixels = window.reshape(-1, window.shape[2])
        expected[n] = pixels.sum(axis=0) * row_shares[i] * column_shares[j] if average else pixels.max(axis=0)
    return {"out": expected}


@examples(
    out=lambda rows, columns: np.zeros((2 * 3, columns)),
    lines=lambda rows, columns: np.sin(np.arange(2.0 * 11 * columns)).reshape(2 * 11, columns),
    length=[11],
    firsts=[np.array([0, 2, 9])],
    lasts=[np.array([3, 11, 11])],
    shares=[np.linspace(-1, 0.5, 3 * 9)],
)
def blend(out, lines, length, firsts, lasts, shares):
    """The weighted sum of each window of the lines of each map."""
    expected, shares = np.zeros(out.shape), shares.reshape(len(firsts), -1)
    for n, (number, i) in enumerate(np.ndindex(len(lines) // length, len(firsts))):
        for place, y in enumerate(range(firsts[i], lasts[i])):
            expected[n] += shares[i, place] * lines[number * length + y]
    return {"out": expected}


@examples(
    out=lambda rows, columns: np.zeros((2 * 3 * 2, 2 * columns)),
    images=lambda rows, columns: np.sin(np.arange(2.0 * 11 * 2 * columns)).reshape(2, 11, 2, columns),
    firsts=[np.array([0, 2, 9])],
    lasts=[np.array([3, 11, 11])],
    shares=[np.linspace(-1, 0.5, 3 * 9)],
    threshold=[0.25],
)
def blend_split(out, images, firsts, lasts, shares, threshold):
    """The weighted sum down each window of what split makes of the pixels."""
    (_, height, width, channels), count = images.shape, len(firsts)
    halves = split(None, images.reshape(-1, channels), threshold)["out"]
    lines = halves.reshape(-1, width * 2 * channels)
    sums = np.zeros((len(images) * count, lines.shape[1]))
    return {"out": blend(sums, lines, height, firsts, lasts, shares)["out"].reshape(out.shape)}


@examples(signed=[False, True])
def count_winners(rows, signed, counts):
    """How many rows have their largest entry, or |entry|, in each column, but for rows of equals; alone: not 0."""
    values = np.abs(rows) if signed else rows
    won = [row.argmax() for row in values if (row.max() > row.min() if len(row) > 1 else row[0] != 0)]
    return {"counts": np.bincount(np.array(won, np.int64), minlength=rows.shape[1])}
