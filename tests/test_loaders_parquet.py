"""Parquet files of images and objects of datasets, as real writers make them; and odd or damaged ones."""

import itertools
import os
import pickle
import sys
from contextlib import suppress

import numpy as np
import pytest
from loaders_helpers import (
    built,
    contents,
    crop,
    encoded,
    files_of,
    make_tar,
    make_tree,
    names_of,
    picture,
    read_all,
    report_of,
)

import loaders
from hebbcore.cli import main
from loaders.sources import parquet

os.environ.setdefault("HF_HUB_OFFLINE", "1")
arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    library = pytest.importorskip("datasets", reason="datasets is not installed")
    library.disable_progress_bars()
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return library


def dataset_of(datasets, names, labels, classes=("dog", "cat")):
    """A Dataset of pictures; a name None is none."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))})
    images = [{"bytes": picture(number), "path": name} for number, name in enumerate(names)]
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


def table_of(images, **columns):
    paths = columns.pop("path", [f"{number}.jpg" for number in range(len(images))])
    rows = [{"bytes": data, "path": path} for data, path in zip(images, paths, strict=True)]
    return arrow.table(
        {"image": arrow.array(rows, arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})), **columns}
    )


def labels_of(source):
    return [item.label for item in source.items()]


def test_files_of_datasets_keep_names_labels_classes_and_splits(tmp_path, datasets):
    names = [f"{number}.jpg" if number % 5 else None for number in range(20)]
    whole = dataset_of(datasets, names, [number % 2 for number in range(18)] + [-1, None])
    for split, rows in (("train", range(20)), ("test", range(3))):
        for shard in range(2):
            part = whole.select(rows).shard(2, shard, contiguous=True)
            part.to_parquet(tmp_path / "data" / f"{split}-{shard:05d}-of-00002.parquet", batch_size=4)
    source = loaders.open_source(tmp_path / "data")
    assert source.class_names == ["dog", "cat"]
    assert len(source._groups) == 6  # row groups
    index = built(source, tmp_path / "shards", shard_bytes=5000)
    assert (index.records, index.class_counts, index.class_names) == (20, (9, 9), ("dog", "cat"))
    found = names_of(tmp_path / "shards")
    assert [name for name in found if "parquet" not in name] == [name for name in names if name]
    assert found[10] == "train-00001-of-00002.parquet/0/000000"
    images, labels = read_all(tmp_path / "shards")
    assert labels == [number % 2 for number in range(18)] + [-1, -1]
    np.testing.assert_array_equal(images[7], np.asarray(loaders.images.decode.decode(picture(7))))
    assert loaders.verify_shards(tmp_path / "shards") == []
    assert labels_of(loaders.open_source(tmp_path / "data", split="test")) == [0, 1, 0]
    for split in ("val", "x"):
        with pytest.raises(ValueError, match=rf"holds the splits test, train, not {split}"):
            loaders.open_source(tmp_path / "data", split=split)
    one = loaders.open_source(tmp_path / "data" / "test-00001-of-00002.parquet")
    assert labels_of(one) == [0]
    with pytest.raises(ValueError, match=rf"level too high; give {tmp_path / 'data'}"):
        loaders.open_source(tmp_path)
    loaders.build_shards(source, tmp_path / "workers", workers=2, shard_bytes=5000)
    assert contents(tmp_path / "workers") == contents(tmp_path / "shards")


def test_plain_columns_of_other_writers(tmp_path):
    pictures = arrow.array([picture(number) for number in range(4)])
    texts = arrow.array(["cat", "", None, "ant"]).dictionary_encode()
    pq.write_table(arrow.table({"jpg": pictures, "other": pictures, "label": texts}), tmp_path / "a.parquet")
    source = loaders.open_source(tmp_path / "a.parquet")
    assert (source.class_names, labels_of(source)) == (["ant", "cat"], [1, -1, -1, 0])
    numbers = arrow.array([2, None, 0, -1], arrow.int16())
    pq.write_table(arrow.table({"image": pictures, "label": numbers}), tmp_path / "b.parquet")
    source = loaders.open_source(tmp_path / "b.parquet")
    assert (source.class_names, labels_of(source)) == (["0", "1", "2"], [2, -1, 0, -1])
    assert "2 rows of" in source.remarks[0]
    pq.write_table(arrow.table({"image": pictures}), tmp_path / "c.parquet")
    assert set(labels_of(loaders.open_source(tmp_path / "c.parquet"))) == {-1}
    views = {
        "image": pictures.cast(arrow.binary_view()),
        "label": arrow.array(["b", "a", "b", None], arrow.string_view()),
    }
    pq.write_table(arrow.table(views), tmp_path / "d.parquet")
    source = loaders.open_source(tmp_path / "d.parquet")
    assert ([item.read() for item in source.items()], labels_of(source)) == (pictures.to_pylist(), [1, 0, 1, -1])
    for values, labels in (([True, False, None, True], [1, 0, -1, 1]), ([None] * 4, [-1] * 4)):
        pq.write_table(arrow.table({"image": pictures, "label": values}), tmp_path / "e.parquet")
        assert labels_of(loaders.open_source(tmp_path / "e.parquet")) == labels
    assert loaders.ParquetImages(tmp_path / "a.parquet", image="other").describe()["columns"]["image"] == "other"


def test_columns_of_any_name_may_be_named(tmp_path):
    pictures = arrow.array([picture(number) for number in range(4)])
    columns = {
        "a": pictures,
        "b": pictures.take(arrow.array([3, 2, 1, 0])),
        "breed": ["x", "y", None, "x"],
        "text": [""] * 4,
    }
    pq.write_table(arrow.table(columns), tmp_path / "a.parquet")
    command = ["shards", "build", str(tmp_path / "a.parquet"), str(tmp_path / "shards"), "--workers", "1"]
    assert main([*command, "--image-column", "b", "--label-column", "breed"]) == 0
    images, labels = read_all(tmp_path / "shards")
    assert (labels, loaders.read_index(tmp_path / "shards").class_names) == ([0, 1, -1, 0], ("x", "y"))
    np.testing.assert_array_equal(images[0], np.asarray(loaders.images.decode.decode(picture(3))))
    for names, message in (
        ({"image_column": "c"}, "the column of images must be one of a, b, breed, text, got c"),
        ({"image_column": "text"}, "the column text must hold bytes of images, got string"),
        (
            {"image_column": "a", "label_column": "b"},
            "the column b must hold labels, whole numbers or texts, got binary",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            loaders.open_source(tmp_path / "a.parquet", **names)
    with pytest.raises(
        ValueError, match=r"columns are of Parquet files and datasets; .* is of the kind a tar of class folders"
    ):
        loaders.open_source(make_tar(tmp_path / "a.tar", {"cat/1.jpg": picture(1)}), image_column="a")
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=r"columns are of Parquet files and datasets; .* is a folder of images"):
        loaders.open_source(tmp_path / "photos", image_column="a")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", "b"]}, r"must have a column of images, as bytes or struct of .*; it has text \(string\)"),
        ({"images": [[{"bytes": b"x"}], []]}, r"it has images \(list<.*struct<bytes: binary>>\)"),
        (
            {"a": [b"x", b"y"], "b": [b"x", b"y"]},
            r"several columns of images \(a, b\); name one, as image_column \(--image-column\)",
        ),
        ({"image": [b"x", b"y"], "label": [0.5, 1.0]}, "the column label must hold labels, whole numbers or texts"),
        ({"image": [b"x", b"y"], "label": [0, 2**40]}, "labels must be from 0 to 999999"),
        ({"image": [b"x", b"y"], "label": [0, -2]}, "labels must be from 0 to 999999"),
    ],
)
def test_tables_without_images_or_labels_that_are_none_are_refused(tmp_path, columns, message):
    pq.write_table(arrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        loaders.open_source(tmp_path / "a.parquet")


def test_two_columns_of_one_name_are_refused_where_one_is_read(tmp_path):
    pictures, numbers = arrow.array([picture(0), picture(1)]), arrow.array([0, 1])
    for names, asked, message in (
        (("image", "image", "label"), {}, "has 2 columns called image, which nothing tells apart; write"),
        (("a", "a", "label"), {"image_column": "a"}, "has 2 columns called a, which"),
        (("image", "b", "label", "label"), {}, "has 2 columns called label, which"),
    ):
        columns = [pictures, pictures, numbers, numbers][: len(names)]
        pq.write_table(arrow.Table.from_arrays(columns, names=list(names)), tmp_path / "twice.parquet")
        with pytest.raises(ValueError, match=message):
            loaders.open_source(tmp_path / "twice.parquet", **asked)
    pq.write_table(arrow.Table.from_arrays(columns, names=["image", "n", "n", "label"]), tmp_path / "other.parquet")
    assert [item.label for item in loaders.open_source(tmp_path / "other.parquet").items()] == [0, 1]


def test_a_label_that_the_classes_lack_and_files_of_two_sets_are_refused(tmp_path, datasets):
    whole = dataset_of(datasets, ["a", "b"], [0, 1])
    whole.to_parquet(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    changed = table.set_column(1, "label", arrow.array([0, 2]))
    pq.write_table(changed, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="label 2 has no name among the 2 that it says"):
        loaders.open_source(tmp_path / "a.parquet")
    whole.to_parquet(tmp_path / "a.parquet")
    dataset_of(datasets, ["a"], [0], ("dog", "cow")).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has other columns or classes than"):
        loaders.open_source(tmp_path)


def test_files_of_numbers_and_of_texts_as_labels_are_refused(tmp_path):
    pictures = [picture(0), picture(1)]
    kinds = {"numbers": [1, 0], "texts": ["cat", "dog"], "none": arrow.nulls(2), "unknown": [-1, -1]}
    for one, other in itertools.permutations(kinds, 2):
        for number, kind in enumerate((one, other)):
            pq.write_table(arrow.table({"image": pictures, "label": kinds[kind]}), tmp_path / f"{number}.parquet")
        if {one, other} == {"numbers", "texts"}:
            with pytest.raises(ValueError, match="all texts or all whole numbers, got 1 and 'cat'; write"):
                loaders.open_source(tmp_path)
        else:
            assert len(loaders.open_source(tmp_path).class_names) == 2 * bool({one, other} & {"numbers", "texts"})


def test_rows_without_an_image_are_reported_and_names_are_kept_as_they_are(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(picture(9))
    paths = ["/abs/1.jpg", "same.jpg", "same.jpg", str(tmp_path / "secret.jpg"), "../up.jpg"]
    images = [picture(0), picture(1), b"no image", None, b""]
    pq.write_table(table_of(images, path=paths, label=arrow.array([0] * 5)), tmp_path / "a.parquet")
    index = built(tmp_path / "a.parquet", tmp_path / "shards")
    assert (index.records, index.skipped) == (2, 3)
    assert names_of(tmp_path / "shards") == paths[:2]
    reasons = {entry["path"]: entry["reason"] for entry in report_of(tmp_path / "shards")["skipped"]}
    assert list(reasons) == paths[2:]
    assert "only the path of one that lies elsewhere" in reasons[paths[3]]  # a file of others is not read


def test_damaged_pages_are_reported_and_other_rows_read(tmp_path):
    images = [encoded(crop(number), quality=95) for number in range(60)]
    path = tmp_path / "a.parquet"
    pq.write_table(
        table_of(images), path, row_group_size=20, compression="none", write_page_checksum=True, use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    data[data.find(images[25]) + 500] ^= 1
    path.write_bytes(data)
    index = built(path, tmp_path / "shards")
    assert 40 <= index.records < 60
    assert index.records + index.skipped == 60
    assert all("CRC" in entry["reason"] for entry in report_of(tmp_path / "shards")["skipped"])
    for worker in (1, 2):
        loaders.build_shards(path, tmp_path / f"of {worker}", workers=worker)
        assert contents(tmp_path / f"of {worker}") == contents(tmp_path / "shards")


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.999])
def test_files_that_are_cut_short_are_refused(tmp_path, cut):
    pq.write_table(table_of([picture(number) for number in range(9)]), tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(ValueError, match=r"cut\.parquet is no whole Parquet file"):
        loaders.open_source(tmp_path / "cut.parquet")


def test_random_changes_are_errors_or_the_same_images(tmp_path):
    images = [picture(number) for number in range(5)]
    pq.write_table(table_of(images), tmp_path / "a.parquet", write_page_checksum=True)
    data = (tmp_path / "a.parquet").read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(4, len(data), 200):
        changed = bytearray(data)
        changed[place] ^= 1 << random.integers(8)
        (tmp_path / "b.parquet").write_bytes(changed)
        with suppress(ValueError):
            for item in loaders.open_source(tmp_path / "b.parquet").items():
                assert item.read() in images


def test_bombs_are_refused_before_they_unpack(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FREE", 2**16)
    pq.write_table(table_of([bytes(2**22)]), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(ValueError, match=r"a\.parquet .*claims to unpack from"):
        loaders.open_source(tmp_path / "a.parquet")


def test_a_large_row_group_is_not_in_memory(tmp_path):
    random = np.random.default_rng(0)
    table = table_of([b"BM" + random.bytes(2**18) for _ in range(400)])  # 100 MiB
    # pages of 8 rows; one page is the least that can be read
    pq.write_table(table, tmp_path / "a.parquet", compression="none", row_group_size=1000, write_batch_size=8)
    del table
    pool = arrow.default_memory_pool()
    before = pool.bytes_allocated()
    source = loaders.open_source(tmp_path / "a.parquet")
    assert len(source._groups) == 1
    most = 0
    for item in source.items():
        assert len(item.read()) == 2**18 + 2
        most = max(most, pool.bytes_allocated() - before)
    assert most < 50 * 2**20


def test_items_of_many_row_groups_do_not_keep_what_was_read(tmp_path):
    random = np.random.default_rng(0)
    table = table_of([b"BM" + random.bytes(2**17) for _ in range(240)])  # 30 MiB
    pq.write_table(table, tmp_path / "a.parquet", compression="none", row_group_size=8)
    del table
    before = arrow.default_memory_pool().bytes_allocated()
    items = list(loaders.open_source(tmp_path / "a.parquet").items())
    for item in items:
        item.read()
    assert arrow.default_memory_pool().bytes_allocated() - before < 15 * 2**20


def test_items_may_be_read_in_any_order_and_take_their_bytes_along(tmp_path):
    images = [picture(number) for number in range(300)]
    pq.write_table(table_of(images), tmp_path / "a.parquet")
    items = list(loaders.open_source(tmp_path / "a.parquet").items())
    for row in [299, 0, 150, 149, 299]:
        assert items[row].read() == images[row]
    sent = pickle.dumps(items[17])
    (tmp_path / "a.parquet").unlink()
    assert pickle.loads(sent).read() == images[17]


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    pq.write_table(table_of([picture(0)]), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'hebbcore\[parquet\]'"):
        loaders.open_source(tmp_path / "a.parquet")


def test_a_dataset_is_a_source(tmp_path, datasets):
    whole = dataset_of(datasets, [f"{number}.jpg" if number else None for number in range(12)], [0, 1] * 5 + [-1, None])
    index = built(whole, tmp_path / "shards")
    assert (index.class_names, index.class_counts, index.records) == (("dog", "cat"), (5, 5), 12)
    assert names_of(tmp_path / "shards")[:2] == ["0000000", "1.jpg"]
    loaders.build_shards(whole, tmp_path / "workers", workers=2)
    assert contents(tmp_path / "workers") == contents(tmp_path / "shards")
    part = whole.shuffle(seed=0).select(range(5))
    items = list(loaders.open_source(part).items())
    assert [item.read() for item in items] == [
        row["bytes"] for row in part.with_format("arrow")[:]["image"].to_pylist()
    ]
    with pytest.raises(ValueError, match="holds a set built differently"):
        built(part, tmp_path / "shards")
    for other, what in (
        (datasets.DatasetDict({"train": whole}), "a dict of 'train'"),
        (whole.to_iterable_dataset(), "Iterable"),
    ):
        with pytest.raises(TypeError, match=what):
            loaders.open_source(other)
    with pytest.raises(ValueError, match="is one split; leave other arguments out"):
        loaders.open_source(whole, split="test")


def test_images_that_a_dataset_has_as_paths_are_read(tmp_path, datasets):
    files = files_of(make_tree(tmp_path / "tree", classes=2, images=2))
    paths = [str(tmp_path / "tree" / name) for name in files]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = {"image": [*paths, str(tmp_path / "gone.jpg")], "label": ["b", "b", "a", "a", None]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    index = built(whole, tmp_path / "shards")
    assert (index.records, index.skipped, index.class_names) == (4, 1, ("a", "b"))
    assert names_of(tmp_path / "shards") == paths
    assert [image.shape for image in read_all(tmp_path / "shards")[0]] == [(96, 120, 3)] * 4
