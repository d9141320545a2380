"""Images of 16 bits that hold 12, and files whose name does not say what they are."""

import io
import json
from pathlib import Path
from struct import pack
from zlib import compress, crc32

import numpy as np
import pytest
from loaders_helpers import crop, encoded, make_tar
from PIL import Image, features

import loaders
from hebbcore.cli import main
from loaders.images.decode import decode
from loaders.images.formats import format_of
from loaders.images.native import native


def grey(number: int, highest: int, height: int = 20, width: int = 24) -> np.ndarray:
    """A part of a photograph as integers whose largest is `highest`."""
    values = np.asarray(crop(number, height, width).convert("L")).astype(np.float64)
    return np.round((values - values.min()) / np.ptp(values) * highest).astype(np.uint16)


def pgm(values: np.ndarray, maxval: int) -> bytes:
    return b"P5 %d %d %d\n" % (*values.shape[::-1], maxval) + values.astype(">u2").tobytes()


def written(values: np.ndarray, kind: str) -> bytes:
    return pgm(values, 65535) if kind == "PGM" else encoded(Image.fromarray(values), kind)


def tree_of(root: Path, kind: str, highest: list[int]) -> Path:
    for number, value in enumerate(highest):
        folder = root / f"class_{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02d}.{kind.lower()}").write_bytes(written(grey(number, value), kind))
    return root


def build(source, folder, **options):
    return loaders.build_shards(source, folder, workers=1, **options)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM"])
