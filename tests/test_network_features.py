"""A network's features: of several layers, of mirrored images, in sub-batches, and their memory."""

import tracemalloc

import numpy as np
import pytest
from network_helpers import NETWORKS, close, made, pixels

from hebbcore import BatchNorm, Conv, Dense, Network, Pool


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_features_of_several_layers_are_those_of_each(name, dtype, generator):
    network, _ = made(name, "float32")
    images = pixels(generator, dtype)
    given = images.copy()
    network.run(images.astype(np.float32), 0, len(network), training=True)  # so that norms do something
    alone = {layer: network.transform(images, layer) for layer in network.names}
    np.testing.assert_array_equal(network.transform(images), alone[network.names[-1]])
    for several in (network.names, network.names[::-1], [network.names[-1], network.names[1], network.names[1]]):
        features = network.features(images, several)
        assert set(features) == set(several)
        for layer, feature in features.items():
            assert feature.shape == (11, *network.shapes[network.names.index(layer)])
            assert feature.dtype == np.float32
            np.testing.assert_array_equal(feature, alone[layer])
    np.testing.assert_array_equal(images, given)


@pytest.mark.parametrize("name", NETWORKS)
def test_sub_batches_give_the_whole(name, generator):
    network, _ = made(name)
    images = pixels(generator, np.uint8)
    whole = network.features(images, network.names)
    for most in (1, 4 * network.image_bytes(), 10 * network.image_bytes()):  # 1, 4 and 10 images at a time
        for layer, feature in network.features(images, network.names, workspace=most).items():
            close(feature, whole[layer])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("workspace", [1, "64 MiB"])
def test_mirrored_features_are_the_mean_over_both_images(name, workspace, generator):
    network, _ = made(name)
    images = pixels(generator, np.uint8)
    given = images.copy()
    found = network.features(images, network.names, mirror=True, workspace=workspace)
    there, mirrored = (network.features(view, network.names) for view in (images, np.flip(images, axis=2).copy()))
    for layer, features in found.items():
        close(features, (there[layer] + mirrored[layer]) / 2)
        np.testing.assert_array_equal(network.transform(images, layer, mirror=True, workspace=workspace), features)
    np.testing.assert_array_equal(images, given)
    close(network.transform(np.flip(images, axis=2), mirror=True), found[network.names[-1]])


def test_vectors_have_no_mirror_image(generator):
    with pytest.raises(ValueError, match="evaluate: the network has no weights yet"):
        Network([Conv(3, 2)]).require_mirror("evaluate")
    network = Network([Dense(3)], (5,))
    with pytest.raises(ValueError, match=r"transform: mirror is for images, but the network takes vectors \(5,\)"):
        network.transform(generator.normal(size=(2, 5)), mirror=True)
    with pytest.raises(TypeError, match="transform: mirror must be true or false, got 1"):
        network.transform(generator.normal(size=(2, 5)), mirror=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_image_bytes_are_what_a_run_keeps(name, generator):
    network, _ = made(name)
    network.run(pixels(generator, np.uint8), 0, len(network), training=True)
    assert (
        sum(buffer.nbytes for buffer in network._pipeline._buffers if buffer is not None) == 11 * network.image_bytes()
    )


def test_a_result_is_not_overwritten_by_the_next(generator):
    network, _ = made("softhebb")
    images = pixels(generator, np.float64)
    first = network.transform(images)
    kept = first.copy()
    network.transform(images[::-1])
    np.testing.assert_array_equal(first, kept)


def test_views_lists_and_strides_of_images(generator):
    network, _ = made("hpca")
    images = pixels(generator, np.float64)
    expected = network.transform(images)
    close(network.transform(images.tolist()), expected)
    close(network.transform(np.asfortranarray(images)), expected)
    close(network.transform(np.moveaxis(np.ascontiguousarray(np.moveaxis(images, 3, 1)), 1, 3)), expected)
    close(network.transform(images[::-2]), expected[::-2])
    images.flags.writeable = False
    close(network.transform(images), expected)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [BatchNorm(), Conv(4, 3), Pool(2)], lambda: [Conv(16, 3), Pool(2), BatchNorm()],
        lambda: [Conv(1, 8, stride=8)],
    ],
)  # fmt: skip
def test_memory_of_transform_does_not_grow_with_the_images(layers, mirror):
    network = Network(layers(), (16, 16, 3), device="cpu", workspace="2 MiB")
    images = np.ones((3000, 16, 16, 3), np.uint8)  # the outputs of all layers for all of them would be 18 MiB or more
    for part in (images[:50], images):  # the first compiles
        network._pipeline._forget()
        tracemalloc.start()
        out = network.transform(part, workspace="2 MiB", mirror=mirror)
        peak = tracemalloc.get_traced_memory()[1] - out.nbytes
        tracemalloc.stop()
    # outputs of layers, the network's own workspace, and what the objects take
    assert peak < 2 * 2**21 + 2**17


def test_features_of_no_layer_are_refused(generator):
    network, _ = made("hpca")
    for none in ([], (), iter(())):
        with pytest.raises(ValueError, match=f"features: layers names no layer; give some of {network.names[0]}, "):
            network.features(pixels(generator, np.uint8), none)
