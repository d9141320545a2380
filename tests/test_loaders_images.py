"""Decoding: every mode comes out as upright RGB, everything else as a ValueError with a reason."""

import io
import tarfile
import zlib

import numpy as np
import pytest
from loaders_helpers import built, crop, encoded, photographs, report_of, shared_file
from PIL import Image

import loaders
from loaders import CenterCrop, RandomResizedCrop
from loaders.images.decode import decode
from loaders.images.transforms import ShortestSide, cropped, uniforms


def test_a_jpeg_and_a_png_decode_to_their_pixels():
    image = crop(0)
    np.testing.assert_array_equal(decode(encoded(image, "PNG")), np.asarray(image))
    jpeg = encoded(image, quality=95)
    np.testing.assert_array_equal(decode(jpeg), np.asarray(Image.open(io.BytesIO(jpeg))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGB", "RGBA"])
def test_every_png_mode_becomes_rgb(mode):
    grey = crop(1).convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode.startswith("I") else crop(1).convert(mode)
    result = decode(encoded(image, "PNG"))
    assert result.mode == "RGB"
    assert result.size == image.size
    expected = grey.convert("RGB") if mode.startswith("I") else image.convert("RGB")
    np.testing.assert_allclose(np.asarray(result, int), np.asarray(expected, int), atol=1)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_jpeg_mode_becomes_rgb(mode, progressive):
    image = crop(2)
    result = decode(encoded(image.convert(mode), quality=95, progressive=progressive))
    assert result.mode == "RGB"
    expected = image.convert(mode).convert("RGB")
    assert np.abs(np.asarray(result, float) - np.asarray(expected, float)).mean() < 4


def test_cmyk_that_adobe_stores_inverted_is_not_a_negative():
    data = encoded(crop(3).convert("CMYK"), quality=95)  # Pillow writes Adobe's marker and its inverted values
    assert b"Adobe" in data
    assert np.abs(np.asarray(decode(data), float) - np.asarray(crop(3), float)).mean() < 12


@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_other_formats_decode(kind):
    result = decode(encoded(crop(4), kind))
    assert (result.mode, result.size) == ("RGB", (120, 96))


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "F", "I;16B", "YCbCr"])
def test_tiff_modes_decode_or_say_why_not(mode):
    if mode == "I;16B":
        image = Image.fromarray(np.asarray(crop(5).convert("L")).astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.frombytes("LAB", (10, 10), bytes(300))
    else:
        image = crop(5).convert("L").convert("F") if mode == "F" else crop(5).convert(mode)
    data = encoded(image, "TIFF")
    if mode == "F":
        with pytest.raises(ValueError, match="floating-point"):
            decode(data)
    else:
        assert decode(data).mode == "RGB"


@pytest.mark.parametrize(("size", "pages"), [((8, 6), 3), ((8, 5), 3), ((7, 5), 3), ((9, 6), 3), ((4, 3), 2)])
def test_a_tiff_of_pages_is_no_photo_but_a_photo_may_have_a_thumbnail(size, pages):
    buffer, first = io.BytesIO(), Image.new("RGB", (8, 6), (10, 20, 30))
    first.save(buffer, "TIFF", save_all=True, append_images=[Image.new("RGB", size, (1, 2, 3))] * (pages - 1))
    if pages == 3:
        with pytest.raises(ValueError, match=r"a TIFF of 3 pages, .* shards build --raw makes each a channel"):
            decode(buffer.getvalue())
    else:
        np.testing.assert_array_equal(np.asarray(decode(buffer.getvalue())), np.asarray(first))


def test_sixteen_bit_grey_is_scaled_not_clipped():
    wide = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    result = np.asarray(decode(encoded(Image.fromarray(wide), "PNG")))
    np.testing.assert_array_equal(result[..., 0], wide >> 8)


def test_transparent_parts_show_white():
    palette = Image.new("P", (4, 2))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putdata([0, 1, 0, 1, 0, 1, 0, 1])
    for transparency in (0, bytes([0, 255])):
        result = np.asarray(decode(encoded(palette, "PNG", transparency=transparency)))
        np.testing.assert_array_equal(result[0, :2], [[255, 255, 255], [0, 255, 0]])
    colour_key = Image.new("RGB", (1, 1), (9, 9, 9))
    np.testing.assert_array_equal(decode(encoded(colour_key, "PNG", transparency=(9, 9, 9))), [[[255] * 3]])
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    np.testing.assert_allclose(np.asarray(decode(encoded(half, "PNG")), int), 127, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("frame", [None, cropped(CenterCrop(24), np.zeros(1)), ShortestSide(40).frame])
def test_exif_orientation_is_undone(orientation, frame):
    upright = crop(6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # transposes that turn upright into what a camera stored
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    for kind in ("JPEG", "PNG"):
        result = decode(encoded(stored, kind, exif=exif, **({"quality": 98} if kind == "JPEG" else {})), frame)
        expected = decode(encoded(upright, "PNG"), frame)
        assert result.size == expected.size
        assert np.abs(np.asarray(result, float) - np.asarray(expected, float)).mean() < 6


def test_the_orientation_of_a_png_may_stand_behind_its_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright, stored = encoded(crop(6), "PNG"), encoded(crop(6).transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    chunks, at = [], 8
    while at < len(stored):
        chunks.append(stored[at : at + 12 + int.from_bytes(stored[at : at + 4])])
        at += len(chunks[-1])
    chunks.sort(key=lambda chunk: (b"IHDR", b"IDAT", b"eXIf", b"IEND").index(chunk[4:8]))
    for end in (None, -1):  # Pillow does without the mark of the end
        data = stored[:8] + b"".join(chunks[:end])
        np.testing.assert_array_equal(decode(memoryview(data)), decode(upright))


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01", b"Exif\0\0??" + bytes(9)],
)
def test_damaged_exif_is_ignored_without_a_warning(exif):
    assert decode(encoded(crop(7), exif=exif)).size == (120, 96)


def test_every_cut_of_a_file_decodes_or_says_why_not():
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        data = encoded(crop(8, 24, 24), kind)
        for length in range(0, len(data) - 16, 23):
            try:
                result = decode(data[:length]).mode
            except ValueError as error:
                result = str(error)
            assert result
    with pytest.raises(ValueError, match="empty"):
        decode(b"")
    with pytest.raises(ValueError, match="truncated"):
        decode(encoded(crop(8))[:-200])
    with pytest.raises(ValueError, match="cannot identify"):
        decode(b"%PDF-1.4 not an image")


@pytest.mark.parametrize("options", [{}, {"size": 16}, {"layout": "raw"}])
def test_a_png_whose_end_became_zeros_is_reported(tmp_path, options):
    data = encoded(crop(8, 64, 64), "PNG")
    keep = len(data) * 9 // 10
    assert decode(data[:keep] + bytes(len(data) - keep)).size == (64, 64)  # Pillow makes other pixels of the zeros
    (tmp_path / "tree").mkdir()
    for number, each in enumerate((data, data[:keep] + bytes(len(data) - keep))):
        (tmp_path / "tree" / f"{number}.png").write_bytes(each)
    built(tmp_path / "tree", tmp_path / "shards", **options)
    (left_out,) = report_of(tmp_path / "shards")["skipped"]
    assert left_out["path"] == "1.png"
    assert "damaged: the CRC-32 of its pixels must be 00000000, got" in left_out["reason"]


def test_bytes_after_the_image_do_not_matter():
    data = encoded(crop(9))
    np.testing.assert_array_equal(decode(data + b"\0tail" * 99), decode(data))


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    with pytest.raises(ValueError, match="60000 x 60000 pixels"):
        decode(bytes(data))


def test_shrinking_a_jpeg_agrees_with_shrinking_its_pixels():
    image = Image.fromarray(photographs()[0])
    jpeg = encoded(image, quality=95)
    for size in (40, 100, 200, 300):
        fit = cropped(CenterCrop(size), np.zeros(1))
        reduced, whole = decode(jpeg, fit), decode(encoded(Image.open(io.BytesIO(jpeg)), "PNG"), fit)
        assert reduced.size == (size, size)
        assert np.abs(np.asarray(reduced, float) - np.asarray(whole, float)).mean() < 5


def test_shortest_side_keeps_the_ratio_and_never_enlarges():
    jpeg = encoded(crop(1, 300, 400))
    assert decode(jpeg, ShortestSide(150).frame).size == (200, 150)
    assert decode(jpeg, ShortestSide(300).frame).size == (400, 300)
    assert decode(jpeg, ShortestSide(500).frame).size == (400, 300)


def test_an_image_that_is_too_long_for_jpeg_is_shrunk_all_the_same(tmp_path):
    (tmp_path / "tree").mkdir()
    Image.new("L", (85_000, 5), 90).save(tmp_path / "tree" / "long.png")
    assert built(tmp_path / "tree", tmp_path / "shards", size=4).records == 1
    ((pixels, _),) = loaders.ShardStream(tmp_path / "shards")
    assert pixels.shape == (1, 4, 68_000, 3)
    assert (pixels == 90).all()


def test_centre_crop_is_the_centre_of_the_resized_image():
    assert CenterCrop(224, resize=256).box(512, 1024, np.zeros(1)) == (32, 288, 480, 736)
    assert CenterCrop(10).box(10, 10, np.zeros(1)) == (0, 0, 10, 10)
    assert decode(encoded(crop(1, 5, 7)), cropped(CenterCrop(32), np.zeros(1))).size == (32, 32)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (20, 900), (900, 20), (1, 1)])
def test_random_crops_stay_inside_and_follow_their_distribution(width, height):
    transform = RandomResizedCrop(16)
    numbers = uniforms(0, 0, np.arange(400), transform.draws)
    boxes = np.array([transform.box(width, height, row) for row in numbers])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    if (width, height) == (500, 375):
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / (width * height)
        assert area.min() > 0.07
        assert 0.4 < area.mean() < 0.6


def test_uniforms_depend_on_seed_epoch_and_record_only():
    records = np.array([5, 1_200_000, 0])
    numbers = uniforms(3, 7, records, 23)
    np.testing.assert_array_equal(numbers[1:], uniforms(3, 7, records[1:], 23))
    assert (numbers != uniforms(3, 8, records, 23)).all()
    assert (numbers != uniforms(4, 7, records, 23)).all()
    many = uniforms(0, 0, np.arange(5000), 4)
    assert ((many >= 0) & (many < 1)).all()
    assert np.abs(np.histogram(many, 10, (0, 1))[0] - 2000).max() < 200
    assert np.abs(np.corrcoef(many.T) - np.eye(4)).max() < 0.06


@pytest.mark.parametrize(
    "make",
    [
        lambda: CenterCrop(0),
        lambda: CenterCrop(10, resize=9),
        lambda: CenterCrop(10, resize=12.5),
        lambda: CenterCrop(10, resize="12"),
        lambda: RandomResizedCrop(4, scale=(0.5, 0.1)),
        lambda: RandomResizedCrop(4, scale=(0.5, 2)),
        lambda: RandomResizedCrop(4, ratio=(0, 1)),
        lambda: RandomResizedCrop(4, scale=()),
        lambda: RandomResizedCrop(4, ratio=()),
        lambda: RandomResizedCrop(4, scale=0.5),
        lambda: RandomResizedCrop(4, ratio=1),
        lambda: RandomResizedCrop(4, ratio=(1, float("inf"))),
        lambda: ShortestSide(-1),
    ],
)
def test_impossible_transforms_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_the_odd_images_decode_and_the_damaged_ones_say_why():
    reasons = {}
    with tarfile.open(shared_file("imagenet_oddities_synthetic.tar")) as tar:
        for entry in tar:
            try:
                assert decode(tar.extractfile(entry).read()).mode == "RGB"
            except ValueError as error:
                reasons[entry.name.split("_")[-1]] = str(error)
    assert set(reasons) == {"truncated.JPEG", "empty.JPEG"}
