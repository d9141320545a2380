"""Stacks and images of any number of channels, of 8, 16 and 32 bits, kept as they are: TIFF, NumPy's files, shards."""

import io
import json

import numpy as np
import pytest
from loaders_helpers import built, crop, encoded, make_zip, names_of, report_of
from PIL import Image

import loaders
from hebbcore.cli import main
from loaders.images.native import native
from loaders.shards.format import DTYPES, read_table

COUNT, SHAPE = 7, (6, 9)


def stack_of(dtype, channels=5, count=COUNT, seed=0):
    random = np.random.default_rng(seed)
    shape = (count, *SHAPE, channels)
    if np.dtype(dtype).kind == "f":
        return (random.normal(size=shape) * 1000).astype(dtype)
    about = np.iinfo(dtype)
    return random.integers(about.min, about.max, shape, dtype, endpoint=True)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def tifffile():
    return pytest.importorskip("tifffile", reason="tifffile is not installed (extra tiff)")


def stored(folder, **options):
    """All images of a set, as they are stored."""
    with loaders.ShardStream(folder, batch_size=3, dtype="stored", **options) as stream:
        parts = list(stream)
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_numpy_stack_is_kept_as_it_is(tmp_path, dtype):
    images, labels = stack_of(dtype), np.arange(COUNT) % 3 - 1
    np.save(tmp_path / "stack.npy", images)
    np.save(tmp_path / "stack_labels.npy", labels)
    index = loaders.build_shards(tmp_path / "stack.npy", tmp_path / "shards", shard_bytes=3 * images[0].nbytes)
    assert (index.dtype, index.image_shape, index.records, len(index.shards)) == (dtype, images.shape[1:], COUNT, 3)
    assert json.loads((tmp_path / "shards" / "index.json").read_text())["version"] == 1 + (dtype != "uint8")
    assert loaders.verify_shards(tmp_path / "shards") == []
    found, classes = stored(tmp_path / "shards")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(classes, labels)
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    pixels = images.reshape(-1, 5) / np.float64(white)
    np.testing.assert_allclose(index.mean, pixels.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(index.std, pixels.std(axis=0), rtol=1e-9)
    with loaders.ShardStream(tmp_path / "shards", batch_size=COUNT, dtype="float32") as stream:
        floats = next(iter(stream))[0]
    np.testing.assert_allclose(floats, images / np.float64(white), rtol=1e-6, atol=1e-9)
    with loaders.ShardStream(tmp_path / "shards", batch_size=COUNT, dtype="float32", normalize="stored") as stream:
        floats = next(iter(stream))[0]
    np.testing.assert_allclose(floats.reshape(-1, 5).std(axis=0), 1, rtol=1e-4)
    shuffled, _ = stored(tmp_path / "shards", shuffle=True, seed=1)
    np.testing.assert_array_equal(
        np.sort(shuffled.reshape(COUNT, -1), axis=0), np.sort(images.reshape(COUNT, -1), axis=0)
    )


def test_streams_of_other_numbers_give_floats_and_refuse_uint8_and_sizes(tmp_path):
    loaders.write_shards((stack_of("uint16"), np.zeros(COUNT, int)), tmp_path / "shards", wide=True)
    with loaders.ShardStream(tmp_path / "shards") as stream:
        assert next(iter(stream))[0].dtype == np.float32
    with pytest.raises(ValueError, match='the images are uint16, not uint8; dtype must be "float32" or "stored"'):
        loaders.ShardStream(tmp_path / "shards", dtype="uint8")
    with pytest.raises(ValueError, match="only uint8 images of 1 or 3 channels can be resized"):
        loaders.ShardStream(tmp_path / "shards", image_size=4)
    with pytest.raises(TypeError, match="images must be uint8, got uint16"):
        loaders.write_shards((stack_of("uint16"), np.zeros(COUNT, int)), tmp_path / "b")
    with pytest.raises(TypeError, match=r"images must be uint8, uint16, .* got float64"):
        loaders.write_shards((np.zeros((2, 3, 3)), np.zeros(2, int)), tmp_path / "b", wide=True)


def test_a_range_is_what_is_white(tmp_path):
    np.save(tmp_path / "stack.npy", stack_of("uint16") >> 4)
    loaders.build_shards(tmp_path / "stack.npy", tmp_path / "shards", value_range=4095)
    with loaders.ShardStream(tmp_path / "shards", batch_size=COUNT) as stream:
        np.testing.assert_allclose(next(iter(stream))[0], (stack_of("uint16") >> 4) / 4095, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}], ids=str)
