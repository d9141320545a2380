"""The state of a ShardStream: it restores what was still to come, and no other stream takes it."""

import json

import numpy as np
import pytest
from stream_helpers import assert_same, collect

import loaders
from loaders import CenterCrop, RandomResizedCrop, ShardStream

pytest_plugins = "stream_helpers"


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("source", ["raw", "packed"])
def test_restoring_at_every_batch_gives_what_was_still_to_come(raw, packed, source, shuffle):
    path = raw if source == "raw" else packed
    options = {"batch_size": 8, "shuffle": shuffle}
    if shuffle:
        options |= {"seed": 5, "shuffle_buffer": 16 * 240 * 2}
    if source == "packed":
        options["transform"] = RandomResizedCrop(20)
    stream = ShardStream(path, **options)
    collect(stream)
    states, batches = [json.loads(json.dumps(stream.state()))], []
    for batch in stream:
        batches.append(batch)
        states.append(json.loads(json.dumps(stream.state())))
    following = collect(stream)
    assert len(batches) == len(stream)
    assert states[0]["epoch"] == 1
    for done, state in enumerate(states):
        restored = ShardStream(path, threads=1, prefetch=4, **options)
        restored.restore(state)
        if done < len(batches):
            assert_same(collect(restored), batches[done:])
        assert restored.state() == states[-1]
        assert_same(collect(restored), following)


def test_a_state_of_another_stream_is_refused(raw, packed):
    state = ShardStream(raw, batch_size=8).state()
    with pytest.raises(ValueError, match="batch_size 8 there and 9 here"):
        ShardStream(raw, batch_size=9).restore(state)
    with pytest.raises(ValueError, match="seed not set there and 0 here"):
        ShardStream(raw, batch_size=8).restore({key: value for key, value in state.items() if key != "seed"})
    with pytest.raises(ValueError, match="identity"):
        ShardStream(packed, batch_size=8, image_size=8).restore(state)
    with pytest.raises(ValueError, match="positions of this stream"):
        ShardStream(raw, batch_size=8).restore({**state, "batch": 99})
    with pytest.raises(TypeError, match="must be a dict"):
        ShardStream(raw).restore(None)
    with pytest.raises(TypeError, match="transform must be"):
        ShardStream(raw, transform="crop")


PIXELS = [
    ({}, {"image_size": 6}, "transform None there and 'CenterCrop"),
    ({"image_size": 6}, {"image_size": 7}, "transform 'CenterCrop"),
    ({"image_size": 6}, {"transform": CenterCrop(6, flip=True)}, "flip=False.* there and .*flip=True"),
    ({"image_size": 6}, {"transform": RandomResizedCrop(6)}, "there and 'RandomResizedCrop"),
    ({"transform": RandomResizedCrop(6)}, {"transform": RandomResizedCrop(6, scale=(0.5, 1.0))}, r"scale=\(0.5, 1.0\)"),
    ({}, {"dtype": "float32"}, "dtype 'uint8' there and 'float32' here"),
    ({"dtype": "float32"}, {"dtype": "float32", "normalize": "stored"}, "scaling"),
    ({}, {"drop_last": True}, "drop_last False there and True here"),
]


@pytest.mark.parametrize(("there", "here", "message"), PIXELS)
def test_a_state_of_other_pixels_is_refused(raw, there, here, message):
    state = json.loads(json.dumps(ShardStream(raw, **there).state()))
    ShardStream(raw, **there).restore(state)
    with pytest.raises(ValueError, match=message):
        ShardStream(raw, **here).restore(state)


def test_arguments_that_mean_the_same_make_the_same_state(raw):
    index = ShardStream(raw).index
    same = [
        ({"dtype": "float32", "normalize": "stored"}, {"dtype": "float32", "normalize": (index.mean, index.std)}),
        ({"image_size": 6}, {"transform": CenterCrop(6)}),
        ({"subset": 50}, {"subset": np.int64(50)}),
    ]
    for one, other in same:
        assert json.dumps(ShardStream(raw, **one).state()) == json.dumps(ShardStream(raw, **other).state())


def test_a_crop_that_changes_nothing_makes_the_same_state(tmp_path, generator):
    loaders.write_shards((generator.integers(0, 256, (5, 8, 8, 3), np.uint8), np.arange(5)), tmp_path / "square")
    plain, cropped = (ShardStream(tmp_path / "square", image_size=size) for size in (None, 8))
    assert plain.state() == cropped.state()
    assert plain.state() != ShardStream(tmp_path / "square", transform=CenterCrop(8, flip=True)).state()


@pytest.mark.parametrize("dtype", ["float32", np.dtype("float32")])
def test_a_state_is_json_whatever_names_the_dtype(raw, dtype):
    assert json.loads(json.dumps(ShardStream(raw, dtype=dtype).state()))["dtype"] == "float32"


def test_images_that_change_at_random_have_no_order(raw):
    assert ShardStream(raw, image_size=6).order(1) is not None
    for transform in (CenterCrop(6, flip=True), RandomResizedCrop(6)):
        assert ShardStream(raw, transform=transform).order(1) is None


def test_a_seed_of_no_subset_is_refused_and_the_state_is_that_of_earlier_versions(raw):
    with pytest.raises(ValueError, match="subset_seed 3 chooses nothing without subset"):
        ShardStream(raw, subset_seed=3)
    with pytest.raises(ValueError, match="subset_seed must be an integer >= 0"):
        ShardStream(raw, subset=3, subset_seed=-1)
    assert ShardStream(raw, subset=5).state() == ShardStream(raw, subset=5, subset_seed=0).state()
    assert ShardStream(raw).state()["subset_seed"] == 0


def test_what_draws_nothing_is_refused(raw):
    with pytest.raises(ValueError, match=r"seed=3 has no effect without shuffle and a random transform: .*subset_seed"):
        ShardStream(raw, seed=3, image_size=6)
    for options in ({}, {"transform": CenterCrop(6, flip=True)}):
        with pytest.raises(ValueError, match=r"shuffle_buffer=4096 has no effect without shuffle: .*shuffle=True"):
            ShardStream(raw, shuffle_buffer=4096, **options)
    for transform in (CenterCrop(6, flip=True), RandomResizedCrop(6, flip=False)):
        one, other = (next(iter(ShardStream(raw, seed=seed, transform=transform)))[0] for seed in (3, 4))
        assert (one != other).any()


def test_a_state_of_an_earlier_version_may_have_a_seed_that_draws_nothing(raw):
    stream = ShardStream(raw, batch_size=8)
    stream.restore({**stream.state(), "seed": 3, "shuffle_buffer": 4096, "batch": 2})
    assert stream.state()["batch"] == 2
    shuffled = ShardStream(raw, batch_size=8, shuffle=True)
    with pytest.raises(ValueError, match="seed 3 there and 0 here"):
        shuffled.restore({**shuffled.state(), "seed": 3})
