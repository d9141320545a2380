"""The CPU's and CUDA's kernels against slow references: one test body for both."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import reference
from kernel_helpers import DTYPES, SHAPES, assert_is_its_oracle, cells, tolerance

from hebbcore.engine.kernels import cpu, programs
from hebbcore.engine.kernels.programs import PROGRAMS

TWINS = [*PROGRAMS, "gather", "largest_magnitude", "cells", "moment_cells", "cell_bytes"]


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
@pytest.mark.parametrize("shape", [*SHAPES, (7, 75)])
@pytest.mark.parametrize("special", [0.5, -1e30, np.inf, -np.inf, np.nan, -np.nan])
def test_the_largest_magnitude(twin, shape, dtype, special, generator):
    array = generator.normal(size=shape).astype(dtype)
    for place in (0, array.size // 2, array.size - 1):
        changed = array.copy()
        changed.flat[place] = special
        found = twin.largest_magnitude(changed)
        assert found.dtype == dtype
        np.testing.assert_equal(found, np.abs(changed).max())


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
@pytest.mark.parametrize("length", [1e-40, 1e-30, 1e-22, 1e-20, 1e-18, 1e-14, 1e12])
def test_directions_of_vectors_of_any_length(twin, shape, dtype, length, generator):
    vectors, scores = (length * generator.normal(size=(2, *shape))).astype(dtype)
    vectors[-1] = 0
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]
    norms[-1] = 1
    units, own = vectors.copy(), scores.copy()
    twin.directions(units, own)
    exact = {"rtol": 2e-6 if dtype == np.float32 else 1e-14, "atol": 0}
    np.testing.assert_allclose(units, vectors / norms, **exact)
    np.testing.assert_allclose(own[:-1], scores[:-1] / norms[:-1], **exact)


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.5, 0.1, 123.456, -1e9 / 3])
@pytest.mark.parametrize("size", [1, 4, 27, 75])
def test_contrast_of_a_flat_patch_without_floor_is_zero(twin, size, value, dtype):
    vectors = np.full((2, size), value, dtype)
    twin.contrast(vectors, dtype(1 / size), dtype(0))
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
def test_relu_over_keeps_nan(twin, dtype):
    scores = np.array([[np.nan, -4, 6, np.inf, -0.0]], dtype)
    twin.relu_over(scores, np.full(5, 2, dtype))
    np.testing.assert_array_equal(scores, [[np.nan, 0, 3, np.inf, 0]])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")  # of the simulator
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["cosine", "cosine_exp"])
def test_a_patch_that_is_too_long_has_no_cosine_with_any_unit(twin, name, dtype):
    patches, scores = np.ones((2, 9), dtype), np.ones((2, 9), dtype)
    patches[0, 3] = np.sqrt(np.finfo(dtype).max) * 2
    sharpness = [dtype(3)] if name == "cosine_exp" else []
    getattr(twin, name)(scores, patches, np.ones(9, dtype), *sharpness)
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()


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
    twin.pool(out, images, np.array(rows), np.array(columns), average, row_shares, column_shares)
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
    out, share = np.empty((6, 10), dtype), np.ones(1, dtype)
    twin.pool(out, images, np.array([(0, 2)]), np.array([(0, 3)]), average, share, share)
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
    cpu.scatter(gate, np.full(50, -1), patches, out)
    np.testing.assert_array_equal(out, 1 + gate.T @ patches)
    out[...], gate[:25], winners = 1, 0, np.full(50, -1)
    winners[:25] = generator.integers(0, 9, 25)
    gate[np.arange(25), winners[:25]] = 3
    cpu.scatter(gate, winners, patches, out)
    np.testing.assert_array_equal(out, 1 + gate.T @ patches)


def test_subtract_lower_takes_the_decay_of_a_gram_matrix_off(generator):
    gram, weights, out = (generator.integers(-5, 5, shape).astype(float) for shape in ((6, 6), (6, 7), (6, 7)))
    expected = out - np.tril(gram) @ weights
    cpu.subtract_lower(gram, weights, out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_of_views_keeps_nan(dtype):
    scores = np.array([[-1, 0, 2, np.nan, -np.inf], [np.inf, -0.0, -3, 4, 9]], dtype)
    expected = np.maximum(scores, 0)
    cpu.relu(scores[:, :4])
    np.testing.assert_array_equal(scores[:, :4], expected[:, :4])
    np.testing.assert_array_equal(scores[:, 4], np.array([-np.inf, 9], dtype))
