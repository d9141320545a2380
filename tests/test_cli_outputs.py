"""`hebbcore extract` and `plot` as a user runs them: the files they write, and errors."""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import BATCH_NORM, config_text, names, weights
from PIL import Image
from tqdm import tqdm

import hebbcore
from hebbcore import plots
from hebbcore.features import extract
from hebbcore.features.choice import Features
from hebbcore.training import diagnostics

pytest_plugins = "cli_helpers"


# extract


def test_extract_from_arrays_and_shards(place, call):
    call("train run.toml --out a")
    out, err = call("extract a images.h5 f.h5")
    assert (out, err) == ("f.h5: features of 20 images of the split test\n", "")
    call("extract a shards/test g.h5 --layer pool1 --dtype float16")
    call("extract a images.h5 m.h5 --mirror")
    call("extract a images.h5 new/h.h5 --split train --layer conv1 --pool 2 --batch-size 7 --device cpu")
    network = hebbcore.load("a", device="cpu")
    with h5py.File("m.h5") as m, h5py.File("images.h5") as data:
        np.testing.assert_array_equal(m["features"], network.transform(data["test/images"][...], mirror=True))
    with h5py.File("images.h5") as data, h5py.File("f.h5") as f, h5py.File("g.h5") as g, h5py.File("new/h.h5") as h:
        images = data["test/images"][...]
        np.testing.assert_array_equal(f["features"], network.transform(images))
        np.testing.assert_array_equal(f["labels"], data["test/labels"])
        np.testing.assert_array_equal(g["features"], network.transform(images, "pool1").astype(np.float16))
        np.testing.assert_array_equal(g["labels"], data["test/labels"])
        assert h["features"].shape == (60, 2, 2, 6)
        np.testing.assert_array_equal(h["labels"], data["train/labels"])
    before = Path("f.h5").read_bytes()
    call("extract a images.h5 f.h5")
    assert Path("f.h5").read_bytes() == before


def test_extract_cuts_what_the_network_takes(place, call, fails):
    call("train run.toml --out a --set data.path=shards/train --set data.image_size=6")
    call("extract a shards/test f.h5")
    call("extract a shards/test f.h5 --image-size 6")
    assert fails("extract a shards/test g.h5 --image-size 7").startswith("extract: images must be (6, 6, 3), as the")
    assert fails("extract a images.h5 g.h5").startswith("extract: images must be (6, 6, 3), as the network was made")
    assert not list(place.glob("g.h5*"))


def test_extract_from_a_saved_network(place, call, fails):
    network = hebbcore.Network([hebbcore.Dense(3)], (8, 8, 3), device="cpu")
    hebbcore.save("net.h5", network)
    call("extract net.h5 images.h5 f.h5")
    with h5py.File("f.h5") as file:
        assert file["features"].shape == (20, 3)
    hebbcore.save("layer.h5", network["fc1"].as_layer())
    assert fails("extract layer.h5 images.h5 g.h5") == "layer.h5 holds a single layer, not a network."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("extract gone images.h5 f.h5", "load: gone does not exist."),
        ("extract shards images.h5 f.h5", "load: shards holds no checkpoint; train into it first."),
        ("extract images.h5 images.h5 f.h5", "load: images.h5 is damaged or no checkpoint of hebbcore."),
        ("extract run.toml images.h5 f.h5", "load: run.toml is damaged or no checkpoint of hebbcore"),
        ("extract a gone f.h5", "gone does not exist; give a folder of shards (hebbcore shards build) or of images"),
        ("extract a run.toml f.h5", "run.toml cannot be read as HDF5"),
        ("extract a shards f.h5", "ImageFolder: shards holds splits, not classes: has train, test; give shards/train"),
        ("extract a images.h5 f.h5 --split val", "images.h5 must hold val/images; it holds"),
        ("extract a images.h5 f.h5 --split short", "images.h5: short/labels must hold 2 labels, one for each of"),
        (
            "extract a shards/test f.h5 --split test",
            "--split is for HDF5 files; shards/test is a folder of shards, which",
        ),
        ("extract a images.h5 f.h5 --image-size 8", "--image-size is for shards; images.h5 is a file of arrays."),
        ("extract a images.h5 f.h5 --layer conv2", "extract: layer must be one of 'conv1', 'pool1', 'bn1'; got"),
        ("extract a images.h5 f.h5 --layer bn1 --pool 4", "extract: pool must be at most the sides of bn1's output"),
        ("extract a images.h5 f.h5 --batch-size 0", "ArrayStream: batch_size must be an integer >= 1, got 0"),
        ("extract a images.h5 run.toml", "extract: run.toml exists and holds something else"),
        (
            "extract a images.h5 run.toml/f.h5",
            "run.toml is a file, and a folder is to be made there: name another folder",
        ),
    ],
)
def test_errors_of_extract(place, call, fails, line, message):
    call("train run.toml --out a")
    assert fails(line).startswith(message)
    assert not list(place.glob("f.h5*"))


