"""ShardStream: order, parts, subsets, transforms, names."""

from itertools import chain

import numpy as np
import pytest
from loaders_helpers import contents, make_arrays, make_tree, read_all
from stream_helpers import COUNT, assert_same, collect, keys

import loaders
from loaders import CenterCrop, RandomResizedCrop, ShardStream
from loaders.images.decode import decode

pytest_plugins = "stream_helpers"


def test_a_stream_names_its_classes(raw, packed):
    assert ShardStream(packed).class_names == ("class_0", "class_1", "class_2", "class_3")
    assert ShardStream(raw).class_names == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": True}, {"drop_last": True}, {"part": (1, 3)}, {"subset": 11}, {"labels": False}]
)
def test_a_stream_knows_its_labels(raw, options):
    stream = ShardStream(raw, batch_size=8, **options)
    found = stream.labels
    batches = ShardStream(raw, batch_size=8, **{**options, "labels": True})
    np.testing.assert_array_equal(found, np.concatenate([labels for _, labels in batches]))


def test_unshuffled_batches_are_the_stored_images_in_order(raw):
    images, labels = make_arrays(COUNT)
    batches = collect(ShardStream(raw, batch_size=8))
    assert [len(batch[0]) for batch in batches] == [8] * 12 + [7]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), images)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), labels)
    assert batches[0][0].dtype == np.uint8
    assert batches[0][1].dtype == np.int64
    assert len(ShardStream(raw, batch_size=8)) == 13
    assert [len(batch[0]) for batch in ShardStream(raw, batch_size=8, drop_last=True)] == [8] * 12


def test_images_alone(raw):
    batches = list(ShardStream(raw, batch_size=50, labels=False))
    np.testing.assert_array_equal(np.concatenate(batches), make_arrays(COUNT)[0])


@pytest.mark.parametrize("buffer", [1, 8 * 240 * 2 * 3, 2**29])
def test_every_epoch_is_another_permutation_and_repeatable(raw, buffer):
    options = {"batch_size": 8, "shuffle": True, "shuffle_buffer": buffer}
    stream, again = ShardStream(raw, seed=1, **options), ShardStream(raw, seed=1, **options)
    epochs = [collect(stream) for _ in range(3)]
    for epoch in epochs:
        assert_same(epoch, collect(again))
        assert sorted(keys(epoch)) == sorted(image.tobytes() for image in make_arrays(COUNT)[0])
    orders = [keys(epoch) for epoch in epochs]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert keys(collect(ShardStream(raw, seed=2, **options))) != orders[0]


def test_labels_travel_with_their_images(raw):
    images, labels = make_arrays(COUNT)
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for batch_images, batch_labels in ShardStream(raw, batch_size=8, shuffle=True):
        assert [label_of[image.tobytes()] for image in batch_images] == batch_labels.tolist()


def test_a_shuffle_mixes_a_set_sorted_by_class(tmp_path):
    images = np.zeros((4000, 20, 20, 3), np.uint8)
    labels = np.arange(4000) // 400
    loaders.write_shards((images, labels), tmp_path, shard_bytes=2**20)
    stream = ShardStream(tmp_path, batch_size=100, shuffle=True, shuffle_buffer=2 * 1000 * 1200)
    classes = [len(np.unique(batch_labels)) for _, batch_labels in stream]
    assert np.mean(classes) > 7  # blocks of 15 neighbours in windows of 1000
    whole = ShardStream(tmp_path, batch_size=100, shuffle=True)
    assert min(len(np.unique(batch_labels)) for _, batch_labels in whole) >= 9


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("subset", [None, 50])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
def test_parts_have_no_overlap_and_lose_nothing(raw, world, subset, shuffle):
    options = {"batch_size": 4, "shuffle": shuffle, "subset": subset}
    if shuffle:
        options["shuffle_buffer"] = 8 * 240
    streams = [ShardStream(raw, part=(rank, world), **options) for rank in range(world)]
    whole = ShardStream(raw, **options)
    seen = []
    for _ in range(2):
        shares = [keys(collect(stream)) for stream in streams]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert sorted(chain(*shares)) == sorted(keys(collect(whole)))
        seen.append(shares[0])
    if shuffle and world > 1:
        assert set(seen[0]) != set(seen[1])


