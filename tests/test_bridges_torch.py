"""Networks as modules of PyTorch: the same numbers, gradients, training as fit's, and back."""

import copy
import pickle

import numpy as np
import pytest
from formula_helpers import (
    LAYERS,
    PRESETS,
    RULES,
    assert_same,
    large_dictionary,
    learned_layer,
    network_by,
    small_preset,
)

import hebbcore
from hebbcore import checkpoint
from hebbcore.bridges.torch import from_module, to_module

torch = pytest.importorskip("torch", reason="needs PyTorch")


def output_of(module, images):
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize(("name", "shape", "parameters"), LAYERS)
def test_a_layer_and_back(name, shape, parameters):
    for precision in ("float32", "float64"):
        network, images = learned_layer(name, shape, parameters, precision)
        module, images = to_module(network), images.astype(precision)
        assert_same(output_of(module, images), network.transform(images), 1e-5 if precision == "float32" else 1e-10)
        back = from_module(module, device="cpu")
        assert_same(back.transform(images), network.transform(images), 1e-6)
        assert back.summary() == network.summary()
    assert checkpoint.digest_of(back) == checkpoint.digest_of(network)


@pytest.mark.parametrize(("name", "shape", "parameters"), LAYERS)
def test_gradients_are_those_of_differences(name, shape, parameters):
    """Also where squares, roots and norms of zeros have none, which count as 0."""
    network, images = learned_layer(name, shape, parameters, "float64")
    module = to_module(network)
    given = torch.tensor(images, dtype=torch.float64, requires_grad=True)
    module(given).square().sum().backward()
    for found in (given.grad, *(parameter.grad for parameter in module.parameters())):
        assert torch.isfinite(found).all()
    step = torch.from_numpy(np.random.default_rng(1).normal(size=images[:2].shape)) * 1e-6
    with torch.no_grad():
        ends = [module(torch.tensor(images[:2], dtype=torch.float64) + s * step).square().sum() for s in (1, -1)]
    expected = float(ends[0] - ends[1]) / 2
    assert float((given.grad[:2] * step).sum()) == pytest.approx(expected, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(("rule", "parameters", "linear"), RULES)
def test_a_rule(rule, parameters, linear):
    network, images = network_by(rule, parameters, linear)
    layer = network["conv1"].as_layer()
    assert_same(output_of(to_module(network), images), network.transform(images))
    assert_same(output_of(to_module(layer), images), layer.transform(images))
    assert_same(from_module(to_module(layer), device="cpu").transform(images), layer.transform(images))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset(name):
    network, images = small_preset(name)
    exact = 1e-3 if name == "dictionary" else 1e-5  # roots of almost nothing
    assert_same(output_of(to_module(network), images), network.transform(images), exact)


def test_the_dictionary_of_large_images():
    network, images = large_dictionary()
    assert_same(output_of(to_module(network), images), network.transform(images), 1e-3)


def normalising(seed=0, **options):
    layers = [hebbcore.Conv(5, 2, linear=True), hebbcore.BatchNorm(modified=True), hebbcore.Scale(), hebbcore.Relu()]
    return hebbcore.Network([*layers, hebbcore.BatchNorm()], (4, 5, 2), seed=seed, device="cpu", **options)


@pytest.fixture
def network():
    return normalising(precision="float64"), np.random.default_rng(0).random((6, 4, 5, 2))


def test_training_mode_normalises_and_moves_as_fit(network):
    network, images = network
    module = to_module(network)
    module.train()
    with network.lock:
        expected = network.run(images, 0, 5, training=True).copy()
    assert_same(output_of(module, images), expected, 1e-10)
    assert_same(output_of(module.eval(), images), network.transform(images), 1e-10)
    assert_same(from_module(module, device="cpu")["bn2"].variance, network["bn2"].variance, 1e-10)
    one = module.train()(torch.from_numpy(images[:1, :2, :2]).reshape(1, 2, 2, 2).tile(1, 2, 3, 1)[:, :, :5])
    assert torch.isfinite(one).all()


def test_weights_learn_by_gradients_and_come_back(network):
    network, images = network
    before = network["conv1"].weights.copy()
    module = to_module(network, "relu1")
    assert [name for name, _ in module.named_parameters()] == ["layers.conv1.weights"]
    assert "layers.bn1.mean" in dict(module.named_buffers())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.from_numpy(images)).sum().backward()
    optimizer.step()
    back = from_module(module, device="cpu")
    assert np.abs(back["conv1"].weights - before).max() > 1e-3
    np.testing.assert_array_equal(network["conv1"].weights, before)
    assert_same(back.transform(images, "relu1"), output_of(module, images), 1e-10)
    np.testing.assert_array_equal(back["bn2"].mean, network["bn2"].mean)
    with torch.no_grad():
        module.layers.conv1.weights[0] = torch.nan
    with pytest.raises(ValueError, match=r"^from_module: conv1/weights must be finite"):
        from_module(module)


def test_copies_pickles_and_other_dtypes(network):
    network, images = network
    module, expected = to_module(network), network.transform(images)
    assert_same(output_of(copy.deepcopy(module), images), expected, 1e-10)
    assert_same(output_of(pickle.loads(pickle.dumps(module)), images), expected, 1e-10)
    assert_same(output_of(module.float(), images), expected)
    other = to_module(normalising(seed=1))
    other.load_state_dict(module.state_dict())
    assert_same(output_of(other, images), expected)