def test_the_bar_counts_no_time_for_what_an_interrupted_extraction_left(place, call, monkeypatch):
    call("train run.toml --out r")
    line, of, bars = "extract r shards/test out.h5 --batch-size 4", Features.of, []
    with monkeypatch.context() as stopped:
        stopped.setattr(extract, "_SAVE_SECONDS", 0)
        left = iter([True, True, True])
        stopped.setattr(Features, "of", lambda self, images: of(self, images) if next(left, False) else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call(f"--debug {line}")

    class Bar(tqdm):
        def __init__(self, **options):
            bars.append(options["initial"])
            super().__init__(**options)

    monkeypatch.setattr("hebbcore.cli.extract.tqdm", Bar)
    call(line)
    assert bars == [12]


def test_images_without_labels(place, call, fails):
    call("train run.toml --out a --set data.split=half")
    call("extract a images.h5 f.h5 --split half")
    with h5py.File("f.h5") as f, h5py.File("images.h5", "r+") as data:
        expected = hebbcore.load("a", device="cpu").transform(data["half/images"][...])
        np.testing.assert_array_equal(f["features"], expected)
        np.testing.assert_array_equal(f["labels"], [-1, -1])
        del data["test/labels"]
    message = fails("evaluate a --train images.h5 --test images.h5 --out report")
    assert message == "images.h5 holds test/images without test/labels, which are needed to evaluate."


# plot


def test_plot_draws_filters_and_curves(place, call):
    call("train run.toml --out a --set training.log_seconds=0")
    out, err = call("plot a")
    assert (out, err) == ("a/filters.png\na/curves.png\n", "")
    with Image.open("a/filters.png") as picture:
        assert picture.size == (12 * 20 + 2, 22)
        tile = np.asarray(picture)[2:20, 2:20].reshape(3, 6, 3, 6, 3)[:, 0, :, 0]
    first = weights("a")[0]
    np.testing.assert_array_equal(tile, (255 * (first - first.min()) / (first.max() - first.min())).astype(np.uint8))
    with Image.open("a/curves.png") as picture:
        assert picture.size == (1440, 960)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_plot_of_a_run_without_a_measured_change(place, call):
    call("train run.toml --out a")
    metrics = Path("a/metrics.jsonl")
    record = json.loads(metrics.read_text().splitlines()[-1])
    record["layers"]["conv1"]["change"] = None  # as in a pass that was stopped before its last step, and of a stream
    metrics.unlink()
    diagnostics.append(metrics, {key: value for key, value in record.items() if key != "crc32"})
    assert call("plot a --out pictures/a") == ("pictures/a/filters.png\npictures/a/curves.png\n", "")


def test_plot_without_matplotlib(place, call, monkeypatch):
    call("train run.toml --out a")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out, err = call("plot a", status=1)
    assert out == "a/filters.png\n"  # these need none
    assert err == 'hebbcore: plot: curves need Matplotlib; install hebbcore with the extra "plot".\n'


def test_plot_of_layers_that_see_no_images(place, call):
    Path("run.toml").write_text(config_text({"type": "dense", "units": 6}, BATCH_NORM, seed=1))
    call("train run.toml --out a")
    out, _ = call("plot a")
    assert out.startswith("no filters to draw: no layer that learns sees images of 1 or 3 channels or their patches\n")
    assert names("a") == ["checkpoints", "config.json", "curves.png", "metrics.jsonl"]


def test_plot_does_not_replace_the_filters_of_a_report(place, call, fails):
    call("train run.toml --out a")
    Path("report").mkdir()
    for name in ("results.json", "filters.png"):
        Path("report", name).write_text("another's")
    assert fails("plot a --out report").startswith("plot: report is the folder of a report, whose filters.png would be")
    assert (names("report"), Path("report/filters.png").read_text()) == (["filters.png", "results.json"], "another's")


def test_plot_does_not_replace_a_picture_of_others(place, call, fails, monkeypatch):
    monkeypatch.setattr(plots, "save_curves", lambda run, path: path.write_text("curves"))
    call("train run.toml --out a")
    for name, other in (("filters.png", "curves.png"), ("curves.png", "filters.png")):
        Path(name).write_text("another's")
        assert fails("plot a --out .").endswith(
            f"holds {name}, which would be replaced: name another, or move the file."
        )
        assert (Path(name).read_text(), Path(other).exists()) == ("another's", False)
        Path(name).unlink()
    for _ in range(2):
        call("plot a --out pictures")
    Path("a/filters.png").write_text("of this run, half done")
    call("plot a --out a")


def test_errors_of_plot(place, call, fails):
    assert fails("plot gone") == "load: gone does not exist."
    assert fails("plot shards") == "load: shards holds no checkpoint; train into it first."
    assert fails("plot images.h5") == "plot: images.h5 is a file; give the folder of a run."
    call("train run.toml --out a")
    Path("a/metrics.jsonl").unlink()
    out, err = call("plot a", status=1)
    assert (out, err) == ("a/filters.png\n", "hebbcore: plot: a/metrics.jsonl holds no metrics; train first.\n")


def test_filters_behind_a_whitening_are_drawn_as_patches(generator):
    images = generator.normal(size=(40, 6, 6, 1))
    network = hebbcore.Network([hebbcore.Whiten(3, contrast=None), hebbcore.Conv(4, 1)], device="cpu")
    hebbcore.fit(network, images, batch_size=10)
    filters = plots.first_filters(network)
    assert filters.shape == (4, 3, 3, 1)
    patch = images[0, :3, :3]
    whiten, conv = network.layers
    expected = conv.weights.reshape(4, 9) @ ((patch.reshape(9) - whiten.mean) @ whiten.matrix)
    np.testing.assert_allclose(filters.reshape(4, 9) @ (patch.reshape(9) - whiten.mean), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "shape", "drawn"),
    [
        ([hebbcore.Conv(2, 3)], (6, 6, 1), (2, 3, 3, 1)),
        ([hebbcore.BatchNorm(), hebbcore.Conv(2, 3)], (6, 6, 3), (2, 3, 3, 3)),
        ([hebbcore.Conv(2, 3)], (6, 6, 2), None),
        ([hebbcore.Dense(2)], (6,), None),
        ([hebbcore.Dense(2)], (6, 6, 3), None),
        ([hebbcore.Whiten(), hebbcore.Conv(2, 3)], (6, 6, 3), None),
        ([hebbcore.Whiten(3), hebbcore.Conv(2, 3)], (6, 6, 3), None),
        ([hebbcore.Whiten(3), hebbcore.Split(), hebbcore.Conv(2, 1)], (6, 6, 3), None),
        ([hebbcore.Split(), hebbcore.Whiten(3), hebbcore.Conv(2, 1)], (6, 6, 3), None),
        ([hebbcore.Whiten(3, components=4), hebbcore.Conv(2, 1)], (6, 6, 3), (2, 3, 3, 3)),
    ],
)
def test_which_filters_can_be_drawn(layers, shape, drawn):
    filters = plots.first_filters(hebbcore.Network(layers, shape, device="cpu"))
    assert (None if filters is None else filters.shape) == drawn


