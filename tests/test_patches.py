"""Patches: im2col against the slow reference, every layout and dtype, and chunks that make up the whole."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

import hebbcore
from hebbcore.engine.memory import Memory
from hebbcore.engine.patches import Geometry, PatchReader


def random_images(*shape, dtype=np.float64):
    return np.random.default_rng(7).normal(size=shape).astype(dtype)


def reader_of(geometry, dtype, images, chunks):
    """Return a reader with the memory for these chunks."""
    reader = PatchReader(geometry, dtype, Memory())
    reader.memory.lay_out("cpu", reader.sizes(images, chunks, "cpu"))
    return reader


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "edge"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        (1, 1, 0),
        (1, 2, 0),
        (1, 1, 1),
        (3, 1, 0),
        (3, 1, 1),
        (5, 1, 2),
        (2, 2, 0),
        (4, 3, 2),
        ((1, 3), 1, (0, 1)),
        ((3, 1), (1, 2), (1, 0)),
        ((2, 5), (3, 1), (4, 2)),
        ((6, 7), 1, 0),  # the whole image
        ([3, 2], [2, 3], [0, 3]),
        (np.int64(3), np.int32(2), np.int64(1)),
        (2, 9, 0),  # one patch an image
    ],
)
def test_im2col_equals_the_reference(channels, padding_mode, kernel, stride, padding):
    images = random_images(3, 6, 7, channels)
    expected = reference.patches(images, kernel, stride, padding, padding_mode)
    actual = hebbcore.im2col(images, kernel, stride, padding, padding_mode)
    assert actual.dtype == np.float64
    assert actual.flags.c_contiguous
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lines_of_patches_of_any_length(dtype):
    lengths = [*range(1, 50), 51, 200]
    for channels in lengths:
        images = random_images(2, 3, 4, channels, dtype=dtype)
        for kernel in (2, 1) if channels < 50 else (1,):  # of 1: with a stride, else patches are no copy of lines
            expected = reference.patches(images, kernel, (1, 2))
            actual = hebbcore.im2col(images, kernel, (1, 2))
            np.testing.assert_array_equal(actual, expected, err_msg=f"{kernel} × {channels} numbers")


@given(st.data())
@settings(max_examples=60)
def test_im2col_equals_the_reference_for_any_sizes(data):
    height, width = (data.draw(st.integers(1, 6)) for _ in range(2))
    mode = data.draw(st.sampled_from(["zeros", "reflect", "edge"]))
    padding = tuple(data.draw(st.integers(0, size - 1 if mode == "reflect" else 3)) for size in (height, width))
    kernel = tuple(
        data.draw(st.integers(1, size + 2 * pad)) for size, pad in zip((height, width), padding, strict=True)
    )
    stride = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    images = random_images(data.draw(st.integers(1, 3)), height, width, data.draw(st.integers(1, 3)))
    expected = reference.patches(images, kernel, stride, padding, mode)
    np.testing.assert_array_equal(hebbcore.im2col(images, kernel, stride, padding, mode), expected)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("kernel", [1, 2, (4, 3)])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)],
)
def test_floating_images_keep_their_values(dtype, expected, kernel, padding):
    images = random_images(2, 4, 3, 2, dtype=dtype)
    actual = hebbcore.im2col(images, kernel, padding=padding)
    assert actual.dtype == expected
    np.testing.assert_array_equal(actual, reference.patches(images, kernel, padding=padding).astype(expected))


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "edge"])
@pytest.mark.parametrize("kernel", [1, 3, 16])
def test_uint8_is_divided_by_255_in_float32(kernel, padding, padding_mode):
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    actual = hebbcore.im2col(images, kernel, padding=padding, padding_mode=padding_mode)
    quotients = images.astype(np.float32) / np.float32(255)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(
        actual, reference.patches(quotients, kernel, padding=padding, padding_mode=padding_mode)
    )
    assert actual.max() == 1


def memory_mapped(images, folder):
    np.save(folder / "images.npy", images)
    mapped = np.load(folder / "images.npy", mmap_mode="r")
    assert not mapped.flags.writeable
    return mapped


def inside_a_larger_array(images, folder):
    n, height, width, channels = images.shape
    larger = np.full((2 * n, height + 3, width + 2, channels + 1), np.nan).astype(images.dtype)
    view = larger[::2, 1:-2, 2:, :channels]
    view[...] = images
    return view


LAYOUTS = {
    "fortran": lambda images, folder: np.asfortranarray(images),
    "negative strides": lambda images, folder: np.ascontiguousarray(images[::-1, ::-1, ::-1, ::-1])[
        ::-1, ::-1, ::-1, ::-1
    ],
    "a view": inside_a_larger_array,
    "channels-first": lambda images, folder: np.moveaxis(np.ascontiguousarray(np.moveaxis(images, -1, 1)), 1, -1),
    "memory-mapped": memory_mapped,
    "broadcast": lambda images, folder: np.broadcast_to(images[:1], images.shape),
    "misaligned": lambda images, folder: np.frombuffer(b"\0" + images.tobytes(), images.dtype, offset=1).reshape(
        images.shape
    ),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "padding_mode"),
    [
        (1, 1, 0, "zeros"),
        ((5, 4), 1, 0, "zeros"),
        (3, 1, 0, "zeros"),
        (2, 2, 1, "zeros"),
        (3, 1, 2, "reflect"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_the_layout_in_memory_does_not_matter(tmp_path, dtype, layout, kernel, stride, padding, padding_mode):
    plain = np.abs(random_images(3, 5, 4, 3) * 50).astype(dtype)
    images = LAYOUTS[layout](plain, tmp_path)
    before = images.copy()
    actual = hebbcore.im2col(images, kernel, stride, padding, padding_mode)
    expected = hebbcore.im2col(np.array(images, order="C"), kernel, stride, padding, padding_mode)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_allclose(actual, reference.patches(images, kernel, stride, padding, padding_mode), rtol=1e-7)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("kernel", [1, (3, 2), 2])
def test_the_result_does_not_share_memory_with_the_images(kernel):
    images = random_images(2, 3, 2, 2)
    assert not np.shares_memory(hebbcore.im2col(images, kernel), images)


def test_nested_lists_of_floats_are_images():
    images = random_images(2, 3, 3, 1)
    np.testing.assert_array_equal(hebbcore.im2col(images.tolist(), 2), reference.patches(images, 2))


def geometries():
    """Draw a Geometry."""
    pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
    return st.builds(
        lambda size, kernel, stride, padding, channels: Geometry.of(
            "test",
            (1, *(max(s, k) for s, k in zip(size, kernel, strict=True)), channels),
            kernel,
            stride,
            padding,
            "zeros",
        ),
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        pairs,
        pairs,
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
        st.integers(1, 3),
    )


@given(geometries(), st.integers(1, 12), st.integers(0, 400))
@settings(max_examples=300)
def test_chunks_cover_every_output_row_once_in_order(g, n, most_rows):
    height, width = g.output
    chunks = list(g.chunks(n, most_rows))
    covered = [(i, row) for c in chunks for i in range(c.first, c.last) for row in range(c.top, c.bottom)]
    assert covered == [(i, row) for i in range(n) for row in range(height)]
    sizes = [(c.last - c.first) * (c.bottom - c.top) * width for c in chunks]
    assert min(sizes) > 0
    assert max(sizes) <= max(most_rows, width)
    # Several images in a chunk come whole: the patches of a chunk are then one block of the output.
    assert all(c.last - c.first == 1 or (c.top, c.bottom) == (0, height) for c in chunks)


def test_chunks_are_as_few_as_fit_and_of_even_sizes():
    g = Geometry.of("test", (1, 10, 10, 1), 1, 1, 0, "zeros")
    assert [c.last - c.first for c in g.chunks(10, 399)] == [2, 3, 2, 3]
    assert [c.bottom - c.top for c in g.chunks(1, 49)] == [3, 3, 4]
    assert [c[:2] for c in g.chunks(5, 200, 7)] == [(7, 8), (8, 10), (10, 12)]
    assert [c[:2] for c in g.chunks(2, 50, 7)] == [(7, 8)] * 2 + [(8, 9)] * 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("most_rows", [1, 7, 20, 10**6])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "padding_mode"),
    [
        (1, 1, 0, "zeros"),
        ((7, 6), 1, 0, "zeros"),
        (3, 1, 0, "zeros"),
        ((3, 2), (2, 1), 0, "zeros"),
        (1, 1, 2, "zeros"),
        (3, 1, 1, "zeros"),
        (2, 3, 4, "zeros"),  # whole bands of padding
        (3, 1, 2, "reflect"),
        ((5, 3), (2, 3), (6, 5), "reflect"),
        ((5, 3), (2, 3), (8, 9), "edge"),  # whole bands of padding
    ],
)
def test_patches_read_in_chunks_make_up_im2col(dtype, most_rows, kernel, stride, padding, padding_mode):
    images = np.abs(random_images(3, 7, 6, 2) * 50).astype(dtype)
    expected = hebbcore.im2col(images, kernel, stride, padding, padding_mode)
    g = Geometry.of("test", images.shape, kernel, stride, padding, padding_mode)
    chunks = list(g.chunks(len(images), most_rows))
    reader = reader_of(g, expected.dtype, images, chunks)
    parts = [reader.read(images, chunk).copy() for chunk in chunks]
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    np.testing.assert_allclose(expected, reference.patches(images, kernel, stride, padding, padding_mode), rtol=1e-7)


def test_a_reader_leaves_nothing_of_an_earlier_chunk_in_the_padding():
    images = np.full((3, 4, 4, 1), 5.0)
    g = Geometry.of("test", images.shape, 3, 1, 1, "zeros")
    chunks = list(g.chunks(3, 4))
    reader = reader_of(g, np.float64, images, chunks)
    expected = {chunk: reader_of(g, np.float64, images, chunks).read(images, chunk) for chunk in chunks}
    for chunk in [*chunks[::-1], *chunks[::2], *chunks]:
        np.testing.assert_array_equal(reader.read(images, chunk), expected[chunk])


@pytest.mark.parametrize("kernel", [1, 2, (3, 4)])
def test_patches_are_written_where_they_are_wanted(kernel):
    images = random_images(2, 3, 4, 2)
    expected = hebbcore.im2col(images, kernel)
    g = Geometry.of("test", images.shape, kernel, 1, 0, "zeros")
    out = np.full((len(expected) + 2, expected.shape[1]), 9.0)
    (chunk,) = g.chunks(2, 10**6)
    assert np.shares_memory(reader_of(g, np.float64, images, [chunk]).read(images, chunk, out[1:-1]), out)
    np.testing.assert_array_equal(out[1:-1], expected)
    assert (out[[0, -1]] == 9).all()


@pytest.mark.parametrize(
    ("shape", "output", "patch_size", "is_reshape"),
    [
        (((1, 8, 9, 3), 3, 1, 0), (6, 7), 27, False),
        (((1, 8, 9, 3), (3, 5), (2, 3), (1, 2)), (4, 3), 45, False),
        (((1, 8, 9, 3), 1, 1, 0), (8, 9), 3, True),
        (((1, 8, 9, 3), 1, 2, 0), (4, 5), 3, False),
        (((1, 8, 9, 3), (8, 9), 1, 0), (1, 1), 216, True),
        (((1, 1, 1, 50), 1, 1, 0), (1, 1), 50, True),
        (((1, 1, 1, 3), 1, 1, 1), (3, 3), 3, False),
    ],
)
def test_geometry_knows_its_sizes(shape, output, patch_size, is_reshape):
    g = Geometry.of("test", *shape, "zeros")
    assert (g.output, g.positions, g.patch_size, g.is_reshape) == (
        output,
        output[0] * output[1],
        patch_size,
        is_reshape,
    )


IMAGES = np.zeros((2, 4, 5, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ((IMAGES[0], 3), ValueError, ["images", "(n, height, width, channels)", "(4, 5, 3)"]),
        ((IMAGES[0, 0], 1), ValueError, ["images", "(n, height, width, channels)", "(5, 3)"]),
        ((IMAGES[:0], 3), ValueError, ["images", "must not be empty", "(0, 4, 5, 3)"]),
        ((IMAGES[..., :0], 3), ValueError, ["must not be empty", "(2, 4, 5, 0)"]),
        ((IMAGES.astype(np.int32), 3), TypeError, ["uint8 (read as 0…1), float16, float32 or float64", "int32"]),
        ((IMAGES.astype(np.complex64), 3), TypeError, ["array of numbers", "complex64"]),
        ((None, 3), TypeError, ["array of numbers", "NoneType"]),
        ((IMAGES, 5), ValueError, ["kernel_size 5×5", "padded image 4×5"]),
        ((IMAGES, (4, 8), 1, (0, 1)), ValueError, ["kernel_size 4×8", "padded image 4×7"]),
        ((IMAGES, 0), ValueError, ["kernel_size must be at least 1, got 0"]),
        ((IMAGES, (3, -1)), ValueError, ["kernel_size must be at least 1, got -1"]),
        ((IMAGES, 3.0), TypeError, ["kernel_size must be an integer, got 3.0"]),
        ((IMAGES, True), TypeError, ["kernel_size must be an integer, got True"]),
        ((IMAGES, None), TypeError, ["kernel_size must be an integer, got None"]),
        ((IMAGES, "33"), TypeError, ["kernel_size must be an integer, got '33'"]),
        ((IMAGES, (3, 3, 3)), ValueError, ["kernel_size", "(height, width) pair", "(3, 3, 3)"]),
        ((IMAGES, 3, 0), ValueError, ["stride must be at least 1, got 0"]),
        ((IMAGES, 3, (1,)), ValueError, ["stride", "(height, width) pair", "(1,)"]),
        ((IMAGES, 3, 1, -1), ValueError, ["padding must be at least 0, got -1"]),
        ((IMAGES, 3, 1, 0.5), TypeError, ["padding must be an integer, got 0.5"]),
        ((IMAGES, 3, 1, 1, "reflct"), ValueError, ["padding_mode", "'zeros', 'reflect'", "Did you mean 'reflect'?"]),
        ((IMAGES, 3, 1, 1, None), ValueError, ["padding_mode", "None"]),
        ((IMAGES, 3, 1, (4, 0), "reflect"), ValueError, ["reflect padding", "image (4×5)", "got 4×0"]),
        ((IMAGES, 3, 1, (0, 5), "reflect"), ValueError, ["reflect padding", "image (4×5)", "got 0×5"]),
    ],
)
def test_im2col_refuses_bad_input(arguments, error, parts):
    with pytest.raises(error) as caught:
        hebbcore.im2col(*arguments)
    message = str(caught.value)
    assert message.startswith("im2col: ")
    for part in parts:
        assert part in message