def test_uint8_images_mirror_images_and_channels_first(network):
    network, _ = network
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 2), np.uint8)
    assert_same(output_of(to_module(network, mirror=True), images), network.transform(images, mirror=True))
    found = output_of(to_module(network, "conv1", channels="first"), np.moveaxis(images, 3, 1))
    assert_same(np.moveaxis(found, 1, 3), network.transform(images, "conv1"))


def test_what_is_refused(network):
    with pytest.raises(ValueError, match=r"^to_module: channels must be one of"):
        to_module(network[0], channels="middle")
    with pytest.raises(TypeError, match=r"^from_module: module must be made by to_module, got Linear"):
        from_module(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("mirror", [False, True])
def test_images_that_transform_refuses_are_refused(network, mirror):
    module = to_module(network[0], mirror=mirror)
    for shape in ((4, 14, 15, 2), (4, 4, 5, 3), (4, 5, 2), (4, 40)):
        with pytest.raises(ValueError, match=r"^to_module: images must be \(n, 4, 5, 2\), as the model was made for"):
            module(torch.zeros(shape))
    for dtype in (torch.int64, torch.bool):  # as whole numbers they would be read as they are
        with pytest.raises(TypeError, match=r"^to_module: images must be uint8 \(read as 0…1\) or floating, got"):
            module(torch.zeros((4, 4, 5, 2), dtype=dtype))


@pytest.mark.gpu
def test_on_cuda():
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA")
    torch.backends.cudnn.allow_tf32 = False
    network, images = small_preset("softhebb-cifar")
    module = to_module(network).cuda()
    with torch.no_grad():
        found = module(torch.from_numpy(images).cuda()).cpu().numpy()
    assert_same(found, network.transform(images))


def test_a_module_is_of_what_the_network_was(network):
    """What is set in the network later is not of the module, nor in what is made of it again."""
    layers = [hebbcore.Conv(5, 2, linear=True), hebbcore.Split(0.1)]
    network, images = hebbcore.Network(layers, (4, 5, 2), precision="float64", device="cpu"), network[1]
    module, expected = to_module(network), network.transform(images)
    network["split1"].threshold, network["conv1"].linear = 0.5, False
    assert_same(output_of(module, images), expected, 1e-10)
    assert_same(from_module(module, device="cpu").transform(images), expected, 1e-10)


def test_a_layer_called_as_a_method_of_modules():
    layers = [hebbcore.Conv(3, 2, name="train"), hebbcore.BatchNorm(name="type"), hebbcore.Relu(name="half")]
    network, images = hebbcore.Network(layers, (4, 5, 2), device="cpu"), np.ones((2, 4, 5, 2), np.float32)
    module = to_module(network)
    assert list(module.state_dict()) == ["layers.train_.weights", "layers.type_.mean", "layers.type_.variance"]
    assert_same(output_of(module.train().eval(), images), network.transform(images))
    assert_same(from_module(module, device="cpu").transform(images), network.transform(images))


def test_gradients_after_inference_mode():
    """The weights of uneven cells are kept from call to call."""
    network = hebbcore.Network([hebbcore.Conv(3, 2, response="cosine"), hebbcore.GridPool(2)], (4, 4, 2), device="cpu")
    module, images = to_module(network), torch.rand(2, 4, 4, 2)
    with torch.inference_mode():
        expected = module(images)
    found = module(images)
    found.sum().backward()
    torch.testing.assert_close(found.detach(), expected)
    assert torch.isfinite(module.layers.conv1.weights.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blank_images_in_few_bits(dtype):
    """1e-37, by which blank patches are divided, is 0 in float16."""
    layers = [hebbcore.Conv(3, 2, response="cosine"), hebbcore.Power(0.5)]
    network = hebbcore.Network(layers, (4, 4, 2), device="cpu")
    module, images = to_module(network).to(dtype), torch.zeros(2, 4, 4, 2)
    images[0] = 0.5
    found = module(images.requires_grad_())
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(images.grad).all()
    np.testing.assert_array_equal(found[1].detach().float(), 0)
    back = from_module(module, device="cpu")["conv1"].weights
    np.testing.assert_allclose(back, network["conv1"].weights, rtol=0, atol=0.01)


def test_what_is_no_tensor_is_refused(network):
    with pytest.raises(TypeError, match=r"^to_module: images must be a tensor, got ndarray; torch\.from_numpy"):
        to_module(network[0])(network[1])


def test_images_too_small_for_a_layer(network):
    module = to_module(network[0]["conv1"].as_layer())
    with pytest.raises(ValueError, match=r"^to_module: kernel_size 2×2 is larger than the padded image 1×5"):
        module(torch.zeros((1, 1, 5, 2)))


def test_channels_of_vectors_are_refused():
    network = hebbcore.Network([hebbcore.Dense(2)], (3,), device="cpu")
    with pytest.raises(ValueError, match=r'^to_module: channels="first" has no effect: the model takes vectors'):
        to_module(network, channels="first")


def test_nan_stays_where_there_are_gradients():
    layers = [hebbcore.Conv(3, 2), hebbcore.Relu(0.5), hebbcore.Power(0.5)]
    network, images = hebbcore.Network(layers, (4, 4, 2), device="cpu"), np.ones((2, 4, 4, 2), np.float32)
    images[1, 0, 0] = np.nan
    found = to_module(network)(torch.from_numpy(images))
    assert found.requires_grad
    np.testing.assert_array_equal(np.isnan(found.detach().numpy()), np.isnan(network.transform(images)))