@pytest.mark.parametrize(
    ("dtype", "axes", "shape", "order"),
    [
        ("uint16", "TCYX", (4, 3, 8, 9), (0, 2, 3, 1)),
        ("float32", "ZYX", (5, 8, 9), (0, 1, 2)),
        ("uint8", "TYXS", (4, 8, 9, 3), (0, 1, 2, 3)),
        ("int32", "TZYX", (2, 3, 8, 9), (0, 1, 2, 3)),
    ],
)
def test_a_tiff_stack_is_kept_as_it_is(tmp_path, tifffile, dtype, axes, shape, order, options):
    data = (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)
    described = {"metadata": {"axes": axes}, "photometric": "rgb" if axes.endswith("S") else "minisblack"}
    tifffile.imwrite(tmp_path / "stack.tif", data, ome=True, **described, **options)
    index = loaders.build_shards(tmp_path / "stack.tif", tmp_path / "shards")
    expected = data.transpose(order)
    if axes == "TZYX":
        expected = expected.reshape(6, 8, 9)
    expected = expected.reshape(len(expected), 8, 9, -1)
    assert (index.dtype, index.records) == (dtype, len(expected))
    found, labels = stored(tmp_path / "shards")
    np.testing.assert_array_equal(found, expected)
    assert (labels == -1).all()
    assert loaders.verify_shards(tmp_path / "shards") == []


@pytest.mark.parametrize("ome", [False, True])
def test_every_series_of_a_tiff_is_read_or_refused(tmp_path, tifffile, ome):
    images = stack_of("uint16", 1, 6)[..., 0]
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=ome) as writer:
        for some in (images[:1], images[1:4], images[4:]):
            packed = "zlib" if len(some) == 2 else None
            writer.write(some, photometric="minisblack", compression=packed, metadata={"axes": "TYX"})
    loaders.build_shards(tmp_path / "a.tif", tmp_path / "shards")
    np.testing.assert_array_equal(stored(tmp_path / "shards")[0][..., 0], images)
    for number in (0, 1):
        tifffile.imwrite(tmp_path / "b.tif", images[number], append=number > 0)
    np.testing.assert_array_equal(native((tmp_path / "b.tif").read_bytes()), np.moveaxis(images[:2], 0, -1))
    tifffile.imwrite(tmp_path / "b.tif", images[0, :3, :4], append=True)
    with pytest.raises(ValueError, match=r"b\.tif .*images of several kinds, .*save those of one kind in a file"):
        loaders.open_source(tmp_path / "b.tif")
    assert native((tmp_path / "b.tif").read_bytes()).shape[-1] == 2  # the third is a thumbnail
    tifffile.imwrite(tmp_path / "b.tif", images[0].astype(np.uint8), append=True)
    with pytest.raises(ValueError, match="its pages are of several kinds"):
        native((tmp_path / "b.tif").read_bytes())