@pytest.mark.parametrize("side", [12, 97])
def test_the_filters_of_the_dictionary_are_those_of_its_wide_branch(side):
    network = hebbcore.preset("dictionary", image_shape=(side, side, 3), units=(4, 6, 7, 5), device="cpu")
    wide = list(network.learners.values())[-1]
    assert plots.first_filters(network).shape == (5, 6, 6, 3)
    np.testing.assert_allclose(plots.first_filters(network).reshape(5, 108), wide.weights.reshape(5, 108), rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((4, 3, 3, 7)), r"be filters \(units, height, width, 1 or 3\), got shape \(4, 3, 3, 7\); first_fil"),
        (np.ones((4, 27)), r"got shape \(4, 27\)"),
        (np.full((4, 3, 3, 1), np.nan), r"be finite, but weights\[0\] are not"),
        (np.ones((0, 3, 3, 1)), r"not be empty, got shape \(0, 3, 3, 1\)"),
    ],
)
def test_what_are_no_filters_is_refused(weights, message, tmp_path):
    with pytest.raises(ValueError, match=rf"filters_png: weights .*{message}"):
        plots.save_filters(weights, tmp_path / "f.png")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_, np.float16])
def test_filters_of_any_numbers_are_drawn_alike(dtype, generator):
    filters = generator.integers(0, 100, (4, 3, 3, 1)).astype(dtype)
    assert plots.filters_png(filters) == plots.filters_png(filters.astype(np.float64))
    assert plots.filters_png(1e30 * filters.astype(np.float64)) == plots.filters_png(filters.astype(np.float64))


