"""Who wins and what the winners get: each competition's kernels, on the CPU and on CUDA, against slow references."""

import numpy as np
import pytest
import reference
from kernel_helpers import DTYPES, SHAPES, cells, tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.005, 1.0])
def test_softmax(twin, shape, dtype, temperature, generator):
    scores = generator.normal(size=shape).astype(dtype)
    expected = reference.softmax_wta(scores, temperature)
    twin.softmax(scores, dtype(1 / temperature))
    np.testing.assert_allclose(scores, expected, **tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("power", [False, True])
def test_swta(twin, shape, dtype, power, generator):
    temperature = 0.05
    cosine = generator.uniform(-0.9, 0.9, shape)
    patch_norms, unit_norms = generator.uniform(0.5, 2, shape[0]), generator.uniform(0.5, 2, shape[1])
    y = ((cosine + 1) / 2) ** 2
    z = reference.power_wta(y, temperature) if power else reference.softmax_wta(y, temperature)
    scores = (cosine * patch_norms[:, None] * unit_norms).astype(dtype)
    mass, decay = cells(twin, scores), cells(twin, scores)
    twin.swta(
        scores, patch_norms.astype(dtype), unit_norms.astype(dtype), dtype(1 / temperature), power, mass, decay
    )  # fmt: skip
    loose = 30 * tolerance(dtype)["atol"]  # the exponent is 1/T = 20 times what was rounded
    np.testing.assert_allclose(scores, z**2, rtol=0, atol=loose)
    np.testing.assert_allclose(mass.sum(axis=0), z.sum(axis=0), rtol=0, atol=loose * shape[0])
    np.testing.assert_allclose(decay.sum(axis=0), (z**2).sum(axis=0), rtol=0, atol=loose * shape[0])


@pytest.mark.parametrize("name", ["softmax", "swta", "soft_hebb", "taught_swta"])
def test_shares_are_0_or_so_large_that_products_with_them_are_fast(twin, name):
    scores = np.zeros((2, 1201), np.float32)
    scores[:, 1:] = -np.linspace(0, 120, 1200)
    mass, decay = cells(twin, scores), cells(twin, scores)
    if name == "softmax":
        twin.softmax(scores, np.float32(1))
    elif name == "soft_hebb":
        twin.soft_hebb(scores, np.float32(1), True, decay)
    else:
        scores = 1 + scores / 120  # Y or the cosine, from 1 to 0
        ones = np.ones(2, np.float32), np.ones(1201, np.float32)
        if name == "swta":
            twin.swta(scores, *ones, np.float32(160), False, mass, decay)
        else:
            twin.taught_swta(scores, np.float32(120), False, mass, decay)
    sizes = np.abs(scores[scores != 0])
    assert 0 < len(sizes) < scores.size
    assert sizes.min() > 1e-36


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the simulator
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("name", ["softmax", "swta", "soft_hebb", "taught_swta"])
def test_of_a_row_with_a_score_that_is_no_number_no_share_is(twin, name, power, special, dtype):
    scores = np.zeros((2, 20), dtype)
    scores[0, 7] = special
    mass, decay = cells(twin, scores), cells(twin, scores)
    ones, one = (np.ones(2, dtype), np.ones(20, dtype)), dtype(1)
    arguments = {
        "softmax": (one,), "swta": (*ones, one, power, mass, decay), "soft_hebb": (one, power, decay),
        "taught_swta": (one, power, mass, decay),
    }  # fmt: skip
    getattr(twin, name)(scores, *arguments[name])
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("signed", [False, True])
def test_nobody_wins_a_row_with_nan_wherever_it_is(twin, signed, dtype):
    rows = np.tile(np.arange(9, dtype=dtype), (9, 1))
    np.fill_diagonal(rows, np.nan)
    counts = cells(twin, rows)
    twin.count_winners(rows, signed, counts)
    assert not counts.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_kwta(twin, shape, dtype, ties, generator):
    scores = generator.integers(-2, 3, shape).astype(dtype) if ties else generator.normal(size=shape).astype(dtype)
    for k in {1, 3, shape[1]} & set(range(1, shape[1] + 1)):
        gate = scores.copy()
        decay = cells(twin, gate)
        twin.kwta(gate, np.ones(shape[1], dtype), k, decay)
        np.testing.assert_array_equal(gate, reference.k_wta(scores, k))
        np.testing.assert_array_equal(decay.sum(axis=0), gate.sum(axis=0))


def test_kwta_divides_by_the_units_norms(twin):
    gate = np.array([[3.0, 2.0, 1.0]])
    twin.kwta(gate, np.array([4.0, 1.0, 4.0]), 1, cells(twin, gate))
    np.testing.assert_array_equal(gate, [[0, 1, 0]])


@pytest.mark.parametrize(
    "row",
    [
        [1e30, -1e30, 0.0, 1e-30, -0.0],
        [3e38, -3e38, 3e38, 0, 1],
        [3.4e38, 3.3e38, 3.35e38, 2e38, 3.1e38],
        [-3e38, -2.5e38, -2e38, -2.1e38, -3.1e38],
        [1e-40, 2e-40, 0, -1e-40, 3e-40],
        [-5.0, -5.0, -5.0, -5.0, -5.0],
    ],
)
def test_kwta_of_extreme_scores(twin, row):
    scores = np.array([row], np.float32)
    for k in range(1, 6):
        gate = scores.copy()
        twin.kwta(gate, np.ones(5, np.float32), k, cells(twin, gate))
        np.testing.assert_array_equal(gate, reference.k_wta(scores, k))


def test_winners_of_float64_may_be_lower_than_any_float32(twin):
    scores, one = np.array([[-3e100, -1e100, -2e100]]), np.ones(1)
    norms, bias, winners = np.ones(3), np.array([0, -2e100, 0]), np.empty(1, np.int64)
    mask, values = np.array([[1, 0, 1]], np.uint8), np.empty((1, 1))

    def won(name, *arguments):
        gate = scores.copy()
        getattr(twin, name)(gate, *arguments, cells(twin, gate))
        return gate

    np.testing.assert_array_equal(won("hard_wta", winners), [[0, 1, 0]])
    np.testing.assert_array_equal(won("cosine_wta", norms, winners), [[0, 1, 0]])
    np.testing.assert_array_equal(won("kwta", norms, 2), [[0, 1, 1]])
    np.testing.assert_array_equal(won("ranked", 3, 0.5), [[-0.5, 1, 0]])
    twin.pursuit(np.zeros((1, 3)), one, np.eye(3), scores[0], winners[None], values, cells(twin, scores))
    assert winners == 1
    won("biased_signed_wta", one, norms, 5 * bias - 7e100, winners)
    assert winners == 0
    cosines = scores.copy()
    twin.taught_cosines(cosines, norms, mask, np.int64(0), np.int64(1))
    np.testing.assert_array_equal(cosines, [[-3e100, -3e100, -2e100]])


def test_kwta_of_nan_ends(twin):
    gate = np.full((2, 5), np.nan, np.float32)
    twin.kwta(gate, np.ones(5, np.float32), 2, cells(twin, gate))
    assert not gate.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("anti", [False, True])
def test_soft_hebb(twin, shape, dtype, anti, generator):
    u = generator.integers(-3, 4, shape).astype(dtype)  # with ties
    expected = reference.softmax_wta(u, 0.5)
    if anti:
        expected = np.where(reference.argmax_wta(u) == 1, expected, -expected)
    gate = u.copy()
    decay = cells(twin, gate)
    twin.soft_hebb(gate, dtype(2), anti, decay)
    np.testing.assert_allclose(gate, expected, **tolerance(dtype))
    np.testing.assert_allclose(
        decay.sum(axis=0), (expected * u).sum(axis=0), rtol=0, atol=30 * tolerance(dtype)["atol"]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_somebody_wins_a_pursuit_however_low_all_biases_are(twin, dtype):
    y, winners, values = np.array([[1, -3, 2], [0, 1, -2]], dtype), np.empty((1, 2), np.int64), np.empty((1, 2), dtype)
    twin.pursuit(
        y, np.full(2, 30, dtype), np.eye(3, dtype=dtype), np.full(3, -1, dtype), winners, values, cells(twin, y)
    )  # fmt: skip
    np.testing.assert_array_equal(winners, [[1, 2]])
    np.testing.assert_array_equal(values, [[-3, -2]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_ranked_breaks_ties_by_the_lowest_index(twin, shape, dtype, rank, generator):
    if rank > shape[1] > 1:
        pytest.skip("the rules refuse it")
    u = generator.integers(-2, 3, shape).astype(dtype)
    expected = np.zeros(shape)
    for row, scores in zip(expected, u, strict=True):
        order = np.argsort(-scores, kind="stable")
        if 1 < rank <= len(scores):
            row[order[rank - 1]] = -0.5
        row[order[0]] = 1
    gate = u.copy()
    decay = cells(twin, gate)
    twin.ranked(gate, rank, dtype(0.5), decay)
    np.testing.assert_array_equal(gate, expected)
    np.testing.assert_array_equal(decay.sum(axis=0), (expected * u).sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_signed_wta_breaks_ties_by_the_lowest_index(twin, shape, dtype, generator):
    scores = generator.integers(-3, 4, shape).astype(dtype)
    unit_norms = generator.choice([0.5, 1, 2], shape[1]).astype(dtype)
    y = scores / unit_norms
    expected = np.where(reference.argmax_wta(np.abs(y)) == 1, y, 0)
    gate = scores.copy()
    decay = cells(twin, gate)
    winners = np.empty(shape[0], np.int64)
    twin.signed_wta(gate, unit_norms, winners, decay)
    np.testing.assert_array_equal(winners, np.abs(y).argmax(axis=1))
    np.testing.assert_array_equal(gate, expected)
    np.testing.assert_array_equal(decay.sum(axis=0), (expected**2).sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0, 1, 1e6])
def test_a_bias_of_any_size_decides_who_wins_and_leaves_what_is_won(twin, shape, dtype, size, generator):
    scores = generator.integers(-3, 4, shape).astype(dtype)
    bias = (size * generator.integers(-3, 4, shape[1])).astype(dtype)
    patch_norms, unit_norms = generator.choice([0.5, 1, 2], shape[0]), generator.choice([0.5, 1, 2], shape[1])
    y = scores / unit_norms
    expected = np.where(reference.argmax_wta(np.abs(y) + patch_norms[:, None] * bias) == 1, y, 0)
    gate, winners = scores.copy(), np.empty(shape[0], np.int64)
    decay = cells(twin, gate)
    twin.biased_signed_wta(gate, patch_norms.astype(dtype), unit_norms.astype(dtype), bias, winners, decay)
    np.testing.assert_array_equal(winners, (np.abs(y) + patch_norms[:, None] * bias).argmax(axis=1))
    np.testing.assert_array_equal(gate, expected)
    np.testing.assert_array_equal(decay.sum(axis=0), (expected**2).sum(axis=0))