def test_images_of_many_channels_in_class_folders(tmp_path, tifffile):
    images = stack_of("uint16", 13, 6)
    for number, image in enumerate(images):
        (tmp_path / "tree" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        path = tmp_path / "tree" / "ab"[number % 2] / f"{number}.tif"
        if number == 1:
            path.with_suffix(".npy").write_bytes(npy(image))
        elif number == 2:
            tifffile.imwrite(path, image.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate")
        else:
            tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig", extrasamples=[0] * 12)
    (tmp_path / "tree" / "a" / "odd.npy").write_bytes(npy(images[0][:5]))
    (tmp_path / "tree" / "a" / "short.npy").write_bytes(npy(images[0])[:-3])
    (tmp_path / "tree" / "a" / "text.txt").write_text("text")
    (tmp_path / "tree" / "b" / "photo.png").write_bytes(encoded(crop(1), "PNG"))
    index = built(tmp_path / "tree", tmp_path / "shards", layout="raw", shard_bytes=3 * images[0].nbytes)
    assert (index.dtype, index.image_shape, index.records, index.skipped) == ("uint16", images.shape[1:], 6, 4)
    assert index.class_counts == (3, 3)
    found, _ = stored(tmp_path / "shards")
    np.testing.assert_array_equal(found, images[[0, 2, 4, 1, 3, 5]])
    assert names_of(tmp_path / "shards")[3] == "b/1.npy"
    reasons = {entry["path"]: entry["reason"] for entry in report_of(tmp_path / "shards")["skipped"]}
    assert reasons["a/odd.npy"].startswith(
        "its pixels are (5, 9, 13) uint16, those of the first image (6, 9, 13) uint16"
    )
    assert "cut short" in reasons["a/short.npy"]
    assert reasons["a/text.txt"] == "not an image by its content"
    assert "(96, 120, 3) uint8" in reasons["b/photo.png"]


def test_a_tiff_that_cannot_become_rgb_says_what_keeps_its_pixels(tmp_path, tifffile):
    (tmp_path / "tree" / "a").mkdir(parents=True)
    image = stack_of("uint8", 5, 1)[0]
    tifffile.imwrite(tmp_path / "tree" / "a" / "1.tif", image, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ValueError, match=r"a TIFF of other pixels than photos have, .* shards build --raw keeps such"):
        loaders.build_shards(tmp_path / "tree", tmp_path / "shards", workers=1, size=6, layout="raw")


def test_pixels_of_usual_files_stay_as_they_are_too(tmp_path):
    grey = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1000
    files = {"a/1.png": encoded(Image.fromarray(grey), "PNG"), "a/2.png": encoded(Image.fromarray(grey + 1), "PNG")}
    index = built(make_zip(tmp_path / "a.zip", files), tmp_path / "shards", layout="raw")
    assert (index.dtype, index.image_shape) == ("uint16", (6, 9, 1))
    np.testing.assert_array_equal(stored(tmp_path / "shards")[0], np.stack([grey, grey + 1])[..., None])
    assert native(encoded(crop(1), "PNG")).shape == (96, 120, 3)
    assert native(encoded(crop(1).convert("L"), "PNG")).shape == (96, 120, 1)
    assert native(encoded(crop(1).convert("P"), "PNG")).shape == (96, 120, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(np.zeros((3, 4))), "pixels must be uint8, .* got float64"),
        (npy(np.full((3, 4), np.nan, np.float32)), "NaN or infinity"),
        (npy(np.zeros((2, 3, 4, 5), np.uint8)), r"an image must be \(H, W\) or \(H, W, C\), got"),
        (npy(np.zeros((0, 4), np.uint8)), "an image must be"),
        (npy(np.zeros((3, 4), np.uint8)).replace(b"(3, 4)", b"(9, 9)"), "cut short or holds objects"),
        (npy(np.zeros((3, 4), np.uint8)).replace(b"(3, 4), }", b"(10**9, 4),}"), "."),
        (b"\x93NUMPY\x01", "."),
        (b"II*\0" + bytes(40), "."),
        (b"no image", "cannot identify"),
    ],
)
def test_what_is_no_image_as_it_is_is_refused(tifffile, data, message):
    with pytest.raises(ValueError, match=message):
        native(data)