def test_augmentation_differs_between_epochs_and_records(packed):
    stream = ShardStream(packed, batch_size=32, transform=RandomResizedCrop(16))
    first, second = (collect(stream)[0][0] for _ in range(2))
    assert (first != second).any(axis=(1, 2, 3)).all()
    flips = ShardStream(packed, batch_size=32, transform=CenterCrop(16, flip=True))
    plain = collect(ShardStream(packed, batch_size=32, image_size=16))[0][0]
    mirrored = []
    for _ in range(4):
        batch = collect(flips)[0][0]
        for image, flipped in zip(plain, batch, strict=True):
            mirrored.append(not np.array_equal(image, flipped))
            np.testing.assert_array_equal(flipped, image[:, ::-1] if mirrored[-1] else image)
    assert 0.3 < np.mean(mirrored) < 0.7


def test_subsets(raw):
    labels = make_arrays(COUNT)[1]
    small, large = (set(keys(collect(ShardStream(raw, subset=n)))) for n in (10, 40))
    assert len(small) == 10
    assert small < large
    assert large != set(keys(collect(ShardStream(raw, subset=40, subset_seed=1))))
    shuffled = ShardStream(raw, subset=40, shuffle=True, seed=9)
    assert set(keys(collect(shuffled))) == large
    for fraction in (0.01, 0.25, 1.0):
        stream = ShardStream(raw, subset=fraction)
        chosen = np.concatenate([batch_labels for _, batch_labels in stream])
        for label in range(5):
            assert (chosen == label).sum() == max(1, round(fraction * (labels == label).sum()))


def test_float_batches_and_normalisation(raw):
    images = make_arrays(COUNT)[0]
    (batch, _), *_ = ShardStream(raw, batch_size=COUNT, dtype="float32")
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, images / 255, rtol=1e-6)
    (batch, _), *_ = ShardStream(raw, batch_size=COUNT, dtype="float32", normalize="stored")
    np.testing.assert_allclose(batch.mean(axis=(0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(batch.std(axis=(0, 1, 2)), 1, atol=1e-5)
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 0.5]
    (batch, _), *_ = ShardStream(raw, batch_size=COUNT, dtype="float32", normalize=(mean, std))
    np.testing.assert_allclose(batch, (images / 255 - mean) / std, rtol=1e-5, atol=1e-6)


def test_images_are_resized_as_decode_does(packed):
    (batch, _), *_ = ShardStream(packed, batch_size=32, image_size=40)
    shards = loaders.shards.read.ShardSet(packed)
    transform = CenterCrop(40)
    for record in range(32):
        expected = decode(shards.read(np.array([record]))[0], lambda w, h: (transform.box(w, h, None), (40, 40)))
        np.testing.assert_array_equal(batch[record], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_raw_images_can_be_cropped_and_resized(tmp_path, channels):
    arrays = make_arrays(20, 12, 16, channels)
    loaders.write_shards(arrays, tmp_path)
    (batch, _), *_ = ShardStream(tmp_path, transform=CenterCrop(8, resize=12))
    np.testing.assert_array_equal(batch, arrays[0][:, 2:10, 4:12])
    stream = ShardStream(tmp_path, image_size=5)
    assert collect(stream)[0][0].shape == (20, 5, 5, channels)
    assert stream.image_shape == (5, 5, channels)


def test_raw_images_of_other_channels_are_not_resized(tmp_path):
    loaders.write_shards(make_arrays(5, channels=4), tmp_path)
    assert collect(ShardStream(tmp_path))[0][0].shape == (5, 8, 10, 4)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        ShardStream(tmp_path, image_size=4)


def test_an_epoch_without_a_batch(raw):
    stream = ShardStream(raw, batch_size=COUNT + 1, drop_last=True)
    assert stream.state()["epoch"] == 0
    assert collect(stream) == []


def test_stored_size_without_image_size(tmp_path, packed):
    stream = ShardStream(packed, batch_size=5)
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in stream]), read_all(packed)[0])
    tree = make_tree(tmp_path / "tree", classes=1, images=3)
    make_tree(tmp_path / "other", classes=1, images=3, height=50, width=50)
    (tmp_path / "other" / "class_0").rename(tree / "class_1")
    loaders.build_shards(tree, tmp_path / "mixed", workers=1)
    with pytest.raises(ValueError, match=r"record 3 of .*class_1/000\.jpg.* is 50 x 50 pixels.* give image_size"):
        collect(ShardStream(tmp_path / "mixed"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"threads": 0}, "threads"),
        ({"prefetch": 0}, "prefetch"),
        ({"seed": -1}, "seed"),
        ({"part": (2, 2)}, "rank < world"),
        ({"dtype": "float64"}, "dtype"),
        ({"normalize": "stored"}, 'needs dtype="float32"'),
        ({"dtype": "float32", "normalize": ([0], [1])}, "3 numbers each"),
        ({"dtype": "float32", "normalize": ([0, 0, 0], [1, 1, 0])}, "std > 0"),
        ({"subset": 0}, "subset"),
        ({"subset": 104}, "subset"),
        ({"subset": 1.5}, "subset"),
        ({"on_error": "ignore"}, "on_error"),
        ({"image_size": 0}, "at least 1 pixel"),
        ({"image_size": 2.5}, "at least 1 pixel"),
        ({"part": 3}, "rank < world"),
        ({"part": (0, 1, 2)}, "rank < world"),
        ({"dtype": "float32", "normalize": 3}, "3 numbers each"),
        ({"dtype": "float32", "normalize": ([0, float("nan"), 0], [1, 1, 1])}, "3 numbers each"),
        ({"dtype": "float32", "normalize": ([0, 0, 0], [1, 1, float("inf")])}, "3 numbers each"),
        ({"image_size": 8, "transform": CenterCrop(8)}, "not both"),
        ({"shuffle": "no"}, "shuffle must be True or False"),
        ({"drop_last": "false"}, "drop_last must be True or False"),
        ({"labels": "none"}, "labels must be True or False"),
    ],
)
def test_wrong_arguments_are_refused(raw, options, message):
    with pytest.raises(ValueError, match=message):
        ShardStream(raw, **options)