def test_a_grid_of_constant_filters_and_several_rows(tmp_path):
    (tmp_path / "f.png").write_bytes(plots.filters_png(np.ones((5, 2, 3, 1), np.float32), columns=2, scale=1))
    with Image.open(tmp_path / "f.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (3 * 4 + 2, 2 * 5 + 2, 3)
    assert (pixels[2:4, 2:5] == 0).all()
    assert (pixels[10:12, 7:10] == 255).all()  # no sixth one


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.filterwarnings("error")  # Matplotlib's of a legend without names
def test_pictures_take_paths_as_text_too(kind, tmp_path):
    pytest.importorskip("matplotlib")
    network = hebbcore.Network([hebbcore.Dense(2, name="_first")], device="cpu")
    hebbcore.fit(network, np.random.default_rng(0).random((8, 3)), run=tmp_path / "run")
    run, picture = kind(tmp_path / "run"), kind(tmp_path / "f.png")
    for draw in (
        lambda: plots.save_curves(run, picture), lambda: plots.save_comparison({"a": run}, picture),
        lambda: plots.save_filters(np.ones((2, 3, 3, 1)), picture),
    ):  # fmt: skip
        draw()
        assert Path(picture).read_bytes().startswith(b"\x89PNG")
        Path(picture).unlink()


def test_a_comparison_of_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="plot: runs names no run; give one at least"):
        plots.save_comparison({}, tmp_path / "picture.png")


def test_names_of_classes_of_a_file_go_along(place, call, fails):
    call("train run.toml --out a")
    call("evaluate a --train images.h5 --test images.h5 --out before --labels 100 --baselines none --queries 0")
    with h5py.File("images.h5", "r+") as file:
        file.attrs["class_names"] = [f"klass {number}" for number in "åbcde"]
        file["none/images"] = file["test/images"][:0]
    call("extract a images.h5 f.h5")
    with h5py.File("f.h5") as file:
        assert file["classes"].asstr()[:].tolist() == [f"klass {number}" for number in "åbcde"]
    for out in ("new", "before"):  # the latter begun by an earlier version, which knew numbers alone
        call(f"evaluate a --train images.h5 --test images.h5 --out {out} --labels 50,100 --baselines none --queries 0")
        assert json.loads(Path(out, "results.json").read_bytes())["classes"][0] == "klass å"
    with h5py.File("images.h5", "r+") as file:
        file.attrs["class_names"] = ["one"]
    assert fails("extract a images.h5 g.h5") == "images.h5: the label 4 of test has no name among its 1 class_names."
    with h5py.File("images.h5", "r+") as file:
        file.attrs["class_names"] = "one"
    assert fails("extract a images.h5 g.h5").startswith("images.h5: class_names must be a text for each label, or be")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", "int8"])
def test_labels_of_any_integers_have_names(dtype, place, call):
    call("train run.toml --out a")
    with h5py.File("images.h5", "r+") as file:
        labels = file["test/labels"][:]
        del file["test/labels"]
        file["test/labels"] = labels.astype(dtype)
        file.attrs["class_names"] = list("abcde")
    call("extract a images.h5 f.h5")
    with h5py.File("f.h5") as file:
        assert file["classes"].asstr()[:].tolist() == list("abcde")
        np.testing.assert_array_equal(file["labels"], labels)


@pytest.mark.parametrize(
    "line", ["extract a images.h5 f.h5 --split none", "train run.toml --out b --set data.split=none"]
)
def test_a_file_without_an_image_is_named(place, call, fails, line):
    call("train run.toml --out a")
    with h5py.File("images.h5", "r+") as file:
        file["none/images"], file["none/labels"] = file["test/images"][:0], file["test/labels"][:0]
    assert fails(line) == "images.h5: none/images must hold at least one image, got (0, 8, 8, 3)."