def test_a_stack_that_is_damaged_or_in_another_order_is_refused(tmp_path, tifffile):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 13, 40, 40), np.uint16))
    with pytest.raises(ValueError, match=r"looks like channels first; save np\.moveaxis"):
        loaders.open_source(path)
    path.write_bytes(npy(np.zeros((4, 8, 8), np.uint16))[:-10])
    with pytest.raises(ValueError, match=r"a\.npy is damaged or cut short"):
        loaders.open_source(path)
    path.write_bytes(npy(np.array([{"a": 1}], object)))
    with pytest.raises(ValueError, match=r"a\.npy is damaged or cut short: .*objects"):
        loaders.open_source(path)
    np.save(path, np.zeros((4, 8, 8), np.uint16))
    np.save(tmp_path / "a_labels.npy", np.zeros(3, int))
    with pytest.raises(ValueError, match=r"a\.npy: labels must be \(4,\)"):
        loaders.open_source(path)
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 3, 8, 9), np.uint8), metadata={"axes": "CTYX"}, ome=True)
    with pytest.raises(ValueError, match=r"b\.tif .*channels must be next to YX"):
        loaders.open_source(tmp_path / "b.tif")
    data = (tmp_path / "b.tif").read_bytes()
    for cut in (10, len(data) // 2):
        (tmp_path / "b.tif").write_bytes(data[:cut])
        with pytest.raises(ValueError, match=r"b\.tif"):
            loaders.build_shards(tmp_path / "b.tif", tmp_path / "x")


def test_a_range_that_would_change_nothing_is_refused(tmp_path):
    np.save(tmp_path / "stack.npy", stack_of("float32"))
    for source, options in ((tmp_path / "stack.npy", {}), (tmp_path / "a.zip", {"layout": "raw", "workers": 1})):
        make_zip(tmp_path / "a.zip", {"a/1.png": encoded(crop(1), "PNG")})
        with pytest.raises(ValueError, match="is for 16 and 32 bits; the images are"):
            loaders.build_shards(source, tmp_path / "x", value_range=4095, **options)


def test_the_command_does_not_call_a_range_idle_that_has_its_effect(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "1.npy", stack_of("uint16")[0] // 16)
    assert main(["shards", "build", str(tmp_path / "a"), str(tmp_path / "x"), "--raw", "--range", "4095"]) == 0
    assert "no effect" not in capsys.readouterr().out
    assert loaders.read_index(tmp_path / "x").white == 4095


def test_a_tiff_that_leads_to_another_file_gives_its_own_pages_alone(tmp_path, tifffile):
    image = np.arange(2 * 6 * 9, dtype=np.uint16).reshape(2, 6, 9)
    tifffile.imwrite(tmp_path / "other.ome.tif", image, ome=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "other.ome.tif") as file:
        xml = file.pages[0].description
    start = xml.index("<TiffData")
    elsewhere = '<TiffData FirstZ="0" IFD="1"><UUID FileName="other.ome.tif">urn:uuid:0</UUID></TiffData>'
    changed = xml[:start] + elsewhere + xml[xml.index("/>", start) + 2 :]
    tifffile.imwrite(tmp_path / "a.ome.tif", image[0], description=changed, metadata=None)
    np.testing.assert_array_equal(native((tmp_path / "a.ome.tif").read_bytes()), image[0, ..., None])
    loaders.build_shards(tmp_path / "a.ome.tif", tmp_path / "shards")
    np.testing.assert_array_equal(stored(tmp_path / "shards")[0], image[0][None, ..., None])


def test_floats_that_are_no_numbers_are_reported(tmp_path):
    images = stack_of("float32")
    images[2, 0, 0, 0] = np.inf
    np.save(tmp_path / "stack.npy", images)
    index = loaders.build_shards(tmp_path / "stack.npy", tmp_path / "shards")
    assert (index.records, index.skipped) == (COUNT - 1, 1)
    assert report_of(tmp_path / "shards")["skipped"] == [
        {"path": "0000002", "reason": "NaN or infinity among its pixels"}
    ]


def test_a_reader_of_version_1_refuses_such_a_set_and_damage_is_found(tmp_path):
    loaders.write_shards((stack_of("int16"), np.zeros(COUNT, int)), tmp_path / "shards", wide=True)
    path = tmp_path / "shards" / "shard-00000.h5"
    assert read_table(path).dtype == "int16"
    data = bytearray(path.read_bytes())
    data[data.find(stack_of("int16").tobytes()) + 5] ^= 1
    path.write_bytes(data)
    assert ["CRC-32" in damage.reason for damage in loaders.verify_shards(tmp_path / "shards")] == [True]
    with pytest.raises(ValueError, match="CRC-32"):
        stored(tmp_path / "shards")
    index = json.loads((tmp_path / "shards" / "index.json").read_text())
    for key, value in (("version", 1), ("version", 3)):
        (tmp_path / "shards" / "index.json").write_text(json.dumps({**index, key: value, "digest": None}))
        with pytest.raises(ValueError, match="version"):
            loaders.read_index(tmp_path / "shards")


def test_an_interrupted_build_goes_on_to_the_same_bytes(tmp_path):
    np.save(tmp_path / "stack.npy", stack_of("float32"))

    def stop(progress):
        raise KeyboardInterrupt

    options = {"shard_bytes": 2 * stack_of("float32")[0].nbytes}
    with pytest.raises(KeyboardInterrupt):
        loaders.build_shards(tmp_path / "stack.npy", tmp_path / "a", progress=stop, **options)
    for name in "ab":
        loaders.build_shards(tmp_path / "stack.npy", tmp_path / name, **options)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    np.save(tmp_path / "stack.npy", stack_of("float32", seed=1))
    with pytest.raises(ValueError, match="holds a set built differently"):
        loaders.build_shards(tmp_path / "stack.npy", tmp_path / "a", **options)
