"""The CPU's and CUDA's kernels against slow references: one test body for both."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import reference
from kernel_helpers import assert_is_its_oracle
from numba import njit

from hebbcore.engine.kernels import cpu, elementary, programs
from hebbcore.engine.kernels.programs import PROGRAMS

SHAPES = [(1, 1), (3, 5), (4, 2), (2, 33)]
DTYPES = [np.float32, np.float64]
TWINS = [*PROGRAMS, "gather", "cells", "moment_cells", "cell_bytes"]


@pytest.fixture(params=["cpu", "cuda"])
def twin(request):
    """Return each kernel module in turn."""
    return cpu if request.param == "cpu" else request.getfixturevalue("few_threads")


def tolerance(dtype):
    return {"rtol": 0, "atol": 2e-6 if dtype == np.float32 else 1e-14}


def cells(twin, scores):
    return np.zeros((twin.cells(*scores.shape), scores.shape[1]), scores.dtype)


def test_every_file_of_programs_is_imported():
    files = {path.stem for path in Path(programs.__file__).parent.glob("[a-z]*.py")}
    assert sorted(files - set(programs.__all__)) == [], "import them in hebbcore/engine/kernels/programs/__init__.py"


def test_twins_have_the_same_names_and_parameters(few_threads):
    for name in TWINS:
        ours, theirs = (inspect.signature(getattr(m, name)) for m in (cpu, few_threads))
        assert list(ours.parameters) == list(theirs.parameters), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 7)])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_is_its_oracle(twin, name, shape, dtype, generator):
    assert_is_its_oracle(twin, name, shape, dtype, generator)


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
    twin.signed_wta(gate, unit_norms, decay)
    np.testing.assert_array_equal(gate, expected)
    np.testing.assert_array_equal(decay.sum(axis=0), (expected**2).sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_norms_replace_zero_by_one(twin, shape, dtype, generator):
    vectors = generator.normal(size=shape).astype(dtype)
    vectors[-1] = 0
    out = np.full(shape[0], np.nan, dtype)
    twin.norms(vectors, out)
    expected = np.linalg.norm(vectors.astype(np.float64), axis=1)
    expected[-1] = 1
    np.testing.assert_allclose(out, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_add_scaled(twin, shape, dtype, generator):
    target, source = generator.integers(-9, 9, (2, *shape)).astype(dtype)
    factors = generator.integers(-9, 9, shape[0]).astype(dtype)
    expected = target + factors[:, None] * source
    twin.add_scaled(target, factors, source)
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (9, 6)])
@pytest.mark.parametrize("most_cells", [1, 2, 9])
def test_moments_add_to_their_cells(twin, shape, dtype, most_cells, generator):
    vectors = generator.integers(-9, 10, shape).astype(dtype)
    shift = generator.integers(-9, 10, shape[1]).astype(dtype)
    number = min(most_cells, shape[0])
    sums, squares = np.full((number, shape[1]), 1, dtype), np.full((number, shape[1]), 2, dtype)
    before = vectors.copy()
    twin.moments(vectors, shift, sums, squares)
    np.testing.assert_array_equal(sums.sum(axis=0), number + sum(v - shift for v in before))
    np.testing.assert_array_equal(squares.sum(axis=0), 2 * number + sum((v - shift) ** 2 for v in before))
    assert number == 1 or np.count_nonzero((squares != 2).any(axis=1)) == number  # every cell took its rows
    np.testing.assert_array_equal(vectors, before)


def test_there_are_cells_for_moments(twin):
    assert [twin.moment_cells(rows, 7) for rows in (1, 2)] == [1, 1 if twin is cpu else 2]
    assert all(1 <= twin.moment_cells(rows, 7) <= rows for rows in (1, 1023, 1024, 10**6))
    assert cpu.moment_cells(2**20, 7) == 1024


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_standardize(twin, shape, dtype, generator):
    vectors = generator.integers(-9, 10, shape).astype(dtype)
    shift, factors = generator.integers(-9, 10, (2, shape[1])).astype(dtype)
    expected = [[(x - a) * b for x, a, b in zip(vector, shift, factors, strict=True)] for vector in vectors]
    twin.standardize(vectors, shift, factors)
    np.testing.assert_array_equal(vectors, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_contrast(twin, shape, dtype, floor, generator):
    vectors = generator.integers(-9, 10, shape).astype(dtype) / dtype(8)
    vectors[-1] = 0.75  # no variance
    expected = reference.contrast_normalised(vectors, floor)
    twin.contrast(vectors, dtype(1 / shape[1]), dtype(floor))
    np.testing.assert_allclose(vectors[:-1], expected[:-1], **tolerance(dtype))
    np.testing.assert_allclose(vectors[-1], 0, **tolerance(dtype))


def test_contrast_of_a_flat_patch_without_floor_is_zero(twin):
    vectors = np.full((2, 4), 0.5, np.float32)
    twin.contrast(vectors, np.float32(1 / 4), np.float32(0))
    np.testing.assert_array_equal(vectors, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("power", [0.7, 1.0, 1.4, 3.0])
def test_triangle(twin, shape, dtype, power, generator):
    scores = generator.normal(size=shape).astype(dtype)
    expected = reference.triangle(scores, power)
    twin.triangle(scores, dtype(1 / shape[1]), dtype(power))
    loose = 20 * tolerance(dtype)["atol"]  # a cube of up to 3 triples relative errors
    np.testing.assert_allclose(scores, expected, rtol=0, atol=loose)


@pytest.mark.parametrize("power", [0.7, 1.0, 2.0])
def test_triangle_of_equal_scores_is_exactly_zero(twin, power):
    scores = np.array([[3.0, 3, 3, 3], [0, 0, 0, 0], [-1, -1, -1, -1]], np.float32)
    twin.triangle(scores, np.float32(1 / 4), np.float32(power))
    np.testing.assert_array_equal(scores, 0)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the simulator
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [0.7, 1.0, 2.0])
def test_triangle_hides_no_nan_and_is_never_negative(twin, power, dtype):
    scores = np.ones((4, 33), dtype)
    scores[0, 0] = scores[1, 20] = np.nan
    scores[2, 20] = np.inf
    scores[3] = np.arange(33) >= 16
    twin.triangle(scores, dtype(1 / 33), dtype(power))
    assert np.isnan(scores[:2]).all()
    np.testing.assert_array_equal(np.flatnonzero(scores[2]), 20)  # ∞ − ∞, and 0 for all that are below
    assert np.isnan(scores[2, 20])
    np.testing.assert_array_equal(scores[3] > 0, np.arange(33) >= 16)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of the simulator
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [1.4, 2.0, 7.0])
def test_triangle_of_huge_scores_overflows_to_infinity(twin, power, dtype):
    if twin is not cpu and dtype is np.float64:
        pytest.skip("the simulator's math.exp raises OverflowError, which CUDA's does not")
    most = float(np.finfo(dtype).max)
    heights = np.array([1, 1e3, 0.99 * (0.7 * most) ** (1 / power), 1.5 * most ** (1 / power), most**0.9, most / 8])
    scores = np.stack([-heights, heights, 0 * heights], axis=1).astype(dtype)
    twin.triangle(scores, dtype(1 / 3), dtype(power))
    infinite = np.arange(6) >= 3
    np.testing.assert_array_equal(np.isposinf(scores[:, 1]), infinite)
    finite = heights[~infinite].astype(dtype).astype(np.longdouble) ** power
    np.testing.assert_allclose(scores[~infinite, 1] / finite, 1, rtol=2e3 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(scores[:, [0, 2]], 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [0, 2])
def test_split(twin, shape, dtype, threshold, generator):
    scores = generator.integers(-5, 6, shape).astype(dtype)
    out = np.full((shape[0], 2 * shape[1]), np.nan, dtype)
    twin.split(out, scores, dtype(threshold))
    np.testing.assert_array_equal(
        out[:, : shape[1]] - out[:, shape[1] :], np.sign(scores) * (abs(scores) - threshold).clip(0)
    )
    assert (out.min(axis=1) >= 0).all()
    assert not (out[:, : shape[1]] * out[:, shape[1] :]).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_split_keeps_nan(twin, dtype):
    scores = np.array([[np.nan] * 9 + [3, -np.inf]], dtype)
    out = np.empty((1, 22), dtype)
    twin.split(out, scores, dtype(1))
    np.testing.assert_array_equal(out, [[np.nan] * 9 + [2, 0] + [np.nan] * 9 + [0, np.inf]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 9])
def test_pool(twin, average, channels, dtype, generator):
    images = generator.integers(-9, 10, (2, 4, 5, channels)).astype(dtype)
    rows, columns = [(0, 1), (0, 4), (2, 4)], [(0, 5), (4, 5)]  # from, to; windows of any sizes
    row_shares, column_shares = np.array([1, 0.25, 0.5], dtype), np.array([0.125, 0.5], dtype)
    out = np.full((2 * 3 * 2, channels), np.nan, dtype)
    edges = [np.array(edge) for pair in (rows, columns) for edge in zip(*pair, strict=True)]
    twin.pool(out, images, *edges, average, row_shares, column_shares)
    for n, i, j in np.ndindex(2, 3, 2):
        window = images[n, slice(*rows[i]), slice(*columns[j])]
        expected = window.sum(axis=(0, 1)) * row_shares[i] * column_shares[j] if average else window.max(axis=(0, 1))
        np.testing.assert_array_equal(out[n * 6 + i * 2 + j], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("average", [False, True])
def test_pool_keeps_nan_wherever_it_is_in_the_window(twin, average, dtype, generator):
    images = generator.normal(size=(6, 2, 3, 10)).astype(dtype)
    for place in range(6):
        images[place, place // 3, place % 3, ::2] = np.nan
    images[:, :, :, 9] = -np.inf
    edges = [np.array(edge) for edge in ([0], [2], [0], [3])]
    out, share = np.empty((6, 10), dtype), np.ones(1, dtype)
    twin.pool(out, images, *edges, average, share, share)
    assert np.isnan(out[:, ::2]).all()
    expected = images.sum(axis=(1, 2)) if average else images.max(axis=(1, 2))
    np.testing.assert_allclose(out[:, 1::2], expected[:, 1::2], **tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernel", "stride"), [((1, 1), (1, 1)), ((3, 2), (1, 2)), ((2, 3), (3, 1)), ((4, 5), (1, 1))])
def test_gather(twin, dtype, kernel, stride, generator):
    images = generator.normal(size=(2, 4, 5, 2)).astype(dtype)
    expected = reference.patches(images, kernel, stride)
    out = np.full(expected.shape, np.nan, dtype)
    twin.gather(images, kernel, stride, out)
    np.testing.assert_array_equal(out, expected)


def test_a_whole_warp_shares_a_row_by_default(monkeypatch, few_threads, generator):
    monkeypatch.undo()
    few_threads = pytest.importorskip("hebbcore.engine.kernels.cuda")
    assert [few_threads._lanes(k) for k in (1, 128, 129, 512, 1025, 10**5)] == [32, 32, 64, 128, 256, 256]
    scores = generator.normal(size=(2, 70)).astype(np.float32)
    expected = reference.softmax_wta(scores, 1.0)
    few_threads.softmax(scores, np.float32(1))
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_blocks_walk_over_more_rows_than_there_are_blocks(few_threads, generator):
    scores = generator.normal(size=(8, 6))
    gate, decay = scores.copy(), cells(few_threads, scores)
    assert len(decay) == 3
    few_threads.kwta(gate, np.ones(6), 2, decay)
    np.testing.assert_array_equal(gate, reference.k_wta(scores, 2))
    np.testing.assert_array_equal(decay.sum(axis=0), gate.sum(axis=0))
    assert np.count_nonzero(decay.sum(axis=1)) == 3


def test_scatter_adds_patches_by_winner(generator):
    gate = reference.k_wta(generator.normal(size=(50, 9)), 2) * generator.integers(-3, 4, (50, 9))
    patches = generator.integers(-5, 5, (50, 7)).astype(float)
    out = np.ones((9, 7))
    cpu.scatter(gate, patches, out)
    np.testing.assert_array_equal(out, 1 + gate.T @ patches)


@pytest.mark.parametrize("numbers", [np.linspace(-87, 0, 200_001), np.linspace(0, 88, 50_001)])
def test_float32_exp_is_accurate(numbers):
    numbers = numbers.astype(np.float32)
    exact = np.exp(numbers.astype(np.float64))
    np.testing.assert_allclose(_each(elementary.exp)(numbers), exact, rtol=5e-7)


def test_float32_exp_of_very_small_is_next_to_nothing():
    out = _each(elementary.exp)(np.array([-88, -1e3, -1e30], np.float32))
    assert ((out >= 0) & (out < 2e-38)).all()


def test_float32_exp_of_very_large_is_infinite_and_of_nan_nan():
    out = _each(elementary.exp)(np.array([89, 1e3, np.inf, np.nan], np.float32))
    np.testing.assert_array_equal(out, [np.inf] * 3 + [np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
def test_larger_is_numpys_maximum(dtype, generator):
    numbers = generator.choice([np.nan, -np.inf, np.inf, -2, 0, 3], (2, 500)).astype(dtype)
    larger = njit(lambda a, b: elementary.larger(a, b))
    for function in (larger, elementary.larger):
        out = [function(a, b) for a, b in numbers.T]
        np.testing.assert_array_equal(out, np.maximum(*numbers))


def test_float32_log_is_accurate():
    numbers = np.geomspace(2e-38, 3e38, 200_001).astype(np.float32)
    np.testing.assert_allclose(_each(elementary.log)(numbers), np.log(numbers.astype(np.float64)), rtol=5e-7, atol=1e-7)


def test_float64_exp_and_log_are_the_c_librarys():
    numbers = np.linspace(0.1, 50, 1001)
    np.testing.assert_allclose(_each(elementary.exp)(numbers), np.exp(numbers), rtol=4e-16)
    np.testing.assert_allclose(_each(elementary.log)(numbers), np.log(numbers), rtol=4e-16, atol=1e-16)


def _each(function):
    @njit
    def loop(numbers):
        out = np.empty_like(numbers)
        for i in range(numbers.size):
            out[i] = function(numbers[i])
        return out

    return loop
