"""Images with the channels first are refused wherever nothing else says which axis the channels are."""

import h5py
import numpy as np
import pytest

import hebbcore
import loaders
from hebbcore import checks
from hebbcore.cli import main
from hebbcore.estimators import HebbianNetworkTransformer, HebbianTransformer
from hebbcore.features.choice import pool_to_grid
from loaders.sources.arrays import require_channels_last

FIRST = [(4, 3, 32, 32), (4, 1, 28, 28), (4, 3, 48, 64), (4, 3, 8, 8)]
LAST = [
    (4, 32, 32, 3), (4, 28, 28, 1), (4, 16, 16, 4), (4, 3, 32, 3), (4, 1, 28, 1),
    (4, 3, 3, 512), (4, 1, 1, 100), (4, 3, 7, 512), (4, 1, 128, 64), (4, 3, 2, 2), (4, 4, 32, 32), (4, 96, 14, 14),
]  # fmt: skip
EDGES = {
    "train_layer": lambda x: hebbcore.train_layer(x, 4, 3),
    "train_layer, dense": lambda x: hebbcore.train_layer(x, 4),
    "train_layer, stream": lambda x: hebbcore.train_layer([x, x], 4, 3),
    "fit": lambda x: hebbcore.fit(hebbcore.Network([hebbcore.Conv(4, 3)]), x),
    "fit, stream": lambda x: hebbcore.fit(hebbcore.Network([hebbcore.Conv(4, 3)]), [x, x]),
    "Network": lambda x: hebbcore.Network([hebbcore.Conv(4, 3)], image_shape=x.shape[1:]),
    "Network.build": lambda x: hebbcore.Network([hebbcore.Conv(4, 3)]).build(x.shape[1:]),
    "im2col": lambda x: hebbcore.im2col(x, 3),
    "HebbianTransformer": lambda x: HebbianTransformer(4, 3).fit(x),
    "HebbianNetworkTransformer": lambda x: HebbianNetworkTransformer([hebbcore.Conv(4, 3)]).fit(x),
    "flattened": lambda x: HebbianTransformer(4, 3, image_shape=x.shape[1:]).fit(x.reshape(len(x), -1)),
    "preset": lambda x: hebbcore.preset("softhebb-cifar", image_shape=x.shape[1:]),
    "array_source": lambda x: loaders.array_source(x, np.arange(len(x))),
    "ArrayStream": lambda x: loaders.ArrayStream(x, np.arange(len(x))),
}


def images(shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", FIRST)
@pytest.mark.parametrize("edge", EDGES)
def test_channels_first_is_refused_with_the_remedy(edge, shape):
    with pytest.raises(ValueError, match=r"channels first.* np\.moveaxis\(images, 1, -1\) turns them") as caught:
        EDGES[edge](images(shape))
    assert "np.swapaxes(images, 1, 2)" in str(caught.value)


@pytest.mark.parametrize("edge", [edge for edge in EDGES if edge != "preset"])
def test_the_remedy_is_one(edge):
    EDGES[edge](np.moveaxis(images((4, 3, 12, 12)), 1, -1))
    EDGES[edge](np.swapaxes(images((4, 3, 12, 12)), 1, 2))  # of images that are 3 pixels high


def test_shards_are_not_made_of_them(tmp_path):
    with pytest.raises(ValueError, match=r"write_shards: images .* look like channels first"):
        loaders.write_shards((images((4, 3, 32, 32)), np.arange(4)), tmp_path / "a")
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["train/images"], file["train/labels"] = images((4, 3, 32, 32)), np.arange(4)
    assert main(["shards", "build", str(tmp_path / "images.h5"), str(tmp_path / "b")]) == 1
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("shape", LAST)
def test_other_shapes_pass(shape):
    checks.channels_last("f", "images", shape)
    require_channels_last("f", shape)


def test_both_packages_have_one_rule():
    for shape in np.ndindex(6, 12, 12):
        refused = []
        for check in (lambda s: checks.channels_last("f", "x", s), lambda s: require_channels_last("f", s)):
            try:
                check((1, *shape))
                refused.append(False)
            except ValueError:
                refused.append(True)
        assert refused[0] == refused[1]


def test_weights_say_what_the_channels_are():
    x = images((6, 3, 8, 9))
    layer = hebbcore.train_layer(x, 4, 3, initial_weights=np.full((4, 3, 3, 9), 0.1, np.float32))
    assert layer.transform(x).shape == (6, 1, 6, 4)
    assert hebbcore.weight_update(x, layer.weights, "hpca").shape == (4, 3, 3, 9)


def test_a_network_of_such_images_loads_and_its_features_are_pooled(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checks, "channels_last", lambda *arguments: None)  # as trained before they were refused
        network = hebbcore.Network([hebbcore.Conv(4, 3)], (3, 8, 9), device="cpu")
    hebbcore.save(tmp_path / "network.h5", network)
    again = hebbcore.load(tmp_path / "network.h5", device="cpu")
    x = images((2, 3, 8, 9))
    np.testing.assert_array_equal(again.transform(x), network.transform(x))
    assert pool_to_grid(np.ones((2, 3, 8, 9), np.float32), 2).shape == (2, 2, 2, 9)