@pytest.mark.parametrize(("highest", "bits"), [(3890, 12), (1000, 10), (12_000, 14), (40_000, 16), (200, 8)])
def test_the_range_of_16_bit_images_is_found_noted_and_used_by_the_stream(tmp_path, kind, highest, bits):
    tree = tree_of(tmp_path / "tree", kind, [highest // 2, highest, highest // 3, highest // 2])
    index = build(tree, tmp_path / "shards")
    assert (index.settings["range"], index.records) == (2**bits - 1, 4)
    (images, _), *_ = loaders.ShardStream(tmp_path / "shards")
    expected = grey(2, highest // 3) >> (bits - 8)
    np.testing.assert_array_equal(images[1][..., 0], expected)
    pixels = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(index.mean, pixels.mean(axis=0), rtol=1e-12)
    (small, _), *_ = loaders.ShardStream(tmp_path / "shards", image_size=8)
    assert small.max() > 60
    assert build(tree, tmp_path / "shards") == index
    assert loaders.verify_shards(tmp_path / "shards") == []


def test_a_given_range_is_used_and_images_beyond_it_are_reported(tmp_path):
    tree = tree_of(tmp_path / "tree", "PNG", [900, 3890, 5000, 1000])
    index = build(tree, tmp_path / "shards", value_range=4095)
    assert (index.settings["range"], index.records, index.skipped) == (4095, 3, 1)
    (entry,) = json.loads((tmp_path / "shards" / "report.json").read_text())["skipped"]
    assert entry["path"] == "class_0/02.png"
    assert entry["reason"].startswith("16-bit values from 0 to 5000, but the range is 0 to 4095; give a larger one")
    with pytest.raises(ValueError, match=r"class_0/02\.png cannot be decoded: 16-bit values from 0 to 5000"):
        build(tree, tmp_path / "strict", value_range=4095, strict=True)
    assert build(tree, tmp_path / "odd", value_range=5000).records == 4
    (images, _), *_ = loaders.ShardStream(tmp_path / "odd")
    assert images[1].max() == 255


def test_an_image_beyond_the_range_of_the_sample_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(loaders.shards.ranges, "IMAGES", 2)
    tree = tree_of(tmp_path / "tree", "PNG", [3000, 3000, 3000, 3000, 3000, 9000])
    index = build(tree, tmp_path / "shards")
    assert (index.settings["range"], index.records, index.skipped) == (4095, 5, 1)


def test_an_image_of_32_bits_does_not_make_those_of_16_black(tmp_path):
    tree = tree_of(tmp_path / "tree", "PNG", [3000, 3890])
    Image.fromarray(grey(0, 3000).astype(np.int32) << 10).save(tree / "class_0" / "9.tif")
    index = build(tree, tmp_path / "shards")
    assert (index.settings["range"], index.records, index.skipped) == (4095, 2, 1)
    alone = tmp_path / "alone" / "a"
    alone.mkdir(parents=True)
    (tree / "class_0" / "9.tif").rename(alone / "9.tif")
    assert build(alone.parent, tmp_path / "wide").settings["range"] == 3000 << 10


@pytest.mark.parametrize(("others", "highest", "told"), [(2, 255, True), (2, 256, False), (0, 255, False)])
def test_images_of_32_bits_that_become_black_beside_those_of_16_are_told(tmp_path, caplog, others, highest, told):
    tree = tree_of(tmp_path / "tree", "TIFF", [200, 60_000][:others])
    (tree / "class_0").mkdir(parents=True, exist_ok=True)
    for number in (7, 8):
        Image.fromarray(grey(number, highest).astype(np.int32)).save(tree / "class_0" / f"{number}.tif")
    for _ in range(2):
        build(tree, tmp_path / "shards")
    wanted = "2 images of 32 bits in a sample have values up to 255, and become black beside those of 16 bits"
    assert sum(text.startswith(wanted) for text in caplog.messages) == told


@pytest.mark.parametrize("value_range", [4095, 65535])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_0_is_white_where_a_tiff_says_so(value_range, compression):
    """Pillow turns such values round in images of 8 bits alone."""
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed (extra tiff)")
    for dtype, white in (("uint8", 255), ("uint16", value_range)):
        values, stream = grey(1, white), io.BytesIO()
        turned = (white - values.astype(np.int64)).astype(dtype)
        tifffile.imwrite(stream, turned, photometric="miniswhite", compression=compression)
        pixels = np.asarray(decode(stream.getvalue(), None, value_range))[..., 0]
        np.testing.assert_array_equal(pixels, values.astype(np.int64) * 256 // (white + 1))


def test_one_dark_16_bit_image_among_others_is_not_guessed(tmp_path, monkeypatch):
    monkeypatch.setattr(loaders.shards.ranges, "IMAGES", 1)
    tree = tree_of(tmp_path / "tree", "PNG", [1000, 1000, 60_000])
    (tree / "class_0" / "0.jpg").write_bytes(encoded(crop(0)))  # the first, and all of the sample
    index = build(tree, tmp_path / "shards")
    assert (index.settings["range"], index.records) == (None, 2)
    reasons = [entry["reason"] for entry in json.loads((tmp_path / "shards" / "report.json").read_text())["skipped"]]
    assert all("16-bit values up to 1000" in reason and "--range 4095" in reason for reason in reasons)
    assert build(tree, tmp_path / "given", value_range=65535).records == 4


def test_a_pgm_that_states_its_range_is_read_by_it(tmp_path):
    values = grey(1, 4095)
    for given in (None, 4095, 65535):
        np.testing.assert_array_equal(
            np.asarray(decode(pgm(values, 4095), None, given))[..., 0], values * 16.0037 // 256
        )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.pgm").write_bytes(pgm(values, 4095))
    assert build(tmp_path, tmp_path.parent / "stated").settings["range"] is None


@pytest.mark.parametrize("highest", [65535, 4095, 256])
@pytest.mark.parametrize("plain", [False, True])
def test_a_pgm_of_16_bits_is_kept_as_it_is(tmp_path, highest, plain):
    values = np.append(np.arange(0, highest, 7), highest)[None]
    data = b"P2 %d 1 %d " % (values.size, highest) + " ".join(map(str, values[0])).encode() + b"\n"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.pgm").write_bytes(data if plain else pgm(values, highest))
    index = build(tmp_path / "a", tmp_path / "x", layout="raw", size=None)
    assert (index.dtype, index.white) == ("uint16", 65535)
    ((pixels, _),) = loaders.ShardStream(tmp_path / "x", dtype="stored")
    np.testing.assert_array_equal(pixels[0, ..., 0], values)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow has no JPEG 2000")
@pytest.mark.parametrize("boxed", [False, True])
def test_jpeg_2000_of_more_than_8_bits_is_kept_as_it_is_or_refused(boxed):
    def coded(image: Image.Image, bits: int) -> bytes:
        data = bytearray(encoded(image, "JPEG2000", no_jp2=not boxed, mct=0))
        at = data.index(b"\xff\x4f\xff\x51") + 42
        data[at : at + 3 * len(image.getbands()) : 3] = bytes([bits - 1] * len(image.getbands()))
        return bytes(data)

    for bits in (15, 12, 16):
        values = np.arange(64 * 64).reshape(64, 64)
        shifted = values + 2**15 - 2 ** (bits - 1)  # what is coded is centred by the bits
        pixels = native(coded(Image.fromarray(shifted.astype(np.uint16)), bits))
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels[..., 0], values)
    with pytest.raises(ValueError, match="12-bit colour is read as 8 bits from this format"):
        native(coded(crop(1), 12))
    with pytest.raises(ValueError, match="24 bits are read as 16 from this format"):
        native(coded(Image.fromarray(values.astype(np.uint16)), 24))
    assert native(encoded(crop(1), "JPEG2000")).dtype == np.uint8


@pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF")
def test_avif_of_more_than_8_bits_is_refused_where_pixels_are_kept():
    data = bytearray(encoded(crop(1), "AVIF"))
    assert native(bytes(data)).dtype == np.uint8
    for bits, coded in ((10, 0x40), (12, 0x60)):
        data[data.index(b"av1C") + 6] |= coded
        at = data.index(b"pixi") + 9
        data[at : at + 3] = bytes([bits] * 3)
        with pytest.raises(ValueError, match=f"{bits}-bit colour is read as 8 bits from this format"):
            native(bytes(data))


def test_a_damaged_header_of_16_bits_is_reported(tmp_path):
    data = bytearray(encoded(Image.fromarray(np.full((16, 16), 300, np.uint16)), "PNG"))
    data[29] ^= 1  # in the checksum of the header, for which Pillow raises SyntaxError
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(data)
    (tmp_path / "a" / "1.png").write_bytes(encoded(crop(1), "PNG"))
    assert build(tmp_path / "a", tmp_path / "x").skipped == 1


def test_16_bit_colour_of_a_ppm_is_not_kept_as_8_bits_and_dark_one_is_reported():
    def ppm(highest: int, white: int = 65535) -> bytes:
        return b"P6 2 1 %d\n" % white + np.full(6, highest, ">u2").tobytes()

    for white in (65535, 4095):
        with pytest.raises(ValueError, match="16-bit colour is read as 8 bits from this format"):
            native(ppm(4000, white))
    with pytest.raises(ValueError, match="16-bit colour with values below "):
        decode(ppm(4000), None, None)
    assert np.asarray(decode(ppm(60_000), None, None)).max() == 233
    assert np.asarray(decode(ppm(4095, 4095), None, 1000)).min() == 255


def png_of_16_bits(values: np.ndarray, clear: bytes = b"") -> bytes:
    """A PNG of grey (H, W) or RGB (H, W, 3). clear: the colour that is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", crc32(kind + data))

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", pack(">IIBBBBB", *values.shape[1::-1], 16, 2 * (values.ndim == 3), 0, 0, 0))
    header += chunk(b"tRNS", clear) if clear else b""
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("clear", [300, 60_000])
def test_the_transparent_colour_of_16_bits_shows_white(clear):
    values = np.array([[300, 60_000], [clear, 30_000]], np.uint16)
    expected = np.where(values == clear, 255, values >> 8)
    for pixels in (values, np.stack([values] * 3, -1)):
        result = decode(png_of_16_bits(pixels, pack(">H", clear) * (pixels.size // values.size)))
        np.testing.assert_array_equal(result, np.stack([expected] * 3, -1))


def test_dark_16_bit_colour_is_reported_not_written_black():
    def png(highest: int) -> bytes:
        return png_of_16_bits(np.full((4, 4, 3), highest))

    for given in (None, 4095):
        with pytest.raises(ValueError, match=r"16-bit colour with values below 4096 .*convert it to 8 bits"):
            decode(png(4095), None, given)
    assert np.asarray(decode(png(4095), None, 65535)).max() == 15
    assert np.asarray(decode(png(60_000), None, None)).max() == 234


def test_the_command_says_the_range_it_found_or_was_given(tmp_path, capsys, caplog):
    tree = str(tree_of(tmp_path / "tree", "TIFF", [3000, 2000, 100]))
    assert main(["shards", "build", tree, str(tmp_path / "a"), "--workers", "1"]) == 0
    assert "is white" not in capsys.readouterr().out
    told = "16-bit images: 4095 is white, by a sample of them; value_range (shards build --range) sets it"
    assert caplog.messages.count(told) == 1  # before the work
    assert main(["shards", "build", tree, str(tmp_path / "b"), "--workers", "1", "--range", "3000"]) == 0
    assert "by a sample" not in capsys.readouterr().out
    assert main(["shards", "info", str(tmp_path / "b")]) == 0
    assert "range 3000" in capsys.readouterr().out
    assert main(["shards", "build", tree, str(tmp_path / "a"), "--workers", "1", "--range", "3000"]) == 1
    assert "range 4095 there and 3000 here" in capsys.readouterr().err


FILES = {
    "photo.jfif": "JPEG",
    "photo": "JPEG",
    "photo.dat": "PNG",
    "photo.avif": "AVIF",
    "photo.jp2": "JPEG2000",
    "photo.JPG": "WEBP",
    "photo.old": "BMP",
    "photo.x": "GIF",
    "photo.y": "TIFF",
    "photo.z": "PPM",
}


@pytest.mark.parametrize("packed", [True, False])
def test_images_are_known_by_their_content(tmp_path, packed):
    image = crop(3, 32, 40)
    files = {f"a/{name}": encoded(image, kind) for name, kind in FILES.items()}
    junk = {
        "a/Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(3000),
        "a/notes.txt": b"BM is a bitmap? P5? no",
        "a/empty": b"",
        "a/data.json": b"{}",
    }
    damaged = {"a/broken.jpg": b"junk", "a/none.png": b""}
    hidden = {"a/.DS_Store": b"\0\0\0\1Bud1"}
    everything = {**files, **junk, **damaged, **hidden, "b/1.jpg": encoded(image)}
    if packed:
        source = make_tar(tmp_path / "a.tar", everything)
    else:
        source = tmp_path / "tree"
        for name, data in everything.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
    index = build(source, tmp_path / "shards")
    report = json.loads((tmp_path / "shards" / "report.json").read_text())["skipped"]
    reasons = {entry["path"]: entry["reason"] for entry in report}
    assert reasons["a/.DS_Store"] == "hidden, or in a hidden folder"
    assert {name for name, reason in reasons.items() if reason == "not an image by its content"} == set(junk)
    assert set(reasons) == {*junk, *damaged, *hidden}
    assert index.records == len(files) + 1
    (images, _), *_ = loaders.ShardStream(tmp_path / "shards")
    assert np.abs(images.astype(float) - np.asarray(image, float)).mean() < 12


def test_a_large_file_that_is_no_image_is_not_read(tmp_path, monkeypatch):
    tree = tmp_path / "tree" / "a"
    tree.mkdir(parents=True)
    (tree / "1.jpg").write_bytes(encoded(crop(1)))
    with open(tree / "film.mp4", "wb") as file:
        file.truncate(2**33)
    with open(tree / "film.jpg", "wb") as file:
        file.truncate(2**33)
    index = build(tree.parent, tmp_path / "shards")
    reasons = {
        entry["path"]: entry["reason"] for entry in json.loads((tmp_path / "shards/report.json").read_text())["skipped"]
    }
    assert index.records == 1
    assert reasons["a/film.mp4"] == "not an image by its content"
    assert reasons["a/film.jpg"] == "the file has 8589934592 bytes, more than the 1073741824 an image may have"


@pytest.mark.parametrize("kind", sorted(set(FILES.values())))
def test_every_format_is_known_by_its_first_bytes(kind):
    assert format_of(encoded(crop(1, 16, 16), kind)[:32]) == kind


def test_a_format_that_pillow_cannot_read_says_so():
    with pytest.raises(ValueError, match="Pillow as it is installed cannot read HEIC files; convert them to PNG"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


@pytest.mark.parametrize("value", [0, 254, 2.5, True, -1])
def test_a_wrong_range_is_refused(tmp_path, value):
    tree = tree_of(tmp_path / "tree", "PNG", [900, 900])
    with pytest.raises(ValueError, match="value_range must be an integer >= 255"):
        build(tree, tmp_path / "shards", value_range=value)


def test_16_bit_colours_of_tiff_are_read_right_or_refused():
    """Of planes without compression Pillow takes the bytes for values; of four inks, no ink is white."""
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed (extra tiff)")

    def tiff(pixels, **options):
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels.astype(np.uint16), **options)
        return stream.getvalue()

    wide = np.asarray(crop(1, 20, 24).convert("RGB")).astype(np.uint16) * 257
    np.testing.assert_array_equal(np.asarray(decode(tiff(wide, photometric="rgb"))), wide >> 8)
    planes = np.moveaxis(wide, 2, 0)
    for options in ({}, {"compression": "deflate"}):
        data = tiff(planes, photometric="rgb", planarconfig="separate", **options)
        if options:
            np.testing.assert_array_equal(np.asarray(decode(data)), wide >> 8)
        else:
            with pytest.raises(ValueError, match="a plane for each colour is not read from TIFF"):
                decode(data)
    inks = np.full((8, 8, 4), 4000)
    with pytest.raises(ValueError, match="16-bit colour with values below 4096 is read as if 65535 were white"):
        decode(tiff(inks, photometric="separated"), None, None)