@pytest.mark.parametrize("crop", [CenterCrop, RandomResizedCrop])
def test_a_crop_mirrors_or_does_not(crop):
    with pytest.raises(ValueError, match=f"{crop.__name__}: flip must be True or False, got 'no'"):
        crop(8, flip="no")


def test_reading_changes_nothing_on_disk(raw):
    before = contents(raw)
    collect(ShardStream(raw, shuffle=True))
    assert contents(raw) == before


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": True}, {"drop_last": True}, {"part": (1, 3)}, {"subset": 11}, {"subset": 0.2}]
)
def test_a_stream_knows_where_its_images_came_from(raw, options):
    stream = ShardStream(raw, batch_size=8, **options)
    place = {image.tobytes(): f"{number:07d}" for number, image in enumerate(make_arrays(COUNT)[0])}
    expected = [place[key] for key in keys(collect(stream))]
    names = stream.names
    assert list(names) == expected
    assert len(names) == stream.images == len(stream.labels)
    assert (names[0], names[-1], names[2:5]) == (expected[0], expected[-1], expected[2:5])
    assert [names[i] for i in range(len(names))] == expected
    assert all(type(name) is str for name in names)
    with pytest.raises(IndexError):
        names[len(names)]


def test_names_are_read_a_few_shards_at_a_time(raw, monkeypatch):
    read, module = [], loaders.shards.names
    original = module.read_encoded_names
    monkeypatch.setattr(module, "read_encoded_names", lambda path: read.append(path.name) or original(path))
    stream = ShardStream(raw)
    names = stream.names
    assert not read
    for name in names:
        assert name
    assert read == sorted(set(read))
    assert len(names[:5]) == 5
    assert len(read) <= 10 + module.TABLES


def test_damaged_names_are_an_error(raw, tmp_path):
    import shutil

    import h5py

    shutil.copytree(raw, tmp_path / "copy")
    path = tmp_path / "copy" / "shard-00001.h5"
    with h5py.File(path) as file:
        place = file["names"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[place + 3] ^= 1
    path.write_bytes(data)
    stream = ShardStream(tmp_path / "copy")
    with pytest.raises(ValueError, match=r"shard-00001\.h5 is damaged: its table of names"):
        list(stream.names)
